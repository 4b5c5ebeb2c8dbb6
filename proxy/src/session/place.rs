//! What a client takes up as long as it is there.

use std::rc::Rc;

use super::ctl::Ctl;
use crate::login::Seat;
use crate::pool::LocalPool;
use crate::pool::tokens::Member;
use crate::worker::Worker;

/// A client's place on its worker: given back when its session ends, whatever ended it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) worker: Rc<Worker>,
    pub(super) ctl: Rc<Ctl>,
    pub(super) pool: Rc<LocalPool>,
    #[expect(dead_code, reason = "held for as long as the client is there")]
    pub(super) member: Member,
    #[expect(dead_code, reason = "held for as long as the client is there")]
    pub(super) seat: Seat,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.meter.clients.down();
        self.worker.leave(&self.ctl);
    }
}

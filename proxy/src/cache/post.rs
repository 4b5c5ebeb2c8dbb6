//! The way back to clients that wait, each on its worker.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::worker::Mail;

/// A client that waits: its worker and its number.
pub type Waiter = (usize, u64);

/// The way to each worker, in their order.
#[derive(Debug, Clone, Default)]
pub struct Post(Arc<[UnboundedSender<Mail>]>);

impl Post {
    /// By these ways.
    pub fn new(mail: Box<[UnboundedSender<Mail>]>) -> Self {
        Self(mail.into())
    }

    /// They need not wait any longer: one letter to each of their workers.
    pub fn wake(&self, waiters: &[Waiter]) {
        for (worker, mail) in self.0.iter().enumerate().filter(|_| !waiters.is_empty()) {
            let clients: Vec<u64> =
                waiters.iter().filter(|(theirs, _)| *theirs == worker).map(|(_, client)| *client).collect();
            if !clients.is_empty() {
                // A worker that is gone has nobody who waits.
                drop(mail.send(Mail::Landed(clients)));
            }
        }
    }
}

//! What a client brings to its worker.

use policy::tenant::{ClassId, TenantId};

use super::ctl::Face;
use crate::cancel::key::Identity;
use crate::login::Seat;
use crate::pool::tokens::Member;
use crate::stream::Detached;
use crate::tenancy::Membership;

/// A client that has logged in, on its way to its worker.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket.
    pub stream: Detached,
    /// Bytes that it sent behind its login.
    pub early: Vec<u8>,
    /// Its number, unique in the process.
    pub client: u64,
    /// Who it is to those who cancel.
    pub introduction: Introduction,
    /// Its pool.
    pub pool: Member,
    /// Its place within the limits on clients.
    pub seat: Seat,
    /// Whose it is, and of which class.
    pub tenant: TenantId,
    /// The class.
    pub class: ClassId,
    /// It is counted among that tenant's clients.
    pub membership: Membership,
    /// Who it is.
    pub face: Face,
    /// The settings of its startup packet, by lower-case name.
    pub startup: Vec<(Box<str>, Box<[u8]>)>,
}

/// Whether a client was told its process id and its secret.
#[derive(Debug)]
pub enum Introduction {
    /// It was, and that it may begin.
    Made(Identity),
    /// It gets a server first, whose process id it is told (`session::newcomer`). Its secret has so many bytes.
    Owed(usize),
}

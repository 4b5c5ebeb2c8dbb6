//! The sockets that clients connect to, as the main thread and the admin port see them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::{ListenAddress, Settings};

use super::RunError;
use crate::admin::SocketState;
use crate::listeners::file::SocketFile;
use crate::listeners::{self, Change, Door, Listener, Origin};

/// What is open now.
#[derive(Debug)]
pub(super) struct Doors(Mutex<Vec<Bound>>);

/// One socket: as the configuration has it, and as it is.
#[derive(Debug)]
struct Bound {
    wish: Option<ListenAddress>,
    address: ListenAddress,
    origin: Origin,
    file: Option<SocketFile>,
    door: Arc<Door>,
}

impl From<&Listener> for Bound {
    fn from(listener: &Listener) -> Self {
        Self {
            wish: listener.wish.clone(),
            address: listener.address.clone(),
            origin: listener.origin,
            file: listener.file.clone(),
            door: listener.door.clone(),
        }
    }
}

impl Doors {
    pub(super) fn new(listeners: &[Listener]) -> Self {
        Self(Mutex::new(listeners.iter().map(Bound::from).collect()))
    }

    fn bound(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where clients connect.
    pub(super) fn addresses(&self) -> Vec<ListenAddress> {
        self.bound().iter().map(|bound| bound.address.clone()).collect()
    }

    /// For the admin port.
    pub(super) fn states(&self) -> Vec<SocketState> {
        let state = |bound: &Bound| SocketState {
            address: bound.address.to_string(),
            kind: if bound.address.tcp().is_some() { "tcp" } else { "unix" },
            origin: bound.origin.word(),
            accepted: bound.door.accepted.load(Ordering::Relaxed),
            failed: bound.door.failed.load(Ordering::Relaxed),
            descriptor: bound.door.descriptor,
        };
        self.bound().iter().map(state).collect()
    }

    /// Opens what is new in `listen`, and says what is to be done about the rest; `None`: nothing. Inherited sockets stay
    /// as they are.
    ///
    /// # Errors
    /// An address cannot be listened on: nothing has changed.
    pub(super) fn change(&self, settings: &Settings) -> Result<Option<Change>, RunError> {
        let mut bound = self.bound();
        if bound.iter().any(|bound| bound.wish.is_none()) {
            return Ok(None);
        }
        let is_open = |address: &ListenAddress| bound.iter().any(|bound| bound.wish.as_ref() == Some(address));
        let open = listeners::bind_all(settings.listen.iter().filter(|address| !is_open(address)), settings)?;
        let stays = |bound: &Bound| bound.wish.as_ref().is_some_and(|wish| settings.listen.contains(wish));
        for bound in bound.iter().filter(|bound| stays(bound)) {
            if let Some(file) = &bound.file
                && let Err(error) = listeners::permit(&bound.address, file, &settings.unix_socket)
            {
                open.into_iter().for_each(Listener::discard);
                return Err(error);
            }
        }
        // Behind what can fail: a refused reload forgets nobody who is still accepted from.
        bound.retain(stays);
        bound.extend(open.iter().map(Bound::from));
        Ok(Some(Change { open, keep: settings.listen.clone() }))
    }
}

//! The console: operators connect to it as to a database, by any driver or psql, and it answers with PgBouncer's
//! commands and columns, so that what people have for PgBouncer works here. `docs/console.md` is made of its tables.
//!
//! ```text
//! login ─► Seat ─► Conversation ─┬─ token, command      text in, commands out
//!                                ├─ gather ─► rows      facts in, rows out
//!                                └─ act                 what an admin has done
//! ```
//!
//! It lives on the control thread, one task for each connection. It needs no server, no pool and no place among the
//! clients: it works when everything is full, paused or down, and while the proxy drains.

mod access;
mod act;
mod averages;
mod command;
mod conversation;
mod gather;
mod protocol;
mod reference;
mod rows;
mod table;
mod token;
mod value;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use access::{Role, Seat, Visitor, is_own_user};
use averages::{Averages, Figures};
pub use conversation::begin;
use policy::verdict::{LoginRefusal, Refusal};
pub use reference::reference;
use tokio::sync::{Notify, watch};

use crate::admin::{AdminContext, ClientState};
use crate::cancel::key::Addressee;
use crate::commands::Commands;
use crate::run::Stopper;
use crate::shared::Shared;

/// Connections to the console at once. Few people need it, and who needs it should get in when nobody else does.
pub const MAX_CONNECTIONS: usize = 32;

/// The version of PgBouncer whose commands and columns these are.
pub(crate) const VERSION: &str = "1.25.2";

/// The version that drivers are told of the server.
pub(crate) const SERVER_VERSION: &str = "1.25.2/bouncer";

/// What clients are told at login, as PgBouncer tells them.
pub const WELCOME: [(&str, &str); 7] = [
    ("server_version", SERVER_VERSION),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "GMT"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "on"),
];

/// Stands for the console where a worker's number stands otherwise: that of nobody.
pub(crate) const NO_WORKER: usize = usize::MAX;

/// How long the end of the process waits for the last words of the console.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What the connections of the console share.
pub struct Console {
    shared: Arc<Shared>,
    context: Arc<AdminContext>,
    commands: Commands,
    stop: Stopper,
    averages: RefCell<Averages>,
    /// What the console itself has said and heard.
    traffic: Cell<Figures>,
    visitors: RefCell<BTreeMap<u64, Rc<Visitor>>>,
    /// Somebody has left.
    left: Notify,
    /// Everybody has to leave.
    over: watch::Sender<bool>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("visitors", &self.visitors.borrow().len()).finish_non_exhaustive()
    }
}

impl Console {
    /// Opens.
    pub fn new(shared: Arc<Shared>, context: Arc<AdminContext>, stop: Stopper) -> Rc<Self> {
        Rc::new(Self {
            averages: RefCell::new(Averages::new(context.telemetry.clock.start_us())),
            commands: Commands::new(shared.clone()),
            shared,
            context,
            stop,
            traffic: Cell::default(),
            visitors: RefCell::default(),
            left: Notify::new(),
            over: watch::Sender::new(false),
        })
    }

    /// Takes down what is counted, once in each period, for as long as the process lives.
    pub async fn keep_averages(self: Rc<Self>) {
        loop {
            tokio::time::sleep(averages::PERIOD).await;
            if let Some(all) = self.figures().await {
                self.averages.borrow_mut().tick(all, self.now_us());
            }
        }
    }

    /// A place for somebody who has proven to be one of those who may come.
    ///
    /// # Errors
    /// All are taken.
    pub fn enter(self: &Rc<Self>, visitor: Visitor, key: usize) -> Result<Seat, Refusal> {
        let mut visitors = self.visitors.borrow_mut();
        if visitors.len() >= MAX_CONNECTIONS {
            return Err(Refusal::Login(LoginRefusal::ConsoleFull { limit: MAX_CONNECTIONS }));
        }
        let to = Addressee { worker: NO_WORKER, client: visitor.id };
        // The process that answers is this one.
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let identity = self.shared.processes.introduce_as(own, to, key);
        let visitor = Rc::new(visitor);
        visitors.insert(visitor.id, visitor.clone());
        Ok(Seat { console: self.clone(), visitor, identity })
    }

    fn leave(&self, visitor: u64) {
        self.visitors.borrow_mut().remove(&visitor);
        self.left.notify_one();
    }

    /// Somebody wants what this connection waits for to be given up.
    pub fn cancel(&self, visitor: u64) {
        if let Some(visitor) = self.visitors.borrow().get(&visitor) {
            visitor.cancelled.notify_waiters();
        }
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.visitors.borrow().len()
    }

    /// Has everybody leave, and waits until they have, for a while.
    pub async fn dismiss(&self) {
        self.over.send_replace(true);
        let all_gone = async {
            while self.connections() > 0 {
                self.left.notified().await;
            }
        };
        drop(tokio::time::timeout(PATIENCE, all_gone).await);
    }

    /// Ends one of its own connections. `false`: it is none of them.
    fn kill(&self, shown: u64) -> bool {
        let visitors = self.visitors.borrow();
        let found = visitors.values().find(|visitor| rows::shown_id(visitor.id) == shown);
        found.inspect(|visitor| visitor.killed.notify_one()).is_some()
    }

    /// Its own connections, as clients.
    fn clients(&self) -> Vec<ClientState> {
        self.visitors.borrow().values().map(|visitor| visitor.state()).collect()
    }

    /// Counts what it has said and heard.
    fn count(&self, change: impl FnOnce(&mut Figures)) {
        let mut traffic = self.traffic.get();
        change(&mut traffic);
        self.traffic.set(traffic);
    }

    fn now_us(&self) -> u64 {
        self.context.telemetry.clock.micros(Instant::now())
    }
}

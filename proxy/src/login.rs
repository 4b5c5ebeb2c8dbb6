//! A client's way in: from its first byte to its worker. Runs on the control thread.
//!
//! | step | decides |
//! |---|---|
//! | `limits`, `room` | whether the connection is looked at |
//! | `limits`, `rate` | whether its address may try |
//! | `rules` | by which method |
//! | `secrets`, `auth_query` | what is known of the user |
//! | `proof` | whether the client proves it |
//! | `by_server` | or the server judges, where nothing is known |
//! | `target` | who the user is on the server |
//! | `console` | or that it is no server that is asked for, but the console |

mod auth_query;
mod by_server;
mod console;
mod guests;
mod limits;
mod opening;
mod proof;
pub(crate) mod rate;
mod replicate;
mod room;
mod rules;
mod seat;
mod secrets;
mod target;
mod tenants;
mod welcome;
mod wish;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use config::hba::LoginRule;
use config::{AuthMethod, PoolMode, Secret, Settings};
use guests::Guests;
use limits::limited;
use policy::tenant::ClassId;
use policy::verdict::Refusal;
use proof::Proven;
use rand::Rng;
use rate::Failures;
use room::Room;
pub use seat::Seat;
use secrets::{Known, Secrets};
pub(crate) use target::target_beside;
pub use target::{limits_of, target_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::encode::backend as say;
use wire::encoding::reported;
use wire::frame;
use wire::login::server::{Started, next_message};
use wire::login::{AwaitStartup, Opened, ScramVerifier};
use wire::startup::{ProtocolVersion, Replication};
use wire::tag::TransactionStatus;
use wish::Wish;
use zeroize::Zeroize;

use crate::cancel::key::{LONG_KEY, SHORT_KEY};
use crate::cancel::{Exchange, Via};
use crate::console::Console;
use crate::pool::tokens::Member;
use crate::pool::{DialFailure, Pool, Welcome};
use crate::session::ctl::{Ends, Face};
use crate::session::{Arrival, Introduction};
use crate::shared::Shared;
use crate::stream::{Peer, Stream};
use crate::telemetry::{Sqlstate, TenantId, WorkerTelemetry};
use crate::tenancy::Membership;
use crate::tls::Secured;
use crate::tls::clients::Manner;
use crate::trouble::Trouble;
use crate::upstream::Shipped;
use crate::upstream::dial::{Credential, is_about_credentials};
use crate::worker::Mail;

/// What logins share.
pub struct Gate {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The control thread's telemetry.
    pub telemetry: Rc<WorkerTelemetry>,
    /// Makes the salts of unknown users; drawn at start.
    secret: [u8; 32],
    verifiers: std::cell::RefCell<HashMap<String, (Secret, ScramVerifier)>>,
    exchange: Rc<Exchange>,
    console: Rc<Console>,
    secrets: Secrets,
    room: Room,
    failures: std::cell::RefCell<Failures>,
    /// Passwords that are tried on a server now.
    trials: tokio::sync::Semaphore,
    guests: Guests,
    first_contacts: std::cell::RefCell<HashMap<usize, Rc<tokio::sync::Mutex<()>>>>,
}

/// Why a client is not let in.
enum Denied {
    /// It is told this.
    Told(Trouble),
    /// It has gone.
    Gone,
}

impl Denied {
    /// The client has shown that it does not know the password, or that there is no such user.
    fn is_wrong_password(&self) -> bool {
        matches!(self, Self::Told(Trouble::Protocol(error)) if matches!(**error, wire::Error::PasswordFailed { .. }))
    }
}

impl<T: Into<Trouble>> From<T> for Denied {
    fn from(trouble: T) -> Self {
        Self::Told(trouble.into())
    }
}

/// A client that is logging in.
struct Guest {
    /// `None` while TLS is being made of it.
    stream: Option<Stream>,
    peer: Peer,
    /// What the TLS handshake told; `None`: there was none.
    secured: Option<Secured>,
    bytes: Vec<u8>,
    out: Vec<u8>,
}

impl Guest {
    async fn flush(&mut self) -> Result<(), Denied> {
        let stream = self.stream.as_mut().ok_or(Denied::Gone)?;
        let sent = stream.write_all(&self.out).await;
        self.out.clear();
        sent.map_err(|_| Denied::Gone)
    }

    async fn fill(&mut self) -> Result<(), Denied> {
        self.flush().await?;
        let stream = self.stream.as_mut().ok_or(Denied::Gone)?;
        match stream.read_buf(&mut self.bytes).await {
            Ok(n) if n > 0 => Ok(()),
            _ => Err(Denied::Gone),
        }
    }

    /// Reads the next message of the password type, whole, and lets `take` have it.
    async fn password<T>(
        &mut self,
        take: impl FnOnce(frame::Frame<'_>, &mut Vec<u8>) -> Result<T, wire::Error>,
    ) -> Result<T, Denied> {
        loop {
            let mut rest = self.bytes.as_slice();
            if let Some(frame) = next_message(&mut rest)? {
                let taken = take(frame, &mut self.out)?;
                let used = self.bytes.len() - rest.len();
                // It may be a password in clear text.
                if let Some(used) = self.bytes.get_mut(..used) {
                    used.zeroize();
                }
                self.bytes.drain(..used);
                return Ok(taken);
            }
            self.fill().await?;
        }
    }
}

impl Gate {
    /// Opens.
    pub fn new(
        shared: Arc<Shared>,
        telemetry: Rc<WorkerTelemetry>,
        exchange: Rc<Exchange>,
        console: Rc<Console>,
    ) -> Rc<Self> {
        let mut secret = [0; 32];
        rand::rng().fill_bytes(&mut secret);
        Rc::new(Self {
            shared,
            telemetry,
            secret,
            verifiers: Default::default(),
            exchange,
            console,
            secrets: Secrets::default(),
            room: Room::default(),
            failures: Default::default(),
            trials: tokio::sync::Semaphore::new(by_server::MAX_TRIALS),
            guests: Guests::default(),
            first_contacts: Default::default(),
        })
    }

    /// Serves a connection up to its hand-over to a worker.
    pub async fn admit(self: Rc<Self>, stream: Stream, peer: Peer) {
        let patience = self.shared.settings().auth.login_timeout;
        let place = self.enter(peer);
        let mut guest =
            Guest { stream: Some(stream), peer, secured: None, bytes: Vec::with_capacity(512), out: Vec::new() };
        let _place = self.guests.enter();
        let entering = async {
            let _place = place?;
            self.receive(&mut guest).await
        };
        let admitted = tokio::select! {
            biased;
            () = self.guests.dismissed() => Ok(Err(Refusal::ShuttingDown.into())),
            admitted = tokio::time::timeout(patience, entering) => admitted,
        };
        let denied = match admitted {
            Ok(Ok(Entry::Client(arrival))) => return self.hand_over(guest, *arrival),
            Ok(Ok(Entry::Console(seat))) => return self.hand_over_to_console(guest, *seat),
            Ok(Ok(Entry::Nobody)) => return,
            Ok(Err(denied)) => denied,
            Err(_) => Refusal::LoginTimeout { limit: patience }.into(),
        };
        self.telemetry.load().refused_connections.increment();
        if let Denied::Told(trouble) = denied {
            let code = trouble.sqlstate();
            if is_about_credentials(code.as_bytes()) {
                self.telemetry.load().login_failures.increment();
            }
            if !trouble.is_login_limit() {
                tracing::info!(address = %peer, code = code.as_str(), "login refused");
            }
            self.telemetry.refused(None, TenantId::OTHERS, Sqlstate::new(code.as_bytes()));
            trouble.write(true, &mut guest.out);
            drop(tokio::time::timeout(std::time::Duration::from_secs(1), guest.flush()).await);
        }
    }

    /// Connections that are not handed over yet.
    pub fn guests(&self) -> usize {
        self.guests.count()
    }

    /// Has everybody who is still logging in, and whoever comes later, told 57P01; returns when all have left.
    pub async fn dismiss(&self) {
        self.guests.dismiss().await;
    }

    fn hand_over(&self, mut guest: Guest, mut arrival: Admitted) {
        let Some(Ok(stream)) = guest.stream.map(Stream::detach) else {
            return;
        };
        self.telemetry.load().logins.increment();
        arrival.face.connected_us = self.shared.telemetry.clock.micros(Instant::now());
        if let Some(seat) = self.shared.workers.get(arrival.worker) {
            seat.clients.fetch_add(1, Ordering::Relaxed);
        }
        // Its room was for the conversation: an idle client keeps none.
        guest.bytes.shrink_to_fit();
        let letter = Arrival {
            stream,
            early: guest.bytes,
            client: self.shared.next_id(),
            introduction: arrival.introduction,
            pool: arrival.pool,
            seat: arrival.seat,
            tenant: arrival.tenant,
            class: arrival.class,
            membership: arrival.membership,
            face: arrival.face,
            startup: arrival.startup,
        };
        let letter = match arrival.own_server {
            Some(server) => Mail::Replication(Box::new(letter), server),
            None => Mail::Client(Box::new(letter)),
        };
        self.shared.send(arrival.worker, letter);
    }

    /// The conversation up to the first ReadyForQuery.
    async fn receive(&self, guest: &mut Guest) -> Result<Entry, Denied> {
        let tls = self.shared.tls();
        let mut state = AwaitStartup::new();
        loop {
            if guest.begins_with_tls() {
                self.secure(guest, &tls, Manner::Direct).await?;
                state = AwaitStartup::over_tls();
            }
            if guest.begins_with_goodbye() {
                return Ok(Entry::Nobody);
            }
            let opening =
                frame::opening(&guest.bytes).map_err(|cause| wire::error::Peer::Client.sent_bad_length(cause))?;
            let Some(opening) = opening else {
                guest.fill().await?;
                continue;
            };
            let total = opening.total;
            let behind = guest.bytes.len() - total;
            match state.receive(&opening, behind, &mut guest.out)? {
                Opened::Tls(asked) if tls.is_offered() && !guest.peer.is_unix() => {
                    asked.accept(&mut guest.out);
                    guest.bytes.clear();
                    self.secure(guest, &tls, Manner::Asked).await?;
                    state = AwaitStartup::over_tls();
                    continue;
                }
                Opened::Tls(asked) => state = asked.refuse(&mut guest.out),
                Opened::Gss(asked) => state = asked.refuse(&mut guest.out),
                Opened::Cancel(request) => {
                    self.exchange.cancel(&request, Via::Port).await;
                    return Ok(Entry::Nobody);
                }
                Opened::Startup(started, message) => {
                    let wish = Wish::read(&message, &self.shared.settings().tenants)?;
                    guest.may_log_in(tls.mode(), &wish.user)?;
                    guest.bytes.drain(..total);
                    let entry = if wish.is_for_the_console() {
                        Entry::Console(Box::new(self.log_in_to_console(guest, started, wish).await?))
                    } else {
                        self.has_memory()?;
                        Entry::Client(Box::new(self.log_in(guest, started, wish).await?))
                    };
                    // Said before the hand-over, so that a worker never waits for a slow newcomer.
                    guest.flush().await?;
                    return Ok(entry);
                }
            }
            guest.bytes.drain(..total);
        }
    }

    /// Behind the startup packet, so that who wants a cancel passed on is not turned away.
    fn has_memory(&self) -> Result<(), Refusal> {
        if self.shared.short_of_memory.load(Ordering::Relaxed) {
            return Err(Refusal::ShortOfMemory { limit: self.shared.settings().max_memory });
        }
        Ok(())
    }

    async fn log_in(&self, guest: &mut Guest, started: Started, wish: Wish) -> Result<Admitted, Denied> {
        let settings = self.shared.settings();
        let source = limited(guest.peer, &settings.auth.limits);
        self.may_try(source, &settings.auth.limits)?;
        let seat = Seat::take(&self.shared, &wish.database, &wish.user)?;
        let rule = rules::rule_for(guest, &wish, &settings)?;
        let proven = self.prove(guest, started, &wish, &settings, &rule).await;
        let proven = self.judged(guest, source, &settings, proven)?;
        let pool = self.shared.enter_pool(&wish.database, &wish.user, replicate::parameter(wish.replication))?;
        let version = proven.logged_in.version();
        let is_news = self.learn(&pool, proven.credential);
        if wish.replication != Replication::No {
            let own = Arc::clone(&pool);
            let admitted = self.replicate(guest, version, wish, pool, seat).await;
            return admitted.inspect_err(|_| self.forget(&own));
        }
        let mut contact = pool.welcome();
        if is_news {
            // The server had refused what was known before: it is asked anew before the client is told that it is in.
            pool.ledger().try_again();
            contact = contact.filter(|_| pool.ledger().open() > 0);
        }
        let welcome = match contact {
            Some(welcome) => welcome,
            None => self.first_contact(&pool).await.inspect_err(|_| self.forget(&pool))?,
        };
        self.admitted(guest, version, wish, pool, &welcome, seat)
    }

    /// Keeps what a client has proven, where its pool needs that. `true`: the server had refused what was known before.
    fn learn(&self, pool: &Pool, proven: Option<Credential>) -> bool {
        let needed = proven.filter(|_| pool.target().credential == Credential::Learned);
        needed.is_some_and(|credential| pool.learned.learn(credential, Instant::now()))
    }

    /// Has the client prove who it is.
    async fn prove(
        &self,
        guest: &mut Guest,
        started: Started,
        wish: &Wish,
        settings: &Arc<Settings>,
        rule: &LoginRule,
    ) -> Result<Proven, Denied> {
        let asks = rule.method.needs_secret() || rule.method == AuthMethod::PassThrough;
        let known = if asks { self.known(wish, settings).await? } else { Known::nothing() };
        if rule.method == AuthMethod::PassThrough && known.is_for_the_server() {
            let pool = self.shared.enter_pool(&wish.database, &wish.user, replicate::parameter(wish.replication))?;
            let logged_in = self.by_server(guest, started, wish, settings, &pool).await;
            return logged_in.inspect_err(|_| self.forget(&pool)).map(Proven::from);
        }
        let proven = self.by_rule(guest, started, wish, settings, rule, &known).await;
        proven.inspect_err(|denied| {
            if denied.is_wrong_password() {
                known.has_failed(&wish.user, Instant::now());
            }
        })
    }

    /// A login into this pool has failed: it is not kept for names that no server knows.
    fn forget(&self, pool: &Arc<Pool>) {
        if self.shared.pools.forget_unknown(pool) {
            self.first_contacts.borrow_mut().remove(&pool.id);
            self.shared.forget(pool.id);
        }
    }

    /// Says everything that follows AuthenticationOk.
    fn admitted(
        &self,
        guest: &mut Guest,
        version: ProtocolVersion,
        wish: Wish,
        pool: Member,
        welcome: &Welcome,
        mut seat: Seat,
    ) -> Result<Admitted, Denied> {
        seat.claim(pool.claim())?;
        let (tenant, class, membership) = self.join_tenant(guest, &wish)?;
        let worker = self.shared.least_loaded();
        let key = if version == ProtocolVersion::V3_0 { SHORT_KEY } else { LONG_KEY };
        let own = |name: &[u8]| wish.startup.iter().find(|(own, _)| own.as_bytes().eq_ignore_ascii_case(name));
        for (name, value) in welcome {
            let value = own(name).map_or(&**value, |(_, value)| &**value);
            let value = if name.eq_ignore_ascii_case(b"client_encoding") { reported(value) } else { value };
            say::parameter_status(&mut guest.out, name, value)?;
        }
        let introduction = if pool.replication.is_none() && pool.settings().mode == PoolMode::Session {
            Introduction::Owed(key)
        } else {
            let identity = self.shared.processes.introduce(worker, key);
            say::backend_key_data(&mut guest.out, identity.process.number(), &identity.key)?;
            say::ready_for_query(&mut guest.out, TransactionStatus::Idle);
            Introduction::Made(identity)
        };
        // What a server has anyway need not be set.
        let has = |name: &str, value: &[u8]| {
            welcome.iter().any(|(known, has)| known.eq_ignore_ascii_case(name.as_bytes()) && **has == *value)
        };
        let startup = wish.startup.into_iter().filter(|(name, value)| !has(name, value)).collect();
        let face = Face {
            database: wish.database.into(),
            user: wish.user.into(),
            suffix: (!wish.suffix.is_empty()).then(|| Box::new(wish.suffix.into())),
            application: wish.application.into(),
            ends: Ends::new(guest.peer, guest.stream.as_ref().and_then(Stream::local_addr)),
            tls: guest.secured.as_ref().map(|secured| Box::new(secured.face())),
            connected_us: 0,
        };
        Ok(Admitted { own_server: None, seat, tenant, class, membership, worker, introduction, pool, face, startup })
    }
}

/// Who has come.
enum Entry {
    /// A client.
    Client(Box<Admitted>),
    /// Somebody for the console.
    Console(Box<crate::console::Seat>),
    /// Nobody who stays: it was about something else.
    Nobody,
}

/// A client that has been let in.
struct Admitted {
    /// For replication: the server connection that is the client's alone.
    own_server: Option<Box<Shipped>>,
    seat: Seat,
    tenant: policy::tenant::TenantId,
    class: ClassId,
    membership: Membership,
    worker: usize,
    introduction: Introduction,
    pool: Member,
    face: Face,
    startup: Vec<(Box<str>, Box<[u8]>)>,
}

fn told(pool: &Pool, failure: &DialFailure) -> Trouble {
    match failure {
        DialFailure::Said { code, message } => Trouble::Server { code: *code, message: message.clone() },
        DialFailure::Unreachable(failure) => {
            Refusal::CannotConnect { database: pool.database.clone(), failure: *failure }.into()
        }
        DialFailure::NoneFits(wanted) => Refusal::NoneFits { database: pool.database.clone(), wanted: *wanted }.into(),
    }
}

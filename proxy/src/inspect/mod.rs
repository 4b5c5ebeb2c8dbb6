//! Looking at a server's functions: which of them change the session that calls them.
//!
//! A statement's text does not show what the functions do that it calls. So the catalogue is read from time to time, by one
//! connection of its own besides the pool, and what statements mention is compared with what was found
//! ([`policy::suspects`]). Runs on the control thread; workers hear of a new set by letter.
//!
//! ```text
//! first connection of a pool, every `inspect_functions`, a change of functions through us ─► Order::Inspect
//!   ─► has the catalogue changed? ─► functions and what uses them ─► Suspects ─► every pool of that database
//! ```
//!
//! Until the first look has ended, and while functions are being changed through us, the set is *unknown*: every upstream
//! is reset before anybody else gets it. What is changed past us is seen at the next look.

mod catalogue;
mod session;

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use policy::suspects::Suspects;

use crate::control::Order;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::telemetry::WorkerTelemetry;
use crate::worker::Mail;
use catalogue::{Look, Read};
pub(crate) use session::{Row, Session};

/// How long one look may take, login included.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause before a look: a migration makes many functions in a row. Also between a look that found no server and the next.
const PAUSE: Duration = Duration::from_millis(100);
/// As long as no server answers, it is asked again so often.
const AGAIN: Duration = Duration::from_secs(5);

/// What a pool knows of its server's functions.
#[derive(Debug)]
pub struct Inspection {
    suspects: RwLock<Arc<Suspects>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    enabled: bool,
    /// A look is under way.
    looking: bool,
    /// Something has changed since that look began.
    again: bool,
    /// When the next one is due; `None`: when the pool has its first connection.
    next: Option<Instant>,
    /// What the catalogue looked like at the last one.
    digest: Option<Box<[u8]>>,
    /// The log has been told that it cannot be read.
    complained: bool,
}

impl Inspection {
    /// Nothing is known yet; if it is not to be looked at, nothing is suspect.
    pub fn new(enabled: bool) -> Self {
        let suspects = if enabled { Suspects::unknown() } else { Suspects::default() };
        Self { suspects: RwLock::new(Arc::new(suspects)), state: Mutex::new(State { enabled, ..State::default() }) }
    }

    /// What is known now.
    pub fn suspects(&self) -> Arc<Suspects> {
        self.suspects.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, suspects: Arc<Suspects>) {
        *self.suspects.write().unwrap_or_else(PoisonError::into_inner) = suspects;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reload says whether functions are looked at.
    pub fn enable(&self, enabled: bool) {
        let mut state = self.state();
        if state.enabled != enabled {
            let suspects = if enabled { Suspects::unknown() } else { Suspects::default() };
            *state = State { enabled, looking: state.looking, again: enabled, ..State::default() };
            self.set(Arc::new(suspects));
        }
    }

    /// What another pool of the same database knows already: what it has seen itself, and not that it does not look.
    pub fn inherit(&self, other: &Self) {
        let (enabled, digest, next) = {
            let theirs = other.state();
            (theirs.enabled, theirs.digest.clone(), theirs.next)
        };
        if !enabled || digest.is_none() {
            return;
        }
        let suspects = other.suspects();
        let mut own = self.state();
        if own.enabled && !suspects.is_unknown() {
            own.digest = digest;
            own.next = next;
            self.set(suspects);
        }
    }

    /// Functions are being changed: nothing is known until the next look, if there is one. `true`: there is.
    pub fn distrust(&self) -> bool {
        let mut state = self.state();
        if state.enabled {
            state.digest = None;
            state.again = true;
            self.set(Arc::new(Suspects::unknown()));
        }
        state.enabled
    }

    /// Whether it is time for a look. `true` once: whoever asked has to order it.
    pub fn is_due(&self, now: Instant, connected: bool) -> bool {
        let mut state = self.state();
        let due = state.enabled && !state.looking && state.next.map_or(connected, |next| next <= now);
        if due {
            // The order itself sets it properly.
            state.next = now.checked_add(PATIENCE + AGAIN);
        }
        due
    }

    /// `false`: a look is under way, and will be repeated; or none is wanted.
    fn begin(&self) -> bool {
        let mut state = self.state();
        state.again = state.looking;
        state.enabled && !std::mem::replace(&mut state.looking, true)
    }

    /// `true`: something has changed meanwhile.
    fn end(&self, next: Option<Instant>) -> bool {
        let mut state = self.state();
        state.looking = false;
        state.next = next;
        std::mem::take(&mut state.again) && state.enabled
    }
}

/// Looks at the functions of a pool's database, and tells all pools of the same database.
pub async fn inspect(shared: &Arc<Shared>, telemetry: &Rc<WorkerTelemetry>, pool: &Arc<Pool>) {
    tokio::time::sleep(PAUSE).await;
    if !pool.inspection.begin() {
        return;
    }
    loop {
        pool.inspection.state().again = false;
        let known = pool.inspection.state().digest.clone();
        let look = tokio::time::timeout(PATIENCE, catalogue::look(shared, pool, known.as_deref())).await;
        let every = pool.settings().inspect_functions.unwrap_or(AGAIN);
        let wait = match look.unwrap_or_else(|_| Look::Unreadable("it took too long".to_owned())) {
            Look::Absent => AGAIN,
            Look::Same => every,
            Look::Read(read) => {
                take_over(shared, telemetry, pool, *read, every).await;
                every
            }
            Look::Unreadable(why) => {
                give_up(shared, telemetry, pool, &why);
                every
            }
        };
        if !pool.inspection.end(Instant::now().checked_add(wait)) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
        if !pool.inspection.begin() {
            return;
        }
    }
}

async fn take_over(
    shared: &Arc<Shared>,
    telemetry: &Rc<WorkerTelemetry>,
    pool: &Arc<Pool>,
    read: Read,
    every: Duration,
) {
    // Thousands of functions take a while to read: logins must not wait for it.
    let catalogue = read.catalogue;
    let Ok(suspects) = tokio::task::spawn_blocking(move || catalogue.suspects()).await else { return };
    let suspects = Arc::new(suspects);
    telemetry.pool(&pool.database, &pool.user).inspections.increment();
    if !suspects.is_empty() && pool.inspection.suspects().version() != suspects.version() {
        let names = suspects.functions();
        let shown = names.get(..names.len().min(20)).unwrap_or_default().join(", ");
        tracing::info!(
            database = %pool.database, functions = names.len(), names = %shown, "functions of this database change the session that calls them"
        );
    }
    let next = Instant::now().checked_add(every);
    for other in shared.pools.all() {
        let same = other.is_of_same_database(pool);
        // What has been changed while it was read is read once more, and not believed before.
        if !same || !other.inspection.state().enabled || other.inspection.state().again {
            continue;
        }
        {
            let mut state = other.inspection.state();
            state.digest = Some(read.digest.clone());
            state.next = next;
            state.complained = false;
        }
        telemetry.pool(&other.database, &other.user).suspects.set(suspects.len() as i64);
        publish(shared, &other, suspects.clone());
    }
}

/// The catalogue cannot be read: what functions do is not seen, and that is said once.
fn give_up(shared: &Arc<Shared>, telemetry: &Rc<WorkerTelemetry>, pool: &Arc<Pool>, why: &str) {
    telemetry.pool(&pool.database, &pool.user).inspection_failures.increment();
    if !std::mem::replace(&mut pool.inspection.state().complained, true) {
        tracing::warn!(
            database = %pool.database, user = %pool.user, why, "the server's functions cannot be looked at: what they change in a session is not seen"
        );
    }
    if pool.inspection.suspects().is_unknown() {
        publish(shared, pool, Arc::default());
    }
}

fn publish(shared: &Shared, pool: &Arc<Pool>, suspects: Arc<Suspects>) {
    if pool.inspection.suspects() == suspects {
        return;
    }
    pool.inspection.set(suspects);
    tell_workers(shared, pool);
}

/// Functions of this database are being changed by a client of ours: nothing of what is known holds until the next look.
pub fn distrust(shared: &Shared, pool: &Arc<Pool>) {
    for other in shared.pools.all() {
        if other.is_of_same_database(pool) && other.inspection.distrust() {
            tell_workers(shared, &other);
            drop(shared.control.send(Order::Inspect(other)));
        }
    }
}

/// Every worker looks up what is known now.
fn tell_workers(shared: &Shared, pool: &Arc<Pool>) {
    for worker in 0..shared.workers.len() {
        shared.send(worker, Mail::Inspected(pool.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_at_a_time_and_one_more_if_something_changed() {
        let now = Instant::now();
        let inspection = Inspection::new(true);
        assert!(inspection.suspects().is_unknown());
        assert!(!inspection.is_due(now, false), "nobody has connected yet");
        assert!(inspection.is_due(now, true));
        assert!(!inspection.is_due(now, true), "it has been ordered");
        assert!(inspection.begin());
        assert!(!inspection.begin(), "one is under way");
        assert!(inspection.end(now.checked_add(PAUSE)), "the second order asked for one more");
        assert!(inspection.begin());
        assert!(inspection.distrust());
        assert!(inspection.end(None));
    }

    #[test]
    fn a_pool_begins_with_what_another_one_knows() {
        let (first, second) = (Inspection::new(true), Inspection::new(true));
        second.inherit(&first);
        assert!(second.suspects().is_unknown(), "it knows nothing itself");
        first.set(Arc::default());
        second.inherit(&first);
        assert!(second.suspects().is_unknown(), "it has given up, which says nothing of the functions");
        first.state().digest = Some(b"seen".as_slice().into());
        second.inherit(&first);
        assert!(!second.suspects().is_unknown());
        let third = Inspection::new(true);
        third.inherit(&Inspection::new(false));
        assert!(third.suspects().is_unknown(), "who does not look knows nothing");
    }

    #[test]
    fn where_nothing_is_looked_at_nothing_is_suspect() {
        let inspection = Inspection::new(false);
        assert_eq!(inspection.suspects().version(), 0);
        assert!(!inspection.distrust() && !inspection.is_due(Instant::now(), true) && !inspection.begin());
        inspection.enable(true);
        assert!(inspection.suspects().is_unknown());
        inspection.enable(false);
        assert_eq!(inspection.suspects().version(), 0);
    }
}

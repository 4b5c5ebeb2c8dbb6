//! What a client is told of its server: the first client of a pool waits for the pool's first connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::verdict::Refusal;

use super::{Denied, Gate, told};
use crate::control;
use crate::pool::tokens::{Attempt, Want};
use crate::pool::{Pool, Welcome};
use crate::worker::checkout::unavailable;

/// How often a login looks whether there is room for its pool's first connection.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A login that waits for its pool's first connection.
struct Visit<'a>(&'a Pool);

impl<'a> Visit<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.ledger().visit();
        Self(pool)
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.ledger().unvisit();
    }
}

/// Whether an upstream is open, and not only being dialled.
fn has_any(pool: &Pool) -> bool {
    let ledger = pool.ledger();
    ledger.open() > ledger.dialling()
}

/// None is open, and none is made for now: as those are told who have logged in.
fn unreachable(pool: &Pool, now: Instant) -> Denied {
    let retry = pool.ledger().retry_at();
    unavailable(pool, now, retry).into()
}

impl Gate {
    /// What the server says about itself, once an upstream of the pool is open.
    pub(super) async fn first_contact(&self, pool: &Arc<Pool>) -> Result<Arc<Welcome>, Denied> {
        let contact = self.first_contacts.borrow_mut().entry(pool.id).or_default().clone();
        let _first = contact.lock().await;
        if let Some(welcome) = pool.welcome().filter(|_| has_any(pool)) {
            return Ok(welcome);
        }
        // As everybody who wants something of a paused database; `auth.login_timeout` goes on.
        pool.until(|pool| !pool.ledger().is_paused()).await;
        let Some(attempt) = self.first_attempt(pool).await? else {
            // Somebody else's attempt came first.
            return pool.welcome().ok_or_else(|| unreachable(pool, Instant::now()));
        };
        let worker = self.shared.least_loaded();
        // A task of its own: the pool has counted the attempt, and this client may run out of time before it ends.
        let (shared, telemetry) = (self.shared.clone(), self.telemetry.clone());
        let dialling =
            tokio::task::spawn_local(async move { control::dial(&shared, &telemetry, attempt, worker).await });
        let dialled = dialling.await;
        self.first_contacts.borrow_mut().remove(&pool.id);
        match dialled {
            Ok(Ok(welcome)) => Ok(welcome),
            Ok(Err(failure)) => Err(told(pool, &failure).into()),
            Err(_) => Err(unavailable(pool, Instant::now(), None).into()),
        }
    }

    /// Begins the attempt that the pool's first client needs, as soon as there is room for it; `None`: somebody else's
    /// has succeeded meanwhile.
    async fn first_attempt(&self, pool: &Arc<Pool>) -> Result<Option<Attempt>, Denied> {
        let _visit = Visit::new(pool);
        let began = Instant::now();
        loop {
            let now = Instant::now();
            if let Some(attempt) = Attempt::begin(pool, Want::Waiting, now) {
                return Ok(Some(attempt));
            }
            if pool.ledger().dialling() > 0 {
                pool.until(|pool| has_any(pool) || pool.ledger().dialling() == 0).await;
            }
            if has_any(pool) {
                return Ok(None);
            }
            if !pool.ledger().wants_dial(now) {
                return Err(unreachable(pool, now));
            }
            let waited = now.saturating_duration_since(began);
            if waited >= pool.settings().queue_timeout {
                self.shared.room.content(pool.id);
                let (database, user, limit) = (pool.database.clone(), pool.user.clone(), pool.ledger().limit());
                return Err(Refusal::QueueTimeout { database, user, waited, limit, waiting: 0, limited: None }.into());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::verdict::ConnectFailure;

    use super::*;
    use crate::pool::{DialFailure, testing};

    #[test]
    fn a_login_is_told_when_to_come_again_while_no_connection_is_tried() {
        let minute = Duration::from_secs(60);
        let settings = config::Pool { connect_backoff: minute, connect_backoff_max: minute, ..testing::settings() };
        let (pool, now) = (testing::pool(0, "anna", settings), Instant::now());
        pool.set_failure(DialFailure::Unreachable(ConnectFailure::Broken));
        let told = |now| match unreachable(&pool, now) {
            Denied::Told(trouble) => format!("{trouble:?}"),
            Denied::Gone => String::new(),
        };
        assert!(told(now).contains("CannotConnect"), "{}", told(now));
        pool.ledger().begin_dial();
        pool.ledger().dial_failed(now, 1.0);
        let retry = pool.ledger().retry_at().unwrap();
        assert!(retry > now && told(now).contains("Unavailable"), "{}", told(now));
        assert!(told(retry).contains("CannotConnect"), "{}", told(retry));
    }
}

//! Asks a pool's servers again what they are, after a hint that one has become something else: a write was refused because
//! the server is read-only (25006), a connection was lost or ended by it (57P01), or it said that it is no standby any more.
//!
//! The hint alone decides nothing: a client that writes in a transaction which it began READ ONLY is refused by a server
//! that is all right. Each server in use is asked on a connection of its own; one that says that it is not what the pool
//! wants is retired, and where the next connection goes is found out as always. One that does not answer is left: what
//! becomes of its connections they will tell themselves.

use std::sync::Arc;
use std::time::Instant;

use crate::aside::Kind;
use crate::pool::Pool;
use crate::shared::Shared;

/// Asks, when it is time, and once more if there was another hint meanwhile.
pub(super) async fn look(shared: &Arc<Shared>, pool: &Arc<Pool>) {
    loop {
        tokio::time::sleep(pool.doubt.rest(Instant::now())).await;
        pool.doubt.begin();
        let left = retire_unfit(shared, pool).await;
        if left > 0 {
            shared.sweep(pool);
        }
        if !pool.doubt.end(Instant::now(), left > 0) {
            return;
        }
    }
}

/// Retires the servers that have become something else. Returns how many.
async fn retire_unfit(shared: &Arc<Shared>, pool: &Pool) -> usize {
    let Some(target) = pool.dialling_target().filter(|_| pool.wants_role()) else { return 0 };
    let settings = pool.settings();
    let mut left = 0;
    for server in pool.servers.in_use() {
        let Ok(_place) = shared.beside(Kind::Role) else { break };
        let role = target.role_of(&server, shared, &settings).await;
        if role.is_some_and(|role| !role.suits(target.session_attrs)) {
            tracing::warn!(
                server = %server, database = %pool.database, user = %pool.user, wanted = target.session_attrs.as_str(),
                "a server has become something else: its connections end at their next boundary"
            );
            server.retire();
            left += 1;
        }
    }
    left
}

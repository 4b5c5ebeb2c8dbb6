//! A client that has closed its side of the connection: has it gone, or does it only have nothing more to say?
//!
//! `printf … | nc` and its like close their side behind a request and read on, and PostgreSQL serves them: it notices the
//! end of its input when it reads next. A client that has crashed looks just the same, and must not hold an upstream
//! with a query that nobody waits for. The difference shows when something is sent: whoever has gone answers with a
//! reset. So it is told something that it knows already, a ParameterStatus of the server's version, which is allowed at
//! any time. If a reset comes, it has gone, and what it runs is cancelled; if none comes, it gets its replies, and its
//! session ends behind the last one.
//!
//! Only while a request of the client is under way. Otherwise, and over TLS, whose own closing message comes before the
//! end, the end of its bytes is the end.

use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use wire::encode::backend as say;
use wire::frame;
use wire::tag::Frontend;

use super::{End, Session};

/// How soon it is looked for a reset, at first; each time after twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// The longest time between two looks.
const LAST_LOOK: Duration = Duration::from_secs(1);

impl Session {
    /// The client will say no more.
    #[cold]
    pub(super) fn client_closed(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if !self.client.can_be_half_closed() || !self.is_busy() {
            return Err(End::ClientGone);
        }
        self.half_closed = true;
        let receives = self.lease.as_deref().is_some_and(|held| held.streaming.left > 0 && held.streaming.forward);
        if receives || says_goodbye(&self.carry) {
            // What is being sent to it tells the difference just as well; one that said goodbye may go.
            return Ok(());
        }
        self.look_for_reset();
        let welcome = self.pool.shared.welcome().unwrap_or_default();
        let mut known = Vec::new();
        if let Some((name, value)) = welcome.iter().find(|(name, _)| **name == *b"server_version") {
            // Too long to be told again: then nothing is.
            let _ = say::parameter_status(&mut known, name, value);
        }
        self.send_client(cx, &known)
    }

    /// Whether something that the client has asked for is under way, or lies here unread.
    fn is_busy(&self) -> bool {
        let answers = self.lease.as_deref().is_some_and(|held| {
            !held.pipeline.is_boundary() && !held.pipeline.is_unsynced() && !held.pipeline.is_copying_in()
        });
        self.waiting_since.is_some() || self.waits_for_an_answer() || answers || self.look_again
    }

    /// The client has closed its side, and has got all that it asked for, or has been found to have gone.
    pub(super) fn is_done(&self) -> bool {
        self.half_closed && (self.client.has_failed() || (self.unsent.is_empty() && !self.is_busy()))
    }

    /// Has the session look at the socket now and then, which does not wake anybody for a reset behind an end.
    fn look_for_reset(&self) {
        let ctl = Rc::downgrade(&self.ctl);
        tokio::task::spawn_local(async move {
            let mut pause = FIRST_LOOK;
            loop {
                tokio::time::sleep(pause).await;
                let Some(ctl) = ctl.upgrade() else { return };
                ctl.wake();
                pause = (pause * 2).min(LAST_LOOK);
            }
        });
    }
}

/// Whether a Terminate is among these messages.
fn says_goodbye(mut bytes: &[u8]) -> bool {
    while let Ok(Some(head)) = frame::head(bytes) {
        if head.tag == Frontend::Terminate.byte() {
            return true;
        }
        bytes = bytes.get(head.total()..).unwrap_or_default();
    }
    false
}

//! NOTIFY of a client that gives its upstreams back: whoever hears it is told the process id that this client was told.
//!
//! ```text
//! client      NOTIFY a ─►  ┆ held ┆ ─► upstream ─► …  CommandComplete, ReadyForQuery  ┆ held ┆ ─► client
//! listeners       CatchUp ─► Done                                        CatchUp ─► Done
//!                                ├── what that server process notifies is this client's ──┤
//! ```
//!
//! What others have notified on the same upstream, also from functions and triggers, which no text shows, is heard before;
//! what this client notifies is heard before anybody else gets the upstream. So no notification is taken for somebody
//! else's. Where nobody listens nothing is asked and nobody waits.

use wire::frame;
use wire::pipeline::Fate;
use wire::tag::TransactionStatus;
use wire::view;

use super::Session;
use super::script::Script;
use crate::listen::{News, Sender, Witness};
use crate::upstream::Upstream;

/// A client that notifies.
#[derive(Debug)]
pub struct Notifying {
    stage: Stage,
    /// The listeners that are asked, until they have answered.
    waits_for: Vec<(u64, Witness)>,
}

#[derive(Debug)]
enum Stage {
    /// What was notified there before is being heard: the NOTIFY waits.
    Before,
    /// The upstream stands for the client.
    Within(Sender),
    /// What the client has notified is being heard: ReadyForQuery waits.
    Behind(Sender),
    /// It was: ReadyForQuery is looked at again.
    Heard(Sender),
}

impl Notifying {
    /// The upstream is not read: its next message waits for listeners.
    #[inline]
    pub fn holds_replies(&self) -> bool {
        matches!(self.stage, Stage::Behind(_))
    }

    /// The message that waited has to be looked at again.
    #[inline]
    pub fn releases_replies(&self) -> bool {
        matches!(self.stage, Stage::Heard(_))
    }
}

impl Session {
    /// A text that notifies is about to be sent; `true`: it has to wait.
    pub(super) fn before_notify(&self, upstream: &mut Upstream, script: &Script) -> bool {
        if !script.notifies {
            return false;
        }
        if let Some(notifying) = &upstream.work.notifying {
            return matches!(notifying.stage, Stage::Before);
        }
        let own = upstream.cancel.process as u32 == self.ctl.process();
        if own || self.worker.shared.listeners.are_none() {
            return false;
        }
        let epoch = upstream.cancel.epoch();
        // Nobody has used it before, or nobody since everything was heard.
        let heard = std::mem::take(&mut upstream.heard) == Some(epoch) || epoch == 0;
        let witnesses = self.witnesses();
        if witnesses.is_empty() {
            return false;
        }
        let (stage, waits_for) = match heard {
            true => (Stage::Within(self.sender(upstream)), Vec::new()),
            false => (Stage::Before, self.ask(witnesses)),
        };
        upstream.work.notifying = Some(Box::new(Notifying { stage, waits_for }));
        !heard
    }

    fn witnesses(&self) -> Vec<Witness> {
        self.worker.shared.listeners.witnesses(&self.pool.shared.target())
    }

    fn ask(&self, witnesses: Vec<Witness>) -> Vec<(u64, Witness)> {
        let shared = &self.worker.shared;
        let asked = witnesses.into_iter().map(|witness| {
            // Apart from the numbers of what the client asks as one that listens.
            let number = shared.next_id() | 1 << 63;
            witness.catch_up(self.ctl.client, self.worker.index, number);
            (number, witness)
        });
        asked.collect()
    }

    fn sender(&self, upstream: &Upstream) -> Sender {
        let cancel = &upstream.cancel;
        Sender::new(&self.worker.shared, cancel.server.address.clone(), cancel.process as u32, self.ctl.process())
    }

    /// Looks at what listeners say to a client that notifies.
    #[cold]
    pub(super) fn heed_witnesses(&mut self) {
        let Some(mut upstream) = self.lease.take() else { return };
        if let Some(mut notifying) = upstream.work.notifying.take() {
            for news in self.ctl.news.borrow().iter() {
                if let News::Done(done) = news {
                    notifying.waits_for.retain(|(number, _)| number != done);
                }
            }
            if notifying.waits_for.is_empty() {
                notifying.stage = match notifying.stage {
                    Stage::Before => {
                        self.look_again = true;
                        upstream.work.release();
                        Stage::Within(self.sender(&upstream))
                    }
                    Stage::Behind(sender) => Stage::Heard(sender),
                    stage => stage,
                };
            }
            upstream.work.notifying = Some(notifying);
        }
        self.lease = Some(upstream);
    }

    /// The server has said ReadyForQuery, which `message` holds; `true`: it waits until listeners have heard what was
    /// notified.
    #[cold]
    pub(super) fn awaits_witnesses(&self, upstream: &mut Upstream, message: &[u8]) -> bool {
        let Some(mut notifying) = upstream.work.notifying.take() else { return false };
        // Of a pipeline, all of it is awaited; of a transaction, its end.
        let ours = upstream.pipeline.head().is_none_or(|owed| owed.fate == Fate::Swallow);
        let last = upstream.pipeline.len() == 1 && !ours;
        let status = view::ready(message.get(frame::HEAD..).unwrap_or_default());
        notifying.stage = match notifying.stage {
            Stage::Within(sender) if last && status == Ok(TransactionStatus::Idle) => {
                notifying.waits_for = self.ask(self.witnesses());
                if notifying.waits_for.is_empty() { Stage::Heard(sender) } else { Stage::Behind(sender) }
            }
            Stage::Heard(sender) if !last => Stage::Within(sender),
            stage => stage,
        };
        if let Stage::Heard(_) = notifying.stage {
            // This request's end is the next to be counted.
            upstream.heard = Some(upstream.cancel.epoch().wrapping_add(1));
            return false;
        }
        let waits = notifying.holds_replies();
        upstream.work.notifying = Some(notifying);
        waits
    }
}

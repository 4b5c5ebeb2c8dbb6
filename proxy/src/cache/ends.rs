//! Sessions whose rule is `strict`, waiting until the slot has passed the end of the log.
//!
//! ```text
//!   session: wait ──► ticket ──► wanted ──► slot::ask: send ──► answered ──► (news: reached) ──► Post::wake: looks again
//!                        └── until: watch, which gives up for it ────────────────────────────────┘
//! ```
//!
//! A session waits at most as long as the server needed for the answer, and never longer than `LONGEST`. So a statement
//! never takes more than twice what it would take without a cache, whatever becomes of the wait: whoever cannot know how
//! long it will be loses least if he gives up when he has spent what the other way costs. Where the last question took
//! longer than that, nobody begins to wait: the server is asked at once, and nothing is lost.
//!
//! To be woken promises nothing, as with [`flights`](super::flights): who is woken looks the key up again, and asks here what
//! has become of his ticket.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use policy::cache::{Lsn, Miss, Questions, Ticket, Turn};
use tokio::sync::Notify;

use super::post::{Post, Waiter};

/// Sessions that wait for one database. Whoever comes then asks the server.
const MAX_WAITERS: usize = 10_000;
/// No wait is longer: as long as news may be old for `coherent`, beyond which the slot counts as lagging.
const LONGEST: Duration = policy::cache::MAX_LAG;

/// Somebody who waits.
#[derive(Debug)]
struct Waits {
    waiter: Waiter,
    ticket: Ticket,
    until: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    questions: Questions,
    waiters: Vec<Waits>,
    /// The question by which it is measured how long one takes, and when it was sent.
    measured: Option<(Ticket, Instant)>,
    /// How long the last one took, from when it was sent until the slot had passed its end.
    took: Duration,
    /// Nobody gives up earlier than that; `None`: nobody waits.
    soonest: Option<Instant>,
}

impl Inner {
    /// How long a wait will be, as far as can be told: as the last one, or as one that is longer by now.
    fn expected(&self, now: Instant) -> Duration {
        let by_now = self.measured.map(|(_, sent)| now.saturating_duration_since(sent));
        self.took.max(by_now.unwrap_or_default())
    }

    /// Whether somebody waits for a question that was not sent: if anybody, who came last.
    fn is_wanted(&self) -> bool {
        self.waiters.last().is_some_and(|waits| self.questions.is_to_be_sent(waits.ticket))
    }

    /// Those who need not wait any longer.
    fn settled(&mut self) -> Vec<Waiter> {
        let Self { questions, waiters, .. } = self;
        waiters.extract_if(.., |waits| questions.turn(waits.ticket) != Turn::Waits).map(|waits| waits.waiter).collect()
    }
}

/// Who waits for the end of one database's log.
#[derive(Debug, Default)]
pub struct Ends {
    inner: Mutex<Inner>,
    /// Somebody waits for a question that was not sent.
    wanted: Notify,
    /// Somebody gives up earlier than all others.
    sooner: Notify,
    post: Post,
    /// Questions that somebody waited for.
    asked: AtomicU64,
}

impl Ends {
    /// Nobody waits, and nobody can.
    pub fn new(post: Post) -> Self {
        Self { post, ..Self::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A statement that came at `now` waits, whose answer has cost the server so much: for what, and until when.
    ///
    /// # Errors
    /// It does not, because of this.
    pub fn wait(&self, waiter: Waiter, cost: Duration, now: Instant) -> Result<(Ticket, Instant), Miss> {
        let patience = cost.min(LONGEST);
        let mut inner = self.inner();
        let ticket = inner.questions.ticket().ok_or(Miss::SlotDown)?;
        if inner.expected(now) > patience {
            return Err(Miss::ServerQuicker);
        }
        let until = now.checked_add(patience).filter(|_| inner.waiters.len() < MAX_WAITERS);
        let until = until.ok_or(Miss::WaitedInVain)?;
        let is_sooner = inner.soonest.is_none_or(|soonest| until < soonest);
        if is_sooner {
            inner.soonest = Some(until);
        }
        inner.waiters.push(Waits { waiter, ticket, until });
        drop(inner);
        self.wanted.notify_one();
        if is_sooner {
            self.sooner.notify_one();
        }
        Ok((ticket, until))
    }

    /// How it is with a ticket.
    pub fn turn(&self, ticket: Ticket) -> Turn {
        self.inner().questions.turn(ticket)
    }

    /// Questions that somebody waited for.
    pub fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    /// The slot of this number is up, and somebody asks.
    pub(super) fn begin(&self, slot: u64) {
        let mut inner = self.inner();
        inner.questions.begin(slot);
        (inner.measured, inner.took) = (None, Duration::ZERO);
    }

    /// The slot is lost: nobody waits for it.
    pub(super) fn end(&self) {
        let mut inner = self.inner();
        inner.questions.end();
        inner.measured = None;
        let settled = inner.settled();
        drop(inner);
        self.post.wake(&settled);
    }

    /// Returns when somebody waits for a question that was not sent.
    pub(super) async fn wanted(&self) {
        loop {
            let wanted = self.wanted.notified();
            if self.is_wanted() {
                return;
            }
            wanted.await;
        }
    }

    fn is_wanted(&self) -> bool {
        self.inner().is_wanted()
    }

    /// A question is about to be sent, at `now`: it is for all who wait by now. Its number.
    pub(super) fn send(&self, now: Instant) -> u64 {
        let mut inner = self.inner();
        let ticket = inner.questions.ticket();
        if inner.measured.is_none() {
            inner.measured = ticket.map(|ticket| (ticket, now));
        }
        if inner.is_wanted() {
            self.asked.fetch_add(1, Relaxed);
        }
        inner.questions.send()
    }

    /// The log ended at `end`, and the slot has applied everything in front of `applied`.
    pub(super) fn answered(&self, question: u64, end: Lsn, applied: Lsn) {
        self.inner().questions.answered(question, end);
        self.reached(applied);
    }

    /// The slot has applied everything in front of this place.
    pub(super) fn reached(&self, place: Lsn) {
        let mut inner = self.inner();
        if !inner.questions.reached(place) {
            return;
        }
        if let Some((ticket, sent)) = inner.measured
            && inner.questions.turn(ticket) != Turn::Waits
        {
            (inner.measured, inner.took) = (None, sent.elapsed());
        }
        let settled = inner.settled();
        drop(inner);
        self.post.wake(&settled);
    }

    /// Whether the slot has not passed all ends that were asked for.
    pub(super) fn is_behind(&self) -> bool {
        self.inner().questions.is_behind()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.inner().waiters.len()
    }

    /// Has those go to the server whose patience is over. One timer for all of them.
    pub(super) async fn watch(&self) -> Infallible {
        loop {
            let sooner = self.sooner.notified();
            match self.give_up(Instant::now()) {
                Some(next) => drop(tokio::time::timeout_at(next.into(), sooner).await),
                None => sooner.await,
            }
        }
    }

    /// Wakes those whose patience is over; when that of the next one is.
    fn give_up(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.inner();
        let over: Vec<Waiter> =
            inner.waiters.extract_if(.., |waits| waits.until <= now).map(|waits| waits.waiter).collect();
        inner.soonest = inner.waiters.iter().map(|waits| waits.until).min();
        let soonest = inner.soonest;
        drop(inner);
        self.post.wake(&over);
        soonest
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::worker::Mail;

    const MS: Duration = Duration::from_millis(1);

    fn ends() -> (Ends, Vec<UnboundedReceiver<Mail>>) {
        let (mail, letters): (Vec<_>, Vec<_>) = (0..2).map(|_| unbounded_channel()).unzip();
        (Ends::new(Post::new(mail.into())), letters)
    }

    fn woken(letters: &mut [UnboundedReceiver<Mail>]) -> Vec<Waiter> {
        let mut all = Vec::new();
        for (worker, letters) in letters.iter_mut().enumerate() {
            while let Ok(Mail::Landed(clients)) = letters.try_recv() {
                all.extend(clients.into_iter().map(|client| (worker, client)));
            }
        }
        all
    }

    #[test]
    fn those_who_came_before_a_question_are_woken_by_its_answer_and_share_it() {
        let (ends, mut letters) = ends();
        let now = Instant::now();
        assert_eq!(ends.wait((0, 1), 9 * MS, now).err(), Some(Miss::SlotDown));
        ends.begin(0);
        let [one, two] = [(0, 1), (1, 2)].map(|waiter| ends.wait(waiter, 9 * MS, now).unwrap().0);
        assert!(ends.is_wanted());
        let question = ends.send(now);
        let (late, _) = ends.wait((0, 3), 9 * MS, now).unwrap();
        ends.answered(question, Lsn(50), Lsn(40));
        assert!(woken(&mut letters).is_empty() && ends.is_behind() && ends.is_wanted());
        ends.reached(Lsn(50));
        assert_eq!(woken(&mut letters), [(0, 1), (1, 2)]);
        assert!([one, two].iter().all(|ticket| matches!(ends.turn(*ticket), Turn::Passed(_))));
        assert_eq!(ends.turn(late), Turn::Waits);
        let question = ends.send(now);
        ends.answered(question, Lsn(50), Lsn(50));
        assert_eq!((woken(&mut letters), ends.asked()), (vec![(0, 3)], 2));
        ends.send(now);
        assert_eq!(ends.asked(), 2, "nobody waited for it");
    }

    #[test]
    fn nobody_waits_for_longer_than_the_server_would_need() {
        let (ends, mut letters) = ends();
        let now = Instant::now();
        ends.begin(0);
        let until = |client, cost| ends.wait((0, client), cost, now).unwrap().1 - now;
        assert_eq!((until(1, 3 * MS), until(2, Duration::from_secs(9))), (3 * MS, LONGEST));
        assert_eq!(ends.give_up(now + 2 * MS), Some(now + 3 * MS));
        assert!(woken(&mut letters).is_empty());
        assert_eq!(ends.give_up(now + 3 * MS), Some(now + LONGEST));
        assert_eq!(woken(&mut letters), [(0, 1)]);
        // A question that takes longer than that by now, or did.
        let question = ends.send(now);
        let late = now + 20 * MS;
        assert_eq!(ends.wait((0, 4), 19 * MS, late).err(), Some(Miss::ServerQuicker));
        ends.wait((0, 5), 20 * MS, late).unwrap();
        ends.answered(question, Lsn(1), Lsn(1));
        let took = ends.inner().took;
        assert!(!took.is_zero());
        assert_eq!(ends.wait((0, 6), took / 2, now).err(), Some(Miss::ServerQuicker));
    }

    #[test]
    fn nobody_waits_for_a_slot_that_is_lost() {
        let (ends, mut letters) = ends();
        let now = Instant::now();
        ends.begin(0);
        let (ticket, _) = ends.wait((1, 7), 9 * MS, now).unwrap();
        let question = ends.send(now);
        ends.end();
        assert_eq!((woken(&mut letters), ends.turn(ticket)), (vec![(1, 7)], Turn::Void));
        ends.answered(question, Lsn(1), Lsn(1));
        ends.begin(1);
        assert_eq!((ends.turn(ticket), ends.is_wanted()), (Turn::Void, false));
    }

    #[test]
    fn waiters_are_bounded() {
        let (ends, _letters) = ends();
        let now = Instant::now();
        ends.begin(0);
        let waits = (0..=MAX_WAITERS as u64).map(|client| ends.wait((0, client), 9 * MS, now));
        assert_eq!(waits.filter_map(Result::err).collect::<Vec<_>>(), [Miss::WaitedInVain]);
    }
}

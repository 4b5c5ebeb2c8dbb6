//! Questions for the end of the log, which many who wait share.
//!
//! `strict` needs the end of the log as it was at some moment *behind* the one at which its statement came. One question
//! serves all whose statements came before it was sent, as a group commit does; who comes while it is on its way needs the
//! next one, since the server may have read its log's end already. There is never more than one on its way.
//!
//! ```text
//!   a statement comes ──► ticket: the next question ──► sent ──► answered: an end ──► the slot has passed it ──► Passed
//!                                                        └────────── the slot is lost ──────────┘──► Void
//! ```

use std::collections::VecDeque;

use super::freshness::{End, Lsn};

/// Ends that are waited for. Beyond, two are taken together as the later one.
const MAX_AHEAD: usize = 64;

/// What a statement waits for: one question that had not been sent when it came, put to one slot. Good for that statement
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) slot: u64,
    pub(super) question: u64,
}

/// How it is with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Its question was not sent, or not answered, or the slot has not passed the end.
    Waits,
    /// The slot has passed an end that was asked for behind the moment at which the ticket was given.
    Passed(End),
    /// The slot was lost: nothing that was asked counts any more.
    Void,
}

/// The questions to the server of one database's slot. No I/O: whoever asks tells of it.
#[derive(Debug, Default)]
pub struct Questions {
    /// The slot's number while it is up.
    slot: Option<u64>,
    /// The number of the last one that was sent. They go on from slot to slot.
    sent: u64,
    /// Those that were answered and whose end was not passed. Later ones behind earlier ones.
    ahead: VecDeque<(u64, Lsn)>,
    /// The last one whose end was passed.
    passed: Option<(u64, Lsn)>,
}

impl Questions {
    /// The slot of this number ([`Slot::number`](super::Slot::number)) is up.
    pub fn begin(&mut self, slot: u64) {
        *self = Self { slot: Some(slot), sent: self.sent, ..Self::default() };
    }

    /// The slot is lost: all tickets are void.
    pub fn end(&mut self) {
        *self = Self { sent: self.sent, ..Self::default() };
    }

    /// For a statement that has come; `None`: there is nobody to ask.
    pub fn ticket(&self) -> Option<Ticket> {
        self.slot.map(|slot| Ticket { slot, question: self.sent + 1 })
    }

    /// A question is about to be sent; its number.
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Whether nobody has sent the question of this ticket yet.
    pub fn is_to_be_sent(&self, ticket: Ticket) -> bool {
        self.slot == Some(ticket.slot) && ticket.question > self.sent
    }

    /// The log ended here, says the answer to this question.
    pub fn answered(&mut self, question: u64, end: Lsn) {
        if self.slot.is_none() {
            return;
        }
        if self.ahead.len() == MAX_AHEAD {
            // Who waits for the one waits for the other: longer, and for no less.
            self.ahead.pop_back();
        }
        self.ahead.push_back((question, end));
    }

    /// The slot has applied everything in front of this place. Whether there is news for somebody who waits.
    pub fn reached(&mut self, place: Lsn) -> bool {
        let before = self.passed;
        while let Some(passed) = self.ahead.front().copied().filter(|(_, end)| *end <= place) {
            self.passed = Some(passed);
            self.ahead.pop_front();
        }
        self.passed != before
    }

    /// Whether the slot has not passed all ends that were asked for.
    pub fn is_behind(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// How it is with a ticket.
    pub fn turn(&self, ticket: Ticket) -> Turn {
        match (self.slot, self.passed) {
            (Some(slot), _) if slot != ticket.slot => Turn::Void,
            (None, _) => Turn::Void,
            (Some(slot), Some((question, at))) if question >= ticket.question => Turn::Passed(End { slot, at }),
            _ => Turn::Waits,
        }
    }
}

/// A question, and the end of the log that answers it.
#[cfg(test)]
type Answered = (u64, Lsn);

/// What the model looks at, and a way around what it shows the need of.
#[cfg(test)]
impl Questions {
    /// The question that was sent last, if any was: what a statement that has come since must not go by.
    pub(super) fn last_ticket(&self) -> Option<Ticket> {
        self.slot.map(|slot| Ticket { slot, question: self.sent.max(1) })
    }

    /// All that the future depends on.
    pub(super) fn standing(&self) -> (Vec<Answered>, Option<Answered>) {
        let back = |(question, end): Answered| (self.sent - question, end);
        (self.ahead.iter().copied().map(back).collect(), self.passed.map(back))
    }

    /// The same of a ticket: how far behind the last question it is, and whether it is of this slot.
    pub(super) fn standing_of(&self, ticket: Ticket) -> (i64, bool) {
        (self.sent as i64 - ticket.question as i64, self.slot == Some(ticket.slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(slot: u64, at: u64) -> Turn {
        Turn::Passed(End { slot, at: Lsn(at) })
    }

    #[test]
    fn one_question_serves_all_who_came_before_it_was_sent_and_nobody_else() {
        let mut questions = Questions::default();
        assert_eq!(questions.ticket(), None, "nobody to ask");
        questions.begin(3);
        let [one, two] = [questions.ticket().unwrap(), questions.ticket().unwrap()];
        assert!(questions.is_to_be_sent(one) && questions.is_to_be_sent(two));
        let first = questions.send();
        let late = questions.ticket().unwrap();
        assert!(!questions.is_to_be_sent(two) && questions.is_to_be_sent(late));
        questions.answered(first, Lsn(50));
        assert!(!questions.reached(Lsn(49)) && questions.is_behind());
        assert_eq!(questions.turn(one), Turn::Waits);
        assert!(questions.reached(Lsn(50)) && !questions.is_behind());
        assert_eq!([one, two, late].map(|ticket| questions.turn(ticket)), [passed(3, 50), passed(3, 50), Turn::Waits]);
        let second = questions.send();
        questions.answered(second, Lsn(50));
        assert!(questions.reached(Lsn(50)), "the log has not moved");
        assert_eq!(questions.turn(late), passed(3, 50));
    }

    #[test]
    fn what_was_asked_of_a_slot_that_is_lost_does_not_count() {
        let mut questions = Questions::default();
        questions.begin(0);
        let ticket = questions.ticket().unwrap();
        let question = questions.send();
        questions.end();
        questions.answered(question, Lsn(7));
        assert!(!questions.reached(Lsn(9)));
        assert_eq!((questions.turn(ticket), questions.ticket()), (Turn::Void, None));
        questions.begin(1);
        let next = questions.send();
        questions.answered(next, Lsn(1));
        questions.reached(Lsn(9));
        assert_eq!(questions.turn(ticket), Turn::Void);
        assert!(!questions.is_to_be_sent(ticket));
    }

    #[test]
    fn a_slot_that_does_not_come_on_takes_no_memory() {
        let mut questions = Questions::default();
        questions.begin(0);
        let first = questions.ticket().unwrap();
        let mut last = first;
        for place in 1..1_000 {
            last = questions.ticket().unwrap();
            let question = questions.send();
            questions.answered(question, Lsn(place));
            assert!(questions.ahead.len() <= MAX_AHEAD);
        }
        questions.reached(Lsn(1));
        assert_eq!((questions.turn(first), questions.turn(last)), (passed(0, 1), Turn::Waits));
        questions.reached(Lsn(999));
        assert_eq!(questions.turn(last), passed(0, 999));
    }
}

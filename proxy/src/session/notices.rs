//! What limits that only warn tell a client: a NOTICE for each, behind the statement that it is about.

use policy::verdict::Refusal;
use wire::encode::{Report, Severity, backend as say};
use wire::error::Sqlstate;
use wire::tag::Backend;

use super::Session;
use super::outbox::Outbox;
use super::reply::Message;
use crate::upstream::Upstream;

/// Notices of one statement; what a limit says beyond them is counted, and not told.
const MAX_NOTICES: usize = 8;
/// Notices that one client has still to be told.
const MAX_ALL: usize = 256;

/// What is still to be told. What is about a statement that was sent lies with that statement.
#[derive(Debug, Default)]
pub struct Notices {
    /// About the statement that is sent next, or about the request if none is.
    next: Vec<Report>,
    /// About what the server is just telling of.
    due: Vec<Report>,
    /// How many there are, with those of the statements that were sent.
    all: usize,
}

impl Notices {
    /// About the statement that is sent next.
    pub fn add(&mut self, notice: Report) {
        if self.next.len() < MAX_NOTICES && self.all < MAX_ALL {
            self.next.push(notice);
            self.all += 1;
        }
    }

    /// About what the server is just telling of.
    pub fn tell(&mut self, notice: Report) {
        if self.due.len() < MAX_ALL {
            self.due.push(notice);
            self.all += 1;
        }
    }

    /// A statement is sent: what is about it goes with it.
    #[inline]
    pub fn take_next(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.next)
    }

    /// What the statement that goes with them cannot be told of: it was refused.
    pub fn forget_next(&mut self) {
        self.all = self.all.saturating_sub(self.next.len());
        self.next.clear();
    }

    /// A statement has ended.
    #[inline]
    pub fn end(&mut self, mut notices: Vec<Report>) {
        if !notices.is_empty() {
            self.due.append(&mut notices);
        }
    }

    /// What was added last is about what the server is just telling of; `before`: what was there before is not.
    fn tell_added(&mut self, before: Vec<Report>) {
        let mut added = std::mem::replace(&mut self.next, before);
        self.due.append(&mut added);
    }

    /// A request has ended: what was about none of its statements is about it. So many are left with statements of further
    /// requests.
    #[inline]
    pub fn end_request(&mut self, left: impl FnOnce() -> usize) {
        if self.all > 0 {
            self.due.append(&mut self.next);
            self.all = self.due.len() + left();
        }
    }

    /// Nothing is to be told any more.
    #[inline]
    pub fn clear(&mut self) {
        if self.all > 0 {
            *self = Self::default();
        }
    }

    fn take_due(&mut self) -> Vec<Report> {
        self.all = self.all.saturating_sub(self.due.len());
        std::mem::take(&mut self.due)
    }
}

impl Session {
    /// The client is told what would have been its error.
    #[cold]
    pub(super) fn warn(&self, upstream: &mut Upstream, refusal: &Refusal) {
        let report = refusal.report();
        let mut notice = Report::new(Severity::Notice, Sqlstate::SUCCESS, report.message);
        if let Some(detail) = report.detail {
            notice = notice.detail(detail);
        }
        upstream.work.notices.add(notice.hint("This limit only warns so far; the statement was run."));
    }

    /// What `look` warns of is about what the server is just telling of, and not about what is sent next.
    pub(super) fn of_what_ends(upstream: &mut Upstream, look: impl FnOnce(&mut Upstream)) {
        let before = upstream.work.notices.take_next();
        look(upstream);
        upstream.work.notices.tell_added(before);
    }
}

/// What a limit warns of is told behind the end of the statement, be it an error; of a request or transaction, whose time is
/// known when it has ended, before the ReadyForQuery that ends it.
#[inline]
pub(super) fn tell_notices(upstream: &mut Upstream, outbox: &mut Outbox<'_>, message: Message<'_>) {
    if upstream.work.notices.due.is_empty() {
        return;
    }
    use Backend::{CommandComplete, EmptyQueryResponse, ErrorResponse, PortalSuspended, ReadyForQuery};
    let at = match message.tag {
        CommandComplete | EmptyQueryResponse | PortalSuspended | ErrorResponse => message.end(),
        ReadyForQuery => message.at,
        _ => return,
    };
    for notice in upstream.work.notices.take_due() {
        say::notice_response(outbox.insert(at), &notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Report {
        Report::new(Severity::Notice, Sqlstate::SUCCESS, "too many".to_owned())
    }

    #[test]
    fn a_client_that_never_reads_is_kept_few_notices_for() {
        let mut notices = Notices::default();
        let mut sent: Vec<Vec<Report>> = Vec::new();
        for _ in 0..1_000 {
            (0..100).for_each(|_| notices.add(notice()));
            sent.push(notices.take_next());
        }
        assert_eq!(sent.iter().map(Vec::len).max(), Some(MAX_NOTICES));
        assert_eq!(sent.iter().map(Vec::len).sum::<usize>(), MAX_ALL);
        for told in sent {
            notices.end(told);
            notices.take_due();
        }
        notices.add(notice());
        assert_eq!((notices.next.len(), notices.all), (1, 1), "there is room again");
        notices.end_request(|| 0);
        assert_eq!(notices.take_due().len(), 1);
    }
}

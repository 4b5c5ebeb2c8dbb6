//! What an upstream is being used for: the part of a session's state that lives only while it holds an upstream, and
//! stays with the upstream so that an idle client costs nothing and a busy one allocates nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use policy::limits::Deadline;
use policy::tenant::TenantId;
use policy::verdict::SessionState;
use tokio::sync::oneshot;
use wire::frame;
use wire::params::Settings;
use wire::tag::{Backend, TransactionStatus};

use super::cached::{Filling, Standing};
use super::local_settings::LocalSettings;
use super::notices::Notices;
use super::notify::Notifying;
use super::portals::Portal;
use super::refuse::Refusals;
use super::retry::Retry;
use super::signal::StandIn;
use super::statement::{Prepared, Running};
use super::transactions::Open;
use crate::plans::MAX_TEXT;
use crate::tenancy::Permit;
use crate::trouble::Trouble;

/// The state of a lease.
#[derive(Debug, Default)]
pub struct Work {
    /// Statements that are being run, in the order of their replies.
    pub running: VecDeque<Running>,
    /// Statements that are being described.
    pub describing: VecDeque<Option<Rc<Prepared>>>,
    /// Parameters kept for the detector until the request ends.
    pub samples: Vec<u8>,
    /// Texts kept for plans until then: apart, so that they leave the detector its room.
    pub texts: Vec<u8>,
    /// Rows of the statement whose replies are coming.
    pub rows: Vec<u8>,
    /// Changes of the client's unnamed statement that are on their way; `None`: it is taken away.
    pub unnamed: VecDeque<Option<Rc<Prepared>>>,
    /// The unnamed portal.
    pub portal: Option<Portal>,
    /// Named portals.
    pub portals: HashMap<Box<[u8]>, Portal>,
    /// Portals that were bound since the upstream was opened: the number of the last one.
    pub portals_bound: u64,
    /// The statement that was parsed last, to be blamed for a failed Parse.
    pub parsed: Option<Rc<Prepared>>,
    /// Errors of our own that stand for the failures of refused messages.
    pub refusals: Refusals,
    /// The settings that a prologue under way makes.
    pub prologue: Option<Rc<Settings>>,
    /// The client's messages wait for the next boundary.
    pub held: bool,
    /// The server was asked for whatever it owes, behind the last message that was sent.
    pub flushed: bool,
    /// The deadline of the request that runs, and of its transaction.
    pub deadline: Option<Deadline>,
    /// The deadline of the statement that is first, or of what is left of its text.
    pub statement: Option<Deadline>,
    /// An Execute was sent whose time is limited, and the server was not asked yet for its end.
    pub unheard: bool,
    /// Its result is larger than it may be: this is told in its place when it has been cancelled.
    pub exceeds: Option<Box<Trouble>>,
    /// The same in place of the command tag that is due, where the server was done before it heard of the cancel.
    pub late: Option<Box<Trouble>>,
    /// Whether that statement has read and nothing else.
    pub late_reads: Option<bool>,
    /// The request counts among those of its tenant that run.
    pub permit: Option<Permit>,
    /// The same by statements that are limited by name: one for each, whose it was.
    pub named_permits: Vec<(TenantId, u64, Permit)>,
    /// The deadline that the statement has which runs, and its fingerprint, where the configuration limits just that one.
    pub own: Option<(u64, Deadline)>,
    /// Since when it may run, in µs on the telemetry clock: what stood before it has ended.
    pub first_us: u64,
    /// That deadline has passed and the server was told.
    pub timed_out: bool,
    /// The client asked for a cancel.
    pub cancelled: bool,
    /// An error came since the last ReadyForQuery.
    pub failed: bool,
    /// Why the client keeps the upstream: what pinned it first.
    pub pinned: Option<SessionState>,
    /// Everything that has pinned it since, a bit each.
    pub pins: u16,
    /// Places of the client's statements that could not be parsed here under their own names.
    pub absent: Vec<u64>,
    /// Places of those that were parsed here after the schema had changed, and whether the server was asked for their
    /// results since.
    pub dated: HashMap<u64, bool>,
    /// Something has happened that may have taken the last reason away.
    pub may_be_free: bool,
    /// The transaction has changed what statements name.
    pub altered: bool,
    /// From a statement on that may do so, what the client prepares is its own; 0: there is none.
    pub epoch: u64,
    /// The transaction changes functions.
    pub defines: bool,
    /// A statement whose result the server is being asked for (`session::verify`).
    pub verifying: Option<Rc<Prepared>>,
    /// A request that may have to be sent once more.
    pub retry: Retry,
    /// That request.
    pub kept: Vec<u8>,
    /// Why the server ends the connection, in its own words.
    pub last_words: Option<Box<[u8]>>,
    /// The server is being asked whether it has.
    pub probe: Probe,
    /// Settings to be made for the transaction before its next request: SET LOCAL … TO DEFAULT has brought them to the
    /// server's default and not to what the client began with.
    pub local_default: BTreeSet<Box<str>>,
    /// Settings that SET LOCAL … TO DEFAULT has covered in this transaction.
    pub local_reset: BTreeSet<Box<str>>,
    /// A RESET has brought settings that the client began with to the server's own, which the server tells: the client is
    /// told that they are what it began with.
    pub restates: bool,
    /// Something has run on this lease that may have drawn from a sequence.
    pub drawn: bool,
    /// All settings of the transaction alone.
    pub locals: LocalSettings,
    /// The transaction, where it is open for longer than a request.
    pub open: Open,
    /// Connections that stand for clients which the transaction's statements strike.
    pub stand_ins: Vec<StandIn>,
    /// Whether what has become of them is awaited.
    pub strike: Strike,
    /// The client notifies, and there are clients that listen.
    pub notifying: Option<Box<Notifying>>,
    /// Among the statements of this request is one that needs databases to itself.
    pub vacates: bool,
    /// Dropped when the statement has ended that others leave their databases for.
    pub vacating: Option<oneshot::Sender<()>>,
    /// What the client is still to be told beside the server's replies.
    pub notices: Notices,
    /// The reply that comes may be kept.
    pub filling: Option<Box<Filling>>,
    /// Whether the transaction's reads may be answered from the cache.
    pub standing: Standing,
    /// The name of the transaction that PREPARE TRANSACTION was sent for.
    pub prepares: Option<Box<str>>,
    /// When the request began whose replies are due, in µs on the telemetry clock.
    pub begun_us: u64,
    /// When the server was done with the last statement, in µs on the telemetry clock: it has begun the next one no sooner.
    served_us: u64,
    /// Statements whose end is among the replies that are being dealt with.
    ends: usize,
    /// How long the client waited for the upstream, in µs, until the first statement has been charged for it.
    pub queued_us: u64,
    /// When the transaction began, in µs on the telemetry clock.
    pub transaction_us: u64,
    /// When the server last told of a statement that ends a transaction; the one that is open began behind it.
    pub ended_us: u64,
}

/// A question to the server: is anything of the client left on it?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Probe {
    /// Not asked.
    #[default]
    None,
    /// Asked; `true`: something is left.
    Asked(bool),
    /// The answer is there, and has been acted on.
    Answered,
}

/// What has become of the clients that a statement strikes is known before the statement's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strike {
    /// Nobody is struck, as far as is known.
    #[default]
    None,
    /// It is asked for: the upstream is not read.
    Awaited,
    /// It is known: the message that waited for it is looked at again.
    Settled,
}

/// Bytes of samples kept of one pipeline; what comes behind them is counted without.
pub const MAX_SAMPLES: usize = 256 * 1024;

/// Statements under way that an upstream keeps room for: a pipeline of thousands would leave megabytes on each upstream
/// that has served one.
pub const KEPT_STATEMENTS: usize = 256;
/// Bytes of samples that it keeps room for, and of texts: one of them is usual.
const KEPT_SAMPLES: usize = MAX_TEXT;
/// Bytes of texts kept of one pipeline.
const MAX_TEXTS: usize = 64 * 1024;
/// A vector that grew to hold one more byte than this has room for twice as many: only above that has more than usual run,
/// or a request of usual size would grow it, and its end shrink it, each time.
const USUAL_ROOM: usize = 2 * KEPT_SAMPLES;

/// How many statements end in these replies.
fn ends_in(mut replies: &[u8]) -> usize {
    let mut ends = 0;
    while let Ok(Some(head)) = frame::head(replies) {
        let ending = Backend::from_byte(head.tag).is_some_and(|tag| {
            use Backend::{CommandComplete, EmptyQueryResponse, ErrorResponse, PortalSuspended};
            matches!(tag, CommandComplete | EmptyQueryResponse | PortalSuspended | ErrorResponse)
        });
        ends += usize::from(ending);
        replies = replies.get(head.total()..).unwrap_or_default();
    }
    ends
}

impl Work {
    /// A statement that takes prepared statements away is being run: what a name means is known when it has ended.
    #[inline]
    pub fn forgets(&self) -> bool {
        self.running.iter().any(|running| running.known.script.as_ref().is_some_and(|script| script.forgets))
    }

    /// Whether what is sent now is within a transaction: `status` is the server's word on it, which knows nothing of what has
    /// not been answered.
    #[inline]
    pub fn is_within(&self, status: TransactionStatus) -> bool {
        self.running.back().map_or(status != TransactionStatus::Idle, Running::leaves_open)
    }

    /// Somebody else may have to do something before the end of the request is told.
    #[inline]
    pub fn is_awaited_by_others(&self) -> bool {
        !self.stand_ins.is_empty() || self.notifying.is_some()
    }

    /// By when what runs must have ended: the request, or its statement if that has less time.
    pub fn due(&self) -> Option<Deadline> {
        Deadline::sooner(Deadline::sooner(self.statement, self.deadline), self.own.map(|(_, own)| own))
    }

    /// The statement whose own limit that is.
    pub fn named(&self) -> Option<u64> {
        self.own.filter(|(_, own)| self.due() == Some(*own)).map(|(strict, _)| strict)
    }

    /// What the client's messages waited for is there. They go on, unless something else is under way that they must not
    /// overtake: none of these is looked for again when they are.
    pub fn release(&mut self) {
        let under_way = self.prologue.is_some() || self.retry.is_under_way() || matches!(self.probe, Probe::Asked(_));
        self.held &= under_way;
    }

    /// Replies have come in one piece.
    #[inline]
    pub fn expect_ends(&mut self, replies: &[u8]) {
        self.ends = if self.running.len() > 1 { ends_in(replies) } else { 1 };
    }

    /// From when to when the server was busy with a statement that was sent then, and whose end was read now, in µs on the
    /// telemetry clock. Statements that were sent at once run one after the other. A server keeps their replies until it has
    /// 8 KiB or reads the Sync: those that come together have even shares of the time.
    #[inline]
    pub fn serve(&mut self, sent_us: u64, read_us: u64) -> (u64, u64) {
        let begun_us = sent_us.max(self.served_us);
        let share = read_us.saturating_sub(begun_us) / self.ends.max(1) as u64;
        self.ends = self.ends.saturating_sub(1);
        self.served_us = begun_us + share;
        (begun_us, self.served_us)
    }

    /// How long the server may have been busy with one of the statements that are told of now, as [`Self::serve`] counts;
    /// of a text with so many each has an even share too.
    pub fn share(&self, since_us: u64, read_us: u64, parts: usize) -> u64 {
        let together = if parts > 1 { parts } else { self.ends.max(1) };
        read_us.saturating_sub(since_us.max(self.served_us)) / together as u64
    }

    /// Keeps a text, if there is room.
    pub fn keep_text(&mut self, sql: &[u8]) -> Option<std::ops::Range<usize>> {
        let begin = self.texts.len();
        if sql.len() > MAX_TEXT || begin + sql.len() > MAX_TEXTS {
            return None;
        }
        self.texts.extend_from_slice(sql);
        Some(begin..self.texts.len())
    }

    /// A transaction has ended, and its portals with it.
    #[inline]
    pub fn end_transaction(&mut self) {
        self.portal = None;
        self.locals.clear();
        self.stand_ins.clear();
        self.strike = Strike::None;
        if !self.portals.is_empty() {
            self.portals.clear();
            self.portals.shrink_to(KEPT_STATEMENTS);
        }
    }

    /// A request has ended: nothing is owed any more.
    #[inline]
    pub fn end_request(&mut self) {
        self.samples.clear();
        self.forget_parameters();
        self.texts.clear();
        self.rows.clear();
        self.refusals.clear();
        self.forget_excess();
        self.permit = None;
        self.named_permits.clear();
        self.parsed = None;
        self.vacates = false;
        self.vacating = None;
        (self.deadline, self.statement) = (None, None);
        self.unheard = false;
        self.timed_out = false;
        self.cancelled = false;
        self.held = false;
        self.retry = Retry::None;
        self.filling = None;
        // A message is noted in one of these, whatever it is.
        let entries = self.running.capacity().max(self.describing.capacity()).max(self.unnamed.capacity());
        let most = entries.max(self.refusals.capacity());
        if most > KEPT_STATEMENTS || self.samples.capacity().max(self.texts.capacity()) > USUAL_ROOM {
            self.give_back();
        }
    }

    /// Whatever was too large has ended, one way or another: nothing of it is told of what comes behind it.
    pub fn forget_excess(&mut self) {
        (self.exceeds, self.late, self.late_reads, self.own) = (None, None, None, None);
    }

    /// What ran was much more than usual: its room is not kept.
    #[cold]
    fn give_back(&mut self) {
        self.running.shrink_to(KEPT_STATEMENTS);
        self.describing.shrink_to(KEPT_STATEMENTS);
        self.unnamed.shrink_to(KEPT_STATEMENTS);
        self.refusals.shrink_to(KEPT_STATEMENTS);
        self.samples.shrink_to(KEPT_SAMPLES);
        self.texts.shrink_to(KEPT_SAMPLES);
        self.rows.shrink_to(KEPT_SAMPLES);
    }

    /// Nothing of the last lease may be seen by the next one.
    pub fn end_lease(&mut self) {
        self.end_request();
        self.end_transaction();
        self.running.clear();
        self.describing.clear();
        self.verifying = None;
        self.unnamed.clear();
        self.prologue = None;
        self.failed = false;
        self.pinned = None;
        self.pins = 0;
        self.may_be_free = false;
        // As many as a client has statements, and for few clients.
        self.absent = Vec::new();
        if self.dated.capacity() > 0 {
            self.dated = HashMap::new();
        }
        self.defines = false;
        self.altered = false;
        self.epoch = 0;
        self.probe = Probe::None;
        self.notifying = None;
        self.last_words = None;
        self.notices.clear();
        self.local_default.clear();
        self.local_reset.clear();
        self.restates = false;
        self.drawn = false;
        self.open = Open::default();
        self.queued_us = 0;
        self.prepares = None;
        self.standing = Standing::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_for_something_does_not_overtake_something_else() {
        let released = |change: &dyn Fn(&mut Work)| {
            let mut work = Work { held: true, ..Work::default() };
            change(&mut work);
            work.release();
            !work.held
        };
        assert!(released(&|_| {}));
        assert!(released(&|work| work.probe = Probe::Answered));
        assert!(!released(&|work| work.probe = Probe::Asked(false)));
        assert!(!released(&|work| work.retry = Retry::Failed(Vec::new())));
        assert!(!released(&|work| work.prologue = Some(Rc::new(Settings::new()))));
    }

    #[test]
    fn room_for_a_long_pipeline_is_not_kept_and_for_a_usual_one_is() {
        let mut work = Work::default();
        // Each alone: a pipeline may describe, prepare or be refused, and run nothing.
        let long: [fn(&mut Work); 6] = [
            |work| work.running.reserve(10_000),
            |work| work.describing.reserve(10_000),
            |work| work.unnamed.reserve(10_000),
            |work| (0..10_000).for_each(|_| _ = work.refusals.push(Trouble::StaleStatement)),
            |work| work.samples.reserve(MAX_SAMPLES),
            |work| work.texts.reserve(MAX_TEXTS),
        ];
        for reserve in long {
            reserve(&mut work);
            work.end_request();
            let queues = [work.running.capacity(), work.describing.capacity(), work.unnamed.capacity()];
            let kept = queues.into_iter().chain([work.refusals.capacity()]).max().unwrap_or_default();
            assert!(kept <= 2 * KEPT_STATEMENTS && work.samples.capacity() <= 2 * KEPT_SAMPLES, "{queues:?}");
            assert!(work.texts.capacity() <= 2 * KEPT_SAMPLES);
        }
        work.running.reserve(KEPT_STATEMENTS / 2);
        work.end_request();
        assert!(work.running.capacity() >= KEPT_STATEMENTS / 2, "a busy upstream has it allocated");
    }

    #[test]
    fn texts_of_any_length_are_kept_without_growing_and_shrinking() {
        let mut work = Work::default();
        let mut grows = |texts: &[usize]| {
            let before = [work.texts.capacity(), work.samples.capacity()];
            for length in texts {
                work.samples.extend(std::iter::repeat_n(0, MAX_TEXT / 2));
                assert!(work.keep_text(&vec![b' '; *length]).is_some());
            }
            let grown = [work.texts.capacity(), work.samples.capacity()] != before;
            work.end_request();
            grown
        };
        // Two statements in one pipeline are usual as well.
        let usual: [&[usize]; 5] = [&[9_000], &[12_000, 12_000], &[MAX_TEXT], &[MAX_TEXT, MAX_TEXT], &[100]];
        let growths = (0..20).map(|_| usual.map(&mut grows).into_iter().filter(|grown| *grown).count());
        assert_eq!(growths.skip(2).sum::<usize>(), 0, "once it has the room it keeps it");
        assert_eq!(work.keep_text(&[b' '; MAX_TEXT + 1]), None);
        let kept = (0..100).filter_map(|_| work.keep_text(&[b' '; MAX_TEXT])).count();
        assert_eq!((kept, work.samples.len()), (MAX_TEXTS / MAX_TEXT, 0), "the detector has its room");
    }

    #[test]
    fn room_for_one_clients_many_statements_is_not_kept_for_the_next() {
        let mut work = Work::default();
        work.absent.reserve(10_000);
        work.dated.reserve(10_000);
        work.local_reset.extend((0..1_000).map(|n| n.to_string().into()));
        work.end_lease();
        assert_eq!((work.absent.capacity(), work.dated.capacity()), (0, 0));
        assert!(work.local_reset.is_empty());
    }
}

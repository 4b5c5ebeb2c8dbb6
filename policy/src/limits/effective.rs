//! What holds for a session, put together once from all tables that say something about it.

use std::sync::Arc;
use std::time::Duration;

use config::{LimitKey, LimitKind, LimitValue, Limits, Mode, OnUntracked};

/// A limit, and what happens when it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound<T> {
    /// The limit.
    pub at: T,
    /// Never [`Mode::Off`].
    pub mode: Mode,
}

impl<T: Copy> Bound<T> {
    /// The limit where it is more than looked at.
    pub fn enforced(self) -> Option<T> {
        (self.mode == Mode::Enforce).then_some(self.at)
    }
}

/// How many statements may come, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In a second, at least 1.
    pub per_second: u32,
    /// At once after a pause, at least 1.
    pub burst: u32,
}

/// The only tables that may be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    names: Arc<[Box<str>]>,
    /// Never [`Mode::Off`].
    pub mode: Mode,
}

impl Tables {
    /// Whether a table may be named. `name` as the statement has it, folded as the server folds it: `runs`, `audit.log`.
    /// An entry without a schema stands for the table wherever the statement leaves the schema out.
    pub fn allow(&self, name: &str) -> bool {
        self.names.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => **allowed == *name,
        })
    }
}

/// Which limits count the sessions of one class alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByClass {
    /// `max_clients`.
    pub clients: bool,
    /// `max_statements`.
    pub statements: bool,
    /// `statement_rate`.
    pub rate: bool,
}

/// What the table of a class says of its part of what its tenant gets of a pool. It holds within the tenant's part, and
/// takes nothing of that away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassPart {
    /// Its share where several classes of the tenant wait; 0 stands for 1.
    pub weight: u32,
    /// Server connections at once, in each pool.
    pub max_upstreams: Option<Bound<u32>>,
    /// Clients that wait at once, in each pool.
    pub max_waiting: Option<Bound<u32>>,
}

/// All limits of one tenant and class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effective {
    /// Longest time of a statement.
    pub statement_timeout: Option<Bound<Duration>>,
    /// Longest time of all statements of a request.
    pub request_timeout: Option<Bound<Duration>>,
    /// Longest time of a transaction.
    pub transaction_timeout: Option<Bound<Duration>>,
    /// Longest silence in a transaction; `None`: what the pool says.
    pub idle_in_transaction_timeout: Option<Bound<Duration>>,
    /// Silence in a transaction has no limit, whatever the pool says.
    pub idles_in_transaction: bool,
    /// Longest silence outside of one.
    pub idle_timeout: Option<Bound<Duration>>,
    /// Longest wait for a server connection; `None`: what the pool says.
    pub queue_timeout: Option<Bound<Duration>>,
    /// Clients at once.
    pub max_clients: Option<Bound<u32>>,
    /// Limits on numbers that are said of a class: each tenant's sessions of that class are counted by themselves.
    pub by_class: ByClass,
    /// What its class has of the next four, which are the tenant's whichever class it is.
    pub class: ClassPart,
    /// Server connections at once, in each pool.
    pub max_upstreams: Option<Bound<u32>>,
    /// Server connections that it gets before others do, in each pool.
    pub min_upstreams: u32,
    /// Its share where several wait; 0 stands for 1.
    pub weight: u32,
    /// Clients that wait at once, in each pool.
    pub max_waiting: Option<Bound<u32>>,
    /// Statements that run at once.
    pub max_statements: Option<Bound<u32>>,
    /// Statements in a second.
    pub rate: Option<Bound<Rate>>,
    /// Rows of a result.
    pub max_rows: Option<Bound<u64>>,
    /// Bytes of a result.
    pub max_bytes: Option<Bound<u64>>,
    /// `LIMIT` for a SELECT that has none.
    pub row_limit: Option<Bound<u64>>,
    /// Nothing may be written.
    pub read_only: Option<Mode>,
    /// Nothing may be run.
    pub blocked: Option<Mode>,
    /// The only tables that may be named.
    pub tables: Option<Tables>,
    /// Slow from here on; `None`: `slow_log.threshold`.
    pub slow_threshold: Option<Duration>,
    /// A transaction is slow from here on; `None`: `slow_log.transaction_threshold`.
    pub transaction_threshold: Option<Duration>,
    /// A client is idle in a transaction from here on; `None`: `slow_log.idle_threshold`.
    pub idle_threshold: Option<Duration>,
    /// What is done about session state that cannot be followed; `None`: what the pool says.
    pub on_untracked: Option<OnUntracked>,
}

impl Effective {
    /// What holds where these tables say something, each over those before it: of all, of a class, of a tenant. What is said
    /// of the tenant's part of a pool and what is said of the class's hold both.
    pub fn of_session(default: &Limits, class: Option<&Limits>, tenant: Option<&Limits>) -> Self {
        let layers: Vec<&Limits> = [Some(default), class, tenant].into_iter().flatten().collect();
        let says = |limits: Option<&Limits>, key| limits.is_some_and(|limits| limits.get(key).is_some());
        let by_class = |key| says(class, key) && !says(tenant, key);
        let all = Self::of(&layers);
        let (whole, part) = match class {
            None => (None, ClassPart::default()),
            Some(class) => {
                let whole: Vec<&Limits> = [Some(default), tenant].into_iter().flatten().collect();
                let own = Self::of_own(&layers, class);
                let Self { weight, max_upstreams, max_waiting, .. } = own;
                (Some(Self::of(&whole)), ClassPart { weight, max_upstreams, max_waiting })
            }
        };
        let whole = whole.as_ref().unwrap_or(&all);
        Self {
            by_class: ByClass {
                clients: by_class(LimitKey::MaxClients),
                statements: by_class(LimitKey::MaxStatements),
                rate: by_class(LimitKey::StatementRate),
            },
            class: part,
            weight: whole.weight,
            min_upstreams: whole.min_upstreams,
            max_upstreams: whole.max_upstreams,
            max_waiting: whole.max_waiting,
            ..all
        }
    }

    /// What holds where these tables say something, each over those before it.
    pub fn of(layers: &[&Limits]) -> Self {
        Self::from(layers, |key| layers.iter().rev().find_map(|limits| limits.get(key)))
    }

    /// What one of these tables says, with the modes of all.
    pub fn of_own(layers: &[&Limits], own: &Limits) -> Self {
        Self::from(layers, |key| own.get(key))
    }

    fn from<'a>(layers: &[&Limits], value: impl Fn(LimitKey) -> Option<&'a LimitValue>) -> Self {
        let mode = |key: LimitKey| mode_of(layers, key);
        let bound = |key: LimitKey| Some(mode(key)).filter(|mode| *mode != Mode::Off);
        let time = |key: LimitKey| match value(key)? {
            LimitValue::Time(at) if !at.is_zero() => Some(Bound { at: *at, mode: bound(key)? }),
            _ => None,
        };
        let threshold = |key: LimitKey| match value(key)? {
            LimitValue::Time(at) => Some(*at),
            _ => None,
        };
        let number = |key: LimitKey| match value(key)? {
            LimitValue::Count(number) if *number > 0 => Some(*number),
            _ => None,
        };
        let count = |key: LimitKey| Some(Bound { at: number(key)?, mode: bound(key)? });
        let small = |key: LimitKey| count(key).map(|Bound { at, mode }| Bound { at: narrow(at), mode });
        let flag = |key: LimitKey| match value(key)? {
            LimitValue::Flag(true) => bound(key),
            _ => None,
        };
        Self {
            statement_timeout: time(LimitKey::StatementTimeout),
            request_timeout: time(LimitKey::RequestTimeout),
            transaction_timeout: time(LimitKey::TransactionTimeout),
            idle_in_transaction_timeout: time(LimitKey::IdleInTransactionTimeout),
            idles_in_transaction: value(LimitKey::IdleInTransactionTimeout)
                .is_some_and(|said| is_none(LimitKey::IdleInTransactionTimeout, said))
                && mode(LimitKey::IdleInTransactionTimeout) == Mode::Enforce,
            idle_timeout: time(LimitKey::IdleTimeout),
            queue_timeout: time(LimitKey::QueueTimeout),
            max_clients: small(LimitKey::MaxClients),
            by_class: ByClass::default(),
            class: ClassPart::default(),
            max_upstreams: small(LimitKey::MaxUpstreams),
            min_upstreams: number(LimitKey::MinUpstreams).map_or(0, narrow),
            weight: number(LimitKey::Weight).map_or(1, narrow),
            max_waiting: small(LimitKey::MaxWaiting),
            max_statements: small(LimitKey::MaxStatements),
            rate: small(LimitKey::StatementRate).map(|Bound { at, mode }| {
                let burst = number(LimitKey::StatementBurst).map_or(at, narrow);
                Bound { at: Rate { per_second: at, burst }, mode }
            }),
            max_rows: count(LimitKey::MaxRows),
            max_bytes: count(LimitKey::MaxBytes),
            row_limit: count(LimitKey::RowLimit),
            read_only: flag(LimitKey::ReadOnly),
            blocked: flag(LimitKey::Blocked),
            tables: match value(LimitKey::Tables) {
                Some(LimitValue::Names(names)) => bound(LimitKey::Tables)
                    .map(|mode| Tables { names: names.iter().map(|name| name.as_str().into()).collect(), mode }),
                _ => None,
            },
            slow_threshold: threshold(LimitKey::SlowThreshold),
            transaction_threshold: threshold(LimitKey::TransactionThreshold),
            idle_threshold: threshold(LimitKey::IdleThreshold),
            on_untracked: match value(LimitKey::OnUntracked) {
                Some(LimitValue::OnUntracked(answer)) => Some(*answer),
                _ => None,
            },
        }
    }

    /// The statement time-out that is more than looked at.
    pub fn enforced_timeout(&self) -> Option<Duration> {
        self.statement_timeout.and_then(Bound::enforced)
    }

    /// Whether a statement must be looked at before it is sent.
    pub fn judges_statements(&self) -> bool {
        self.blocked.is_some()
            || self.read_only.is_some()
            || self.tables.is_some()
            || self.rate.is_some()
            || self.max_statements.is_some()
            || self.row_limit.is_some()
    }

    /// Whether anything says how many server connections it may have, be it only to look.
    pub fn counts_upstreams(&self) -> bool {
        self.max_upstreams.is_some() || self.class.max_upstreams.is_some()
    }

    /// The same of its clients that wait.
    pub fn counts_waiting(&self) -> bool {
        self.max_waiting.is_some() || self.class.max_waiting.is_some()
    }

    /// Whether rows must be counted against a limit.
    pub fn judges_rows(&self) -> bool {
        self.max_rows.is_some() || self.max_bytes.is_some()
    }
}

/// What happens when this limit is reached: what the last table says that says something of just this limit or of all,
/// of the two the former.
pub(super) fn mode_of(layers: &[&Limits], key: LimitKey) -> Mode {
    layers.iter().rev().find_map(|limits| limits.mode_of(key).or(limits.mode())).unwrap_or_default()
}

/// Numbers beyond 2³² − 1 are as good as that.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whether a value is no limit at all.
pub(super) fn is_none(key: LimitKey, value: &LimitValue) -> bool {
    match (key.kind(), value) {
        (LimitKind::Time, LimitValue::Time(time)) => time.is_zero(),
        (LimitKind::Count | LimitKind::Size, LimitValue::Count(number)) => *number == 0,
        (LimitKind::Flag, LimitValue::Flag(flag)) => !flag,
        _ => false,
    }
}

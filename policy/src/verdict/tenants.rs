//! Refusals by a tenant's limits: code and words of each.

use std::time::Duration;

use config::LimitKey;
use config::units::{show_duration as show, show_size};

use super::Refusal;
use super::texts::{Texts, texts};

/// A tenant's limit, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Whose.
    pub tenant: Box<str>,
    /// Its sessions of this class alone, where the limit is a class's; empty: all.
    pub class: Box<str>,
    /// Which.
    pub key: LimitKey,
    /// The table that says so, as `[tenant.limits.acme]`.
    pub rule: Box<str>,
}

impl Limited {
    /// SQLSTATE of a refusal by this limit.
    pub(super) fn code(&self) -> &'static str {
        match self.key {
            LimitKey::MaxClients | LimitKey::QueueTimeout => "53300",
            LimitKey::ReadOnly => "25006",
            LimitKey::Blocked | LimitKey::Tables => "42501",
            LimitKey::IdleInTransactionTimeout => "25P03",
            LimitKey::TransactionTimeout => "25P04",
            LimitKey::IdleTimeout => "57P05",
            _ => "53400",
        }
    }

    /// `tenant "acme" (class "worker")`.
    fn whose(&self) -> String {
        match &*self.class {
            "" => format!("tenant \"{}\"", self.tenant),
            class => format!("tenant \"{}\" (class \"{class}\")", self.tenant),
        }
    }

    /// `statement_timeout of [tenant.limits.acme]`.
    pub(super) fn named(&self) -> String {
        format!("{} of {}", self.key.word(), self.rule)
    }

    /// DETAIL: the limit, whose it is, and which rule says so.
    fn detail(&self, limit: &str) -> String {
        format!("The limit of {} is {limit} ({}).", self.whose(), self.named())
    }
}

impl Limited {
    /// The same of a wait, whose length has been told.
    pub(super) fn waits(&self) -> String {
        format!("No longer than that may {} wait ({}).", self.whose(), self.named())
    }
}

impl Refusal {
    pub(super) fn tenant_texts(&self) -> Option<Texts> {
        Some(match self {
            Self::StatementTimeout { limited, limit } => timed_out(limited, *limit),
            Self::TooMany { limited, limit, retry_in } => too_many(limited, *limit, *retry_in),
            Self::NotAllowed { limited, what } => not_allowed(limited, what),
            Self::Silent { limited, limit } => silent(limited, *limit),
            _ => return None,
        })
    }
}

fn timed_out(limited: &Limited, limit: Duration) -> Texts {
    let unit = match limited.key {
        LimitKey::TransactionTimeout => "transaction",
        LimitKey::RequestTimeout => "request",
        _ => "statement",
    };
    texts(
        format!("canceling statement due to {unit} timeout"),
        limited.detail(&format!("{} per {unit}", show(limit))),
        format!("Make the {unit} faster or let it do less; an operator can change {}.", limited.named()),
    )
}

fn too_many(limited: &Limited, limit: u64, retry_in: Option<Duration>) -> Texts {
    let again = match retry_in {
        Some(wait) => format!("Retry in {}", show(rounded(wait))),
        None => "Retry later".to_owned(),
    };
    let raise = format!("an operator can change {}", limited.named());
    let whose = limited.whose();
    match limited.key {
        LimitKey::MaxClients => texts(
            format!("too many connections for {whose}"),
            limited.detail(&format!("{limit} clients at once")),
            format!("{again}, or close connections that are not used; {raise}."),
        ),
        LimitKey::MaxWaiting => texts(
            format!("too many requests of {whose} are waiting"),
            limited.detail(&format!("{limit} clients that wait for a server connection")),
            format!("{again}, with fewer requests at once; {raise}."),
        ),
        LimitKey::MaxStatements => texts(
            format!("too many statements of {whose} are running"),
            limited.detail(&format!("{limit} statements at once")),
            format!("{again}, with fewer statements at once; {raise}."),
        ),
        LimitKey::StatementRate => texts(
            format!("too many statements of {whose} in a second"),
            limited.detail(&format!("{limit} statements per second")),
            match retry_in {
                Some(_) => format!("{again}; {raise}."),
                None => format!("Send fewer statements in one text: so many at once never pass; {raise}."),
            },
        ),
        LimitKey::RowLimit => texts(
            format!("statements of {whose} get a LIMIT"),
            limited.detail(&format!("{limit} rows for a statement that has no LIMIT of its own")),
            format!("Ask for as many rows as are needed, by LIMIT; {raise}."),
        ),
        LimitKey::MaxRows => texts(
            format!("result has more rows than {whose} may read"),
            limited.detail(&format!("{limit} rows per result")),
            format!("Ask for fewer rows, as by LIMIT, or read them in pages; {raise}."),
        ),
        LimitKey::MaxBytes => texts(
            format!("result is larger than {whose} may read"),
            limited.detail(&format!("{} per result", show_size(limit))),
            format!("Ask for fewer rows or columns, or read them in pages; {raise}."),
        ),
        _ => texts(
            format!("a limit of {whose} was reached"),
            limited.detail(&limit.to_string()),
            format!("{again}; {raise}."),
        ),
    }
}

fn not_allowed(limited: &Limited, what: &str) -> Texts {
    let whose = limited.whose();
    let raise = format!("An operator can change {}.", limited.named());
    match limited.key {
        LimitKey::ReadOnly => texts(
            format!("cannot write as {whose}: it may only read"),
            format!("The statement writes, or may ({}).", limited.named()),
            raise,
        ),
        LimitKey::Tables if what.is_empty() => texts(
            format!("the tables of this statement of {whose} cannot be told"),
            format!("Only statements whose tables can be read from their text may be run ({}).", limited.named()),
            raise,
        ),
        LimitKey::Tables => texts(
            format!("permission denied for table {what}"),
            format!("It is none of those that {whose} may name ({}).", limited.named()),
            raise,
        ),
        _ => texts(
            format!("statement is blocked for {whose}"),
            format!("An operator has blocked it ({}).", limited.named()),
            raise,
        ),
    }
}

fn silent(limited: &Limited, limit: Duration) -> Texts {
    let what = match limited.key {
        LimitKey::TransactionTimeout => "transaction timeout",
        LimitKey::IdleTimeout => "idle-session timeout",
        _ => "idle-in-transaction timeout",
    };
    let hint = match limited.key {
        LimitKey::IdleTimeout => "Connect again when there is something to do".to_owned(),
        _ => "End transactions before waiting for anything else".to_owned(),
    };
    texts(
        format!("terminating connection due to {what}"),
        limited.detail(&show(limit)),
        format!("{hint}; an operator can change {}.", limited.named()),
    )
}

/// Up to whole milliseconds: who comes after that time finds room.
fn rounded(wait: Duration) -> Duration {
    Duration::from_millis(wait.as_nanos().div_ceil(1_000_000).min(u128::from(u64::MAX)) as u64)
}

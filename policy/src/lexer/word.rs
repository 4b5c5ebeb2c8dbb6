//! The keywords that decisions are taken on.

use super::swar;

/// A keyword, or none of those that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Word {
    /// A name, or a keyword that changes nothing here.
    #[default]
    None,
    /// `pg_advisory_…` or `pg_try_advisory_…`: which of them is looked at when it is called.
    AdvisoryCall,
    Abort,
    Access,
    All,
    Alter,
    Analyse,
    Analyze,
    And,
    Any,
    Array,
    As,
    Asc,
    Asymmetric,
    At,
    Atomic,
    Authorization,
    Begin,
    Between,
    Both,
    By,
    Call,
    Case,
    Cast,
    Chain,
    Characteristics,
    Check,
    Checkpoint,
    Close,
    Cluster,
    Collate,
    Column,
    Comment,
    Commit,
    Concurrently,
    Constraint,
    Constraints,
    Copy,
    Create,
    Cross,
    Current,
    CurrentDate,
    CurrentRole,
    CurrentTime,
    CurrentUser,
    Cursor,
    Database,
    Deallocate,
    Declare,
    Default,
    Deferrable,
    Delete,
    Desc,
    Discard,
    Distinct,
    Do,
    Drop,
    Else,
    End,
    Escape,
    Except,
    Execute,
    Explain,
    Extract,
    False,
    Fetch,
    First,
    For,
    Foreign,
    From,
    Full,
    Grant,
    Group,
    Having,
    Hold,
    If,
    Ilike,
    Import,
    In,
    Index,
    Initially,
    Inner,
    Insert,
    Intersect,
    Interval,
    Into,
    Is,
    Join,
    Key,
    Last,
    Lateral,
    Leading,
    Left,
    Like,
    Limit,
    Listen,
    Load,
    Local,
    Localtime,
    Localtimestamp,
    Lock,
    Locked,
    Materialized,
    Merge,
    Move,
    Names,
    Natural,
    Next,
    No,
    Not,
    Notify,
    Nowait,
    Null,
    Nulls,
    Of,
    Offset,
    On,
    Only,
    Option,
    Or,
    Order,
    Ordinality,
    Outer,
    Over,
    Overlaps,
    Overlay,
    Partition,
    PgCatalog,
    Placing,
    Plans,
    Position,
    Prepare,
    Prepared,
    Primary,
    Read,
    Reassign,
    Recursive,
    References,
    Refresh,
    Reindex,
    Release,
    Replace,
    Reset,
    Returning,
    Revoke,
    Right,
    Role,
    Rollback,
    Row,
    Rows,
    Savepoint,
    Schema,
    Security,
    Seed,
    Select,
    Sequence,
    Sequences,
    Session,
    SessionUser,
    Set,
    SetConfig,
    Share,
    Show,
    Similar,
    Skip,
    Some,
    Start,
    Stdin,
    Stdout,
    Substring,
    Symmetric,
    System,
    Table,
    Tablespace,
    Temp,
    Temporary,
    Then,
    Ties,
    Time,
    To,
    Trailing,
    Transaction,
    Trim,
    True,
    Truncate,
    Union,
    Unique,
    Unlisten,
    Unlogged,
    Unnest,
    Update,
    User,
    Using,
    Vacuum,
    Values,
    Variadic,
    Verbose,
    View,
    When,
    Where,
    Window,
    With,
    Work,
    Write,
    Xml,
    Zone,
}

/// One keyword with its first and second eight bytes.
struct Entry {
    low: u64,
    high: u64,
    word: Word,
    reserved: bool,
}

const fn entry(text: &str, word: Word, reserved: bool) -> Entry {
    let bytes = text.as_bytes();
    let (low, high) = match bytes.split_first_chunk::<8>() {
        Some((low, high)) => (swar::key(low), swar::key(high)),
        None => (swar::key(bytes), 0),
    };
    Entry { low, high, word, reserved }
}

/// Every keyword; `true` where PostgreSQL reserves it, so that in double quotes it is something else.
#[rustfmt::skip]
const ENTRIES: [Entry; 204] = [
    entry("abort", Word::Abort, false),
    entry("access", Word::Access, false),
    entry("all", Word::All, true),
    entry("alter", Word::Alter, false),
    entry("analyse", Word::Analyse, true),
    entry("analyze", Word::Analyze, true),
    entry("and", Word::And, true),
    entry("any", Word::Any, true),
    entry("array", Word::Array, true),
    entry("as", Word::As, true),
    entry("asc", Word::Asc, true),
    entry("asymmetric", Word::Asymmetric, true),
    entry("at", Word::At, false),
    entry("atomic", Word::Atomic, false),
    entry("authorization", Word::Authorization, true),
    entry("begin", Word::Begin, false),
    entry("between", Word::Between, false),
    entry("both", Word::Both, true),
    entry("by", Word::By, false),
    entry("call", Word::Call, false),
    entry("case", Word::Case, true),
    entry("cast", Word::Cast, true),
    entry("chain", Word::Chain, false),
    entry("characteristics", Word::Characteristics, false),
    entry("check", Word::Check, true),
    entry("checkpoint", Word::Checkpoint, false),
    entry("close", Word::Close, false),
    entry("cluster", Word::Cluster, false),
    entry("collate", Word::Collate, true),
    entry("column", Word::Column, true),
    entry("comment", Word::Comment, false),
    entry("commit", Word::Commit, false),
    entry("concurrently", Word::Concurrently, false),
    entry("constraint", Word::Constraint, true),
    entry("constraints", Word::Constraints, false),
    entry("copy", Word::Copy, false),
    entry("create", Word::Create, true),
    entry("cross", Word::Cross, true),
    entry("current", Word::Current, false),
    entry("current_date", Word::CurrentDate, true),
    entry("current_role", Word::CurrentRole, true),
    entry("current_time", Word::CurrentTime, true),
    entry("current_user", Word::CurrentUser, true),
    entry("cursor", Word::Cursor, false),
    entry("database", Word::Database, false),
    entry("deallocate", Word::Deallocate, false),
    entry("declare", Word::Declare, false),
    entry("default", Word::Default, true),
    entry("deferrable", Word::Deferrable, true),
    entry("delete", Word::Delete, false),
    entry("desc", Word::Desc, true),
    entry("discard", Word::Discard, false),
    entry("distinct", Word::Distinct, true),
    entry("do", Word::Do, true),
    entry("drop", Word::Drop, false),
    entry("else", Word::Else, true),
    entry("end", Word::End, true),
    entry("escape", Word::Escape, false),
    entry("except", Word::Except, true),
    entry("execute", Word::Execute, false),
    entry("explain", Word::Explain, false),
    entry("extract", Word::Extract, false),
    entry("false", Word::False, true),
    entry("fetch", Word::Fetch, true),
    entry("first", Word::First, false),
    entry("for", Word::For, true),
    entry("foreign", Word::Foreign, true),
    entry("from", Word::From, true),
    entry("full", Word::Full, true),
    entry("grant", Word::Grant, true),
    entry("group", Word::Group, true),
    entry("having", Word::Having, true),
    entry("hold", Word::Hold, false),
    entry("if", Word::If, false),
    entry("ilike", Word::Ilike, true),
    entry("import", Word::Import, false),
    entry("in", Word::In, true),
    entry("index", Word::Index, false),
    entry("initially", Word::Initially, true),
    entry("inner", Word::Inner, true),
    entry("insert", Word::Insert, false),
    entry("intersect", Word::Intersect, true),
    entry("interval", Word::Interval, false),
    entry("into", Word::Into, true),
    entry("is", Word::Is, true),
    entry("join", Word::Join, true),
    entry("key", Word::Key, false),
    entry("last", Word::Last, false),
    entry("lateral", Word::Lateral, true),
    entry("leading", Word::Leading, true),
    entry("left", Word::Left, true),
    entry("like", Word::Like, true),
    entry("limit", Word::Limit, true),
    entry("listen", Word::Listen, false),
    entry("load", Word::Load, false),
    entry("local", Word::Local, false),
    entry("localtime", Word::Localtime, true),
    entry("localtimestamp", Word::Localtimestamp, true),
    entry("lock", Word::Lock, false),
    entry("locked", Word::Locked, false),
    entry("materialized", Word::Materialized, false),
    entry("merge", Word::Merge, false),
    entry("move", Word::Move, false),
    entry("names", Word::Names, false),
    entry("natural", Word::Natural, true),
    entry("next", Word::Next, false),
    entry("no", Word::No, false),
    entry("not", Word::Not, true),
    entry("notify", Word::Notify, false),
    entry("nowait", Word::Nowait, false),
    entry("null", Word::Null, true),
    entry("nulls", Word::Nulls, false),
    entry("of", Word::Of, false),
    entry("offset", Word::Offset, true),
    entry("on", Word::On, true),
    entry("only", Word::Only, true),
    entry("option", Word::Option, false),
    entry("or", Word::Or, true),
    entry("order", Word::Order, true),
    entry("ordinality", Word::Ordinality, false),
    entry("outer", Word::Outer, true),
    entry("over", Word::Over, false),
    entry("overlaps", Word::Overlaps, false),
    entry("overlay", Word::Overlay, false),
    entry("partition", Word::Partition, false),
    entry("pg_catalog", Word::PgCatalog, false),
    entry("placing", Word::Placing, true),
    entry("plans", Word::Plans, false),
    entry("position", Word::Position, false),
    entry("prepare", Word::Prepare, false),
    entry("prepared", Word::Prepared, false),
    entry("primary", Word::Primary, true),
    entry("read", Word::Read, false),
    entry("reassign", Word::Reassign, false),
    entry("recursive", Word::Recursive, false),
    entry("references", Word::References, true),
    entry("refresh", Word::Refresh, false),
    entry("reindex", Word::Reindex, false),
    entry("release", Word::Release, false),
    entry("replace", Word::Replace, false),
    entry("reset", Word::Reset, false),
    entry("returning", Word::Returning, true),
    entry("revoke", Word::Revoke, false),
    entry("right", Word::Right, true),
    entry("role", Word::Role, false),
    entry("rollback", Word::Rollback, false),
    entry("row", Word::Row, false),
    entry("rows", Word::Rows, false),
    entry("savepoint", Word::Savepoint, false),
    entry("schema", Word::Schema, false),
    entry("security", Word::Security, false),
    entry("seed", Word::Seed, false),
    entry("select", Word::Select, true),
    entry("sequence", Word::Sequence, false),
    entry("sequences", Word::Sequences, false),
    entry("session", Word::Session, false),
    entry("session_user", Word::SessionUser, true),
    entry("set", Word::Set, false),
    entry("set_config", Word::SetConfig, false),
    entry("share", Word::Share, false),
    entry("show", Word::Show, false),
    entry("similar", Word::Similar, true),
    entry("skip", Word::Skip, false),
    entry("some", Word::Some, true),
    entry("start", Word::Start, false),
    entry("stdin", Word::Stdin, false),
    entry("stdout", Word::Stdout, false),
    entry("substring", Word::Substring, false),
    entry("symmetric", Word::Symmetric, true),
    entry("system", Word::System, false),
    entry("table", Word::Table, true),
    entry("tablespace", Word::Tablespace, false),
    entry("temp", Word::Temp, false),
    entry("temporary", Word::Temporary, false),
    entry("then", Word::Then, true),
    entry("ties", Word::Ties, false),
    entry("time", Word::Time, false),
    entry("to", Word::To, true),
    entry("trailing", Word::Trailing, true),
    entry("transaction", Word::Transaction, false),
    entry("trim", Word::Trim, false),
    entry("true", Word::True, true),
    entry("truncate", Word::Truncate, false),
    entry("union", Word::Union, true),
    entry("unique", Word::Unique, true),
    entry("unlisten", Word::Unlisten, false),
    entry("unlogged", Word::Unlogged, false),
    entry("unnest", Word::Unnest, false),
    entry("update", Word::Update, false),
    entry("user", Word::User, true),
    entry("using", Word::Using, true),
    entry("vacuum", Word::Vacuum, false),
    entry("values", Word::Values, false),
    entry("variadic", Word::Variadic, true),
    entry("verbose", Word::Verbose, false),
    entry("view", Word::View, false),
    entry("when", Word::When, true),
    entry("where", Word::Where, true),
    entry("window", Word::Window, true),
    entry("with", Word::With, true),
    entry("work", Word::Work, false),
    entry("write", Word::Write, false),
    entry("xml", Word::Xml, false),
    entry("zone", Word::Zone, false),
];

const SLOTS: usize = 1024;

/// Hash to entry, counted from 1; linear probing.
const TABLE: [u8; SLOTS] = {
    let mut table = [0u8; SLOTS];
    let mut index = 0;
    while index < ENTRIES.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            let mut slot = slot(ENTRIES[index].low, ENTRIES[index].high);
            while table[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            table[slot] = index as u8 + 1;
        }
        index += 1;
    }
    table
};

const fn slot(low: u64, high: u64) -> usize {
    (low ^ high.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 54
}

const ADVISORY: u64 = swar::key(b"pg_advis");
const TRY_ADVISORY: u64 = swar::key(b"pg_try_a");

impl Word {
    /// The keyword whose first eight bytes, folded, are `key`.
    #[inline]
    pub(crate) fn of(text: &[u8], start: usize, key: u64, length: usize) -> Self {
        let high = match length {
            ..=8 => 0,
            9..=16 => swar::keep(swar::fold(swar::load(text, start + 8)).0, length - 8),
            _ => {
                let advisory = key == ADVISORY || key == TRY_ADVISORY;
                return if advisory { Self::AdvisoryCall } else { Self::None };
            }
        };
        match find(key, high) {
            Some(entry) => entry.word,
            None if key == ADVISORY => Self::AdvisoryCall,
            None => Self::None,
        }
    }

    /// Whether PostgreSQL reserves `name`, which is folded.
    pub(crate) fn is_reserved(name: &[u8]) -> bool {
        // The only one of more than sixteen bytes.
        if name == b"current_timestamp" {
            return true;
        }
        let (low, high) = name.split_at_checked(8).unwrap_or((name, &[]));
        name.len() <= 16 && find(swar::key(low), swar::key(high)).is_some_and(|entry| entry.reserved)
    }
}

#[inline]
fn find(low: u64, high: u64) -> Option<&'static Entry> {
    let mut at = slot(low, high);
    loop {
        // A byte of 0 ends the probe: the table is an eighth full.
        let index = usize::from(*TABLE.get(at)?).checked_sub(1)?;
        let entry = ENTRIES.get(index)?;
        if entry.low == low && entry.high == high {
            return Some(entry);
        }
        at = (at + 1) % SLOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_is_found_and_its_neighbours_are_not() {
        for (text, word) in
            [("select", Word::Select), ("SET_CONFIG", Word::SetConfig), ("characteristics", Word::Characteristics)]
        {
            let (key, length) = swar::word_at(text.as_bytes(), 0);
            assert_eq!(Word::of(text.as_bytes(), 0, key, length), word);
            let longer = format!("{text}x");
            let (key, length) = swar::word_at(longer.as_bytes(), 0);
            assert_eq!(Word::of(longer.as_bytes(), 0, key, length), Word::None);
        }
        for entry in &ENTRIES {
            assert_eq!(find(entry.low, entry.high).map(|found| found.word), Some(entry.word));
        }
    }

    #[test]
    fn advisory_calls_are_seen_whatever_their_length() {
        for text in
            ["pg_advisory_lock", "PG_TRY_ADVISORY_LOCK_SHARED", "pg_advisory_unlock_all", "pg_advisory_xact_lock"]
        {
            let (key, length) = swar::word_at(text.as_bytes(), 0);
            assert_eq!(Word::of(text.as_bytes(), 0, key, length), Word::AdvisoryCall, "{text}");
        }
    }

    #[test]
    fn reserved_words_are_known() {
        assert!(Word::is_reserved(b"select") && Word::is_reserved(b"current_timestamp"));
        assert!(!Word::is_reserved(b"key") && !Word::is_reserved(b"name"));
    }
}

//! The keywords that decisions are taken on.

use super::{Kind, Nature, Step, swar};

/// Declares the keywords once: as variants of [`Word`] and as entries of the table that finds them.
macro_rules! words {
    (plain { $($plain:ident $plain_text:literal,)* } reserved { $($reserved:ident $reserved_text:literal,)* }) => {
        /// A keyword, or none of those that matter here.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Word {
            /// A name, or a keyword that changes nothing here.
            #[default]
            None,
            /// `pg_advisory_…` or `pg_try_advisory_…`: which of them is looked at when it is called.
            AdvisoryCall,
            /// A name right before a string: it is the string's type.
            TypeName,
            $($plain,)*
            $($reserved,)*
        }

        /// Every keyword; those that PostgreSQL reserves are something else in double quotes.
        const ENTRIES: &[Entry] = &[
            $(entry($plain_text, Word::$plain, false),)*
            $(entry($reserved_text, Word::$reserved, true),)*
        ];
    };
}

#[rustfmt::skip]
words! {
    plain {
        Timestamptz "timestamptz", Timestamp "timestamp", Overriding "overriding", Exclude "exclude", Abort "abort",
        Access "access", Alter "alter", At "at", Atomic "atomic", Begin "begin", Between "between", By "by",
        Call "call", Chain "chain", Characteristics "characteristics", Checkpoint "checkpoint", Close "close",
        Cluster "cluster", Comment "comment", Commit "commit", Concurrently "concurrently", Constraints "constraints",
        Copy "copy", Current "current", Currval "currval", Cursor "cursor", Database "database", Deallocate "deallocate",
        Declare "declare", Delete "delete", Discard "discard", Drop "drop", Escape "escape", Execute "execute",
        Explain "explain", Extract "extract", First "first", Hold "hold", If "if", Import "import", Index "index",
        Insert "insert", Interval "interval", Key "key", Last "last",
        Lastval "lastval", Listen "listen", Load "load", Local "local",
        Lock "lock", Locked "locked", Materialized "materialized", Merge "merge", Move "move", Names "names",
        Next "next", No "no", Notify "notify", Nowait "nowait", Nulls "nulls", Of "of", Option "option",
        Ordinality "ordinality", Over "over", Overlaps "overlaps", Overlay "overlay", Partition "partition",
        PgCatalog "pg_catalog", PgCancelBackend "pg_cancel_backend", PgNotify "pg_notify",
        PreparedStatement "pg_prepared_statement", PreparedStatements "pg_prepared_statements",
        PgTerminateBackend "pg_terminate_backend", Plans "plans", Position "position", Prepare "prepare", Prepared "prepared",
        QueryToXml "query_to_xml", QueryToXmlAndXmlschema "query_to_xml_and_xmlschema", QueryToXmlschema "query_to_xmlschema",
        Read "read", Reassign "reassign", Recursive "recursive", Refresh "refresh", Reindex "reindex",
        Release "release", Replace "replace", Reset "reset", Revoke "revoke", Role "role", Rollback "rollback",
        Row "row", Rows "rows", Savepoint "savepoint", Schema "schema", Security "security", Seed "seed",
        Sequence "sequence", Sequences "sequences", Session "session", Set "set", SetConfig "set_config", Setseed "setseed",
        Share "share", Show "show", Skip "skip", Start "start", Stdin "stdin", Stdout "stdout", Substring "substring",
        System "system", Tablespace "tablespace", Temp "temp", Temporary "temporary", Ties "ties", Time "time",
        Transaction "transaction", Trim "trim", Truncate "truncate", TsRewrite "ts_rewrite", TsStat "ts_stat", Unlisten "unlisten", Unlogged "unlogged",
        Unnest "unnest", Update "update", Vacuum "vacuum", Values "values", Verbose "verbose", View "view",
        Work "work", Write "write", Xml "xml", Zone "zone",
    }
    reserved {
        All "all", Analyse "analyse", Analyze "analyze", And "and", Any "any", Array "array", As "as", Asc "asc",
        Asymmetric "asymmetric", Authorization "authorization", Both "both", Case "case", Cast "cast", Check "check",
        Collate "collate", Column "column", Constraint "constraint", Create "create", Cross "cross",
        CurrentDate "current_date", CurrentRole "current_role", CurrentTime "current_time",
        CurrentUser "current_user", Default "default", Deferrable "deferrable", Desc "desc", Distinct "distinct",
        Do "do", Else "else", End "end", Except "except", False "false", Fetch "fetch", For "for", Foreign "foreign",
        From "from", Full "full", Grant "grant", Group "group", Having "having", Ilike "ilike", In "in",
        Initially "initially", Inner "inner", Intersect "intersect", Into "into", Is "is", Join "join",
        Lateral "lateral", Leading "leading", Left "left", Like "like", Limit "limit", Localtime "localtime",
        Localtimestamp "localtimestamp", Natural "natural", Not "not", Null "null", Offset "offset", On "on",
        Only "only", Or "or", Order "order", Outer "outer", Placing "placing", Primary "primary",
        References "references", Returning "returning", Right "right", Select "select", SessionUser "session_user",
        Similar "similar", Some "some", Symmetric "symmetric", Table "table", Then "then", To "to",
        Trailing "trailing", True "true", Union "union", Unique "unique", User "user", Using "using",
        Variadic "variadic", When "when", Where "where", Window "window", With "with",
    }
}

/// One keyword by its token's key.
#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    text: &'static str,
    nature: Nature,
}

impl Entry {
    /// Whether it is this word: the key of a long one is a hash, for which somebody may find another name.
    fn says(&self, word: &[u8]) -> bool {
        word.eq_ignore_ascii_case(self.text.as_bytes())
    }
}

const fn nature(word: Word) -> Nature {
    Nature::new(Kind::Word, word, if word.is_plain() { Step::Plain } else { Step::Keyword })
}

const fn entry(text: &'static str, word: Word, reserved: bool) -> Entry {
    Entry { key: swar::word_key(text.as_bytes()), text, nature: Nature { reserved, ..nature(word) } }
}

const BY_NUMBER_NONE: Entry = Entry { key: NO_KEY, text: "", nature: nature(Word::None) };

/// What no key is, since a word's last byte is none of these, and no word has eight.
const NO_KEY: u64 = 1;

/// The entries once more, from 1 on and as many as a byte can count: what is found needs no check.
const BY_NUMBER: [Entry; 256] = {
    let mut table = [BY_NUMBER_NONE; 256];
    let mut index = 0;
    while index < ENTRIES.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            table[index + 1] = ENTRIES[index];
        }
        index += 1;
    }
    table
};

/// How many bits of a key's hash choose its slot.
const BITS: u32 = 12;

/// From the hash of a key to the number of the only entry that it may be; 0: none.
const TABLE: [u8; 1 << BITS] = match table(FACTOR) {
    Some(table) => table,
    None => [0; 1 << BITS],
};

/// An odd factor under which no two keywords share a slot, so that one look tells. One in about 125 is.
const FACTOR: u64 = {
    let mut factor = 0x9e37_79b9_7f4a_7c15_u64;
    while table(factor).is_none() {
        factor = factor.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(2) | 1;
    }
    factor
};

const fn table(factor: u64) -> Option<[u8; 1 << BITS]> {
    let mut table = [0u8; 1 << BITS];
    let mut index = 0;
    while index < ENTRIES.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            let slot = slot(ENTRIES[index].key, factor);
            if table[slot] != 0 {
                return None;
            }
            table[slot] = index as u8 + 1;
        }
        index += 1;
    }
    Some(table)
}

const fn slot(key: u64, factor: u64) -> usize {
    (key.wrapping_mul(factor) >> (64 - BITS)) as usize
}

const ADVISORY: u64 = swar::word_key(b"pg_advis");
const TRY_ADVISORY: u64 = swar::word_key(b"pg_try_a");

impl Word {
    /// What a word of up to eight bytes is whose key is `key`, if it is a keyword.
    #[inline(always)]
    pub(super) fn of(key: u64) -> Option<&'static Nature> {
        let entry = candidate(key);
        (entry.key == key).then_some(&entry.nature)
    }

    /// As [`Self::of`] for a word of more than eight bytes, of which `begin` are the first eight, folded.
    #[inline(always)]
    pub(super) fn of_long(key: u64, begin: u64, word: &[u8]) -> Option<&'static Nature> {
        match Self::of(key) {
            Some(nature) if candidate(key).says(word) => Some(nature),
            _ => (begin == ADVISORY || begin == TRY_ADVISORY).then_some(&const { nature(Self::AdvisoryCall) }),
        }
    }

    /// Whether PostgreSQL reserves the name whose key is `key`; also true of some other long names.
    #[inline(always)]
    pub(super) fn may_be_reserved(key: u64) -> bool {
        let entry = candidate(key);
        entry.key == key && entry.nature.reserved
    }

    /// Whether the walk over a statement does anything but keep it.
    const fn is_plain(self) -> bool {
        !matches!(
            self,
            Self::True
                | Self::False
                | Self::Null
                | Self::Select
                | Self::Returning
                | Self::From
                | Self::As
                | Self::Asc
                | Self::Outer
                | Self::Inner
                | Self::Interval
                | Self::Time
                | Self::Timestamp
                | Self::Timestamptz
                | Self::TypeName
                | Self::Overriding
                | Self::Exclude
                | Self::Order
                | Self::Group
                | Self::Values
                | Self::Where
                | Self::Having
                | Self::Window
                | Self::Union
                | Self::Except
                | Self::Intersect
                | Self::Any
                | Self::Some
                | Self::Limit
                | Self::Fetch
                | Self::Offset
                | Self::For
                | Self::Skip
                | Self::Join
                | Self::Into
                | Self::With
                | Self::Insert
                | Self::Update
                | Self::Delete
                | Self::Merge
                | Self::Unnest
        ) && !self.is_session_call()
            && !self.lists_statements()
    }

    /// Whether it is a function that changes the session, asks for its state, or reaches another one: worth a second look.
    pub(crate) const fn is_session_call(self) -> bool {
        matches!(
            self,
            Self::SetConfig
                | Self::AdvisoryCall
                | Self::Setseed
                | Self::Currval
                | Self::Lastval
                | Self::PgCancelBackend
                | Self::PgNotify
                | Self::PgTerminateBackend
        ) || self.runs_a_text()
    }

    /// Whether it is a function of the server's own that runs a text which it is given.
    pub(crate) const fn runs_a_text(self) -> bool {
        matches!(
            self,
            Self::QueryToXml | Self::QueryToXmlAndXmlschema | Self::QueryToXmlschema | Self::TsRewrite | Self::TsStat
        )
    }

    /// Whether it is the view of a session's prepared statements, or the function behind it.
    pub(crate) const fn lists_statements(self) -> bool {
        matches!(self, Self::PreparedStatement | Self::PreparedStatements)
    }

    /// What the word is when a string follows it.
    pub(crate) fn before_a_string(self) -> Self {
        if self == Self::None { Self::TypeName } else { self }
    }

    /// Whether it may be the name of a column or a function.
    pub(crate) fn is_name(self) -> bool {
        matches!(
            self,
            Self::None
                | Self::TypeName
                | Self::Timestamp
                | Self::Timestamptz
                | Self::Overriding
                | Self::Exclude
                | Self::Currval
                | Self::Lastval
                | Self::PreparedStatement
                | Self::PreparedStatements
                | Self::Setseed
                | Self::PgCancelBackend
                | Self::PgNotify
                | Self::PgTerminateBackend
        ) || self.runs_a_text()
    }

    /// Whether it may end an operand, so that a minus behind it subtracts: names, keywords that may be names, and the
    /// reserved words that are values.
    pub(crate) fn ends_operand(self) -> bool {
        let value = matches!(
            self,
            Self::End
                | Self::True
                | Self::False
                | Self::Null
                | Self::User
                | Self::CurrentDate
                | Self::CurrentTime
                | Self::Localtime
                | Self::Localtimestamp
        );
        // The reserved ones come last, beginning with ALL.
        let free = (self as u8) < Self::All as u8;
        value || (free && !matches!(self, Self::Between | Self::By | Self::Escape | Self::First | Self::Next))
    }

    /// Whether PostgreSQL reserves `name`, which is folded.
    pub(crate) fn is_reserved(name: &[u8]) -> bool {
        name == b"current_timestamp"
            || find(swar::word_key(name)).is_some_and(|entry| entry.nature.reserved && entry.says(name))
    }
}

/// The only entry that a key can be.
#[inline(always)]
fn candidate(key: u64) -> &'static Entry {
    static ENTRIES_BY_NUMBER: [Entry; 256] = BY_NUMBER;
    static NUMBERS: [u8; 1 << BITS] = TABLE;
    let number = NUMBERS.get(slot(key, FACTOR)).copied().unwrap_or_default();
    ENTRIES_BY_NUMBER.get(usize::from(number)).unwrap_or(&const { BY_NUMBER_NONE })
}

fn find(key: u64) -> Option<&'static Entry> {
    Some(candidate(key)).filter(|entry| entry.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word_of(text: &str) -> Word {
        let key = swar::word_key(text.as_bytes());
        match text.as_bytes().split_at_checked(8) {
            Some((begin, [_, ..])) => Word::of_long(key, swar::word_key(begin), text.as_bytes()),
            _ => Word::of(key),
        }
        .map_or(Word::None, |nature| nature.word)
    }

    #[test]
    fn every_keyword_is_found_and_its_neighbours_are_not() {
        for (text, word) in
            [("select", Word::Select), ("SET_CONFIG", Word::SetConfig), ("characteristics", Word::Characteristics)]
        {
            assert_eq!(word_of(text), word);
            assert_eq!(word_of(&format!("{text}x")), Word::None);
        }
        for entry in ENTRIES {
            assert_eq!(find(entry.key).map(|found| found.nature.word), Some(entry.nature.word));
        }
    }

    #[test]
    fn advisory_calls_are_seen_whatever_their_length() {
        for text in
            ["pg_advisory_lock", "PG_TRY_ADVISORY_LOCK_SHARED", "pg_advisory_unlock_all", "pg_advisory_xact_lock"]
        {
            assert_eq!(word_of(text), Word::AdvisoryCall, "{text}");
        }
    }

    #[test]
    fn reserved_words_are_known() {
        assert!(Word::is_reserved(b"select") && Word::is_reserved(b"current_timestamp"));
        assert!(!Word::is_reserved(b"key") && !Word::is_reserved(b"name"));
    }
}

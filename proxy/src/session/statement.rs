//! Statements that pass: shapes, prepared ones, running ones.
//!
//! A text is looked at once ([`super::brain`]); prepared, it is found by its name. What must be done about a statement
//! beyond counting it stands in its [`Script`]; almost all have none.

use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use policy::observe::{CUT, ShapeFacts};
use policy::statement::{Analysis, Class, Flags, Part};
use policy::tenant::ClassId;
use wire::encode::Report;
use wire::view::{self, Parse};
use xxhash_rust::xxh3::xxh3_64;

use super::brain::Look;
use super::cached::{Ends, Planned, Words};
use super::held::Held;
use super::police::CommentTags;
use super::portals::Left;
use super::script::{Act, Script};
use crate::cache::Fate;
use crate::cache::writes::Reached;
use crate::telemetry::{
    Description, Interned, RouteTag, Sqlstate, StatementMeter, StatementText, TenantId, WorkerTelemetry,
};
use crate::tenancy::Rules;

/// The longest normalised text that is kept and shown, in bytes; of a longer one, its beginning.
const MAX_SHOWN: usize = 8 * 1024;

/// One kind of statement: what its fingerprint stands for.
#[derive(Debug)]
pub struct Shape {
    /// Strict fingerprint.
    pub strict: u64,
    /// What it is.
    pub class: Class,
    /// What the detector wants to know of it.
    facts: ShapeFacts,
    /// Its normalised text; made when the telemetry asks for it.
    text: Box<str>,
    /// Its text cannot be read: it is counted with all others of the kind.
    hidden: bool,
    /// Strict fingerprints of its statements and what they are, where there are several.
    pub parts: Box<[(u64, Class)]>,
    /// How many it has, but for those that begin, end or divide transactions: at least 1.
    pub statements: u32,
    /// It may change rows or schema, by what it is, or asks for a transaction that may.
    pub writes: bool,
    /// It may draw from a sequence, as far as its text shows.
    pub draws: bool,
    /// The tables that it names; `None`: they cannot be told.
    tables: OnceCell<Option<Box<[Box<str>]>>>,
    /// Whether a rule of the cache may be about it.
    pub concerned: Inspected,
    /// Whether the limits of the tenant that ran it last have nothing against it, by what it is.
    pub cleared: Inspected<Whose>,
    /// What came of it there the last time, as it was told.
    pub fate: Cell<Option<Fate>>,
    /// The counters of the tenant that ran it last.
    meter: RefCell<Option<(TenantId, StatementMeter)>>,
    /// The columns of its last result, and a hash of their description.
    columns: RefCell<Option<(u64, Option<Interned<Description>>)>>,
    /// No plan of it is asked for before, in µs on the telemetry clock.
    pub plan_due_us: Cell<u64>,
    /// No sample of it is due before, unless it is slow.
    pub sample_due_us: Cell<u64>,
}

impl Shape {
    /// Of an analysis; `text` is what operators see.
    pub fn new(analysis: &Analysis, mut text: String) -> Self {
        let facts = ShapeFacts::new(analysis, &text);
        let several = if analysis.parts.len() > 1 { analysis.parts.as_slice() } else { &[] };
        let parts = several.iter().map(|part| (part.strict, part.class)).collect();
        let of_part = |part: &Part| part.class.may_write() || part.flags.contains(Flags::CTE_WRITES);
        let writes = analysis.parts.iter().any(of_part) || policy::clauses::lifts_read_only(&text);
        let lasting =
            |part: &Part| part.class.is_transaction_control() || matches!(part.class, Class::Set | Class::Reset);
        let reads = analysis.flags.contains(Flags::READ_ONLY) && !text.contains('(');
        let draws = analysis.flags.contains(Flags::OVERSIZE) || !(reads || analysis.parts.iter().all(lasting));
        let statements = analysis.parts.iter().filter(|part| !part.class.is_transaction_control()).count();
        let whole = text.len() <= MAX_SHOWN;
        if text.len() > MAX_SHOWN {
            let end = (0..=MAX_SHOWN).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            text.truncate(end);
            text.push(CUT);
        }
        Self {
            strict: analysis.strict,
            class: analysis.class,
            facts,
            text: text.into(),
            hidden: false,
            parts,
            statements: u32::try_from(statements).unwrap_or(u32::MAX).max(1),
            writes,
            draws,
            tables: if whole { OnceCell::new() } else { OnceCell::from(None) },
            concerned: Inspected::default(),
            cleared: Inspected::default(),
            fate: Cell::new(None),
            meter: RefCell::default(),
            columns: RefCell::default(),
            plan_due_us: Cell::new(0),
            sample_due_us: Cell::new(0),
        }
    }

    /// The same without its text, of which some may be a constant.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { hidden: true, text: StatementText::UNREADABLE.into(), tables: OnceCell::from(None), ..self }
    }

    /// What limits may be said of by name: all of it, then each of its statements.
    pub fn named(&self) -> impl Iterator<Item = (u64, Class)> {
        std::iter::once((self.strict, self.class)).chain(self.parts.iter().copied())
    }

    /// Its text cannot be read.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// Its normalised text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tables that it names, as the server folds names; `None`: that cannot be told from its text.
    pub fn tables(&self) -> Option<&[Box<str>]> {
        self.tables.get_or_init(|| policy::clauses::tables(&self.text)).as_deref()
    }

    /// Whether its normalised text is kept to its end.
    pub fn is_whole(&self) -> bool {
        !self.text.ends_with(CUT)
    }

    /// Bytes of its text.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// The counters of this statement for a tenant.
    #[inline]
    pub fn with_meter<R>(
        &self,
        tenant: TenantId,
        telemetry: &WorkerTelemetry,
        use_it: impl FnOnce(&StatementMeter) -> R,
    ) -> R {
        let mut last = self.meter.borrow_mut();
        let known = last.as_ref().filter(|(owner, _)| *owner == tenant);
        if let Some((_, meter)) = known
            && meter.stands(telemetry)
        {
            return use_it(meter);
        }
        let again = known.is_some();
        let meter = if self.hidden {
            let unreadable = StatementText::unreadable();
            telemetry.statement(unreadable.facts.strict, tenant, || unreadable)
        } else {
            let describe = || StatementText { class: self.class, facts: self.facts, text: self.text.clone() };
            match again {
                true => telemetry.statement_again(self.strict, tenant, describe),
                false => telemetry.statement(self.strict, tenant, describe),
            }
        };
        let result = use_it(&meter);
        *last = Some((tenant, meter));
        result
    }

    /// The id of a result's description; the body of its RowDescription is hashed, and described anew only if it changed.
    #[inline]
    pub fn columns(&self, body: &[u8], describe: impl FnOnce() -> Interned<Description>) -> u32 {
        let hash = xxh3_64(body);
        let mut last = self.columns.borrow_mut();
        if let Some((known, description)) = &*last
            && *known == hash
        {
            return description.as_ref().map_or(0, |description| description.id);
        }
        let description = describe();
        let id = description.id;
        // One that the telemetry does not keep is not kept here either.
        *last = Some((hash, Some(description).filter(|_| id != 0)));
        id
    }
}

/// What a text is.
#[derive(Debug, Clone)]
pub struct Known {
    /// What kind of statement it is.
    pub shape: Rc<Shape>,
    /// What must be done about it; `None`: nothing.
    pub script: Option<Rc<Script>>,
    /// By its text it changes no row and no schema.
    pub reads: bool,
    /// It holds a string constant. What that means may depend on when it is parsed: a date, a time, a name of a table.
    pub has_strings: bool,
    /// EXPLAIN may be put in front of it.
    pub explains: bool,
    /// All of it was looked at.
    pub whole: bool,
}

/// Whether a text may run a function that changes its session, or something else that is yes or no: the answer of the last
/// look, and the version of what it was looked up in.
#[derive(Debug, Default)]
pub struct Inspected<V: Copy = u64>(Cell<(V, bool)>);

/// Whose limits a statement was held against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Whose {
    /// [`Rules::version`]; 0: nobody's yet.
    pub rules: u64,
    /// The tenant.
    pub tenant: policy::tenant::TenantId,
    /// The class of work.
    pub class: ClassId,
}

impl<V: Copy + PartialEq> Inspected<V> {
    /// The answer for this version, from `look` if it is not known.
    #[inline]
    pub fn or_look(&self, version: V, look: impl FnOnce() -> bool) -> bool {
        let (known, answer) = self.0.get();
        if known == version {
            return answer;
        }
        let answer = look();
        self.0.set((version, answer));
        answer
    }
}

impl Known {
    /// It begins, ends or divides a transaction and does nothing else: it is not counted, and refused only where nothing at
    /// all may be run, or just this may not. A client whose BEGIN is refused for a while would run what stands behind it without a transaction.
    pub fn is_free(&self) -> bool {
        self.whole && self.shape.class.is_transaction_control()
    }

    /// It may draw from a sequence.
    pub fn draws(&self) -> bool {
        self.shape.draws || !self.whole
    }

    /// It ends a transaction, or goes back within it, and does nothing else: never refused.
    pub fn is_way_out(&self) -> bool {
        self.whole && self.shape.class.is_way_out()
    }

    /// A LIMIT may be put behind it: it has none, and where it would stand is certain.
    pub fn takes_limit(&self) -> bool {
        let text = self.shape.text();
        // Of a long text only the beginning is kept, in which its own may not stand.
        let certain = self.explains && self.whole && self.shape.is_whole() && !text.starts_with('(');
        certain && !policy::clauses::has_limit(text)
    }

    /// Where in its text, as it was sent, a LIMIT goes; `None`: it takes none.
    pub fn limit_goes(&self, sql: &[u8]) -> Option<usize> {
        if !self.takes_limit() {
            return None;
        }
        let (body, comments) = policy::comment::strip_ends(sql);
        // In a constant, or before a comment that could not be told from one.
        (!body.contains(&b';')).then(|| comments.before() + body.len())
    }
}

/// A text prepared with certain parameter types.
#[derive(Debug)]
pub struct Prepared {
    /// The same on every worker; names the statement on servers.
    pub id: u64,
    /// What it is.
    pub known: Known,
    /// The exact text; `None`: too long to keep, it lives only where it was parsed.
    pub query: Option<Box<[u8]>>,
    /// The constants in it, as events carry them.
    pub literals: Box<[u8]>,
    /// Number of types, then their oids, as on the wire.
    pub types: Box<[u8]>,
    /// What the comments at its ends say.
    pub tags: Tags,
    /// Of them those that can decide whose a statement is; read where they are first asked for.
    pub comment: RefCell<Option<(u64, Option<Rc<CommentTags>>)>>,
    /// It goes by our name on servers, also where a client prepares it without one.
    pub shared: bool,
    /// Whether it may run a function that changes its session.
    pub inspected: Inspected,
    /// What it writes to.
    pub reached: Reached,
    /// Its text without its ends, and what they ask for.
    pub ends: OnceCell<Ends>,
    /// What its answer depends on.
    pub planned: Planned,
    /// Oids of its parameters' types, once a Describe has told them.
    pub parameters: RefCell<Box<[u32]>>,
    /// Id of the description of its columns, once a Describe has told them; 0: not known.
    pub columns: Cell<u32>,
    /// The epoch of the schema that it was prepared in.
    pub epoch: u64,
    /// The settings that decide what its constants mean; 0: it has none (`session::constants`).
    pub input: u64,
    /// The result that clients were told, hashed; 0: none was (`session::verify`).
    pub result: Cell<u64>,
    /// Its result is another one now: its clients have to prepare it anew.
    pub stale: Cell<bool>,
}

/// What the comments at a text's ends say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tags {
    /// Hash of the trace id; 0: none.
    pub trace: u64,
    /// The route, controller, action or job.
    pub route: RouteTag,
}

/// A statement that the server is running.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub known: Known,
    /// The prepared statement behind it, if any.
    pub prepared: Option<Rc<Prepared>>,
    /// What its comments say.
    pub tags: Tags,
    /// When its first byte was seen, in µs on the telemetry clock.
    pub start_us: u64,
    /// When it was sent, in µs on the telemetry clock.
    pub sent_us: u64,
    /// Which statement of the text is next, where there are several.
    pub part: usize,
    /// Rows that came.
    pub rows: u64,
    /// Rows by the command tags of a simple query's statements.
    pub total_rows: u64,
    /// The error that a simple query ended in.
    pub error: Option<Sqlstate>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Its parameters or constants in the upstream's samples.
    pub sample: Range<usize>,
    /// Its text in the upstream's samples, if it was kept there.
    pub text: Range<usize>,
    /// Id of the description of its columns; 0: not known.
    pub columns: u32,
    /// Whether it came by the extended protocol.
    pub extended: bool,
    /// All columns of its rows are in binary format.
    pub binary: bool,
    /// The number of its portal; 0: it has none.
    pub portal: u64,
    /// The portal was suspended before: this goes on with it.
    pub resumed: bool,
    /// It was sent within a transaction that something before it has begun.
    pub within: bool,
    /// What it is held to.
    pub held: Held,
    /// Where it says what is left of that when it is suspended, and finds what others have left of it.
    pub left: Option<Left>,
    /// What limits that only warn say of it.
    pub notices: Vec<Report>,
}

impl Running {
    /// Its first row is here. If it goes on with a portal, so does what the result is held to.
    #[inline]
    pub fn go_on(&mut self) {
        if let Some(left) = self.left.as_ref().and_then(|left| left.get()) {
            self.held.go_on(left);
        }
    }

    /// Whether what is sent behind it is within a transaction, if it does what it says.
    pub fn leaves_open(&self) -> bool {
        match self.known.shape.class {
            Class::Begin => true,
            Class::Commit | Class::Rollback | Class::PrepareTransaction => false,
            _ => self.within,
        }
    }

    /// It may end a session, its own among them.
    pub fn strikes(&self) -> bool {
        self.known.script.as_ref().is_some_and(|script| script.strikes)
    }

    /// Whether it may have left something on the server although it failed: a lock of the session, a statement that was
    /// prepared, outlive the transaction that is rolled back.
    pub fn outlives_failure(&self) -> bool {
        // A DEALLOCATE too: an empty statement may have been prepared for it to take away.
        let doubtful = |act: &Act| matches!(act, Act::Leave(_) | Act::Taint | Act::Deallocate(_));
        self.known.script.as_ref().is_some_and(|script| script.parts.iter().flatten().any(doubtful))
    }

    /// It may bring settings back to the server's own.
    pub fn resets(&self) -> bool {
        let resets = |act: &Act| matches!(act, Act::Reset(_) | Act::ResetAll | Act::DiscardAll);
        self.known.script.as_ref().is_some_and(|script| script.parts.iter().flatten().any(resets))
    }

    /// The execution of something whose text was not seen.
    pub fn unknown(known: Known, now_us: u64) -> Self {
        Self {
            known,
            prepared: None,
            tags: Tags::default(),
            start_us: now_us,
            sent_us: now_us,
            part: 0,
            rows: 0,
            total_rows: 0,
            error: None,
            bytes_in: 0,
            bytes_out: 0,
            sample: 0..0,
            text: 0..0,
            columns: 0,
            extended: true,
            binary: false,
            portal: 0,
            resumed: false,
            within: false,
            notices: Vec::new(),
            held: Held::default(),
            left: None,
        }
    }
}

impl Prepared {
    /// What its comments say to the rules of this version, as far as its text is kept.
    pub fn comment(&self, rules: &Rules) -> Option<Rc<CommentTags>> {
        let mut known = self.comment.borrow_mut();
        match &*known {
            Some((version, tags)) if *version == rules.version => tags.clone(),
            _ => {
                let tags = self.query.as_deref().and_then(|text| CommentTags::of(text, rules));
                *known = Some((rules.version, tags.clone()));
                tags
            }
        }
    }

    /// Bytes that it takes in the name of each client that has it.
    pub fn bytes(&self) -> usize {
        self.query.as_deref().map_or(0, <[u8]>::len) + self.types.len()
    }

    /// Its text as the cache takes it; `None`: it is not kept.
    pub(super) fn words(&self) -> Option<Words<'_>> {
        let sql = self.query.as_deref()?;
        Some(self.ends.get_or_init(|| Ends::of(sql)).around(sql))
    }

    /// Whether a Parse asks for just this statement.
    pub(super) fn is_of(&self, parse: Parse<'_>) -> bool {
        self.query.as_deref() == Some(parse.query) && *self.types == *parse.types
    }

    /// A statement; `query` is `None` where it is too long to be parsed again elsewhere.
    pub fn new(id: u64, (look, literals): (&Look<'_>, &[u8]), query: Option<&[u8]>, types: &[u8], tags: Tags) -> Self {
        Self {
            id,
            tags,
            comment: RefCell::default(),
            shared: false,
            inspected: Inspected::default(),
            reached: Reached::default(),
            ends: OnceCell::new(),
            planned: Planned::default(),
            known: look.known.clone(),
            query: query.map(Box::from),
            literals: literals.into(),
            types: types.into(),
            // What the client declares; a Describe tells the rest.
            parameters: RefCell::new(view::parameter_types(types).map(Iterator::collect).unwrap_or_default()),
            columns: Cell::new(0),
            epoch: 0,
            input: 0,
            result: Cell::new(0),
            stale: Cell::new(false),
        }
    }
}

//! What one worker knows of the statements that pass: texts, shapes, prepared statements.
//!
//! A text is looked at once. Seen again it is found in the memo; prepared, it is found by its name. What must be done
//! about a statement beyond counting it stands in its [`Script`]; almost all have none.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use policy::comment::{Comments, strip_ends};
use policy::fingerprint::{Analyser, Compat};
use policy::memo::{Lookup, Memo};
use policy::observe::ShapeFacts;
use policy::statement::{Analysis, Class, Flags, LiteralKind};
use rustc_hash::FxHashMap;
use wire::params::Interner;
use wire::view::{self, Parse};
use xxhash_rust::xxh3::xxh3_64;

use super::script::{self, Act, Script};
use crate::schemas::Place;
use crate::shared::Shared;
use crate::telemetry::ring::push_literal;
use crate::telemetry::{Description, Interned, Sqlstate, StatementMeter, StatementText, TenantId, WorkerTelemetry};

/// Shapes kept per worker; beyond, the table begins anew.
const MAX_SHAPES: usize = 20_000;
/// Prepared statements kept per worker beyond those that clients hold.
const MAX_PREPARED: usize = 20_000;
/// Bytes that the texts of those may take.
const MAX_PREPARED_BYTES: usize = 32 * 1024 * 1024;

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
    /// The counters of the tenant that ran it last.
    meter: RefCell<Option<(TenantId, StatementMeter)>>,
    /// The columns of its last result, and a hash of their description.
    columns: RefCell<Option<(u64, Interned<Description>)>>,
}

impl Shape {
    /// The counters of this statement for a tenant.
    #[inline]
    pub fn with_meter<R>(
        &self,
        tenant: TenantId,
        telemetry: &WorkerTelemetry,
        use_it: impl FnOnce(&StatementMeter) -> R,
    ) -> R {
        let mut last = self.meter.borrow_mut();
        if let Some((owner, meter)) = &*last
            && *owner == tenant
        {
            return use_it(meter);
        }
        let meter = telemetry.statement(self.strict, tenant, || StatementText {
            class: self.class,
            facts: self.facts,
            text: self.text.clone(),
        });
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
            return description.id;
        }
        let description = describe();
        let id = description.id;
        *last = Some((hash, description));
        id
    }

    /// The description that was used last; 0: none is known.
    #[inline]
    pub fn last_columns(&self) -> u32 {
        self.columns.borrow().as_ref().map_or(0, |(_, description)| description.id)
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
}

/// Whether a text may run a function that changes its session: the answer of the last look, and the version of the set
/// that it was looked up in.
#[derive(Debug, Default)]
pub struct Inspected(Cell<(u64, bool)>);

impl Inspected {
    /// The answer for this version, from `look` if it is not known.
    #[inline]
    pub fn or_look(&self, version: u64, look: impl FnOnce() -> bool) -> bool {
        let (known, answer) = self.0.get();
        if known == version {
            return answer;
        }
        let answer = look();
        self.0.set((version, answer));
        answer
    }
}

/// A text that is remembered because it came twice.
#[derive(Debug)]
pub struct Text {
    known: Known,
    /// Its constants, as events carry them.
    literals: Box<[u8]>,
    /// The statement that a Parse made of just this text.
    prepared: OnceCell<Rc<Prepared>>,
    /// The one that clients share who prepare it without a name, and the place of its last use.
    shared: RefCell<Option<(Place, Rc<Prepared>)>>,
    /// Whether it may run a function that changes its session.
    pub inspected: Inspected,
}

/// A text looked at.
#[derive(Debug)]
pub struct Look<'a> {
    /// What it is.
    pub known: Known,
    /// The comments at its ends.
    pub comments: Comments<'a>,
    /// The text itself, if it is remembered.
    pub text: Option<Rc<Text>>,
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
    /// Number of types, then their oids, as on the wire.
    pub types: Box<[u8]>,
    /// What the comments at its ends say.
    pub tags: Tags,
    /// It goes by our name on servers, also where a client prepares it without one.
    pub shared: bool,
    /// Whether it may run a function that changes its session.
    pub inspected: Inspected,
    /// Oids of its parameters' types, once a Describe has told them.
    pub parameters: RefCell<Box<[u32]>>,
    /// Id of the description of its columns, once a Describe has told them; 0: not known.
    pub columns: Cell<u32>,
    /// The epoch of the schema that it was prepared in.
    pub epoch: u64,
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
    /// Id of the route, controller, action or job; 0: none.
    pub route: u32,
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
    /// Id of the description of its columns; 0: not known.
    pub columns: u32,
    /// Whether it came by the extended protocol.
    pub extended: bool,
    /// All columns of its rows are in binary format.
    pub binary: bool,
    /// The portal was suspended before: this goes on with it.
    pub resumed: bool,
}

/// The longest text of an unnamed statement that is kept for parsing it again, in bytes; see
/// [`wire::prepared`]. Named ones are kept up to [`policy::statement::MAX_ANALYSED`].
pub const MAX_UNNAMED: usize = 4 * 1024;

/// What makes a prepared statement the same: its exact text, its types as on the wire, and what its names are looked up in.
type TextAndTypes = (Box<[u8]>, Box<[u8]>, Place);

/// One worker's knowledge of statements.
#[derive(Debug)]
pub struct Brain {
    analyser: Analyser,
    memo: Memo<Rc<Text>>,
    shapes: FxHashMap<u64, Rc<Shape>>,
    prepared: HashMap<TextAndTypes, Rc<Prepared>>,
    prepared_bytes: usize,
    /// One pointer per set of settings.
    pub interner: Interner,
}

impl Brain {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self {
            analyser: Analyser::new(Compat::V15),
            memo: Memo::new(),
            shapes: FxHashMap::default(),
            prepared: HashMap::new(),
            prepared_bytes: 0,
            interner: Interner::default(),
        }
    }

    /// What `sql` is, read with backslash `escapes` in plain strings or without. Its constants are appended to `literals`,
    /// as events carry them.
    #[inline]
    pub fn look_at<'a>(&mut self, sql: &'a [u8], escapes: bool, literals: &mut Vec<u8>) -> Look<'a> {
        let (body, comments) = strip_ends(sql);
        if escapes {
            // Where a string ends depends on the setting: nothing is shared with sessions that read it otherwise.
            self.analyser.set_standard_strings(false);
            let known = self.analyse(body, literals);
            self.analyser.set_standard_strings(true);
            return Look { known, comments, text: None };
        }
        let admit = match self.memo.get(body) {
            Lookup::Hit(text) => {
                literals.extend_from_slice(&text.literals);
                return Look { known: text.known.clone(), comments, text: Some(text.clone()) };
            }
            Lookup::Admit => true,
            Lookup::Miss => false,
        };
        let begin = literals.len();
        let known = self.analyse(body, literals);
        let text = admit.then(|| {
            let literals = literals.get(begin..).unwrap_or_default().into();
            Rc::new(Text {
                known: known.clone(),
                literals,
                prepared: OnceCell::new(),
                shared: RefCell::default(),
                inspected: Inspected::default(),
            })
        });
        if let Some(text) = &text {
            self.memo.insert(body, text.clone());
        }
        Look { known, comments, text }
    }

    /// What stands for a statement whose text was not seen: an empty one.
    pub fn unknown(&mut self) -> Known {
        self.analyse(b"", &mut Vec::new())
    }

    fn analyse(&mut self, sql: &[u8], literals: &mut Vec<u8>) -> Known {
        let analysis = self.analyser.analyse(sql);
        let strict = analysis.strict;
        let reads = analysis.flags.contains(Flags::READ_ONLY);
        let has_strings = analysis.literals.iter().any(|literal| literal.kind == LiteralKind::String);
        let script = script::of(analysis, sql);
        for literal in &analysis.literals {
            if !push_literal(literals, literal.kind, literal.span.of(sql)) {
                break;
            }
        }
        let shape = match self.shapes.get(&strict) {
            Some(shape) => shape.clone(),
            None => {
                let text = self.analyser.normalise(sql);
                let shape = Rc::new(shape_of(self.analyser.analyse(sql), text));
                if self.shapes.len() >= MAX_SHAPES {
                    self.shapes.clear();
                }
                self.shapes.insert(shape.strict, shape.clone());
                shape
            }
        };
        Known { shape, script: script.map(Rc::new), reads, has_strings }
    }

    /// The prepared statement of a text with these types, the same for every client of every worker whose names are
    /// looked up in the same place: a server that has taken a text under one search path may refuse it under another, and
    /// what was prepared before a table changed is out of date.
    pub fn prepare(
        &mut self,
        look: &Look<'_>,
        parse: Parse<'_>,
        place: Place,
        tags: Tags,
        shared: &Shared,
    ) -> Rc<Prepared> {
        let Parse { query, types, .. } = parse;
        let key = (Box::from(query), Box::from(types), place);
        if let Some(prepared) = self.prepared.get(&key) {
            return prepared.clone();
        }
        let size = query.len() + types.len();
        if self.prepared.len() >= MAX_PREPARED || self.prepared_bytes + size > MAX_PREPARED_BYTES {
            self.prepared.retain(|_, prepared| Rc::strong_count(prepared) > 1);
            self.prepared_bytes = self.prepared.keys().map(|(query, types, _)| query.len() + types.len()).sum();
        }
        let id = shared.statement_id(query, types, place);
        let prepared = Prepared::new(id, look, Some(query), types, tags);
        let prepared = Rc::new(Prepared { epoch: place.epoch, shared: true, ..prepared });
        if self.prepared.len() < MAX_PREPARED && self.prepared_bytes + size <= MAX_PREPARED_BYTES {
            self.prepared_bytes += size;
            self.prepared.insert(key, prepared.clone());
        }
        prepared
    }

    /// The same for a text that is prepared without a name: found with the text where it was used last.
    pub fn prepare_shared(
        &mut self,
        look: &Look<'_>,
        parse: Parse<'_>,
        place: Place,
        tags: Tags,
        shared: &Shared,
    ) -> Rc<Prepared> {
        let Some(text) = &look.text else { return self.prepare(look, parse, place, tags, shared) };
        let mut last = text.shared.borrow_mut();
        if let Some((known, prepared)) = &*last
            && *known == place
            && prepared.is_of(parse)
        {
            return prepared.clone();
        }
        let prepared = self.prepare(look, parse, place, tags, shared);
        *last = Some((place, prepared.clone()));
        prepared
    }

    /// The unnamed statement of a text: remembered with the text rather than in a table, so that texts which never come
    /// again leave nothing behind.
    #[inline]
    pub fn prepare_unnamed(&mut self, look: &Look<'_>, parse: Parse<'_>, tags: Tags, shared: &Shared) -> Rc<Prepared> {
        if let Some(known) = look.text.as_ref().and_then(|text| text.prepared.get())
            && known.is_of(parse)
        {
            return known.clone();
        }
        let Parse { query, types, .. } = parse;
        let kept = (query.len() <= MAX_UNNAMED).then_some(query);
        let prepared = Rc::new(Prepared::new(shared.next_id(), look, kept, types, tags));
        if let Some(text) = &look.text
            && kept.is_some()
        {
            drop(text.prepared.set(prepared.clone()));
        }
        prepared
    }
}

impl Running {
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
            columns: 0,
            extended: true,
            binary: false,
            resumed: false,
        }
    }
}

impl Default for Brain {
    fn default() -> Self {
        Self::new()
    }
}

impl Prepared {
    /// Bytes that it takes in the name of each client that has it.
    pub fn bytes(&self) -> usize {
        self.query.as_deref().map_or(0, <[u8]>::len) + self.types.len()
    }

    /// Whether a Parse asks for just this statement.
    fn is_of(&self, parse: Parse<'_>) -> bool {
        self.query.as_deref() == Some(parse.query) && *self.types == *parse.types
    }

    /// A statement; `query` is `None` where it is too long to be parsed again elsewhere.
    pub fn new(id: u64, look: &Look<'_>, query: Option<&[u8]>, types: &[u8], tags: Tags) -> Self {
        Self {
            id,
            tags,
            shared: false,
            inspected: Inspected::default(),
            known: look.known.clone(),
            query: query.map(Box::from),
            types: types.into(),
            // What the client declares; a Describe tells the rest.
            parameters: RefCell::new(view::parameter_types(types).map(Iterator::collect).unwrap_or_default()),
            columns: Cell::new(0),
            epoch: 0,
            result: Cell::new(0),
            stale: Cell::new(false),
        }
    }
}

fn shape_of(analysis: &Analysis, text: String) -> Shape {
    Shape {
        strict: analysis.strict,
        class: analysis.class,
        facts: ShapeFacts::new(analysis, &text),
        text: text.into(),
        meter: RefCell::default(),
        columns: RefCell::default(),
    }
}

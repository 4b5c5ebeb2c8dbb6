//! What one worker knows of texts: what each is, and which statements were prepared of it.
//!
//! ```text
//!            the same text ──► memo ─────────┐
//!   text ──┤ other constants ─► its skeleton ├─► known: shape, script
//!            neither ───────► analyser ──────┘
//! ```
//! A text is asked for in this order where a Parse will keep something with it. A Query keeps nothing: with constants in
//! it, it is asked for by its skeleton at once, because it will hardly come a second time as it stands.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use policy::comment::{Comments, Stripper};
use policy::fingerprint::{Analyser, Compat};
use policy::memo::{Lookup, Memo};
use policy::skeleton::{Skeleton, Template};
use policy::statement::{Flags, Literal, LiteralKind};
use rustc_hash::FxHashMap;
use wire::params::Interner;
use wire::view::Parse;

use super::cached::Planned;
use super::script;
use super::statement::{Inspected, Known, Prepared, Shape, Tags};
use crate::cache::writes::Reached;
use crate::schemas::Place;
use crate::shared::Shared;
use crate::telemetry::ring::push_literal;

/// Shapes kept per worker; beyond, the table begins anew.
const MAX_SHAPES: usize = 20_000;
/// Bytes that their texts may take; the same.
const MAX_SHAPE_BYTES: usize = 16 * 1024 * 1024;
/// Prepared statements kept per worker beyond those that clients hold.
const MAX_PREPARED: usize = 20_000;
/// Bytes that the texts of those may take.
const MAX_PREPARED_BYTES: usize = 32 * 1024 * 1024;
/// The longest text of an unnamed statement that is kept for parsing it again, in bytes; see
/// [`wire::prepared`]. Named ones are kept up to [`policy::statement::MAX_ANALYSED`].
pub const MAX_UNNAMED: usize = 4 * 1024;

/// What makes a prepared statement the same: its exact text, its types as on the wire, and what its names are looked up in.
type TextAndTypes = (Box<[u8]>, Box<[u8]>, Place);

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
    inspected: Inspected,
    /// What it writes to.
    reached: Reached,
    /// What its answer depends on.
    planned: Planned,
}

/// A text looked at.
#[derive(Debug)]
pub struct Look<'a> {
    /// What it is.
    pub known: Known,
    /// The text without what stands at its ends: blanks, semicolons, comments.
    pub body: &'a [u8],
    /// The comments at its ends.
    pub comments: Comments<'a>,
    /// The text itself, if it is remembered.
    pub text: Option<Rc<Text>>,
    /// What is remembered of all texts that differ from it in their constants alone.
    pattern: Option<Rc<Pattern>>,
}

impl Look<'_> {
    /// Where it is remembered whether the text may run a function that changes its session.
    #[inline]
    pub fn inspected(&self) -> Option<&Inspected> {
        let text = self.text.as_deref().map(|text| &text.inspected);
        text.or(self.pattern.as_deref().map(|pattern| &pattern.inspected))
    }

    /// Where it is remembered what the text writes to.
    #[inline]
    pub fn reached(&self) -> Option<&Reached> {
        let text = self.text.as_deref().map(|text| &text.reached);
        text.or(self.pattern.as_deref().map(|pattern| &pattern.reached))
    }

    /// Where it is remembered what its answer depends on: no number in a text has a say in that, and a string may have.
    #[inline]
    pub fn planned(&self) -> Option<&Planned> {
        let numbers_alone = self.pattern.as_deref().filter(|pattern| !pattern.known.has_strings);
        let pattern = numbers_alone.map(|pattern| &pattern.planned);
        pattern.or(self.text.as_deref().map(|text| &text.planned))
    }
}

/// Texts that differ in their constants alone.
#[derive(Debug)]
struct Pattern {
    known: Known,
    template: Template,
    inspected: Inspected,
    reached: Reached,
    planned: Planned,
}

/// What a text is sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// To be run, once.
    ToRun,
    /// To be prepared: it may be kept.
    ToPrepare,
}

/// How a session's texts are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lexing {
    /// With backslash escapes in plain strings.
    pub escapes: bool,
    /// In an encoding in which the second byte of a character may be a backslash or a quote: where a string ends cannot be
    /// told if there is any such character, and what looks like a name may be a constant. With escapes nor if there is any
    /// backslash: they may be what is not known.
    pub opaque: bool,
}

/// One worker's knowledge of statements.
#[derive(Debug)]
pub struct Brain {
    stripper: Stripper,
    analyser: Analyser,
    memo: Memo<Rc<Text>>,
    skeleton: Skeleton,
    /// By their skeletons; `None`: what the text is depends on its constants.
    patterns: Memo<Option<Rc<Pattern>>>,
    shapes: FxHashMap<u64, Rc<Shape>>,
    shape_bytes: usize,
    prepared: HashMap<TextAndTypes, Rc<Prepared>>,
    prepared_bytes: usize,
    /// One pointer per set of settings.
    pub interner: Interner,
}

impl Brain {
    /// Knows nothing yet. What it learns about texts depends on `compat`, so that one brain keeps to one.
    pub fn new(compat: Compat) -> Self {
        Self {
            stripper: Stripper::default(),
            analyser: Analyser::new(compat),
            memo: Memo::new(),
            skeleton: Skeleton::default(),
            patterns: Memo::new(),
            shapes: FxHashMap::default(),
            shape_bytes: 0,
            prepared: HashMap::new(),
            prepared_bytes: 0,
            interner: Interner::default(),
        }
    }

    /// What `sql` is, as its session has it read. Its constants are appended to `literals`, as events carry them.
    #[inline]
    pub fn look_at<'a>(&mut self, sql: &'a [u8], lexing: Lexing, sent: Sent, literals: &mut Vec<u8>) -> Look<'a> {
        let (body, comments) = self.stripper.strip_ends(sql);
        let blind = lexing.opaque && lexing.escapes && sql.contains(&b'\\');
        if blind || (lexing.opaque && !sql.is_ascii()) {
            let known = self.guess(body, lexing.escapes);
            // Not all of it is what it seems to be.
            let known = Known { whole: known.whole && !blind, ..known };
            // What looks like a comment may be a part of a constant too.
            return Look { known, body, comments: Comments::default(), text: None, pattern: None };
        }
        let look = |known, text, pattern| Look { known, body, comments, text, pattern };
        if lexing.escapes {
            // Where a string ends depends on the setting: nothing is shared with sessions that read it otherwise.
            self.analyser.set_standard_strings(false);
            let known = self.analyse(body, literals);
            self.analyser.set_standard_strings(true);
            return look(known, None, None);
        }
        if sent == Sent::ToRun
            && self.has_constants(body)
            && let Some((known, pattern)) = self.by_skeleton(body, literals)
        {
            return look(known, None, pattern);
        }
        let admit = match self.memo.get(body) {
            Lookup::Hit(text) => {
                literals.extend_from_slice(&text.literals);
                return look(text.known.clone(), Some(text.clone()), None);
            }
            Lookup::Admit => true,
            Lookup::Miss => false,
        };
        let begin = literals.len();
        let skeleton = sent == Sent::ToPrepare && self.has_constants(body);
        let by_skeleton = if skeleton { self.by_skeleton(body, literals) } else { None };
        let (known, pattern) = by_skeleton.unwrap_or_else(|| (self.analyse(body, literals), None));
        let text = admit.then(|| {
            let literals = literals.get(begin..).unwrap_or_default().into();
            Rc::new(Text {
                known: known.clone(),
                literals,
                prepared: OnceCell::new(),
                shared: RefCell::default(),
                inspected: Inspected::default(),
                reached: Reached::default(),
                planned: Planned::default(),
            })
        });
        if let Some(text) = &text {
            self.memo.insert(body, text.clone());
        }
        look(known, text, pattern)
    }

    /// Whether `body` has a skeleton that is not the text itself. It is read if so.
    #[inline]
    fn has_constants(&mut self, body: &[u8]) -> bool {
        self.skeleton.read(body) && !self.skeleton.slots().is_empty()
    }

    /// What the text is that the skeleton was read from. `None`: that depends on its constants, and only the exact text is
    /// worth remembering.
    #[inline]
    fn by_skeleton(&mut self, body: &[u8], literals: &mut Vec<u8>) -> Option<(Known, Option<Rc<Pattern>>)> {
        let admit = match self.patterns.get(self.skeleton.text()) {
            Lookup::Hit(Some(pattern)) => {
                push_literals(literals, pattern.template.literals(self.skeleton.slots()), body);
                return Some((pattern.known.clone(), Some(pattern.clone())));
            }
            Lookup::Hit(None) => return None,
            Lookup::Admit => true,
            Lookup::Miss => false,
        };
        let known = self.analyse(body, literals);
        if !admit {
            return Some((known, None));
        }
        let pattern = Template::of(self.analyser.last(), self.skeleton.slots()).map(|template| {
            Rc::new(Pattern {
                known: known.clone(),
                template,
                inspected: Inspected::default(),
                reached: Reached::default(),
                planned: Planned::default(),
            })
        });
        self.patterns.insert(self.skeleton.text(), pattern.clone());
        Some((known, pattern))
    }

    /// What stands for a statement whose text was not seen: an empty one.
    pub fn unknown(&mut self) -> Known {
        Known { whole: false, ..self.analyse(b"", &mut Vec::new()) }
    }

    /// What a text seems to be whose constants cannot be told from the rest. What follows for the session is taken from it,
    /// for want of better; nobody is shown any of it.
    #[cold]
    fn guess(&mut self, sql: &[u8], escapes: bool) -> Known {
        self.analyser.set_standard_strings(!escapes);
        let analysis = self.analyser.analyse(sql);
        let (reads, explains) = (analysis.flags.contains(Flags::READ_ONLY), false);
        let whole = !analysis.flags.contains(Flags::OVERSIZE);
        let script = script::of(analysis, sql);
        let text = self.analyser.normalise(sql);
        let shape = Shape::new(self.analyser.analyse(sql), text).hidden();
        self.analyser.set_standard_strings(true);
        Known { shape: Rc::new(shape), script: script.map(Rc::new), reads, has_strings: true, explains, whole }
    }

    fn analyse(&mut self, sql: &[u8], literals: &mut Vec<u8>) -> Known {
        let analysis = self.analyser.analyse(sql);
        let strict = analysis.strict;
        let reads = analysis.flags.contains(Flags::READ_ONLY);
        let has_strings = analysis.literals.iter().any(|literal| literal.kind == LiteralKind::String);
        let explains = analysis.is_explainable();
        let whole = !analysis.flags.contains(Flags::OVERSIZE);
        let script = script::of(analysis, sql);
        push_literals(literals, analysis.literals.iter().copied(), sql);
        let shape = match self.shapes.get(&strict) {
            Some(shape) => shape.clone(),
            None => {
                let text = self.analyser.normalise(sql);
                let shape = Rc::new(Shape::new(self.analyser.analyse(sql), text));
                if self.shapes.len() >= MAX_SHAPES || self.shape_bytes + shape.size() > MAX_SHAPE_BYTES {
                    self.shapes.clear();
                    self.shape_bytes = 0;
                }
                self.shape_bytes += shape.size();
                self.shapes.insert(shape.strict, shape.clone());
                shape
            }
        };
        Known { shape, script: script.map(Rc::new), reads, has_strings, explains, whole }
    }

    /// The prepared statement of a text with these types, the same for every client of every worker whose names are
    /// looked up in the same place: a server that has taken a text under one search path may refuse it under another, and
    /// what was prepared before a table changed is out of date. `literals`: the constants that were found in the text.
    pub fn prepare(
        &mut self,
        (look, literals): (&Look<'_>, &[u8]),
        parse: Parse<'_>,
        (place, input): (Place, u64),
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
        let prepared = Prepared::new(id, (look, literals), Some(query), types, tags);
        let prepared = Rc::new(Prepared { epoch: place.epoch, input, shared: true, ..prepared });
        if self.prepared.len() < MAX_PREPARED && self.prepared_bytes + size <= MAX_PREPARED_BYTES {
            self.prepared_bytes += size;
            self.prepared.insert(key, prepared.clone());
        }
        prepared
    }

    /// The same for a text that is prepared without a name: found with the text where it was used last.
    pub fn prepare_shared(
        &mut self,
        (look, literals): (&Look<'_>, &[u8]),
        parse: Parse<'_>,
        (place, input): (Place, u64),
        tags: Tags,
        shared: &Shared,
    ) -> Rc<Prepared> {
        let Some(text) = &look.text else { return self.prepare((look, literals), parse, (place, input), tags, shared) };
        let mut last = text.shared.borrow_mut();
        if let Some((known, prepared)) = &*last
            && *known == place
            && prepared.is_of(parse)
        {
            return prepared.clone();
        }
        let prepared = self.prepare((look, literals), parse, (place, input), tags, shared);
        *last = Some((place, prepared.clone()));
        prepared
    }

    /// The unnamed statement of a text: remembered with the text rather than in a table, so that texts which never come
    /// again leave nothing behind.
    #[inline]
    pub fn prepare_unnamed(
        &mut self,
        (look, literals): (&Look<'_>, &[u8]),
        parse: Parse<'_>,
        tags: Tags,
        shared: &Shared,
    ) -> Rc<Prepared> {
        if let Some(known) = look.text.as_ref().and_then(|text| text.prepared.get())
            && known.is_of(parse)
        {
            return known.clone();
        }
        let Parse { query, types, .. } = parse;
        let kept = (query.len() <= MAX_UNNAMED).then_some(query);
        let prepared = Rc::new(Prepared::new(shared.next_id(), (look, literals), kept, types, tags));
        if let Some(text) = &look.text
            && kept.is_some()
        {
            drop(text.prepared.set(prepared.clone()));
        }
        prepared
    }
}

/// Appends constants as events carry them, as far as there is room.
#[inline]
fn push_literals(section: &mut Vec<u8>, literals: impl Iterator<Item = Literal>, sql: &[u8]) {
    for literal in literals {
        if !push_literal(section, literal.kind, literal.span.of(sql)) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::StatementText;

    #[test]
    fn invented_texts_do_not_fill_the_memory() {
        let mut brain = Brain::new(Compat::V15);
        let mut literals = Vec::new();
        let filler = "long_name, ".repeat(900);
        for n in 0..2_200 {
            literals.clear();
            let sql = format!("select c{n}, {filler} 1");
            let look = brain.look_at(sql.as_bytes(), Lexing::default(), Sent::ToRun, &mut literals);
            assert!(look.known.shape.size() < 9 * 1024, "{}", look.known.shape.size());
            let kept: usize = brain.shapes.values().map(|shape| shape.size()).sum();
            assert_eq!(kept, brain.shape_bytes);
            assert!(kept <= MAX_SHAPE_BYTES);
        }
        assert!(brain.shapes.len() < 2_200, "the table has begun anew");
    }

    #[test]
    fn a_text_whose_strings_cannot_be_told_from_the_rest_is_shown_to_nobody() {
        let mut brain = Brain::new(Compat::V15);
        let mut literals = Vec::new();
        let opaque = Lexing { opaque: true, ..Lexing::default() };
        // In Shift JIS the first constant is one character, whose second byte is no backslash.
        let sql = b"insert into t values (E'\x95\x5c', 'secret')";
        for sent in [Sent::ToRun, Sent::ToPrepare, Sent::ToRun, Sent::ToPrepare] {
            let look = brain.look_at(sql, opaque, sent, &mut literals);
            assert_eq!(look.known.shape.text(), StatementText::UNREADABLE);
            assert!(look.text.is_none() && look.known.shape.writes && literals.is_empty());
        }
        let blind = Lexing { opaque: true, escapes: true };
        let look = brain.look_at(b"select 'x\\' || '; delete from t; --'", blind, Sent::ToRun, &mut literals);
        assert_eq!(look.known.shape.text(), StatementText::UNREADABLE);
        assert!(look.text.is_none() && !look.known.whole && literals.is_empty());
        assert!(brain.shapes.is_empty(), "it is not taken for what others have sent");
        let plain = brain.look_at(b"select 'secret', a from t", opaque, Sent::ToRun, &mut literals);
        assert_eq!(plain.known.shape.text(), "select ?, a from t");
        let utf8 = brain.look_at("select 'é', a from t".as_bytes(), Lexing::default(), Sent::ToRun, &mut literals);
        assert_eq!(utf8.known.shape.text(), "select ?, a from t");
    }
}

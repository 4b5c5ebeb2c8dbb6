//! What a statement is: its identity, its class, what it leaves behind in the session.
//!
//! [`Analyser`](crate::fingerprint::Analyser) fills one [`Analysis`] per text and reuses it: ranges into the text and
//! into one small arena stand for everything that would otherwise be a string of its own, so that a known shape of
//! statement costs no allocation.
//!
//! ```
//! use policy::fingerprint::{Analyser, Compat};
//! use policy::statement::{Class, Effect};
//!
//! let mut analyser = Analyser::new(Compat::V15);
//! let analysis = analyser.analyse(b"set local app.tenant_id = 'acme'");
//! assert_eq!(analysis.class, Class::Set);
//! let [Effect::Set { name, local: true, .. }] = analysis.effects.as_slice() else { panic!() };
//! assert_eq!(analysis.text(*name), b"app.tenant_id");
//! ```

mod class;
mod effect;
pub(crate) mod extract;
mod settings;
pub(crate) mod verb;

use std::ops::{BitOr, BitOrAssign, Range};

pub use class::Class;
pub use effect::{Access, DiscardWhat, Effect, Operand};

use crate::comment::Comments;
use crate::lexer::decode::Arena;
use crate::lexer::{self, Kind};

/// How much of one text is looked at, in bytes; the rest is relayed unseen and the analysis says so.
pub const MAX_ANALYSED: usize = 256 * 1024;

/// Everything known about one text, which may hold several statements separated by `;`.
///
/// Ranges refer to the very bytes that were handed to the analyser.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    /// Groups as `pg_stat_statements` does for the chosen release; what reports are keyed by. Stable across runs,
    /// machines and releases of this software that keep [`crate::fingerprint::SCHEME`].
    pub strict: u64,
    /// Coarser: lists and rows of VALUES squashed, a parameter equals a constant. What detection is keyed by.
    pub family: u64,
    /// The class of the only statement; of the first that is not transaction control when there are several.
    pub class: Class,
    /// What is true of the text as a whole (see each flag for how several statements combine).
    pub flags: Flags,
    /// One entry per statement at the top level that is not empty, in order.
    pub parts: Vec<Part>,
    /// What all statements leave behind, in order; [`Part::effects`] cuts it up.
    pub effects: Vec<Effect>,
    /// The constants in order of appearance: the pseudo-parameters of the simple protocol.
    pub literals: Vec<Literal>,
    /// The highest `$n` that appears, 0 when there is none.
    pub parameters: u16,
    /// The text without comments, whitespace and semicolons at its ends.
    pub body: Span,
    /// Decoded names and values that [`Text`] points into.
    pub(crate) arena: Vec<u8>,
    /// Something was looked at a second time, with its constants.
    pub(crate) extracted: bool,
}

impl Analysis {
    /// The decoded bytes behind a name or a value of an effect.
    pub fn text(&self, text: Text) -> &[u8] {
        self.arena.get(text.start as usize..text.end as usize).unwrap_or_default()
    }

    /// Whether nothing in it but [`Self::literals`] themselves depends on what its constants are: one statement that only
    /// reads or writes rows, and calls nothing that changes its session.
    pub fn is_simple(&self) -> bool {
        let doubtful = Flags::OVERSIZE | Flags::UNTERMINATED;
        self.parts.len() == 1 && !self.extracted && self.flags.intersection(doubtful) == Flags::NONE
    }

    /// Whether EXPLAIN may be put in front of it: one SELECT or VALUES that by its text only reads, and is more than calls
    /// of functions, of which a plan shows nothing.
    pub fn is_explainable(&self) -> bool {
        let doubtful = Flags::OVERSIZE.0 | Flags::UNTERMINATED.0 | Flags::FUNCTION_ONLY.0;
        self.parts.len() == 1
            && matches!(self.class, Class::Select | Class::Values)
            && self.flags.contains(Flags::READ_ONLY)
            && self.flags.0 & doubtful == 0
    }

    /// What one of [`Self::parts`] leaves behind, in order.
    pub fn effects_of(&self, part: &Part) -> &[Effect] {
        self.effects.get(part.effects.start as usize..part.effects.end as usize).unwrap_or_default()
    }

    /// The constants of one of [`Self::parts`], in order.
    pub fn literals_of(&self, part: &Part) -> &[Literal] {
        self.literals.get(part.literals.start as usize..part.literals.end as usize).unwrap_or_default()
    }

    /// The comments before and after the body of `sql`, the text that this analysis was made of.
    pub fn comments<'a>(&self, sql: &'a [u8]) -> Comments<'a> {
        Comments::new(
            sql.get(..self.body.start as usize).unwrap_or_default(),
            sql.get(self.body.end as usize..).unwrap_or_default(),
        )
    }

    /// Makes it ready for the next text; capacities stay.
    pub(crate) fn clear(&mut self) {
        self.strict = 0;
        self.family = 0;
        self.class = Class::Empty;
        self.flags = Flags::NONE;
        self.parts.clear();
        self.effects.clear();
        self.literals.clear();
        self.parameters = 0;
        self.body = Span::default();
        self.arena.clear();
        self.extracted = false;
    }
}

/// One statement of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its own strict id.
    pub strict: u64,
    /// Its own family id.
    pub family: u64,
    /// What it is.
    pub class: Class,
    /// What is true of this statement alone.
    pub flags: Flags,
    /// Where it stands in the text, from its first token to its last.
    pub span: Span,
    /// Its run of [`Analysis::effects`].
    pub effects: Span,
    /// Its run of [`Analysis::literals`].
    pub literals: Span,
}

/// A half-open range of 32-bit positions: bytes of the text, or entries of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First position inside.
    pub start: u32,
    /// First position after.
    pub end: u32,
}

impl Span {
    /// The bytes of `sql` in this range; empty when it does not reach that far.
    pub fn of(self, sql: &[u8]) -> &[u8] {
        sql.get(self.range()).unwrap_or_default()
    }

    /// The same as a range of `usize`.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether nothing is inside.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// A decoded name or value, kept in the analysis: [`Analysis::text`] reads it.
///
/// Identifiers are folded and unquoted as the server does and cut at 63 bytes; literals have their quotes and escapes
/// resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Text {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A constant in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Its bytes in the text, quotes and sign included.
    pub span: Span,
    /// What it is.
    pub kind: LiteralKind,
}

/// The lexical kind of a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiteralKind {
    /// `1`, `-1`, `1.5e3`, `0x1F`.
    Number,
    /// `'x'`, `E'x'`, `U&'x'`, `$tag$x$tag$`.
    String,
    /// `B'101'`, `X'1F'`.
    Bits,
    /// `TRUE`, `FALSE`.
    Bool,
    /// `NULL`.
    Null,
}

/// Facts about a statement that are true or not.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// It holds no constant: the same text comes again, so remembering it pays. Of several statements: all.
    pub const LITERAL_FREE: Self = Self(1);
    /// By its text it changes no row and no schema (functions it calls may). Of several statements: all.
    pub const READ_ONLY: Self = Self(1 << 1);
    /// More than one statement in the text.
    pub const MULTI: Self = Self(1 << 2);
    /// A FROM at the top level or in a set operation's arm.
    pub const HAS_FROM: Self = Self(1 << 3);
    /// It asks for many keys at once: an IN list of three or more, or `= ANY(…)`.
    pub const BATCHED: Self = Self(1 << 4);
    /// LIMIT or FETCH FIRST.
    pub const HAS_LIMIT: Self = Self(1 << 5);
    /// OFFSET.
    pub const HAS_OFFSET: Self = Self(1 << 6);
    /// FOR UPDATE, FOR SHARE and their kin.
    pub const LOCKS_ROWS: Self = Self(1 << 7);
    /// SKIP LOCKED: the mark of a queue.
    pub const SKIP_LOCKED: Self = Self(1 << 8);
    /// A SELECT whose list is function calls and which has no FROM.
    pub const FUNCTION_ONLY: Self = Self(1 << 9);
    /// Longer than [`MAX_ANALYSED`]: only its beginning was looked at, so what it leaves behind is not known.
    pub const OVERSIZE: Self = Self(1 << 10);
    /// A quote, a comment or a dollar quote has no end: the server will refuse the text.
    pub const UNTERMINATED: Self = Self(1 << 11);
    /// It returns the rows that it changed.
    pub const HAS_RETURNING: Self = Self(1 << 12);
    /// A WITH holds an INSERT, UPDATE, DELETE or MERGE.
    pub const CTE_WRITES: Self = Self(1 << 13);
    /// SELECT … INTO: it creates a table.
    pub const SELECT_INTO: Self = Self(1 << 14);
    /// It holds a join or more than one relation after FROM.
    pub const JOINS: Self = Self(1 << 15);
    /// EXPLAIN with ANALYZE: it runs what it explains.
    pub const EXECUTES: Self = Self(1 << 16);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets or clears `other`.
    pub fn set(&mut self, other: Self, on: bool) {
        if on { self.0 |= other.0 } else { self.0 &= !other.0 }
    }

    /// Those that both have.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What a value of SET comes to that is one constant or one quoted name, as the server reads it: `'x'`, `E'x'`, `$$x$$`,
/// `"x"`. `None`: it is anything else.
pub fn value_of(text: &[u8]) -> Option<Vec<u8>> {
    let mut tokens = Vec::new();
    let scan = lexer::scan(text, true, &mut tokens);
    let [token] = tokens[..] else { return None };
    let mut bytes = Vec::new();
    let mut arena = Arena(&mut bytes);
    match token.kind {
        Kind::String => arena.string(text, token),
        Kind::Quoted => arena.name(text, token),
        _ => return None,
    };
    (!scan.unterminated).then_some(bytes)
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 17] = [
            "LITERAL_FREE",
            "READ_ONLY",
            "MULTI",
            "HAS_FROM",
            "BATCHED",
            "HAS_LIMIT",
            "HAS_OFFSET",
            "LOCKS_ROWS",
            "SKIP_LOCKED",
            "FUNCTION_ONLY",
            "OVERSIZE",
            "UNTERMINATED",
            "HAS_RETURNING",
            "CTE_WRITES",
            "SELECT_INTO",
            "JOINS",
            "EXECUTES",
        ];
        f.debug_set()
            .entries(NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, n)| n))
            .finish()
    }
}

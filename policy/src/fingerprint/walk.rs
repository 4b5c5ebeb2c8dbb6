//! The walk over one statement's tokens: what is kept, what is a constant, what is noticed on the way.

mod list;
mod spelling;

use super::Compat;
use super::sink::{Form, Sink};
use crate::lexer::{Kind, Step, Token, Word, swar, symbol};
use crate::statement::{Class, Flags, Literal, LiteralKind, Span};

/// What a walk noticed besides the canonical items.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noticed {
    /// Facts about the statement.
    pub(crate) flags: Flags,
    /// The highest parameter.
    pub(crate) parameters: u16,
    /// A name of a function that changes the session was seen: worth a second look.
    pub(crate) session_call: bool,
    /// The list of the session's prepared statements was named, or something in quotes that may be it.
    pub(crate) statement_names: bool,
}

/// One pair of parentheses or brackets, or the statement itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frame {
    clause: Clause,
    /// A SELECT stands in it.
    query: bool,
    /// It begins with WITH.
    with: bool,
    /// It is the list of an IN.
    members: bool,
    /// Its parentheses are not kept: they are around a whole query.
    hidden: bool,
    /// It is a row of VALUES that the family does not see.
    muted_row: bool,
    /// It stands in a list of results: its constants decide which function is meant.
    typed: bool,
    commas: u32,
}

/// Which clause of its query the walk is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Clause {
    #[default]
    Start,
    /// A list of expressions with names: SELECT, RETURNING.
    Target,
    From,
    /// ORDER BY, GROUP BY.
    By,
    Values,
    Other,
}

/// The walk itself. It stops at a semicolon outside of parentheses.
pub(crate) struct Walk<'a, S> {
    pub(crate) sql: &'a [u8],
    pub(crate) tokens: &'a [Token],
    pub(crate) sink: &'a mut S,
    pub(crate) frames: &'a mut Vec<Frame>,
    pub(crate) literals: &'a mut Vec<Literal>,
    pub(crate) compat: Compat,
    pub(crate) class: Class,
    frame: Frame,
    at: usize,
    muted: bool,
    noticed: Noticed,
}

const MINUS: u64 = symbol("-");
const COMMA: u64 = symbol(",");
const OPEN: u64 = symbol("(");
const CLOSE: u64 = symbol(")");
const OPEN_BRACKET: u64 = symbol("[");
const CLOSE_BRACKET: u64 = symbol("]");
const CAST: u64 = symbol("::");
const EQUAL: u64 = symbol("=");
const DOT: u64 = symbol(".");

const VALUE: u64 = symbol("value");
const OTHERS: u64 = symbol("others");

/// Words that stand before a string without naming its type: UESCAPE, PASSING, PATH, DOUBLE PRECISION.
const NOT_TYPES: [u64; 4] = [symbol("uescape"), symbol("passing"), symbol("path"), swar::word_key(b"precision")];

/// The parts of a walk that outlive it.
pub(crate) struct Buffers<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) frames: &'a mut Vec<Frame>,
    pub(crate) literals: &'a mut Vec<Literal>,
}

impl<'a, S: Sink> Walk<'a, S> {
    /// A walk over `tokens`, which are one statement of `sql`.
    pub(crate) fn new(
        sql: &'a [u8],
        tokens: &'a [Token],
        class: Class,
        compat: Compat,
        buffers: Buffers<'a, S>,
    ) -> Self {
        let Buffers { sink, frames, literals } = buffers;
        frames.clear();
        Self {
            sql,
            tokens,
            sink,
            frames,
            literals,
            compat,
            class,
            frame: Frame::default(),
            at: 0,
            muted: false,
            noticed: Noticed::default(),
        }
    }

    /// Walks to the end. From the token `value` on, everything is one constant: the value of a SET, a savepoint's name.
    pub(crate) fn run(mut self, value: Option<usize>) -> Noticed {
        let end = value.unwrap_or(self.tokens.len()).min(self.tokens.len());
        let walked = self.tokens.get(..end).unwrap_or_default();
        while let Some(rest) = walked.get(self.at..) {
            let form = self.form();
            self.at += self.sink.plain(self.sql, rest, form);
            let Some(token) = walked.get(self.at) else { break };
            match token.step {
                Step::Plain => self.keep(*token),
                Step::Comma => self.comma(*token),
                Step::Open => self.open(*token),
                Step::Close => self.close(*token),
                Step::Minus if self.is_sign() => self.signed(*token),
                Step::Minus => self.keep(*token),
                Step::Keyword => self.keyword(*token),
                Step::Constant => self.constant(*token),
                Step::Parameter => self.parameter(*token),
                Step::Quoted => self.quoted(*token),
            }
            self.at += 1;
        }
        if end < self.tokens.len() {
            self.value(end);
        }
        self.noticed
    }

    #[inline]
    fn form(&self) -> Form {
        if self.muted { Form::Strict } else { Form::Both }
    }

    #[inline(always)]
    fn keep(&mut self, token: Token) {
        let form = self.form();
        self.sink.token(self.sql, token, form);
    }

    fn peek(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn previous(&self) -> Option<Token> {
        self.tokens.get(self.at.checked_sub(1)?).copied()
    }

    fn previous_word(&self) -> Word {
        self.previous().map_or(Word::None, |token| token.word)
    }

    fn next_word(&self) -> Word {
        self.peek(1).map_or(Word::None, |token| token.word)
    }

    fn next_is(&self, symbol: u64) -> bool {
        self.peek(1).is_some_and(|token| token.is(symbol))
    }

    fn note(&mut self, flags: Flags) {
        self.noticed.flags |= flags;
    }

    /// Whether this is the statement's own level and not inside of parentheses.
    fn outermost(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether nothing but parentheses around the statement itself is open: `(SELECT … INTO …)`.
    fn only_wrapped(&self) -> bool {
        self.outermost() || (self.frame.hidden && self.frames.iter().skip(1).all(|frame| frame.hidden))
    }

    /// A keyword that is not plain. One that is looked at here must be named in `Word::is_plain`, or it never comes.
    fn keyword(&mut self, token: Token) {
        match token.word {
            Word::True | Word::False | Word::Null => return self.word_constant(token),
            Word::Select => {
                self.frame.query = true;
                self.frame.clause = Clause::Target;
            }
            Word::Returning => {
                self.frame.clause = Clause::Target;
                self.note(Flags::HAS_RETURNING);
            }
            Word::From => self.from(),
            Word::As if self.frame.clause == Clause::Target && self.names_a_column() => {
                self.at += 1;
                return;
            }
            Word::As if self.frame.clause == Clause::From && self.names_a_column() => return,
            Word::Asc | Word::Outer => return,
            Word::Inner if self.next_word() == Word::Join => return,
            Word::Interval | Word::Time | Word::Timestamp | Word::Timestamptz | Word::TypeName
                if self.is_typed_string() =>
            {
                return self.typed_string(token);
            }
            Word::Timestamp | Word::Timestamptz | Word::Overriding | Word::Exclude => return self.spelling(token),
            Word::Order | Word::Group if self.next_word() == Word::By => {
                let positions = self.frame.query || self.outermost();
                self.frame.clause = if positions { Clause::By } else { Clause::Other };
            }
            Word::Values => self.frame.clause = Clause::Values,
            Word::Where | Word::Having | Word::Window | Word::Union | Word::Except | Word::Intersect => {
                self.frame.clause = Clause::Other;
            }
            Word::Any | Word::Some => self.any(),
            _ => self.rare_keyword(token),
        }
        self.keep(token);
    }

    fn rare_keyword(&mut self, token: Token) {
        match token.word {
            Word::Limit => self.ends_clause(Flags::HAS_LIMIT),
            Word::Fetch if self.at > 0 => self.ends_clause(Flags::HAS_LIMIT),
            Word::Offset => self.ends_clause(Flags::HAS_OFFSET),
            Word::For if matches!(self.next_word(), Word::Update | Word::Share | Word::No | Word::Key) => {
                self.ends_clause(Flags::LOCKS_ROWS);
            }
            Word::Skip if self.next_word() == Word::Locked => self.note(Flags::SKIP_LOCKED),
            Word::Join => self.note(Flags::JOINS),
            Word::Into if self.class == Class::Select && self.frame.clause == Clause::Target => {
                self.ends_clause(if self.only_wrapped() { Flags::SELECT_INTO } else { Flags::NONE });
            }
            Word::With => self.frame.with = true,
            Word::Insert | Word::Update | Word::Delete | Word::Merge => {
                let first = self.previous().is_some_and(|token| token.is(OPEN));
                if !self.outermost() && (first || self.frame.with) {
                    self.note(Flags::CTE_WRITES);
                }
            }
            Word::Unnest if self.next_is(OPEN) && self.peek(2).is_some_and(|token| token.kind == Kind::Parameter) => {
                self.note(Flags::BATCHED);
            }
            word if word.is_session_call() => self.noticed.session_call = true,
            word if word.lists_statements() => self.noticed.statement_names = true,
            _ => {}
        }
    }

    fn ends_clause(&mut self, flags: Flags) {
        self.frame.clause = Clause::Other;
        self.note(flags);
    }

    /// FROM begins a clause in a query and in DELETE; in `IS DISTINCT FROM` and `extract(year FROM x)` it does not.
    fn from(&mut self) {
        if self.previous_word() == Word::Distinct || !(self.frame.query || self.outermost()) {
            return;
        }
        self.frame.clause = Clause::From;
        // An arm of a set operation may stand in parentheses; a subquery of the list does not count.
        if self.outermost() || self.frames.iter().all(|frame| matches!(frame.clause, Clause::Start | Clause::Other)) {
            self.note(Flags::HAS_FROM);
        }
    }

    fn names_a_column(&self) -> bool {
        self.peek(1).is_some_and(|token| matches!(token.kind, Kind::Word | Kind::Quoted))
    }

    /// `= ANY (…)` of anything but a subquery asks for many keys at once.
    fn any(&mut self) {
        let equal = self.previous().is_some_and(|token| token.is(EQUAL));
        let inner = self.peek(2).map_or(Word::None, |token| token.word);
        if equal && self.next_is(OPEN) && !matches!(inner, Word::Select | Word::With | Word::Values | Word::Table) {
            self.note(Flags::BATCHED);
        }
    }

    /// TRUE, FALSE and NULL are constants, but not in `IS NULL` or in a definition's NOT NULL and SET NULL.
    fn word_constant(&mut self, token: Token) {
        let previous = self.previous_word();
        if matches!(previous, Word::Is | Word::Set) || (previous == Word::Not && self.not_is_part()) {
            return self.keep(token);
        }
        let kind = if token.word == Word::Null { LiteralKind::Null } else { LiteralKind::Bool };
        self.literal(token.start, token.end, kind);
    }

    /// Whether the NOT before this word belongs to IS NOT or NOT NULL.
    fn not_is_part(&self) -> bool {
        let before = self.at.checked_sub(2).and_then(|at| self.tokens.get(at));
        before.is_some_and(|token| token.word == Word::Is) || !self.class.is_planned()
    }

    fn literal(&mut self, start: u32, end: u32, kind: LiteralKind) {
        self.literals.push(Literal { span: Span { start, end }, kind });
        let form = self.form();
        self.sink.constant(form);
    }

    fn constant(&mut self, token: Token) {
        if token.kind == Kind::Number && self.frame.clause == Clause::By && self.is_position(token) {
            return self.keep(token);
        }
        self.typed(token);
        self.literal(token.start, token.end, kind_of(token));
    }

    /// A constant that stands alone in the list decides which function or operator is meant (`x -> 1`, `x -> 'a'`);
    /// elsewhere a column's type decides, and the constant is converted to it.
    fn typed(&mut self, token: Token) {
        if self.decides_by_type() {
            let whole = token.of(self.sql).iter().all(u8::is_ascii_digit);
            let cast = self.frame.clause == Clause::Start && self.peek(1).is_some_and(|next| next.is(CAST));
            self.sink.typed(match token.kind {
                _ if cast => return,
                Kind::Number if whole => 1,
                Kind::Number => 2,
                // An argument in quotes takes the type that its function wants.
                _ if self.frame.clause == Clause::Start => return,
                _ => 3,
            });
        }
    }

    /// Whether the walk is in the list of results of a query, or in the arguments of a function there.
    fn decides_by_type(&self) -> bool {
        let list = self.frame.clause == Clause::Target || (self.frame.typed && self.frame.clause == Clause::Start);
        list && self.class == Class::Select
    }

    /// A bare integer in ORDER BY or GROUP BY names a column of the list.
    fn is_position(&self, token: Token) -> bool {
        let begins = self.previous_word() == Word::By || self.previous().is_some_and(|token| token.is(COMMA));
        let ends = self.peek(1).is_none_or(|next| match next.kind {
            Kind::Word => true,
            Kind::Symbol => next.is(COMMA) || next.is(CLOSE),
            _ => false,
        });
        begins && ends && token.of(self.sql).iter().all(u8::is_ascii_digit)
    }

    fn parameter(&mut self, token: Token) {
        self.noticed.parameters = self.noticed.parameters.max(number_of(token.of(self.sql)));
        let form = self.form();
        self.sink.parameter(self.sql, token, form);
    }

    fn quoted(&mut self, token: Token) {
        // A quoted function name may be one of those that change the session.
        // What is written by numbers of characters may be anything, also where UESCAPE stands between name and parenthesis.
        let coded = matches!(token.of(self.sql), [b'u' | b'U', b'&', ..]);
        self.noticed.session_call |= coded || self.next_is(OPEN);
        self.noticed.statement_names |= coded || token.of(self.sql).starts_with(b"\"pg_prepared");
        self.keep(token);
    }

    #[inline(always)]
    fn comma(&mut self, comma: Token) {
        self.frame.commas += 1;
        if self.frame.clause == Clause::From && self.frame.query {
            self.note(Flags::JOINS);
        }
        self.keep(comma);
    }

    /// A minus before a number that follows no operand belongs to the number; not so before a cast, which binds
    /// tighter than the sign.
    fn is_sign(&self) -> bool {
        let number = self.peek(1).is_some_and(|token| token.kind == Kind::Number);
        number && !self.peek(2).is_some_and(|token| token.is(CAST)) && !self.previous().is_some_and(is_operand)
    }

    fn signed(&mut self, minus: Token) {
        self.at += 1;
        if let Some(number) = self.tokens.get(self.at).copied() {
            self.typed(number);
            self.literal(minus.start, number.end, LiteralKind::Number);
        }
    }

    fn open(&mut self, token: Token) {
        if self.wraps_a_query() {
            let inner = Frame { hidden: true, ..Frame::default() };
            self.frames.push(std::mem::replace(&mut self.frame, inner));
            return;
        }
        let before = self.previous_word();
        let list = before == Word::In || (before == Word::Array && token.is(OPEN_BRACKET));
        if list && self.squash(token) {
            return;
        }
        if self.wraps_a_constant() {
            self.at += 1;
            match self.tokens.get(self.at).copied() {
                Some(minus) if minus.is(MINUS) => self.signed(minus),
                Some(constant) => self.constant(constant),
                None => {}
            }
            self.at += 1;
            return;
        }
        self.keep(token);
        if before == Word::Extract && self.peek(2).is_some_and(|token| token.word == Word::From) {
            // The field of EXTRACT is an argument like any other: the server makes a string of it.
            self.at += 1;
            let form = self.form();
            self.sink.constant(form);
        }
        let typed = self.decides_by_type();
        let inner = Frame { members: before == Word::In, typed, ..Frame::default() };
        self.frames.push(std::mem::replace(&mut self.frame, inner));
    }

    fn close(&mut self, token: Token) {
        if self.frame.members && !self.frame.query && self.frame.commas >= 2 {
            self.note(Flags::BATCHED);
        }
        if !self.frame.hidden {
            self.keep(token);
        }
        let muted_row = self.frame.muted_row;
        if let Some(outer) = self.frames.pop() {
            self.frame = outer;
        }
        if muted_row || self.frame.clause == Clause::Values {
            self.next_row(muted_row);
        }
    }
}

/// The number of `$n`; 0 where it is none that a parameter can have.
fn number_of(parameter: &[u8]) -> u16 {
    let digits = parameter.get(1..).unwrap_or_default();
    let more = |number: u16, digit: &u8| number.checked_mul(10)?.checked_add(u16::from(digit.wrapping_sub(b'0')));
    digits.iter().try_fold(0, more).unwrap_or(0)
}

fn is_constant(token: Token) -> bool {
    matches!(token.kind, Kind::Number | Kind::String | Kind::Bits)
        || matches!(token.word, Word::True | Word::False | Word::Null)
}

fn kind_of(token: Token) -> LiteralKind {
    match token.kind {
        Kind::Number => LiteralKind::Number,
        Kind::Bits => LiteralKind::Bits,
        Kind::Word if token.word == Word::Null => LiteralKind::Null,
        Kind::Word => LiteralKind::Bool,
        _ => LiteralKind::String,
    }
}

/// Whether a minus behind `token` subtracts.
fn is_operand(token: Token) -> bool {
    match token.kind {
        Kind::Word => token.word.ends_operand(),
        Kind::Symbol => token.is(CLOSE) || token.is(CLOSE_BRACKET),
        _ => true,
    }
}

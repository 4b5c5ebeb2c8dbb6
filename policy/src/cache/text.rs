//! A text's tokens with what the cache asks of them. They are the lexer's; nothing here looks for bytes.

use std::cell::OnceCell;

use super::catalog::Name;
use crate::lexer::decode::Arena;
use crate::lexer::{self, Kind, Token, Word, symbol};
use crate::statement::MAX_ANALYSED;

pub(super) const OPEN: u64 = symbol("(");
pub(super) const CLOSE: u64 = symbol(")");
pub(super) const DOT: u64 = symbol(".");
pub(super) const COMMA: u64 = symbol(",");
pub(super) const CAST: u64 = symbol("::");
pub(super) const SEMICOLON: u64 = symbol(";");

/// A text, cut.
pub(super) struct Text<'a> {
    pub(super) sql: &'a [u8],
    pub(super) tokens: Vec<Token>,
    /// A quote or a comment has no end, or the text is longer than what is looked at.
    pub(super) broken: bool,
    closing: OnceCell<Vec<u32>>,
    conflict: OnceCell<bool>,
}

/// A parenthesis that is not closed, or what is none.
const NEVER: u32 = u32::MAX;
/// A name has no more parts: what has is no name of a table or function.
const MAX_PARTS: usize = 16;

impl<'a> Text<'a> {
    /// Cuts a text in which plain strings have no escapes.
    pub(super) fn new(sql: &'a [u8]) -> Self {
        let mut tokens = Vec::new();
        let seen = sql.get(..MAX_ANALYSED).unwrap_or(sql);
        let scan = lexer::scan(seen, true, &mut tokens);
        // A name with a UESCAPE of its own is not read.
        let escapes = |pair: &[Token]| {
            matches!(pair, [name, word] if name.kind == Kind::Quoted
                && matches!(name.of(seen), [b'u' | b'U', b'&', ..])
                && word.says(symbol("uescape")))
        };
        let broken = scan.unterminated || seen.len() < sql.len() || tokens.windows(2).any(escapes);
        Self { sql, tokens, broken, closing: OnceCell::new(), conflict: OnceCell::new() }
    }

    pub(super) fn get(&self, at: usize) -> Option<Token> {
        self.tokens.get(at).copied()
    }

    pub(super) fn word(&self, at: usize) -> Word {
        self.get(at).map_or(Word::None, |token| token.word)
    }

    pub(super) fn is(&self, at: usize, symbol: u64) -> bool {
        self.get(at).is_some_and(|token| token.is(symbol))
    }

    /// The token so far before this one.
    pub(super) fn before(&self, at: usize, back: usize) -> Option<Token> {
        at.checked_sub(back).and_then(|at| self.get(at))
    }

    pub(super) fn word_before(&self, at: usize, back: usize) -> Word {
        self.before(at, back).map_or(Word::None, |token| token.word)
    }

    /// Whether it is this word without quotes.
    pub(super) fn says(&self, at: usize, word: &str) -> bool {
        self.get(at).is_some_and(|token| self.token_says(token, word))
    }

    pub(super) fn token_says(&self, token: Token, word: &str) -> bool {
        token.kind == Kind::Word && token.of(self.sql).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether one of these words stands there without quotes.
    pub(super) fn says_one_of(&self, at: usize, words: &[&str]) -> bool {
        let token = self.get(at).filter(|token| token.kind == Kind::Word);
        token.is_some_and(|token| words.iter().any(|word| token.of(self.sql).eq_ignore_ascii_case(word.as_bytes())))
    }

    pub(super) fn is_name(&self, at: usize) -> bool {
        self.get(at).is_some_and(|token| matches!(token.kind, Kind::Word | Kind::Quoted))
    }

    /// The name that stands there, folded or unquoted.
    pub(super) fn name(&self, at: usize) -> Option<String> {
        let token = self.get(at).filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted))?;
        let mut bytes = Vec::new();
        Arena(&mut bytes).name(self.sql, token);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a string constant says.
    pub(super) fn string(&self, at: usize) -> Option<String> {
        let token = self.get(at).filter(|token| token.kind == Kind::String)?;
        let mut bytes = Vec::new();
        Arena(&mut bytes).string(self.sql, token);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The dotted name that begins there, and what is behind it.
    pub(super) fn qualified(&self, at: usize) -> Option<(Name, usize)> {
        let mut name = Name { schema: None, name: self.name(at)? };
        let mut next = at + 1;
        for _ in 0..=MAX_PARTS {
            if !self.is(next, DOT) || !self.is_name(next + 1) {
                break;
            }
            name = Name { schema: Some(name.name), name: self.name(next + 1)? };
            next += 2;
        }
        Some((name, next))
    }

    /// Where the dotted name begins whose last part is there.
    pub(super) fn beginning(&self, mut at: usize) -> usize {
        for _ in 0..MAX_PARTS {
            if at < 2 || !self.is(at - 1, DOT) || !self.is_name(at - 2) {
                break;
            }
            at -= 2;
        }
        at
    }

    /// The parenthesis that closes the one there. All are found at once, when the first is asked for: whoever asks for each
    /// of many that stand in each other would else read the text as often.
    pub(super) fn closing(&self, open: usize) -> Option<usize> {
        let closing = self.closing.get_or_init(|| {
            let (mut closing, mut inside) = (vec![NEVER; self.tokens.len()], Vec::new());
            for (at, token) in self.tokens.iter().enumerate() {
                if token.is(OPEN) {
                    inside.push(at);
                } else if token.is(CLOSE)
                    && let Some(place) = inside.pop().and_then(|open| closing.get_mut(open))
                {
                    *place = u32::try_from(at).unwrap_or(NEVER);
                }
            }
            closing
        });
        closing.get(open).copied().filter(|at| *at != NEVER).map(|at| at as usize)
    }

    /// Whether this word stands in it without quotes, wherever. Asked for one word alone.
    pub(super) fn holds_conflict(&self) -> bool {
        *self.conflict.get_or_init(|| (0..self.tokens.len()).any(|at| self.says(at, "conflict")))
    }

    /// The name of the function that is called there, if one is: a name right before a parenthesis that is neither a
    /// construct of the language, a type's, a list of columns nor a member of a WITH. In doubt it is a call.
    pub(super) fn call(&self, at: usize) -> Option<Name> {
        if !self.is_name(at) || !self.is(at + 1, OPEN) {
            return None;
        }
        let first = self.beginning(at);
        let plain = first == at && self.get(at).is_some_and(|token| token.kind == Kind::Word);
        if plain && self.says_one_of(at, CONSTRUCTS) {
            return None;
        }
        let typed = self.before(first, 1).is_some_and(|before| before.is(CAST));
        let named =
            matches!(self.word_before(first, 1), Word::As | Word::Into | Word::Execute | Word::Prepare | Word::Copy);
        if typed || named || self.names_a_member(at) {
            return None;
        }
        self.qualified(first).map(|(name, _)| name)
    }

    /// A member of a WITH: `name (columns) AS [NOT MATERIALIZED] (SELECT …`. A function in FROM may have a parenthesis
    /// behind AS as well, with names and types of columns in it: only what cannot be one of these makes a member.
    fn names_a_member(&self, at: usize) -> bool {
        let listed = self.before(at, 1).is_some_and(|before| before.is(COMMA));
        if !listed && !matches!(self.word_before(at, 1), Word::With | Word::Recursive) {
            return false;
        }
        let Some(close) = self.closing(at + 1).filter(|close| self.word(close + 1) == Word::As) else { return false };
        let body = match (self.word(close + 2), self.word(close + 3)) {
            (Word::Materialized, _) => close + 3,
            (Word::Not, Word::Materialized) => close + 4,
            _ => close + 2,
        };
        self.is(body, OPEN)
            && match self.word(body + 1) {
                Word::Select | Word::With | Word::Table => true,
                Word::Insert | Word::Merge => self.word(body + 2) == Word::Into,
                Word::Delete => self.word(body + 2) == Word::From,
                Word::Values => self.is(body + 2, OPEN),
                _ => self.is(body + 1, OPEN),
            }
    }
}

/// Words that stand before a parenthesis and cannot be functions' names without quotes, and constructs whose functions are
/// certainly immutable.
#[rustfmt::skip]
const CONSTRUCTS: &[&str] = &[
    "all", "and", "any", "array", "as", "between", "bit", "case", "cast", "character", "coalesce", "dec", "decimal",
    "distinct", "do", "else", "end", "except", "exists", "fetch", "float", "from", "greatest", "group", "grouping",
    "having", "in", "intersect", "interval", "lateral", "least", "limit", "nchar", "not", "nullif", "numeric",
    "offset", "on", "only", "or", "overlay", "position", "precision", "returning", "row", "select", "some",
    "substring", "table", "then", "time", "timestamp", "to", "trim", "union", "using", "values", "when", "where",
    "with",
];

/// Words that stand before a parenthesis and may be functions' names as well: a call where there is such a function.
#[rustfmt::skip]
const AMBIGUOUS: &[&str] = &[
    "assert", "by", "conflict", "cube", "elseif", "elsif", "escape", "explain", "filter", "first", "if", "ilike",
    "insert", "is", "join", "like", "loop", "materialized", "next", "over", "partition", "recursive", "return",
    "rollup", "rows", "set", "sets", "similar", "varying", "while", "within",
];

/// Whether a name before a parenthesis is a function's only where there is a function of that name.
pub(super) fn may_be_a_construct(name: &Name) -> bool {
    name.schema.is_none() && AMBIGUOUS.contains(&name.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client may make of a text must not hold its worker up: each of these took as many steps as the square of its
    /// length, minutes in all.
    #[test]
    fn texts_that_are_made_to_take_long_do_not() {
        let began = std::time::Instant::now();
        let most = MAX_ANALYSED - 16;
        for (head, again) in [
            ("select ", "a(,"),
            ("with ", "a("),
            ("select a", ".a"),
            ("select ", "((("),
            ("", "insert into t values (1);"),
            ("select ", "a(),"),
        ] {
            let sql = head.to_owned() + &again.repeat((most - head.len()) / again.len());
            let acts = crate::cache::catalog::Acts::of(sql.as_bytes());
            assert!(acts.calls.len() < sql.len());
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    }

    fn calls(sql: &str) -> String {
        let text = Text::new(sql.as_bytes());
        let calls = (0..text.tokens.len()).filter_map(|at| text.call(at)).filter(|name| !may_be_a_construct(name));
        let shown = calls.map(|name| match name.schema {
            Some(schema) => format!("{schema}.{}", name.name),
            None => name.name,
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn calls_are_told_from_what_looks_like_them() {
        for (sql, expected) in [
            ("select count(*), lower(a) from t where b in (1, 2) and exists (select 1)", "count lower"),
            ("select a::varchar(10), cast(b as numeric(10, 2)), c::pg_catalog.bpchar(3) from t", ""),
            ("select pg_catalog.now(), \"Mixed\".\"Fn\"(1), NOW ()", "pg_catalog.now Mixed.Fn now"),
            ("select \"in\"(1), \"coalesce\"(2)", "in coalesce"),
            ("select s.coalesce(1)", "s.coalesce"),
            ("with x (a, b) as (select 1, 2), y(c) as materialized (select f(3)) select * from x", "f"),
            ("with z(a) as not materialized (select 1) select g(a) as (b) from z", "g"),
            ("select sum(a) over (partition by b), max(a) filter (where c) from t group by cube (a)", "sum max"),
            ("insert into t (a, b) values (f(1), 2) on conflict (a) do update set (a, b) = (1, g(2))", "f g"),
            ("insert into s.t as u (a) select 1", ""),
            (
                "select * from (select 1) as q(a), generate_series(1, 2) as g(n), lateral unnest(x) u",
                "generate_series unnest",
            ),
            ("select * from f(1) with ordinality", "f"),
            ("select f(a) as n, g (b) as m", "f g"),
        ] {
            assert_eq!(calls(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_may_be_a_call_is_one_as_far_as_the_text_says() {
        let text = Text::new(b"select if(a), next (b), s.first(c) from t where d like (e)");
        let calls: Vec<_> = (0..text.tokens.len()).filter_map(|at| text.call(at)).collect();
        let shown: Vec<_> = calls.iter().map(|name| (name.name.as_str(), may_be_a_construct(name))).collect();
        assert_eq!(shown, [("if", true), ("next", true), ("first", false), ("like", true)]);
    }

    #[test]
    fn broken_texts_say_so() {
        assert!(Text::new(b"select 'a").broken && Text::new(b"select /* a").broken);
        assert!(Text::new(&vec![b' '; MAX_ANALYSED + 1]).broken);
        assert!(!Text::new(b"select ((").broken);
        for sql in ["(", "f(", "a.", ".", "a.b.c(", "::(", "f((", "))", "with x(", ""] {
            let text = Text::new(sql.as_bytes());
            for at in 0..4 {
                drop((text.call(at), text.qualified(at), text.closing(at), text.string(at), text.beginning(at)));
            }
        }
    }
}

//! Two spellings of the same: typed strings, parentheses that group nothing, words that say what holds anyway.

use super::{CAST, CLOSE, COMMA, DOT, MINUS, NOT_TYPES, OPEN, OTHERS, VALUE, Walk, is_constant, is_operand};
use crate::fingerprint::sink::Sink;
use crate::lexer::{Kind, Nature, Step, Token, Word, swar, symbol};

const SYMBOL: Nature = Nature::new(Kind::Symbol, Word::None, Step::Plain);

/// The nature of a word that is kept.
const fn word(word: Word) -> Nature {
    Nature::new(Kind::Word, word, Step::Plain)
}

impl<S: Sink> Walk<'_, S> {
    /// Whether a type's name stands before a string: `date '2026-01-01'`.
    #[inline]
    pub(super) fn is_typed_string(&self) -> bool {
        self.peek(1).is_some_and(|next| next.kind == Kind::String) && self.class.is_planned()
    }

    /// `date '…'` is another spelling of `'…'::date`.
    #[cold]
    pub(super) fn typed_string(&mut self, name: Token) {
        if self.previous().is_some_and(|token| token.is(DOT)) || NOT_TYPES.contains(&name.key) {
            return self.keep(name);
        }
        self.at += 1;
        if let Some(string) = self.tokens.get(self.at).copied() {
            self.constant(string);
            self.keep(Token { key: CAST, nature: SYMBOL, end: name.start + 2, ..name });
            if name.word == Word::Timestamptz { self.zoned(name) } else { self.keep(name) }
        }
    }

    /// Words that only spell out what is meant anyway, or that have a shorter spelling.
    #[cold]
    pub(super) fn spelling(&mut self, token: Token) {
        let says = |ahead, word| self.peek(ahead).is_some_and(|token| token.says(word));
        let word = |ahead| self.peek(ahead).map_or(Word::None, |token| token.word);
        match token.word {
            // Which of the two values wins shows in nothing that is planned.
            Word::Overriding if says(2, VALUE) => self.at += 2,
            Word::Exclude if word(1) == Word::No && says(2, OTHERS) => self.at += 2,
            Word::Timestamp if word(1) == Word::With && word(2) == Word::Time && self.is_zoned_string() => {
                self.zoned_string(token);
            }
            Word::Timestamptz => self.zoned(token),
            _ => self.keep(token),
        }
    }

    /// Whether `timestamp with time zone '…'` stands here.
    pub(super) fn is_zoned_string(&self) -> bool {
        self.peek(3).is_some_and(|token| token.word == Word::Zone)
            && self.peek(4).is_some_and(|token| token.kind == Kind::String)
    }

    pub(super) fn zoned_string(&mut self, name: Token) {
        self.at += 4;
        if let Some(string) = self.tokens.get(self.at).copied() {
            self.constant(string);
            self.keep(Token { key: CAST, nature: SYMBOL, end: name.start + 2, ..name });
            self.zoned(name);
        }
    }

    /// `timestamptz` in full.
    pub(super) fn zoned(&mut self, name: Token) {
        let end = name.start + "timestamp".len() as u32;
        self.keep(Token { key: swar::word_key(b"timestamp"), end, nature: word(Word::Timestamp), ..name });
        for (key, it) in [(symbol("with"), Word::With), (symbol("time"), Word::Time), (symbol("zone"), Word::Zone)] {
            self.keep(Token { key, end: name.start + 4, nature: word(it), ..name });
        }
    }

    /// Whether these parentheses are around the statement or an arm of a set operation.
    pub(super) fn wraps_a_query(&self) -> bool {
        match self.previous() {
            None => true,
            Some(token) if token.is(OPEN) => self.frame.hidden,
            Some(token) => matches!(token.word, Word::Union | Word::Except | Word::Intersect),
        }
    }

    /// Whether these parentheses hold nothing but a constant and call nothing: `2 * (3)`.
    pub(super) fn wraps_a_constant(&self) -> bool {
        let sign = usize::from(self.next_is(MINUS));
        let inner = self.peek(1 + sign).is_some_and(is_constant);
        if !inner || !self.peek(2 + sign).is_some_and(|token| token.is(CLOSE)) {
            return false;
        }
        self.previous().is_some_and(|token| match token.kind {
            Kind::Symbol => !is_operand(token) && !token.is(COMMA),
            Kind::Word => matches!(token.word, Word::Select | Word::And | Word::Or | Word::Not | Word::Where),
            _ => false,
        })
    }
}

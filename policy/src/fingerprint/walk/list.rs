//! Lists: IN, ARRAY, rows of VALUES. The strict form counts their members (until 18), the family does not.

use super::{
    CAST, CLOSE, CLOSE_BRACKET, COMMA, Clause, DOT, Frame, MINUS, OPEN, OPEN_BRACKET, Walk, is_constant, kind_of,
    number_of,
};
use crate::fingerprint::Compat;
use crate::fingerprint::sink::{Form, Sink};
use crate::lexer::{Kind, Step, Token};
use crate::statement::{Flags, Literal, Span};

impl<S: Sink> Walk<'_, S> {
    /// Behind a row of VALUES: the family sees the first row only.
    pub(super) fn next_row(&mut self, was_muted: bool) {
        let more = self.frame.clause == Clause::Values
            && self.next_is(COMMA)
            && self.peek(2).is_some_and(|token| token.is(OPEN));
        if more && (was_muted || !self.muted) {
            self.muted = true;
            for _ in 0..2 {
                self.at += 1;
                if let Some(token) = self.tokens.get(self.at).copied() {
                    self.keep(token);
                }
            }
            let inner = Frame { muted_row: true, ..Frame::default() };
            self.frames.push(std::mem::replace(&mut self.frame, inner));
        } else if was_muted {
            self.muted = false;
        }
    }

    /// Takes a list of nothing but constants and parameters at once, if it is one; the family, and the strict form of
    /// 18 from two members on, do not count them.
    pub(super) fn squash(&mut self, open: Token) -> bool {
        if self.compat != Compat::V18 && self.constants(open) {
            return true;
        }
        let Some((close, members)) = self.plain_list() else { return false };
        if members >= 3 && open.is(OPEN) {
            self.note(Flags::BATCHED);
        }
        self.keep(open);
        if self.compat == Compat::V18 && members >= 2 {
            let form = self.form();
            self.sink.list(form);
            self.record(close);
        } else {
            self.members_of_list(close);
        }
        self.at = close;
        if let Some(token) = self.tokens.get(close).copied() {
            self.keep(token);
        }
        true
    }

    /// The same for a list of constants alone, as most long ones are: each is recorded while it is made sure of.
    fn constants(&mut self, open: Token) -> bool {
        let known = self.literals.len();
        let (pairs, _) = self.tokens.get(self.at + 1..).unwrap_or_default().as_chunks();
        let mut members = 0;
        let mut closed = false;
        for [value, mark] in pairs {
            if value.step != Step::Constant {
                break;
            }
            members += 1;
            self.literals.push(Literal { span: Span { start: value.start, end: value.end }, kind: kind_of(*value) });
            if mark.step != Step::Comma {
                closed = mark.step == Step::Close;
                break;
            }
        }
        if !closed {
            self.literals.truncate(known);
            return false;
        }
        if members >= 3 && open.is(OPEN) {
            self.note(Flags::BATCHED);
        }
        self.keep(open);
        if !self.muted {
            self.sink.list(Form::Family);
        }
        self.sink.members(members);
        self.at += 2 * members as usize;
        if let Some(close) = self.tokens.get(self.at).copied() {
            self.keep(close);
        }
        true
    }

    pub(super) fn members_of_list(&mut self, close: usize) {
        let muted = std::mem::replace(&mut self.muted, true);
        if !muted {
            self.sink.list(Form::Family);
        }
        self.at += 1;
        while self.at < close {
            match self.tokens.get(self.at).copied() {
                Some(token) if is_constant(token) => match token.kind {
                    Kind::Word => self.word_constant(token),
                    _ => self.literal(token.start, token.end, kind_of(token)),
                },
                Some(token) if token.kind == Kind::Parameter => self.parameter(token),
                Some(token) if token.is(MINUS) && self.is_sign() => self.signed(token),
                Some(token) => self.keep(token),
                None => break,
            }
            self.at += 1;
        }
        self.muted = muted;
    }

    /// Records the constants and parameters up to the token `end` without keeping them.
    pub(super) fn record(&mut self, end: usize) {
        for index in self.at..end {
            let Some(token) = self.tokens.get(index).copied() else { return };
            if is_constant(token) {
                let minus = self.tokens.get(index.wrapping_sub(1)).copied().filter(|token| token.is(MINUS));
                let start = minus.map_or(token.start, |minus| minus.start);
                self.literals.push(Literal { span: Span { start, end: token.end }, kind: kind_of(token) });
            } else if token.kind == Kind::Parameter {
                self.noticed.parameters = self.noticed.parameters.max(number_of(token.of(self.sql)));
            }
        }
    }

    /// The list that opens here, if all of its members are `[-] constant [:: type]` or `$n [:: type]`: the token that
    /// closes it and the number of members.
    pub(super) fn plain_list(&self) -> Option<(usize, u32)> {
        let mut at = self.at + 1;
        let mut members = 0;
        loop {
            if self.tokens.get(at)?.is(MINUS) {
                at += 1;
            }
            let value = self.tokens.get(at)?;
            if !is_constant(*value) && value.kind != Kind::Parameter {
                return None;
            }
            members += 1;
            at += 1;
            while self.tokens.get(at)?.is(CAST) {
                at += 1;
                at = self.type_end(at)?;
            }
            match self.tokens.get(at)? {
                next if next.is(COMMA) => at += 1,
                next if next.is(CLOSE) || next.is(CLOSE_BRACKET) => return Some((at, members)),
                _ => return None,
            }
        }
    }

    /// The token behind a type's name `a.b[]` at `at`.
    pub(super) fn type_end(&self, mut at: usize) -> Option<usize> {
        while matches!(self.tokens.get(at)?.kind, Kind::Word | Kind::Quoted) {
            at += 1;
            if self.tokens.get(at)?.is(DOT) {
                at += 1;
            }
        }
        if self.tokens.get(at)?.is(OPEN_BRACKET) && self.tokens.get(at + 1)?.is(CLOSE_BRACKET) {
            at += 2;
        }
        Some(at)
    }

    /// The rest of the statement from `from` on is a value.
    pub(super) fn value(&mut self, from: usize) {
        self.at = from;
        self.record(self.tokens.len());
        let form = self.form();
        self.sink.constant(form);
    }
}

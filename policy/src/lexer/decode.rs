//! What names and strings say once their quotes and escapes are resolved.

use super::quote::{closing, dollar_tag, line_end};
use super::{Kind, Token};
use crate::statement::Text;

/// PostgreSQL cuts identifiers here (NAMEDATALEN − 1).
const MAX_NAME: usize = 63;

/// Where decoded bytes are put.
pub(crate) struct Arena<'a>(pub(crate) &'a mut Vec<u8>);

impl Arena<'_> {
    /// The bytes behind `text`.
    pub(crate) fn bytes(&self, text: Text) -> &[u8] {
        self.0.get(text.start as usize..text.end as usize).unwrap_or_default()
    }

    /// A copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Text {
        self.write(|out| out.extend_from_slice(bytes))
    }

    /// An identifier, folded or unquoted, and cut as the server does.
    pub(crate) fn name(&mut self, sql: &[u8], token: Token) -> Text {
        let mut text = self.write(|out| decode_name(token, token.of(sql), out));
        let cut = cut_at(self.bytes(text));
        text.end = text.start + cut as u32;
        self.0.truncate(text.end as usize);
        text
    }

    /// The dotted name of a setting: setting names do not distinguish case, quoted or not.
    pub(crate) fn setting(&mut self, sql: &[u8], tokens: &[Token]) -> Text {
        let start = self.0.len() as u32;
        for token in tokens {
            if token.kind == Kind::Symbol {
                self.copy(b".");
            } else {
                self.name(sql, *token);
            }
        }
        let text = Text { start, end: self.0.len() as u32 };
        self.fold(text);
        text
    }

    /// The value of a string constant.
    pub(crate) fn string(&mut self, sql: &[u8], token: Token) -> Text {
        self.write(|out| decode_string(token.of(sql), out))
    }

    /// Makes ASCII letters lower case.
    pub(crate) fn fold(&mut self, text: Text) {
        if let Some(bytes) = self.0.get_mut(text.start as usize..text.end as usize) {
            bytes.make_ascii_lowercase();
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Text {
        let start = self.0.len() as u32;
        write(self.0);
        Text { start, end: self.0.len() as u32 }
    }
}

/// Where a name of more than 63 bytes is cut: not inside of a UTF-8 character.
fn cut_at(name: &[u8]) -> usize {
    let mut at = name.len().min(MAX_NAME);
    while at > 0 && name.get(at).is_some_and(|byte| byte & 0xc0 == 0x80) {
        at -= 1;
    }
    at
}

fn decode_name(token: Token, bytes: &[u8], out: &mut Vec<u8>) {
    if token.kind != Kind::Quoted {
        return out.extend(bytes.iter().map(u8::to_ascii_lowercase));
    }
    match bytes {
        [b'u' | b'U', b'&', rest @ ..] => unicode(inside(rest), b'"', out),
        _ => doubled(inside(bytes), b'"', out),
    }
}

fn decode_string(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes {
        [b'$', ..] => {
            let tag = dollar_tag(bytes).map_or(0, <[u8]>::len);
            let end = bytes.len().saturating_sub(tag).max(tag);
            out.extend_from_slice(bytes.get(tag..end).unwrap_or_default());
        }
        [b'e' | b'E', rest @ ..] => segments(rest, true, |inner| escaped(inner, out)),
        [b'u' | b'U', b'&', rest @ ..] => segments(rest, false, |inner| unicode(inner, b'\'', out)),
        [b'n' | b'N', rest @ ..] | rest => segments(rest, false, |inner| doubled(inner, b'\'', out)),
    }
}

/// The bytes between the first and the last one.
fn inside(quoted: &[u8]) -> &[u8] {
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()
}

/// Hands over the inside of each of the quoted pieces that one constant is made of.
fn segments(mut text: &[u8], escapes: bool, mut each: impl FnMut(&[u8])) {
    while text.first() == Some(&b'\'') {
        let length = closing(text, b'\'', escapes).unwrap_or(text.len());
        each(inside(text.get(..length).unwrap_or_default()));
        text = text.get(length..).unwrap_or_default();
        text = skip_comments(text);
    }
}

fn skip_comments(mut text: &[u8]) -> &[u8] {
    loop {
        let blank = text.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count();
        text = text.get(blank..).unwrap_or_default();
        if !text.starts_with(b"--") {
            return text;
        }
        text = text.get(line_end(text, 0)..).unwrap_or_default();
    }
}

fn doubled(inner: &[u8], quote: u8, out: &mut Vec<u8>) {
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == quote {
            bytes.next();
        }
    }
}

/// `E'…'`: C-like escapes.
fn escaped(inner: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(byte) = inner.get(at) {
        at += 1;
        if *byte == b'\'' {
            at += 1;
            out.push(b'\'');
        } else if *byte == b'\\' {
            at += escape(inner.get(at..).unwrap_or_default(), out);
        } else {
            out.push(*byte);
        }
    }
}

/// One escape without its backslash; answers with its length.
fn escape(text: &[u8], out: &mut Vec<u8>) -> usize {
    let Some(first) = text.first() else { return 0 };
    let (plain, number) = match first {
        b'b' => (8, None),
        b'f' => (12, None),
        b'n' => (b'\n', None),
        b'r' => (b'\r', None),
        b't' => (b'\t', None),
        b'0'..=b'7' => (0, digits(text, 0, 3, 8)),
        b'x' => (b'x', digits(text, 1, 2, 16)),
        b'u' => (b'u', digits(text, 1, 4, 16)),
        b'U' => (b'U', digits(text, 1, 8, 16)),
        other => (*other, None),
    };
    match number {
        Some((value, length)) if matches!(first, b'u' | b'U') => {
            push_char(value, out);
            length
        }
        Some((value, length)) => {
            out.push(value as u8);
            length
        }
        None => {
            out.push(plain);
            1
        }
    }
}

/// A number of at most `most` digits from `from` on, and the position behind it.
fn digits(text: &[u8], from: usize, most: usize, radix: u32) -> Option<(u32, usize)> {
    let run = text.get(from..)?.iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let digits = std::str::from_utf8(text.get(from..from + run)?).ok()?;
    Some((u32::from_str_radix(digits, radix).ok()?, from + run))
}

fn push_char(code: u32, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(char.encode_utf8(&mut buffer).as_bytes());
}

/// `U&'…'` and `U&"…"` with the standard escape character.
fn unicode(inner: &[u8], quote: u8, out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(byte) = inner.get(at) {
        at += 1;
        let rest = inner.get(at..).unwrap_or_default();
        match (*byte, rest.first()) {
            (b'\\', Some(b'\\')) => {
                out.push(b'\\');
                at += 1;
            }
            (b'\\', Some(b'+')) => at += code(rest, 1, 6, out),
            (b'\\', _) => at += code(rest, 0, 4, out),
            (other, _) => {
                out.push(other);
                at += usize::from(other == quote);
            }
        }
    }
}

fn code(text: &[u8], from: usize, length: usize, out: &mut Vec<u8>) -> usize {
    match digits(text, from, length, 16) {
        Some((value, end)) => {
            push_char(value, out);
            end
        }
        None => {
            out.push(b'\\');
            0
        }
    }
}

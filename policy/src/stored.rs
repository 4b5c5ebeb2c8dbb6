//! Texts as `pg_stat_statements` stores them: what they are here.
//!
//! That extension writes `$n` for each constant that it leaves out, numbered in their order behind the highest parameter
//! of the statement. So `a = $1 and b = $2` may have been sent as it stands, or with one constant, or with two, and
//! these are different statements, there as here. All that it may have been is told: whoever looks for an id finds it,
//! and now and then that of a twin.

use crate::fingerprint::Analyser;
use crate::lexer::{self, Kind, Token};

/// Parameters up to which each of them is asked about; of more, that all are parameters or all constants.
const MAX_PARAMETERS: usize = 64;
/// The longest text, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;
/// What PostgreSQL 18 writes behind the first member of a list that it has squashed.
const SQUASHED: &[u8] = b" /*, ... */";
/// What may have stood for a constant: in a list of results the kind decides which statement it is.
const CONSTANTS: [&[u8]; 2] = [b"0", b"'0'"];

/// The strict ids of all statements that may be stored as this text; none of a text that is too long.
///
/// ```
/// use policy::fingerprint::Analyser;
///
/// let mut analyser = Analyser::default();
/// let sent = analyser.analyse(b"select v from t where a = 17 and b = 'x'").strict;
/// let stored = policy::stored::strict_ids(&mut analyser, b"select v from t where a = $1 and b = $2");
/// assert!(stored.contains(&sent));
/// ```
pub fn strict_ids(analyser: &mut Analyser, text: &[u8]) -> Vec<u64> {
    if text.len() > MAX_TEXT {
        return Vec::new();
    }
    let mut tokens = Vec::new();
    lexer::scan(text, true, &mut tokens);
    let slots: Vec<Slot> = tokens.iter().filter_map(|token| Slot::of(*token, text)).collect();
    let highest = slots.iter().map(|slot| slot.number).max().unwrap_or(0);
    let mut ids = vec![analyser.analyse(text).strict];
    let counts = if highest > MAX_PARAMETERS { 0..1 } else { 0..highest };
    for parameters in counts.filter(|parameters| are_constants(&slots, *parameters, highest)) {
        for constant in CONSTANTS {
            ids.push(analyser.analyse(&sent(text, &slots, parameters, constant)).strict);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A `$n` in the text.
struct Slot {
    number: usize,
    start: usize,
    end: usize,
}

impl Slot {
    fn of(token: Token, text: &[u8]) -> Option<Self> {
        let digits = token.of(text).strip_prefix(b"$").filter(|_| token.kind == Kind::Parameter)?;
        let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Self { number, start: token.start as usize, end: token.end as usize })
    }
}

/// Whether all but the first so many can be constants: each stands there once, and in order.
fn are_constants(slots: &[Slot], parameters: usize, highest: usize) -> bool {
    let others = slots.iter().map(|slot| slot.number).filter(|number| *number > parameters);
    others.eq(parameters + 1..=highest)
}

/// The text with constants for all but the first so many.
fn sent(text: &[u8], slots: &[Slot], parameters: usize, constant: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(text.len() + 2 * slots.len());
    let mut from = 0;
    for slot in slots.iter().filter(|slot| slot.number > parameters) {
        sent.extend_from_slice(text.get(from..slot.start).unwrap_or_default());
        sent.extend_from_slice(constant);
        from = slot.end;
        if text.get(from..).is_some_and(|rest| rest.starts_with(SQUASHED)) {
            sent.extend_from_slice(b", ");
            sent.extend_from_slice(constant);
        }
    }
    sent.extend_from_slice(text.get(from..).unwrap_or_default());
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Compat;

    fn holds(compat: Compat, stored: &str, sent: &str) -> bool {
        let mut analyser = Analyser::new(compat);
        let id = analyser.analyse(sent.as_bytes()).strict;
        strict_ids(&mut analyser, stored.as_bytes()).contains(&id)
    }

    #[test]
    fn a_stored_text_is_found_by_what_was_sent() {
        for (stored, sent) in [
            ("select v from t where a = $1 and b = $2", "SELECT v FROM t WHERE a = 1 AND b = 'x' -- y"),
            ("select v from t where a = $1 and b = $2", "select v from t where a = $1 and b = $2"),
            ("select v from t where a = $1 and b = $2", "select v from t where a = $1 and b = 9"),
            ("select v from t where b = $2 and a = $1", "select v from t where b = 'x' and a = $1"),
            ("select v -> $1 from t", "select v -> 'key' from t"),
            ("select v -> $1 from t", "select v -> 2 from t"),
            ("select \"$1\" from t where d > date $1", "select \"$1\" from t where d > date '2026-01-01'"),
            ("insert into t values ($1, $2, $3)", "insert into t values (-1, null, true)"),
            ("set work_mem = '1MB'", "set work_mem = '2MB'"),
        ] {
            assert!(holds(Compat::V15, stored, sent), "{stored} | {sent}");
        }
        assert!(holds(
            Compat::V18,
            "select v from t where a in ($1 /*, ... */)",
            "select v from t where a in (1, 2, 3)"
        ));
    }

    #[test]
    fn what_it_cannot_have_been_is_not_told() {
        let twice = "select v from t where a = $1 or b = $1";
        assert!(!holds(Compat::V15, twice, "select v from t where a = 1 or b = 1"), "one constant has one number");
        let other = "select v from t where a = $1";
        assert!(!holds(Compat::V15, other, "select v from t where b = 1"));
        let backwards = "select v from t where b = $2 and a = $1";
        assert!(!holds(Compat::V15, backwards, "select v from t where b = 1 and a = 2"), "the first constant is $1");
    }

    #[test]
    fn whatever_is_stored_ends() {
        let many: Vec<String> = (1..=5_000).map(|n| format!("${n}")).collect();
        let stored = format!("select v from t where a in ({})", many.join(", "));
        let sent = format!("select v from t where a in ({})", vec!["7"; 5_000].join(", "));
        assert!(holds(Compat::V15, &stored, &sent));
        let mut analyser = Analyser::default();
        for text in ["", "$", "$99999999999999999999", "$0", "select $1 $1 $3", "'$1", "/* $1"] {
            assert!(!strict_ids(&mut analyser, text.as_bytes()).is_empty());
        }
        assert!(strict_ids(&mut analyser, &[b'x'; MAX_TEXT + 1]).is_empty());
    }
}

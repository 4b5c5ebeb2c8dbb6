//! How the server reads a session's texts: whether plain strings have backslash escapes, and whether the encoding hides
//! where strings end.
//!
//! Both decide where a statement begins. A text that is read here in another way than there may hide a SET, which the
//! upstream would bring to its next client. So what is not understood is not taken for the default: the session's texts
//! count as unreadable, and its upstream is reset before somebody else gets it.

use wire::encoding::is_opaque;
use wire::params::Value;

use super::Session;
use super::effects::{behind_name, plain};
use super::locals::Locals;
use super::script::{Act, Argument};
use crate::upstream::Upstream;

/// The setting that decides where a plain string ends.
pub(super) const ESCAPES: &str = "standard_conforming_strings";
/// The one that decides which of a character's bytes are a backslash.
pub(super) const ENCODING: &str = "client_encoding";

/// What the two come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Plain strings have backslash escapes, or nobody knows whether they have.
    pub(super) escapes: bool,
    /// Texts cannot be read: their encoding hides where strings end, or nobody knows how they are read.
    pub(super) opaque: bool,
}

/// Whether a setting decides how texts are read.
pub(super) fn decides(name: &str) -> bool {
    name == ESCAPES || name == ENCODING
}

/// The one word that a value is, without its quotes; `None`: it is written in a way that may come to something else on the
/// server.
fn word(value: &Value) -> Option<String> {
    let plain = match value {
        Value::Clause(clause) => {
            let clause = std::str::from_utf8(clause).ok()?;
            match clause.split_at_checked(5) {
                Some((names, value))
                    if names.eq_ignore_ascii_case("names") && value.starts_with(|c: char| c.is_ascii_whitespace()) =>
                {
                    let value = value.trim();
                    value.strip_prefix('\'')?.strip_suffix('\'')?.to_owned()
                }
                _ => {
                    let value = behind_name(clause)?;
                    match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
                        Some(quoted) => quoted.replace("''", "'"),
                        None if value.contains(['\'', '$', '/', '"']) => return None,
                        None => value.to_ascii_lowercase(),
                    }
                }
            }
        }
        Value::Plain(_) => plain(value)?.into_owned(),
    };
    let known = plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (known && !plain.is_empty()).then(|| plain.to_ascii_lowercase())
}

/// A boolean as the server reads it: any beginning of a word that is no other word's. `None`: it is none.
fn truth(word: &str) -> Option<bool> {
    let begins = |whole: &str| whole.starts_with(word);
    match word {
        "1" => Some(true),
        "0" => Some(false),
        "" | "o" => None,
        _ if begins("true") || begins("yes") || word == "on" => Some(true),
        _ if begins("false") || begins("no") || begins("off") => Some(false),
        _ => None,
    }
}

/// Whether plain strings have escapes under this value; `None`: that cannot be told.
fn has_escapes(value: &Value) -> Option<bool> {
    word(value).and_then(|word| truth(&word)).map(|standard| !standard)
}

/// Whether an encoding hides where strings end, or may do so.
fn hides_ends(value: &Value) -> bool {
    match value {
        // As a driver says it: asyncpg puts quotes around it, and the server looks at letters and digits alone.
        Value::Plain(bytes) => is_opaque(bytes),
        Value::Clause(_) => word(value).is_none_or(|name| is_opaque(name.as_bytes())),
    }
}

/// Whether texts behind this may be read in another way than those of a usual session before it.
pub(super) fn may_change(act: &Act) -> bool {
    match act {
        Act::Set { name, value, .. } if **name == *ESCAPES => has_escapes(value) != Some(false),
        Act::Set { name, value, .. } if **name == *ENCODING => hides_ends(value),
        Act::SetBound(name, ..) => is_named(name),
        Act::LocalHidden => true,
        _ => false,
    }
}

/// Whether an argument may name one of the two.
pub(super) fn is_named(name: &Argument) -> bool {
    match name {
        Argument::Literal(name) => [ESCAPES, ENCODING].iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name)),
        Argument::Bound(_) => true,
        Argument::Null => false,
    }
}

/// Whether this brings a setting back to the server's own.
fn resets(act: &Act) -> bool {
    match act {
        Act::Reset(name) | Act::ResetLocal(name) => decides(name),
        Act::ResetAll | Act::DiscardAll => true,
        _ => false,
    }
}

impl Session {
    /// How the session's texts are read now, as it was found last.
    #[inline]
    pub(super) fn reading(&self) -> Reading {
        Reading { escapes: self.escapes, opaque: self.opaque }
    }

    /// What its settings say of that, with those of the transaction.
    pub(super) fn read_under(&self, locals: Option<&Locals>) -> Reading {
        let current = self.settings.current();
        let value = |name: &str| match locals.and_then(|locals| locals.find(name)) {
            Some(local) => local,
            None => current.find(name),
        };
        let hidden = locals.is_some_and(Locals::hides);
        let escapes = match value(ESCAPES) {
            Some(value) => has_escapes(value),
            None => Some(self.pool.shared.has_escapes()),
        };
        let escapes = escapes.filter(|_| !hidden);
        let encoding = value(ENCODING).map_or_else(|| self.pool.shared.is_opaque(), hides_ends);
        Reading { escapes: escapes.unwrap_or(true), opaque: encoding || escapes.is_none() }
    }

    /// Statements have run that may have changed how texts are read, which was `before`. What was sent behind them has been
    /// read in the old way: whatever that may have hidden goes with a reset. A RESET brings the server to its own way until
    /// the session's is made again.
    pub(super) fn reading_may_have_changed(&self, upstream: &mut Upstream, before: Reading, acts: &[Act]) {
        let now = self.reading();
        let own = || Reading { escapes: self.pool.shared.has_escapes(), opaque: self.pool.shared.is_opaque() };
        upstream.tainted |= now != before || now.opaque || (acts.iter().any(resets) && before != own());
    }

    /// Whether what runs may change how the text behind it is read.
    #[inline]
    pub(super) fn awaits_reading(&self, upstream: &Upstream) -> bool {
        let scripts = upstream.work.running.iter().filter_map(|running| running.known.script.as_deref());
        let unusual = self.escapes || self.opaque;
        let back = |act: &Act| match act {
            Act::Set { name, .. } => decides(name),
            Act::Rollback | Act::RollbackTo(_) => true,
            Act::Commit => self.locals.is_some(),
            act => resets(act),
        };
        let may =
            |script: &super::script::Script| script.rereads || (unusual && script.parts.iter().flatten().any(back));
        scripts.into_iter().any(may)
    }
}

#[cfg(test)]
mod tests {
    use policy::fingerprint::{Analyser, Compat};

    use super::*;
    use crate::session::script::of;

    fn clause(text: &str) -> Value {
        Value::Clause(text.as_bytes().into())
    }

    #[test]
    fn encodings_with_backslashes_inside_of_characters_are_known_by_every_name() {
        for (text, opaque) in [
            ("NAMES 'SJIS'", true),
            ("names 'utf8'", false),
            ("NAMES\t'UTF-8'", false),
            ("client_encoding TO 'Shift_JIS_2004'", true),
            ("client_encoding = big5", true),
            ("client_encoding = latin1", false),
            ("client_encoding = 'EUC_JP'", false),
            // What is not understood may be one.
            ("NAMES E'utf8'", true),
            ("NAMES'utf8'", true),
            ("client_encoding = E'utf8'", true),
            ("client_encoding = $$utf8$$", true),
            ("client_encoding = U&'utf8'", true),
            ("client_encoding = 'utf\\x38'", true),
            ("client_encoding = 'ut'\n'f8'", true),
            ("client_encoding--=\nTO utf8", true),
            ("client_encoding--='\nTO 'utf8'", true),
            ("client_encoding = /* */ 'utf8'", true),
        ] {
            assert_eq!(hides_ends(&clause(text)), opaque, "{text}");
        }
        assert!(hides_ends(&Value::Plain(b"GB18030".as_slice().into())));
        assert!(!hides_ends(&Value::Plain(b"UTF8".as_slice().into())));
    }

    #[test]
    fn a_value_that_is_not_understood_is_not_the_default() {
        for (text, escapes) in [
            ("on", Some(false)),
            ("TRUE", Some(false)),
            ("y", Some(false)),
            ("1", Some(false)),
            ("off", Some(true)),
            ("'of'", Some(true)),
            ("fa", Some(true)),
            ("'N'", Some(true)),
            ("0", Some(true)),
            ("o", None),
            ("00", None),
            ("E'off'", None),
            ("$$off$$", None),
            ("'o'\n'ff'", None),
            ("on /* off */", None),
        ] {
            assert_eq!(has_escapes(&clause(&format!("{ESCAPES} = {text}"))), escapes, "{text}");
            let act = Act::Set { name: ESCAPES.into(), value: clause(&format!("{ESCAPES} TO {text}")), local: true };
            assert_eq!(may_change(&act), escapes != Some(false), "{text}");
        }
        assert_eq!(has_escapes(&Value::Plain(b"of".as_slice().into())), Some(true));
    }

    #[test]
    fn an_encoding_is_its_letters_and_digits() {
        for (said, hides) in [("'utf-8'", false), ("UTF8", false), ("'S-JIS'", true), ("gb 18030", true)] {
            assert_eq!(hides_ends(&Value::Plain(said.as_bytes().into())), hides, "{said}");
        }
        assert!(hides_ends(&clause("client_encoding = E'UTF8'")), "who reads that");
    }

    #[test]
    fn only_what_may_change_how_texts_are_read_makes_others_wait() {
        let mut analyser = Analyser::new(Compat::V15);
        for (sql, rereads) in [
            ("select set_config('client_' || 'encoding', 'SJIS', true)", true),
            ("select set_config($1, $2, true)", true),
            ("select set_config('client_encoding', $1, true)", true),
            ("set local client_encoding = 'SJIS'", true),
            ("set standard_conforming_strings = 'of'", true),
            ("set names 'utf8'", false),
            ("set standard_conforming_strings to on", false),
            ("select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", false),
            ("select set_config('app.x', n::text, true) from generate_series(1, 2) n", false),
        ] {
            let script = of(analyser.analyse(sql.as_bytes()), sql.as_bytes()).unwrap();
            assert_eq!(script.rereads, rereads, "{sql}");
        }
    }
}

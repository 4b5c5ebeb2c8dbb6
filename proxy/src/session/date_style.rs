//! `DateStyle`, the one setting whose value says what it is relative to what was there: `SET DateStyle = 'Postgres'` leaves
//! the order of day and month as it is, `SET DateStyle = 'DMY'` leaves the style.
//!
//! Said again on another connection it would come to something else, and two clients that have said the same last may mean
//! different things. So it is kept as the server reports it, with both parts (`check_datestyle` of PostgreSQL's
//! `variable.c`).

use std::borrow::Cow;

use wire::params::Value;

use super::Session;
use super::effects::plain;
use crate::upstream::Upstream;

pub(super) const DATE_STYLE: &str = "datestyle";

/// What `new` comes to where `before` holds, a value with both parts; `None`: that cannot be told.
fn merged(before: &str, new: &str) -> Option<String> {
    let of = |text: &str| -> Option<(Option<&'static str>, Option<&'static str>)> {
        let (mut style, mut order) = (None, None);
        for word in text.split(',') {
            let word = word.trim().trim_matches(['"', '\'']).to_ascii_uppercase();
            match word.as_str() {
                "ISO" => style = Some("ISO"),
                "SQL" => style = Some("SQL"),
                "GERMAN" => style = Some("German"),
                "YMD" => order = Some("YMD"),
                "DMY" => order = Some("DMY"),
                "MDY" | "US" => order = Some("MDY"),
                _ if word.starts_with("POSTGRES") => style = Some("Postgres"),
                _ if word.starts_with("EURO") => order = Some("DMY"),
                _ if word.starts_with("NONEURO") => order = Some("MDY"),
                _ => return None,
            }
        }
        // German dates have their own order, unless another one is asked for.
        if style == Some("German") {
            order = order.or(Some("DMY"));
        }
        Some((style, order))
    };
    let ((style, order), (old_style, old_order)) = (of(new)?, of(before)?);
    Some(format!("{}, {}", style.or(old_style)?, order.or(old_order)?))
}

impl Session {
    /// A value of `DateStyle` that was set, with both of its parts. Where they cannot be told it stays a clause, and the
    /// upstream is reset before somebody else gets it.
    pub(super) fn whole_date_style(&self, upstream: &mut Upstream, value: &Value) -> Value {
        let welcome = self.pool.shared.welcome();
        let reported = welcome.as_ref().and_then(|welcome| {
            let (_, value) = welcome.iter().find(|(name, _)| name.eq_ignore_ascii_case(DATE_STYLE.as_bytes()))?;
            std::str::from_utf8(value).ok()
        });
        let whole = |value: &Value| {
            let own = plain(value)?;
            // A startup option is relative to the server's own value.
            merged(reported?, &own)
        };
        let before = match self.settings.current().find(DATE_STYLE) {
            Some(value) => whole(value).map(Cow::Owned),
            None => reported.map(Cow::Borrowed),
        };
        // One of the transaction's own is what this is relative to, and goes with it.
        let covered = !upstream.work.locals.are_none();
        let merged = before.filter(|_| !covered).and_then(|before| merged(&before, &plain(value)?));
        match merged {
            Some(merged) => Value::Plain(merged.into_bytes().into()),
            None => {
                upstream.tainted = true;
                match value {
                    Value::Clause(_) => value.clone(),
                    Value::Plain(bytes) => {
                        let quoted = String::from_utf8_lossy(bytes).replace('\'', "''");
                        Value::Clause(format!("DateStyle TO '{quoted}'").into_bytes().into())
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merged;

    /// Each seen on PostgreSQL 15.
    #[test]
    fn what_is_not_said_stays_as_it_was() {
        for (before, new, after) in [
            ("ISO, MDY", "Postgres", Some("Postgres, MDY")),
            ("ISO, DMY", "postgres", Some("Postgres, DMY")),
            ("ISO, DMY", "PostgreSQL", Some("Postgres, DMY")),
            ("SQL, DMY", "us", Some("SQL, MDY")),
            ("SQL, MDY", "European", Some("SQL, DMY")),
            ("SQL, DMY", "NonEuropean", Some("SQL, MDY")),
            ("ISO, MDY", "German", Some("German, DMY")),
            ("ISO, MDY", "German, YMD", Some("German, YMD")),
            ("German, DMY", "ISO", Some("ISO, DMY")),
            ("ISO, MDY", "ymd, sql", Some("SQL, YMD")),
            ("ISO, MDY", "default", None),
            ("ISO, MDY", "", None),
            ("ISO", "SQL", None),
        ] {
            assert_eq!(merged(before, new).as_deref(), after, "{new} where {before} is");
        }
    }
}

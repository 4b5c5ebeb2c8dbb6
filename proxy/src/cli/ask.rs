//! Questions of the commands that show a running pgweir, and what became of them in words.

use std::fmt;
use std::io;

use serde::de::DeserializeOwned;

use super::http::Admin;

/// Why a question was not answered.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody answers, or not whole.
    Silent(String, io::Error),
    /// It may not be told, or there is no such thing.
    Refused(String, u16),
    /// It speaks TLS, and was not asked by it.
    Secure(String),
    /// The answer cannot be read.
    Strange(String, String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(address, error) => write!(f, "pgweir does not answer at {address}: {error}"),
            Self::Refused(address, 401) => {
                write!(f, "pgweir at {address} wants a token: set PGWEIR_ADMIN_TOKEN to one of its tokens")
            }
            Self::Refused(address, 403) => write!(f, "the token does not open this at {address}: it sees less"),
            Self::Refused(address, status) => {
                write!(f, "pgweir at {address} answered {status}; is it a pgweir of this version?")
            }
            Self::Secure(address) => {
                write!(
                    f,
                    "pgweir at {address} speaks TLS: write --admin https://{address}, and --admin-ca FILE if its certificate is your own"
                )
            }
            Self::Strange(address, why) => write!(f, "the answer of pgweir at {address} cannot be read: {why}"),
        }
    }
}

impl std::error::Error for Trouble {}

/// The text under a path.
///
/// # Errors
/// There is none.
pub(super) fn text(admin: &Admin, path: &str) -> Result<String, Trouble> {
    let address = || admin.address().to_owned();
    let answer = admin.get(path).map_err(|error| Trouble::Silent(address(), error))?;
    match answer.status {
        200 => String::from_utf8(answer.body).map_err(|error| Trouble::Strange(address(), error.to_string())),
        _ if answer.wants_tls() => Err(Trouble::Secure(address())),
        status => Err(Trouble::Refused(address(), status)),
    }
}

/// The JSON under a path.
///
/// # Errors
/// There is none, or of another form.
pub(super) fn json<T: DeserializeOwned>(admin: &Admin, path: &str) -> Result<T, Trouble> {
    let text = text(admin, path)?;
    serde_json::from_str(&text).map_err(|error| Trouble::Strange(admin.address().to_owned(), error.to_string()))
}

/// What a token may not see is not there.
///
/// # Errors
/// Everything but a 403.
pub(super) fn permitted<T>(answer: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Trouble::Refused(_, 403)) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// Without control characters: names and texts come from clients, and a terminal does what they say.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A value in a path or a query: each byte but the plainest by its number.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let written = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(written).collect()
}

/// A time in the two units that say most about it, as `3d 4h` or `12s`.
pub(super) fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut left = seconds;
    let parts: Vec<String> = units
        .into_iter()
        .map(|(unit, size)| {
            let count = left / size;
            left %= size;
            (unit, count)
        })
        .skip_while(|(unit, count)| *count == 0 && *unit != "s")
        .take(2)
        .map(|(unit, count)| format!("{count}{unit}"))
        .collect();
    parts.join(" ")
}

/// A number in at most six places: what is large without its fraction, what is larger in thousands, millions or billions.
pub(super) fn figure(number: f64) -> String {
    match number.abs() {
        n if n >= 9_999_500_000.0 => format!("{:.0}G", number / 1e9),
        n if n >= 9_999_500.0 => format!("{:.0}M", number / 1e6),
        n if n >= 99_999.5 => format!("{:.0}k", number / 1e3),
        n if n >= 99.95 => format!("{number:.0}"),
        n if n >= 9.995 => format!("{number:.1}"),
        n if n > 0.0 && n < 0.005 => "0.00".to_owned(),
        n if n > 0.0 => format!("{number:.2}"),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stay_short_whatever_their_size() {
        let shown =
            [0.0, 0.001, 0.049, 1.0, 9.994, 9.996, 99.94, 99.96, 12_345.6, 99_999.6, 123_456.0, 9_999_499.0, 12e6]
                .map(figure);
        let wanted =
            ["0", "0.00", "0.05", "1.00", "9.99", "10.0", "99.9", "100", "12346", "100k", "123k", "9999k", "12M"];
        assert_eq!(shown, wanted);
        assert!((0..12).all(|power| figure(10_f64.powi(power) * 9.999).len() <= 6));
    }

    #[test]
    fn a_span_says_its_two_largest_units() {
        let shown = [0, 7, 60, 3_661, 90_061].map(span);
        assert_eq!(shown, ["0s", "7s", "1m 0s", "1h 1m", "1d 1h"]);
    }

    #[test]
    fn what_a_client_has_written_moves_no_cursor() {
        assert_eq!(printable("a\u{1b}[2J\nb\té"), "a [2J b é");
        assert_eq!(encoded("a b/ü&"), "a%20b%2F%C3%BC%26");
    }
}

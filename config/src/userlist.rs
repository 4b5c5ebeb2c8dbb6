//! PgBouncer's userlist file and the secrets in it.

use std::collections::BTreeMap;

use crate::{Secret, UserSecret};

/// A line of a userlist that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserlistError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what to do; never quotes the line.
    pub sentence: &'static str,
}

/// Reads `"user" "secret"` lines. Empty lines and lines that begin with `;` or `#` are skipped; a quote inside a name or
/// a secret is doubled; what follows the secret on its line is ignored, as PgBouncer does. An empty secret is none.
///
/// # Errors
/// Every line that cannot be read.
pub fn parse_userlist(text: &str) -> Result<BTreeMap<String, UserSecret>, Vec<UserlistError>> {
    let mut users = BTreeMap::new();
    let mut errors = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        match entry(line) {
            Ok((name, _)) if users.contains_key(&name) => {
                errors.push(UserlistError {
                    line: number + 1,
                    sentence: "names a user a second time; remove one of the two lines",
                });
            }
            Ok((name, secret)) => {
                users.insert(name, secret);
            }
            Err(sentence) => errors.push(UserlistError { line: number + 1, sentence }),
        }
    }
    if errors.is_empty() { Ok(users) } else { Err(errors) }
}

fn entry(line: &str) -> Result<(String, UserSecret), &'static str> {
    const SHAPE: &str =
        "is not a user; write \"name\" \"password\" with both in double quotes, and a quote inside them twice";
    let (name, rest) = quoted(line).ok_or(SHAPE)?;
    let (secret, _) = quoted(rest.trim_start()).ok_or(SHAPE)?;
    if name.is_empty() {
        return Err("has an empty name; write \"name\" \"password\"");
    }
    if name.contains('\0') || secret.contains('\0') {
        return Err("holds a NUL character; remove it");
    }
    Ok((name, parse_secret(&secret)?))
}

/// The text in double quotes at the start, with doubled quotes resolved, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        value.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                value.push('"');
                rest = next;
            }
            None => return Some((value, after)),
        }
    }
}

/// Tells a password from an `md5…` hash and a `SCRAM-SHA-256$…` verifier; empty is none.
///
/// # Errors
/// A verifier that PostgreSQL could not have written.
pub fn parse_secret(text: &str) -> Result<UserSecret, &'static str> {
    if text.is_empty() {
        return Ok(UserSecret::None);
    }
    if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
        return if is_verifier(rest) {
            Ok(UserSecret::Scram(Secret::new(text)))
        } else {
            Err(
                "has a broken SCRAM-SHA-256 verifier; copy rolpassword of pg_authid whole: SCRAM-SHA-256$iterations:salt$stored:server",
            )
        };
    }
    let digest = text.strip_prefix("md5").filter(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(digest.map_or_else(|| UserSecret::Plain(Secret::new(text)), |hex| UserSecret::Md5(Secret::new(hex))))
}

/// `iterations:salt$StoredKey:ServerKey`; the keys are 32 bytes, 44 characters of base64.
fn is_verifier(text: &str) -> bool {
    let base64 = |text: &str| {
        let body = text.trim_end_matches('=');
        !body.is_empty()
            && text.len().is_multiple_of(4)
            && text.len() - body.len() <= 2
            && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    let Some((head, keys)) = text.split_once('$') else { return false };
    let Some((iterations, salt)) = head.split_once(':') else { return false };
    let Some((stored, server)) = keys.split_once(':') else { return false };
    iterations.parse::<u32>().is_ok_and(|count| count > 0)
        && base64(salt)
        && [stored, server].iter().all(|key| key.len() == 44 && base64(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
    const HASH: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn users_of_every_kind() {
        let text = format!(
            "; a comment\n# another\n\n\"anna\" \"geheim\"\n  \"bob\"\t\"md5{HASH}\" trailing words\r\n\"carl \"\"c\"\"\" \"{VERIFIER}\"\n\"dora\" \"\"\n\"emil\" \"md5short\"\n\"fritz\" \"a \"\"b\"\" c\"\n"
        );
        let users = parse_userlist(&text).unwrap();
        let expected = BTreeMap::from([
            ("anna".to_owned(), UserSecret::Plain(Secret::new("geheim"))),
            ("bob".to_owned(), UserSecret::Md5(Secret::new(HASH))),
            ("carl \"c\"".to_owned(), UserSecret::Scram(Secret::new(VERIFIER))),
            ("dora".to_owned(), UserSecret::None),
            ("emil".to_owned(), UserSecret::Plain(Secret::new("md5short"))),
            ("fritz".to_owned(), UserSecret::Plain(Secret::new("a \"b\" c"))),
        ]);
        assert_eq!(users, expected);
    }

    #[test]
    fn each_broken_line_is_told() {
        let text = "anna geheim\n\"ok\" \"x\"\n\"bob\"\n\"carl\" \"unclosed\n\"\" \"x\"\n\"ok\" \"y\"\n\"s\" \"SCRAM-SHA-256$4096:x\"\n\"s\" \"SCRAM-SHA-256$0:c2FsdA==$A=:B=\"\n";
        let lines: Vec<usize> = parse_userlist(text).unwrap_err().iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 7, 8]);
    }
}

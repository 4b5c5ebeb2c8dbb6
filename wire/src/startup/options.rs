//! The startup parameter `options`: switches of the `postgres` command line.
//!
//! Split as PostgreSQL's `pg_split_opts` does: at white space, a backslash taking the next character literally. Of the
//! switches, the two that set settings are known, `-c name=value` and `--name=value`; the rest only make sense to
//! somebody who debugs a server and are refused by name.

use crate::error::Result;

use super::bad_setting;

/// Calls `found` with the name and the value of each setting in `text`, in order.
///
/// Every round of both loops consumes at least one byte of `text`: no input, an empty name included, makes it spin.
pub(super) fn each(text: &[u8], mut found: impl FnMut(Vec<u8>, Vec<u8>) -> Result<()>) -> Result<()> {
    let mut rest = text;
    while let Some(word) = next_word(&mut rest) {
        let Some(switch) = word.strip_prefix(b"-").filter(|switch| !switch.is_empty()) else {
            return Err(bad_setting(&word, "options holds a word that is not a switch"));
        };
        let assignment = match switch.split_first() {
            Some((b'-', assignment)) => assignment.to_vec(),
            Some((b'c', [])) => {
                next_word(&mut rest).ok_or_else(|| bad_setting(&word, "this switch in options needs name=value"))?
            }
            Some((b'c', assignment)) => assignment.to_vec(),
            _ => return Err(bad_setting(&word, "only -c and --name=value are supported in options")),
        };
        let (name, value) = assign(&assignment)?;
        found(name, value)?;
    }
    Ok(())
}

/// `name=value`, with `-` in the name meaning `_` (`ParseLongOption`).
fn assign(assignment: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let Some(equals) = assignment.iter().position(|&byte| byte == b'=') else {
        return Err(bad_setting(assignment, "this entry of options has no value"));
    };
    let (name, value) = assignment.split_at(equals);
    let name = name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect();
    Ok((name, value.get(1..).unwrap_or_default().to_vec()))
}

/// Takes the next word from the front of `rest`; `None`: only white space is left.
fn next_word(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let start = rest.iter().position(|&byte| !is_space(byte))?;
    let mut word = Vec::new();
    let mut escaped = false;
    let mut taken = start;
    for &byte in rest.get(start..)? {
        if !escaped && is_space(byte) {
            break;
        }
        taken += 1;
        escaped = !escaped && byte == b'\\';
        if !escaped {
            word.push(byte);
        }
    }
    *rest = rest.get(taken..)?;
    Some(word)
}

/// C's `isspace` in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

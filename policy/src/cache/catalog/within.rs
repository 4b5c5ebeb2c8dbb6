//! What a statement leaves behind in its transaction.
//!
//! In READ COMMITTED a read sees what is committed when it begins, as one outside of any transaction does, for as long as
//! nothing before it in the transaction has written, locked, changed what all of it sees, or set something unseen.

use super::super::eligible::{Bypass, Isolation};
use super::super::text::{OPEN, SEMICOLON, Text};
use super::{Allowed, Catalog};
use crate::lexer::{Kind, Word};

/// Settings that decide what a transaction sees: its own one, and the one of those to come, which may be asked for while
/// it still says something of this one.
const LEVELS: [&str; 2] = ["transaction_isolation", "default_transaction_isolation"];

/// Whether the reads behind this text in its transaction see what they would see without it, settings aside that the text
/// shows. An error: why not. Plain strings in it have no escapes. `catalog`: if one is known that is true now; what begins
/// or divides a transaction and what sets something needs none.
///
/// ```
/// use policy::cache::Bypass;
/// use policy::cache::catalog::{Allowed, leaves_nothing};
/// let left = |sql: &str| leaves_nothing(sql.as_bytes(), None, Allowed::NOTHING);
/// assert_eq!(left("begin isolation level read committed read only; set local role anna"), Ok(()));
/// assert_eq!(left("begin isolation level serializable"), Err(Bypass::Isolation));
/// assert_eq!(left("lock table runs"), Err(Bypass::TransactionLocked));
/// ```
pub fn leaves_nothing(sql: &[u8], catalog: Option<&Catalog>, allowed: Allowed<'_>) -> Result<(), Bypass> {
    let text = Text::new(sql);
    if text.broken {
        return Err(Bypass::Unreadable);
    }
    let mut from = 0;
    for to in 0..=text.tokens.len() {
        if to == text.tokens.len() || text.is(to, SEMICOLON) {
            if let (Some(first), Some(last)) = (text.get(from).filter(|_| from < to), text.before(to, 1)) {
                // A semicolon within parentheses or a body makes statements of its parts, none of which is let pass.
                statement(sql.get(first.start as usize..last.end as usize).unwrap_or_default(), catalog, allowed)
                    .map_err(in_words_of_it)?;
            }
            from = to + 1;
        }
    }
    Ok(())
}

/// What speaks against a statement, as a reason of those behind it in the transaction.
fn in_words_of_it(bypass: Bypass) -> Bypass {
    match bypass {
        Bypass::Writes | Bypass::SelectInto => Bypass::TransactionWrote,
        Bypass::LocksRows | Bypass::AdvisoryLock | Bypass::TransactionLocked => Bypass::TransactionLocked,
        Bypass::Isolation | Bypass::CatalogUnread => bypass,
        _ => Bypass::Tainted,
    }
}

fn statement(sql: &[u8], catalog: Option<&Catalog>, allowed: Allowed<'_>) -> Result<(), Bypass> {
    let text = Text::new(sql);
    let first = text.tokens.iter().position(|token| !token.is(OPEN)).unwrap_or(0);
    match text.word(first) {
        Word::Select | Word::With | Word::Table | Word::Values => {
            catalog.ok_or(Bypass::CatalogUnread)?.leaves_nothing(&text, allowed)
        }
        Word::Begin | Word::Start | Word::Set => level(&text),
        Word::Commit | Word::Rollback if text.word(1) == Word::Prepared => Err(Bypass::Writes),
        Word::Commit | Word::End | Word::Rollback | Word::Abort | Word::Savepoint | Word::Release => Ok(()),
        // All settings: the default level as well.
        Word::Reset if text.word(1) == Word::All => Err(Bypass::Isolation),
        Word::Reset => level(&text),
        Word::Show | Word::Deallocate => Ok(()),
        Word::Lock => Err(Bypass::TransactionLocked),
        Word::Insert | Word::Update | Word::Delete | Word::Merge | Word::Copy | Word::Truncate => Err(Bypass::Writes),
        _ => Err(Bypass::NotARead),
    }
}

/// Whether a BEGIN, SET or RESET leaves the transaction in READ COMMITTED, if it is.
fn level(text: &Text<'_>) -> Result<(), Bypass> {
    for (at, token) in text.tokens.iter().enumerate() {
        let names_one = || text.name(at).is_some_and(|name| LEVELS.contains(&name.as_str()));
        if matches!(token.kind, Kind::Word | Kind::Quoted) && (names_one() || text.says(at, "snapshot")) {
            return Err(Bypass::Isolation);
        }
        if text.says(at, "isolation") {
            let named = |at: usize| text.get(at).map(|token| String::from_utf8_lossy(token.of(text.sql)));
            let named = named(at + 2).zip(named(at + 3)).map(|(one, two)| Isolation::named(&format!("{one} {two}")));
            if !text.says(at + 1, "level") || named != Some(Isolation::ReadCommitted) {
                return Err(Bypass::Isolation);
            }
        }
    }
    Ok(())
}

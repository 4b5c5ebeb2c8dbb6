//! Errors by SQLSTATE.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Sqlstate;
use super::cell::Counter;

/// Codes that are told apart; further ones are counted together.
pub(super) const CODES: usize = 8;

/// How often each of the first codes has come, and all others. One writer. A server may raise any code that it likes, so
/// the bound is a matter of memory; of one statement hardly more than two or three are seen.
#[derive(Debug, Default)]
pub(super) struct CodeCounts {
    /// The code's word, 0 where there is none yet, and its count.
    rows: [(AtomicU64, Counter); CODES],
    others: Counter,
}

impl CodeCounts {
    /// Counts one error.
    pub(super) fn count(&self, code: Sqlstate) {
        self.add(code, 1);
    }

    /// Adds what another one has counted.
    pub(super) fn absorb(&self, other: &Self) {
        other.rows().for_each(|(code, n)| self.add(code, n));
        self.others.add(other.others());
    }

    fn add(&self, code: Sqlstate, n: u64) {
        let word = code.to_word();
        for (known, count) in &self.rows {
            match known.load(Relaxed) {
                0 => known.store(word, Relaxed),
                other if other != word => continue,
                _ => {}
            }
            return count.add(n);
        }
        self.others.add(n);
    }

    /// The codes seen, in the order in which they came first.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Sqlstate, u64)> + '_ {
        self.rows.iter().map_while(|(word, count)| Some((Sqlstate::from_word(word.load(Relaxed))?, count.value())))
    }

    /// Errors with other codes.
    pub(super) fn others(&self) -> u64 {
        self.others.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_codes_have_rows_of_their_own_and_none_is_lost() {
        let counts = CodeCounts::default();
        let code = |n: usize| Sqlstate::new(format!("P000{n}").as_bytes());
        (0..CODES).for_each(|n| counts.count(code(n)));
        counts.count(code(3));
        counts.count(code(9));
        counts.count(code(9));
        let rows: Vec<_> = counts.rows().collect();
        assert_eq!(rows.len(), CODES);
        assert!(rows.iter().all(|(known, n)| *n == if *known == code(3) { 2 } else { 1 }));
        assert_eq!(counts.others(), 2);
    }
}

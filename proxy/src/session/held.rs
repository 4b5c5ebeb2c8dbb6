//! What a running statement is held to.

/// The limits of a statement's result, and how much of it has come. There is one with each statement on its way: no larger
/// than it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    rows: u64,
    bytes: u64,
    /// What is beyond so many rows has to be looked at; the largest number: any may come.
    rows_at: u64,
    bytes_at: u64,
    /// It has run for longer than it should, and that was told.
    pub is_late: bool,
}

impl Held {
    /// To so many rows and bytes of one result.
    pub(super) fn to(rows: Option<u64>, bytes: Option<u64>) -> Self {
        let (rows_at, bytes_at) = (rows.unwrap_or(u64::MAX), bytes.unwrap_or(u64::MAX));
        Self { rows: 0, bytes: 0, rows_at, bytes_at, is_late: false }
    }

    /// Whether there is any limit on its result.
    pub fn is_limited(&self) -> bool {
        self.rows_at != u64::MAX || self.bytes_at != u64::MAX
    }

    /// Another row is too much.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.rows >= self.rows_at || self.bytes >= self.bytes_at
    }

    /// A row has come.
    #[inline]
    pub fn spend(&mut self, bytes: usize) {
        self.rows = self.rows.saturating_add(1);
        self.spend_more(bytes);
    }

    /// More of a row has come.
    #[inline]
    pub fn spend_more(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// It goes on with another result, of the next statement in the text; or with one of which some has come: what was left
    /// then.
    pub fn go_on(&mut self, left: Self) {
        *self = Self { is_late: self.is_late, ..left };
    }

    /// How many rows have come, and how many might, where those are too many.
    pub fn rows_over(&self) -> Option<(u64, u64)> {
        (self.rows >= self.rows_at).then_some((self.rows, self.rows_at))
    }

    /// The same in bytes.
    pub fn bytes_over(&self) -> Option<(u64, u64)> {
        (self.bytes >= self.bytes_at).then_some((self.bytes, self.bytes_at))
    }

    /// More rows may come, up to so many in all; the limit on bytes stays what it is.
    pub fn let_rows(&mut self, at: Option<u64>) {
        self.rows_at = at.unwrap_or(u64::MAX);
    }

    /// The same in bytes.
    pub fn let_bytes(&mut self, at: Option<u64>) {
        self.bytes_at = at.unwrap_or(u64::MAX);
    }
}

impl Default for Held {
    /// To nothing.
    fn default() -> Self {
        Self::to(None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_more_rows_come_leaves_the_bytes_counted_and_the_reverse() {
        let mut held = Held::to(Some(2), Some(100));
        held.spend(30);
        held.spend(30);
        assert_eq!((held.rows_over(), held.bytes_over()), (Some((2, 2)), None));
        held.let_rows(Some(3));
        assert!(!held.is_spent());
        held.spend(45);
        assert_eq!((held.rows_over(), held.bytes_over()), (Some((3, 3)), Some((105, 100))));
        held.let_bytes(None);
        assert!(held.is_spent() && held.is_limited());
        held.let_rows(None);
        held.spend(1 << 30);
        assert!(!held.is_spent() && !held.is_limited());
    }

    #[test]
    fn each_result_has_rows_of_its_own_and_one_that_goes_on_has_what_it_had() {
        let mut held = Held::to(Some(1), None);
        held.is_late = true;
        held.spend(9);
        let left = held;
        held.go_on(Held::to(Some(1), None));
        assert!(!held.is_spent() && held.is_late);
        held.go_on(Held { is_late: false, ..left });
        assert!(held.is_spent() && held.is_late);
    }
}

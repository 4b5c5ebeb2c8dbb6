//! What a running statement is held to.

/// What is left of the limits of a statement's result. There is one with each statement on its way: no larger than it needs.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Rows that may still come; the largest number: any.
    rows_left: u64,
    bytes_left: u64,
    /// It has run for longer than it should, and that was told.
    pub is_late: bool,
}

impl Held {
    /// To so many rows and bytes of one result.
    pub(super) fn to(rows: Option<u64>, bytes: Option<u64>) -> Self {
        Self { rows_left: rows.unwrap_or(u64::MAX), bytes_left: bytes.unwrap_or(u64::MAX), is_late: false }
    }

    /// Whether there is any limit on its result.
    pub fn is_limited(&self) -> bool {
        self.rows_left != u64::MAX || self.bytes_left != u64::MAX
    }

    /// Another row is too much.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.rows_left == 0 || self.bytes_left == 0
    }

    /// A row has come.
    #[inline]
    pub fn spend(&mut self, bytes: usize) {
        if self.rows_left != u64::MAX {
            self.rows_left = self.rows_left.saturating_sub(1);
        }
        self.spend_more(bytes);
    }

    /// More of a row has come.
    #[inline]
    pub fn spend_more(&mut self, bytes: usize) {
        if self.bytes_left != u64::MAX {
            self.bytes_left = self.bytes_left.saturating_sub(bytes as u64);
        }
    }

    /// Another result begins, of the next statement in the text; or this may be as large as it likes from here on.
    pub fn renew(&mut self, rows: Option<u64>, bytes: Option<u64>) {
        *self = Self { is_late: self.is_late, ..Self::to(rows, bytes) };
    }

    /// It goes on with a result of which some has come: what was left then.
    pub fn go_on(&mut self, left: Self) {
        *self = Self { is_late: self.is_late, ..left };
    }

    /// Whether rows are what there are too many of, and not bytes.
    pub fn lacks_rows(&self) -> bool {
        self.rows_left == 0
    }
}

impl Default for Held {
    /// To nothing.
    fn default() -> Self {
        Self::to(None, None)
    }
}

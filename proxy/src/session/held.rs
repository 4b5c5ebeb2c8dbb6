//! What a running statement is held to.

/// What a statement that is about to run is held to: what is left of its result's limits.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Rows and bytes of one result at most.
    max_rows: u64,
    max_bytes: u64,
    /// Of them, those that have not come yet.
    rows_left: u64,
    bytes_left: u64,
    /// It has run for longer than it should, and that was told.
    pub is_late: bool,
}

impl Held {
    pub(super) fn to(max_rows: u64, max_bytes: u64) -> Self {
        Self { max_rows, max_bytes, rows_left: max_rows, bytes_left: max_bytes, is_late: false }
    }

    /// Another row is too much.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.rows_left == 0 || self.bytes_left == 0
    }

    /// A row has come.
    #[inline]
    pub fn spend(&mut self, bytes: usize) {
        self.rows_left = self.rows_left.saturating_sub(1);
        self.spend_more(bytes);
    }

    /// More of a row has come.
    #[inline]
    pub fn spend_more(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes as u64);
    }

    /// Another result begins, of the next statement in the text.
    pub fn renew(&mut self) {
        (self.rows_left, self.bytes_left) = (self.max_rows, self.max_bytes);
    }

    /// Its result may be as large as it likes from here on.
    pub fn lift(&mut self) {
        *self = Self { is_late: self.is_late, ..Self::default() };
    }

    /// Whether rows are what there are too many of, and not bytes.
    pub fn lacks_rows(&self) -> bool {
        self.rows_left == 0
    }
}

impl Default for Held {
    /// To nothing.
    fn default() -> Self {
        Self::to(u64::MAX, u64::MAX)
    }
}

//! Bytes on their way through: what came, with a few things taken out and put in.

/// Bytes that the worker's space for this keeps from one read to the next. All statements of a client at once can be
/// megabytes.
const KEPT: usize = 256 * 1024;

/// Collects what goes out of one read. As long as nothing was put in between, the input itself is what goes out, without
/// a copy.
#[derive(Debug)]
pub(super) struct Outbox<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
    /// Everything before this position has been dealt with.
    from: usize,
    /// Where what was taken out last ends.
    skipped: usize,
}

impl<'a> Outbox<'a> {
    /// All of `input` goes out so far; `output` is cleared and used where that is not enough.
    pub(super) fn new(input: &'a [u8], output: &'a mut Vec<u8>) -> Self {
        output.clear();
        output.shrink_to(KEPT);
        Self { input, output, from: 0, skipped: 0 }
    }

    /// Where something can be put in before position `at`.
    pub(super) fn insert(&mut self, at: usize) -> &mut Vec<u8> {
        let before = self.input.get(self.from..at).unwrap_or_default();
        self.output.extend_from_slice(before);
        self.from = self.from.max(at);
        self.output
    }

    /// Takes out what stands from `at` to `to`.
    pub(super) fn skip(&mut self, at: usize, to: usize) {
        if self.from == at && self.output.is_empty() {
            self.from = to;
        } else {
            self.insert(at);
            self.from = to;
        }
        self.skipped = to;
    }

    /// Whether the message that ends at `end` was taken out, with or without another one in its place: what of it is still
    /// on its way must not go out either.
    pub(super) fn has_skipped(&self, end: usize) -> bool {
        self.skipped == end
    }

    /// Bytes that were put together so far, because something had to be changed.
    pub(super) fn composed(&self) -> usize {
        self.output.len()
    }

    /// What goes out of the input up to `end`.
    pub(super) fn finish(self, end: usize) -> &'a [u8] {
        let rest = self.input.get(self.from..end).unwrap_or_default();
        if self.output.is_empty() {
            return rest;
        }
        self.output.extend_from_slice(rest);
        self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_is_not_copied() {
        let mut output = Vec::new();
        let input = b"abcdef";
        let outbox = Outbox::new(input, &mut output);
        assert_eq!(outbox.finish(4), b"abcd");
        let mut outbox = Outbox::new(input, &mut output);
        outbox.skip(0, 2);
        assert_eq!(outbox.finish(6), b"cdef");
        assert!(output.is_empty());
    }

    #[test]
    fn room_for_what_was_long_once_is_not_kept() {
        let mut output = vec![0; 4 * KEPT];
        Outbox::new(b"", &mut output);
        assert!(output.capacity() <= 2 * KEPT);
    }

    #[test]
    fn things_are_put_in_and_taken_out_in_order() {
        let mut output = vec![1];
        let mut outbox = Outbox::new(b"abcdef", &mut output);
        outbox.insert(0).extend(b"<");
        outbox.skip(1, 3);
        outbox.insert(4).extend(b"-");
        outbox.skip(5, 6);
        assert_eq!(outbox.finish(6), b"<ad-e");
    }

    #[test]
    fn a_message_whose_beginning_alone_is_another_is_not_taken_out() {
        let mut output = Vec::new();
        let mut outbox = Outbox::new(b"abcdef", &mut output);
        outbox.skip(2, 4);
        outbox.insert(4).extend(b"-");
        assert!(!outbox.has_skipped(6));
        outbox.skip(4, 6);
        outbox.insert(6).extend(b"*");
        assert!(outbox.has_skipped(6));
    }
}

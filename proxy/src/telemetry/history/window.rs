//! What happened in a span of time, packed: a few bytes for each statement that was called in it, none for the others.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::telemetry::histogram::{BUCKETS, Distribution};

/// What was counted of one statement, tenant or everything in one window. Times in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Point {
    /// Times run.
    pub calls: u64,
    /// Of them, failed.
    pub errors: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Time from first byte to last reply.
    pub total_us: u64,
    /// Of it, waiting for an upstream or a turn.
    pub queue_us: u64,
    /// Of it, in the server.
    pub server_us: u64,
    /// The longest run; within a quarter where longer ones were seen before the window.
    pub max_us: u64,
    /// What 95 % of the runs did not exceed, within 11.1 %; 0 in a sum of several statements or tenants.
    pub p95_us: u64,
}

impl Point {
    fn words(&self) -> [u64; 8] {
        let Self { calls, errors, rows, total_us, queue_us, server_us, max_us, p95_us } = *self;
        [calls, errors, rows, total_us, queue_us, server_us, max_us, p95_us]
    }

    fn from_words([calls, errors, rows, total_us, queue_us, server_us, max_us, p95_us]: [u64; 8]) -> Self {
        Self { calls, errors, rows, total_us, queue_us, server_us, max_us, p95_us }
    }

    /// Adds what another statement or tenant did in the same window. The percentile of both is not known.
    pub(super) fn add(&mut self, other: &Self) {
        let alone = self.calls == 0;
        self.calls += other.calls;
        self.errors += other.errors;
        self.rows += other.rows;
        self.total_us += other.total_us;
        self.queue_us += other.queue_us;
        self.server_us += other.server_us;
        self.max_us = self.max_us.max(other.max_us);
        self.p95_us = if alone { other.p95_us } else { 0 };
    }
}

/// What is added up until a window ends.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    /// Without its percentile.
    pub(super) point: Point,
    pub(super) buckets: Box<[u32; BUCKETS]>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { point: Point::default(), buckets: Box::new([0; BUCKETS]) }
    }
}

impl Sum {
    pub(super) fn add(&mut self, other: &Self) {
        self.point.add(&other.point);
        for (total, n) in self.buckets.iter_mut().zip(&*other.buckets) {
            *total = total.saturating_add(*n);
        }
    }

    fn finished(&self) -> Point {
        let mut distribution = Distribution::default();
        for (total, n) in distribution.buckets.iter_mut().zip(&*self.buckets) {
            *total = u64::from(*n);
        }
        Point { p95_us: distribution.percentile(0.95, 0, self.point.max_us) as u64, ..self.point }
    }
}

/// One window: points by key, packed.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Its span, in µs since 1970.
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    packed: Arc<[u8]>,
}

impl Window {
    /// `sums` in the order of their keys.
    pub(super) fn pack<'a>(start_us: u64, end_us: u64, sums: impl IntoIterator<Item = (u32, &'a Sum)>) -> Self {
        let mut packed = Vec::new();
        let mut last = 0;
        for (key, sum) in sums {
            put(&mut packed, u64::from(key.wrapping_sub(last)));
            last = key;
            sum.finished().words().into_iter().for_each(|word| put(&mut packed, word));
        }
        Self { start_us, end_us, packed: packed.into() }
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.packed.len()
    }

    /// Its points, in the order of their keys.
    pub(super) fn points(&self) -> impl Iterator<Item = (u32, Point)> + '_ {
        let mut rest: &[u8] = &self.packed;
        let mut key = 0_u32;
        std::iter::from_fn(move || {
            key = key.wrapping_add(take(&mut rest)? as u32);
            let mut words = [0; 8];
            for word in &mut words {
                *word = take(&mut rest)?;
            }
            Some((key, Point::from_words(words)))
        })
    }
}

/// Seven bits to a byte, the lowest first; the highest bit says that more follow.
fn put(packed: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        packed.push(number as u8 | 0x80);
        number >>= 7;
    }
    packed.push(number as u8);
}

fn take(packed: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = packed.split_first()?;
        *packed = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Windows of one length, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Windows {
    windows: VecDeque<Window>,
    bytes: usize,
}

impl Windows {
    pub(super) fn push(&mut self, window: Window) {
        self.bytes += window.size();
        self.windows.push_back(window);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    /// The end of the oldest; `None`: there is none.
    pub(super) fn oldest_end_us(&self) -> Option<u64> {
        self.windows.front().map(|window| window.end_us)
    }

    pub(super) fn drop_oldest(&mut self) {
        if let Some(window) = self.windows.pop_front() {
            self.bytes -= window.size();
        }
    }

    /// Those that end after `from_us`.
    pub(super) fn since(&self, from_us: u64) -> impl Iterator<Item = &Window> + '_ {
        self.windows.iter().filter(move |window| window.end_us > from_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let sum = |calls: u64, max_us: u64| {
            let mut sum =
                Sum { point: Point { calls, max_us, total_us: u64::MAX, ..Point::default() }, ..Sum::default() };
            sum.buckets[0] = calls as u32;
            sum
        };
        let sums = [(0, sum(1, 5)), (7, sum(300, 3)), (u32::MAX, sum(2, 9))];
        let window = Window::pack(10, 20, sums.iter().map(|(key, sum)| (*key, sum)));
        let points: Vec<_> = window.points().collect();
        assert_eq!(points.len(), 3);
        for ((key, sum), (known, point)) in sums.iter().zip(&points) {
            assert_eq!((key, sum.point.calls, sum.point.total_us), (known, point.calls, point.total_us));
            assert!(point.p95_us <= sum.point.max_us);
        }
        assert!(Window::pack(0, 0, []).points().next().is_none());
    }
}

//! Statements as clients have sent them, with their constants and bound values: a few of each, and only where the operator
//! has asked for them (`observe.samples`). Everything else in the telemetry is without values.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use super::worker::Map;
use super::{Scope, Sqlstate, TenantId, lock};

/// Samples of one statement of one tenant.
const PER_STATEMENT: usize = 5;
/// Bytes of all of them, and of one tenant's: a quarter, so that one that makes texts up leaves the others theirs.
const MAX_BYTES: usize = 4 << 20;
const MAX_BYTES_OF_TENANT: usize = MAX_BYTES / 4;
/// The longest text that is kept, in bytes; of a longer one, its beginning.
pub const MAX_TEXT: usize = 4 * 1024;
/// What a sample takes beside its text and values.
const FIXED: usize = 256;

/// A statement as it was sent.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Strict fingerprint.
    pub strict: u64,
    /// Whose.
    pub tenant: TenantId,
    /// Which client's.
    pub connection: u64,
    /// Who sent it.
    pub scope: Option<Arc<Scope>>,
    /// When it was sent to the server, in µs since 1970.
    pub start_us: u64,
    /// When its last reply had come.
    pub end_us: u64,
    /// What it took, in µs.
    pub duration_us: u64,
    /// The error that it ended in.
    pub sqlstate: Option<Sqlstate>,
    /// Its text.
    pub text: Box<str>,
    /// Its bound values, as text; `None`: NULL.
    pub parameters: Vec<Option<Box<str>>>,
}

impl Sample {
    fn weight(&self) -> usize {
        let values = self.parameters.iter().map(|value| 24 + value.as_deref().map_or(0, str::len));
        FIXED + self.text.len() + values.sum::<usize>()
    }
}

/// The last samples of each statement. Written by workers, read by the admin port and the slow log.
#[derive(Debug, Default)]
pub struct Samples(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wanted: bool,
    last: u64,
    /// By age, and whose those are.
    all: BTreeMap<u64, Sample>,
    of_tenant: Map<TenantId, (usize, BTreeSet<u64>)>,
    of_statement: Map<(u64, TenantId), VecDeque<u64>>,
    bytes: usize,
}

impl Samples {
    /// From now on samples are wanted, or not any more: then those that are there are forgotten, and none is taken from a
    /// worker that has not heard of it yet.
    pub fn switch(&self, wanted: bool) {
        let mut inner = lock(&self.0);
        if !wanted {
            *inner = Inner::default();
        }
        inner.wanted = wanted;
    }

    /// Takes a sample. Slow path: takes a lock that workers share.
    pub fn add(&self, sample: Sample) {
        let mut inner = lock(&self.0);
        if inner.wanted {
            inner.add(sample);
        }
    }

    /// Whether any are wanted, and those of a statement of these tenants, the last first.
    pub fn of(&self, strict: u64, is_wanted: impl Fn(TenantId) -> bool) -> (bool, Vec<Sample>) {
        let inner = lock(&self.0);
        let keys = inner.of_statement.iter().filter(|((known, tenant), _)| *known == strict && is_wanted(*tenant));
        let mut numbers: Vec<u64> = keys.flat_map(|(_, numbers)| numbers).copied().collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let samples = numbers.iter().filter_map(|number| inner.all.get(number)).cloned().collect();
        (inner.wanted, samples)
    }

    /// The sample of one execution, if it is there.
    pub fn find(&self, strict: u64, tenant: TenantId, connection: u64, end_us: u64) -> Option<Sample> {
        let inner = lock(&self.0);
        let numbers = inner.of_statement.get(&(strict, tenant))?;
        let mut samples = numbers.iter().rev().filter_map(|number| inner.all.get(number));
        samples.find(|sample| (sample.connection, sample.end_us) == (connection, end_us)).cloned()
    }
}

impl Inner {
    fn add(&mut self, sample: Sample) {
        let (key, tenant, weight) = ((sample.strict, sample.tenant), sample.tenant, sample.weight());
        self.last += 1;
        let number = self.last;
        self.bytes += weight;
        self.all.insert(number, sample);
        let own = self.of_statement.entry(key).or_default();
        own.push_back(number);
        let surplus = own.front().copied().filter(|_| own.len() > PER_STATEMENT);
        let of_tenant = self.of_tenant.entry(tenant).or_default();
        of_tenant.0 += weight;
        of_tenant.1.insert(number);
        surplus.into_iter().for_each(|number| self.remove(number));
        while let Some((bytes, numbers)) = self.of_tenant.get(&tenant)
            && *bytes > MAX_BYTES_OF_TENANT
            && let Some(oldest) = numbers.first().copied()
        {
            self.remove(oldest);
        }
        while self.bytes > MAX_BYTES
            && let Some((oldest, _)) = self.all.first_key_value()
        {
            self.remove(*oldest);
        }
    }

    /// The oldest of its statement goes.
    fn remove(&mut self, number: u64) {
        let Some(sample) = self.all.remove(&number) else { return };
        let weight = sample.weight();
        self.bytes = self.bytes.saturating_sub(weight);
        let key = (sample.strict, sample.tenant);
        if let Some(own) = self.of_statement.get_mut(&key) {
            own.retain(|known| *known != number);
            if own.is_empty() {
                self.of_statement.remove(&key);
            }
        }
        if let Some((bytes, numbers)) = self.of_tenant.get_mut(&sample.tenant) {
            *bytes = bytes.saturating_sub(weight);
            numbers.remove(&number);
            if numbers.is_empty() {
                self.of_tenant.remove(&sample.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(strict: u64, tenant: u32, text: &str) -> Sample {
        Sample {
            strict,
            tenant: TenantId(tenant),
            connection: 7,
            scope: None,
            start_us: 1,
            end_us: 2,
            duration_us: 1,
            sqlstate: None,
            text: text.into(),
            parameters: Vec::new(),
        }
    }

    fn texts(samples: &Samples, strict: u64, tenant: u32) -> Vec<String> {
        let (_, found) = samples.of(strict, |known| known == TenantId(tenant));
        found.iter().map(|sample| sample.text.to_string()).collect()
    }

    #[test]
    fn the_last_few_of_each_statement_and_tenant_are_kept_while_they_are_wanted() {
        let samples = Samples::default();
        samples.add(sample(1, 1, "not wanted yet"));
        samples.switch(true);
        for number in 0..9 {
            samples.add(sample(1, 1, &number.to_string()));
        }
        samples.add(sample(1, 2, "another tenant's"));
        assert_eq!(texts(&samples, 1, 1), ["8", "7", "6", "5", "4"]);
        assert_eq!(samples.of(1, |_| true).1.len(), 6);
        assert_eq!(samples.find(1, TenantId(2), 7, 2).unwrap().text.as_ref(), "another tenant's");
        assert!(samples.find(1, TenantId(2), 8, 2).is_none());
        samples.switch(false);
        samples.add(sample(1, 1, "from a worker that has not heard of it"));
        assert!(samples.of(1, |_| true).1.is_empty() && !samples.of(1, |_| true).0);
        samples.switch(true);
        assert!(texts(&samples, 1, 1).is_empty(), "what was forgotten does not come back");
    }

    #[test]
    fn whoever_makes_texts_up_leaves_the_others_theirs() {
        let samples = Samples::default();
        samples.switch(true);
        samples.add(sample(1, 1, "kept"));
        let long = "x".repeat(MAX_TEXT);
        for strict in 10..5_000 {
            samples.add(sample(strict, 2, &long));
        }
        assert_eq!(texts(&samples, 1, 1), ["kept"]);
        let held = |samples: &Samples| lock(&samples.0).bytes;
        assert!(held(&samples) <= MAX_BYTES_OF_TENANT + FIXED + 4);
        for tenant in 3..50 {
            for strict in 0..300 {
                samples.add(sample(strict, tenant, &long));
            }
        }
        let inner = lock(&samples.0);
        assert!(inner.bytes <= MAX_BYTES);
        assert_eq!(inner.bytes, inner.all.values().map(Sample::weight).sum::<usize>());
        assert_eq!(inner.all.len(), inner.of_statement.values().map(VecDeque::len).sum::<usize>());
        assert_eq!(inner.bytes, inner.of_tenant.values().map(|(bytes, _)| bytes).sum::<usize>());
    }
}

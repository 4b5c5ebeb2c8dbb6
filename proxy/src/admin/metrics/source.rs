//! Where a family's samples come from.

use super::facts::Facts;
use crate::admin::exposition::Samples;
use crate::admin::source::TenantUse;
use crate::telemetry::histogram::Distribution;
use crate::telemetry::listen::ListenTotals;
use crate::telemetry::pool::PoolTotals;
use crate::telemetry::process::Process;
use crate::telemetry::snapshot::{TenantRow, WorkerRow};
use crate::telemetry::usage::Usage;

/// Where a family's samples come from.
#[derive(Debug)]
pub(super) enum Source {
    Pool(fn(&PoolTotals) -> f64),
    PoolStates(fn(&PoolTotals) -> Vec<(&'static str, f64)>),
    PoolHistogram(fn(&PoolTotals) -> &Distribution),
    Tenant(fn(&TenantRow) -> f64),
    TenantUse(fn(&TenantUse) -> f64),
    Class(fn(&Usage) -> f64),
    Worker(fn(&WorkerRow) -> f64),
    WorkerStates(fn(&WorkerRow) -> Vec<(&'static str, f64)>),
    Process(fn(&Process) -> Option<f64>),
    Listen(fn(&ListenTotals) -> f64),
    Facts(fn(&Facts, &mut Samples<'_>)),
}

impl Source {
    /// Writes them.
    pub(super) fn collect(&self, facts: &Facts, samples: &mut Samples<'_>) {
        match self {
            Self::Pool(read) => {
                each_pool(facts, |names, totals| samples.put(&names, read(totals)));
            }
            Self::PoolStates(read) => each_pool(facts, |[database, user], totals| {
                for (state, number) in read(totals) {
                    samples.put(&[database, user, state], number);
                }
            }),
            Self::PoolHistogram(read) => {
                each_pool(facts, |names, totals| samples.put_histogram(&names, read(totals)));
            }
            Self::Tenant(read) => {
                facts.tenants.iter().for_each(|row| samples.put(&[&row.tenant], read(row)));
            }
            Self::TenantUse(read) => {
                let all = facts.uses.iter().filter(|own| own.class.is_empty());
                all.for_each(|own| put_if_any(samples, &[&own.tenant], read(own)));
            }
            Self::Class(read) => {
                let rows = facts.classes.iter();
                rows.for_each(|((tenant, class), usage)| put_if_any(samples, &[tenant, class], read(usage)));
            }
            Self::Worker(read) => {
                facts.workers.iter().for_each(|row| samples.put(&[&row.worker], read(row)));
            }
            Self::WorkerStates(read) => {
                for row in &facts.workers {
                    read(row).into_iter().for_each(|(state, number)| samples.put(&[&row.worker, state], number));
                }
            }
            Self::Process(read) => {
                if let Some(number) = read(&facts.process) {
                    samples.put(&[], number);
                }
            }
            Self::Listen(read) => samples.put(&[], read(&facts.listen)),
            Self::Facts(collect) => collect(facts, samples),
        }
    }
}

fn each_pool<'a>(facts: &'a Facts, mut each: impl FnMut([&'a str; 2], &'a PoolTotals)) {
    for row in &facts.pools {
        each([&row.name.database, &row.name.user], &row.totals);
    }
}

/// A row for each tenant and class is many rows: those without anything in them are left out.
pub(super) fn put_if_any(samples: &mut Samples<'_>, labels: &[&str], number: f64) {
    if number > 0.0 {
        samples.put(labels, number);
    }
}

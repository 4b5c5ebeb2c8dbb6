//! From the configuration to rules.

use std::time::Duration;

use config::{Cache, CacheEffect, CacheFreshness, CacheMode, CacheRule};
use policy::cache::{Budget, Effect, Freshness, Mode, Rule, Rules, TableName};

/// Whether it works.
pub fn mode_of(cache: &Cache) -> Mode {
    match cache.mode {
        CacheMode::Off => Mode::Off,
        CacheMode::Observe => Mode::Observe,
        CacheMode::On => Mode::On,
    }
}

/// What it may hold.
pub fn budget_of(cache: &Cache) -> Budget {
    Budget { max_bytes: cache.max_bytes, max_entry: cache.max_entry, tenant_share: cache.tenant_share }
}

/// The rules. What is wrong with them was found when the configuration was read; none is better than a wrong one.
pub fn compile(cache: &Cache, version: u32) -> Rules {
    let rules = cache.rules.iter().map(rule_of).collect();
    Rules::new(rules, version).unwrap_or_default()
}

/// One rule.
pub fn rule_of(rule: &CacheRule) -> Rule {
    Rule {
        effect: match rule.effect {
            CacheEffect::Allow => Effect::Allow,
            CacheEffect::Deny => Effect::Deny,
        },
        tables: rule.tables.iter().filter_map(|name| TableName::parse(name)).collect(),
        fingerprint: rule.fingerprint,
        application: rule.application.clone(),
        hinted: rule.hinted,
        ttl: rule.ttl,
        freshness: match rule.freshness {
            CacheFreshness::Ttl => Freshness::Ttl,
            CacheFreshness::Coherent => Freshness::Coherent,
            CacheFreshness::Strict => Freshness::Strict,
        },
        stale_for: if rule.freshness == CacheFreshness::Ttl { rule.stale_for } else { Duration::ZERO },
        tags: rule.tags.clone(),
        pure_functions: rule.pure_functions.clone(),
        materialized: rule.materialized,
    }
}

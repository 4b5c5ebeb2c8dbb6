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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use config::{CachePreset, NoSources, Overrides, Settings, units::show_duration};
    use policy::cache::{BadRule, preset};

    use super::*;

    const SERVER: &str = "[databases.app]\nupstream = 'postgres://h/app'\n";

    fn read(rules: &[CacheRule]) -> Result<Cache, config::Mistakes> {
        let text = rules.iter().fold(SERVER.to_owned(), |text, rule| text + &written(rule));
        Settings::from_toml(&text, &Overrides::default(), &NoSources).map(|settings| settings.cache)
    }

    /// A rule as the file has it.
    fn written(rule: &CacheRule) -> String {
        let mut text = "[[cache.rule]]\n".to_owned();
        let mut put = |key: &str, value: &str| writeln!(text, "{key} = {value}").unwrap();
        put("effect", if rule.effect == CacheEffect::Deny { "'deny'" } else { "'allow'" });
        if !rule.tables.is_empty() {
            put("tables", &format!("{:?}", rule.tables));
        }
        if let Some(fingerprint) = rule.fingerprint {
            put("fingerprint", &format!("'{fingerprint:016x}'"));
        }
        if let Some(application) = &rule.application {
            put("application", &format!("{application:?}"));
        }
        put("hinted", if rule.hinted { "true" } else { "false" });
        put("ttl", &format!("'{}'", show_duration(rule.ttl)));
        put("freshness", &format!("'{}'", rule.freshness.word()));
        put("stale_for", &format!("'{}'", show_duration(rule.stale_for)));
        put("tags", &format!("{:?}", rule.tags));
        put("pure_functions", &format!("{:?}", rule.pure_functions));
        put("materialized", if rule.materialized { "true" } else { "false" });
        text
    }

    /// As [`rule_of`], with what is not a table and with what needs another freshness.
    fn checked(rule: &CacheRule) -> Result<Rules, Vec<BadRule>> {
        let tables: Vec<_> = rule.tables.iter().map(|name| TableName::parse(name)).collect();
        if tables.contains(&None) {
            return Err(Vec::new());
        }
        Rules::new(vec![Rule { stale_for: rule.stale_for, ..rule_of(rule) }], 1)
    }

    #[test]
    fn the_configuration_accepts_what_rules_accept_and_nothing_else() {
        let (second, day) = (Duration::from_secs(1), policy::cache::MAX_TTL);
        let conditions = [
            CacheRule::default(),
            CacheRule { fingerprint: Some(0), ..CacheRule::default() },
            CacheRule { application: Some("web*".to_owned()), ..CacheRule::default() },
            CacheRule { hinted: true, ..CacheRule::default() },
        ];
        let names = [
            "t", "a.b", "a_*", "a.*", "*", "a.b.c", "", ".", ".a", "a.", "a*b", "**", "*.a", "a b", "a\tb", "a.b\"c",
            "\u{e9}", "'",
        ];
        let tables =
            names.map(|name| CacheRule { tables: vec!["ok".to_owned(), name.to_owned()], ..CacheRule::default() });
        let mut kinds = [0; 2];
        for said in conditions.into_iter().chain(tables) {
            for effect in [CacheEffect::Allow, CacheEffect::Deny] {
                for freshness in [CacheFreshness::Ttl, CacheFreshness::Coherent, CacheFreshness::Strict] {
                    for ttl in [Duration::ZERO, second, day, day + second] {
                        for stale_for in [Duration::ZERO, second, day] {
                            let rule = CacheRule { effect, freshness, ttl, stale_for, ..said.clone() };
                            let (config, rules) = (read(std::slice::from_ref(&rule)), checked(&rule));
                            assert_eq!(config.is_ok(), rules.is_ok(), "{rule:?}: {config:?}, {rules:?}");
                            kinds[usize::from(rules.is_ok())] += 1;
                            if let Ok(cache) = config {
                                assert_eq!(cache.rules, [rule]);
                                assert_eq!(compile(&cache, 1).get(0), Some(&rule_of(&cache.rules[0])));
                            }
                        }
                    }
                }
            }
        }
        assert!(kinds.iter().all(|seen| *seen > 100), "{kinds:?}");
    }

    #[test]
    fn rules_are_counted_as_far_as_the_configuration_lets_them() {
        let rule = Rule { hinted: true, ttl: Duration::from_secs(1), ..Rule::default() };
        assert!(Rules::new(vec![rule.clone(); 65_535], 1).is_ok(), "and a test of the configuration says the same");
        assert!(Rules::new(vec![rule; 65_536], 1).is_err());
    }

    #[test]
    fn the_preset_is_the_one_that_is_shipped() {
        let ours: Vec<Rule> = CachePreset::WorkflowEngine.rules().map(|rule| rule_of(&rule)).collect();
        assert_eq!(ours, preset());
    }

    #[test]
    fn defaults_and_words_mean_the_same_on_both_sides() {
        let cache = Cache::default();
        assert_eq!((mode_of(&cache), budget_of(&cache)), (Mode::default(), Budget::default()));
        assert_eq!(cache.min_cost.as_micros(), u128::from(policy::cache::MIN_COST_MICROS));
        for mode in [CacheMode::Off, CacheMode::Observe, CacheMode::On] {
            assert_eq!(mode_of(&Cache { mode, ..Cache::default() }).name(), mode.word());
            assert_eq!(CacheMode::from_word(mode.word()), Some(mode));
        }
        for freshness in [CacheFreshness::Ttl, CacheFreshness::Coherent, CacheFreshness::Strict] {
            assert_eq!(rule_of(&CacheRule { freshness, ..CacheRule::default() }).freshness.name(), freshness.word());
        }
    }

    #[test]
    fn other_settings_of_the_cache_are_put_in_force_and_nothing_is_flushed_for_others() {
        let rule = |table: &str| CacheRule {
            tables: vec![table.to_owned()],
            ttl: Duration::from_secs(60),
            ..CacheRule::default()
        };
        let cache = |mode, table: &str| Cache { mode, rules: vec![rule(table)], ..Cache::default() };
        let (off, on) = (cache(CacheMode::Off, "runs"), cache(CacheMode::On, "runs"));
        let caches = crate::cache::Caches::new(&off);
        let version = caches.version();
        caches.take_over(&off, &off.clone());
        assert_eq!((caches.mode(), caches.version()), (Mode::Off, version), "nothing has changed");
        caches.take_over(&off, &on);
        assert_eq!(caches.mode(), Mode::On);
        let version = caches.version();
        caches.take_over(&on, &on.clone());
        assert_eq!(caches.version(), version, "nothing has changed");
        // Switched at run time: what is read again says how it is.
        caches.set_mode(Mode::Observe);
        caches.take_over(&on, &on.clone());
        assert_eq!(caches.mode(), Mode::On);
        let tables = |table: &str| vec![TableName::parse(table).unwrap()];
        assert_eq!(caches.rules().get(0).unwrap().tables, tables("runs"));
        caches.take_over(&on, &cache(CacheMode::On, "steps"));
        assert_eq!(caches.rules().get(0).unwrap().tables, tables("steps"));
        assert!(caches.version() > version);
        caches.take_over(&on, &Cache { max_entry: 4096, ..on.clone() });
        assert_eq!(caches.budget().max_entry, 4096);

        // Nobody has followed what was written: it stays off whatever is asked for.
        let none = Cache::default();
        let caches = crate::cache::Caches::new(&none);
        caches.take_over(&none, &Cache { mode: CacheMode::On, ..none.clone() });
        assert_eq!((caches.mode(), caches.follows()), (Mode::Off, false));
    }
}

//! The read cache: rules, what is wrong with them, and what of it a reload may change.

use std::time::Duration;

use super::*;

const SERVER: &str = "[databases.app]\nupstream = 'postgres://h/app'\n";

fn cache(text: &str) -> Cache {
    read(&format!("{SERVER}{text}")).cache
}

fn wrong(text: &str) -> Vec<String> {
    let mistakes = Settings::from_toml(&format!("{SERVER}{text}"), &Overrides::default(), &Files).unwrap_err();
    mistakes.iter().map(|mistake| mistake.show("f")).collect()
}

const RULE: &str = "[[cache.rule]]\ntables = ['runs']\nttl = '5m'\n";

#[test]
fn nothing_is_cached_unless_it_is_asked_for() {
    assert_eq!(cache(""), Cache::default());
    assert_eq!(cache("[cache]\n"), Cache::default());
}

#[test]
fn each_key_arrives_and_rules_keep_their_order() {
    let all = "[cache]\nmode = 'observe'\nmax_bytes = '1GiB'\nmax_entry = 1024\ntenant_share = 1\nmin_cost = 0\n\
        sole_writer = true\npublication = 'p'\ncatalog_poll = '1s'\npreset = 'workflow-engine'\n";
    let rule = "[[cache.rule]]\neffect = 'deny'\ntables = ['a.b', 'c_*']\nfingerprint = '00d1e8a1b2c3d4e5'\n\
        application = 'web*'\nhinted = true\nttl = '1h'\nfreshness = 'ttl'\nstale_for = '3s'\ntags = ['t']\n\
        pure_functions = ['f', 's.g']\nmaterialized = true\n";
    let many: String = (0..11).map(|n| format!("[[cache.rule]]\napplication = 'a{n}'\nttl = '1s'\n")).collect();
    let cache = cache(&format!("{all}{rule}{many}"));
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let expected = Cache {
        mode: CacheMode::Observe,
        max_bytes: 1 << 30,
        max_entry: 1024,
        tenant_share: 1.0,
        min_cost: Duration::ZERO,
        sole_writer: true,
        publication: "p".to_owned(),
        catalog_poll: Duration::from_secs(1),
        preset: Some(CachePreset::WorkflowEngine),
        rules: cache.rules.clone(),
        followed: false,
    };
    assert_eq!(cache, expected);
    let first = CacheRule {
        effect: CacheEffect::Deny,
        tables: texts(&["a.b", "c_*"]),
        fingerprint: Some(0x00d1_e8a1_b2c3_d4e5),
        application: Some("web*".to_owned()),
        hinted: true,
        ttl: Duration::from_secs(3600),
        freshness: CacheFreshness::Ttl,
        stale_for: Duration::from_secs(3),
        tags: texts(&["t"]),
        pure_functions: texts(&["f", "s.g"]),
        materialized: true,
    };
    assert_eq!(cache.rules[0], first);
    let applications: Vec<_> = cache.rules[1..12].iter().map(|rule| rule.application.clone().unwrap()).collect();
    assert_eq!(applications, (0..11).map(|n| format!("a{n}")).collect::<Vec<_>>());
    assert_eq!(cache.rules[12..], CachePreset::WorkflowEngine.rules().collect::<Vec<_>>());
    assert_eq!((cache.rules[12].tables[0].as_str(), cache.rules[12].ttl), ("events", Duration::from_secs(300)));
    assert_eq!(cache.rules[13].freshness, CacheFreshness::Coherent);
}

#[test]
fn every_mistake_has_its_place() {
    for (text, place, said) in [
        ("[[cache.rule]]\nttl = '1m'\n", "f:3: cache.rule[1]: ", "says of nothing"),
        ("[[cache.rule]]\ntables = []\nttl = '1m'\n", "f:3: cache.rule[1]: ", "says of nothing"),
        ("[[cache.rule]]\ntables = ['t']\n", "f:3: cache.rule[1].ttl: ", "is missing or 0"),
        ("[[cache.rule]]\ntables = ['t']\nttl = 0\n", "f:5: cache.rule[1].ttl: ", "is missing or 0"),
        ("[[cache.rule]]\ntables = ['t']\nttl = '25h'\n", "f:5: cache.rule[1].ttl: ", "more than a day"),
        (
            "[[cache.rule]]\ntables = ['t']\nttl = '24h'\nfreshness = 'ttl'\nstale_for = '1s'\n",
            "f:5: cache.rule[1].ttl: ",
            "stale_for counted",
        ),
        (
            "[[cache.rule]]\ntables = ['t']\nttl = '1m'\nstale_for = '1s'\n",
            "f:6: cache.rule[1].stale_for: ",
            "needs freshness = \"ttl\"",
        ),
        ("[[cache.rule]]\ntables = ['t', 'a.b.c']\nttl = '1m'\n", "f:4: cache.rule[1].tables: ", "\"a.b.c\""),
        ("[[cache.rule]]\nfingerprint = 'abc'\nttl = '1m'\n", "f:4: cache.rule[1].fingerprint: ", "16 hexadecimal"),
        ("[[cache.rule]]\ntables = 5\nttl = '1m'\n", "f:4: cache.rule[1].tables: ", "a list of names"),
        ("[[cache.rule]]\ntables = ['t']\nttl = '5'\n", "f:5: cache.rule[1].ttl: ", "has no unit"),
        (
            "[[cache.rule]]\ntables = ['t']\nttl = '5m'\nfreshness = 'fresh'\n",
            "f:6: cache.rule[1].freshness: ",
            "coherent",
        ),
        ("[[cache.rule]]\ntables = ['t']\nttl = '5m'\ntag = 'x'\n", "f:6: cache.rule[1].tag: ", "did you mean tags?"),
        ("[cache.rule]\ntables = ['t']\n", "f:3: cache.rule: ", "[[cache.rule]]"),
        ("[cache]\nmode = 'yes'\n", "f:4: cache.mode: ", "off, observe, on"),
        ("[cache]\ntenant_share = 0\n", "f:4: cache.tenant_share: ", "above 0"),
        ("[cache]\ntenant_share = 1.01\n", "f:4: cache.tenant_share: ", "above 0"),
        ("[cache]\ntenant_share = -0.5\n", "f:4: cache.tenant_share: ", "above 0"),
        ("[cache]\ntenant_share = nan\n", "f:4: cache.tenant_share: ", "above 0"),
        ("[cache]\ntenant_share = '0.5'\n", "f:4: cache.tenant_share: ", "without quotes"),
        ("[cache]\nmax_clients = 0.5\n", "f:4: cache.max_clients: ", "no such key"),
        ("[cache]\nmax_bytes = 0\n", "f:4: cache.max_bytes: ", "nothing could be kept"),
        ("[cache]\nmax_entry = 0\n", "f:4: cache.max_entry: ", "nothing could be kept"),
        ("[cache]\nmax_bytes = '1MiB'\nmax_entry = '2MiB'\n", "f:5: cache.max_entry: ", "more than max_bytes"),
        ("[cache]\npublication = ''\n", "f:4: cache.publication: ", "is empty"),
        ("[cache]\ncatalog_poll = 0\n", "f:4: cache.catalog_poll: ", "cannot be 0"),
        ("[cache]\npreset = 'workflow'\n", "f:4: cache.preset: ", "workflow-engine"),
    ] {
        let mistakes = wrong(text);
        assert_eq!(mistakes.len(), 1, "{text}{mistakes:?}");
        assert!(mistakes[0].starts_with(place) && mistakes[0].contains(said), "{text}{mistakes:?}");
    }
    // What denies says nothing of answers.
    assert_eq!(cache("[[cache.rule]]\neffect = 'deny'\ntables = ['t']\n").rules[0].ttl, Duration::ZERO);
}

#[test]
fn there_are_at_most_as_many_rules_as_can_be_counted() {
    let rules = |many| "[[cache.rule]]\nhinted=true\nttl='1s'\n".repeat(many);
    assert_eq!(MAX_RULES, 65_535);
    let mistakes = wrong(&format!("[cache]\npreset = 'workflow-engine'\n{}", rules(65_531)));
    assert!(mistakes.len() == 1 && mistakes[0].contains("more than 65535"), "{mistakes:?}");
}

#[test]
fn several_mistakes_of_a_rule_are_told_together() {
    let mistakes = wrong("[[cache.rule]]\ntables = ['a b', '*c']\nstale_for = '1s'\n");
    let keys: Vec<_> = mistakes.iter().map(|mistake| mistake.split(": ").nth(1).unwrap()).collect();
    assert_eq!(keys, ["cache.rule[1].ttl", "cache.rule[1].tables", "cache.rule[1].tables", "cache.rule[1].stale_for"]);
}

#[test]
fn what_is_probably_not_meant_of_a_cache_is_said() {
    let warnings = |text: &str| read(&format!("{SERVER}{text}")).warnings();
    assert_eq!(warnings(&format!("[cache]\nmode = 'on'\n{RULE}")), Vec::<String>::new());
    assert_eq!(warnings("[cache]\nmode = 'on'\npreset = 'workflow-engine'\n"), Vec::<String>::new());
    let one = |text: &str, start: &str| {
        let warnings = warnings(text);
        assert!(warnings.len() == 1 && warnings[0].starts_with(start), "{text}{warnings:?}");
    };
    one("[cache]\nmode = 'observe'\n", "cache.mode: is observe, and there is no rule");
    one(
        &format!("{RULE}{RULE}freshness = 'ttl'\n{RULE}freshness = 'ttl'\n"),
        "cache.rule[2], cache.rule[3]: freshness = \"ttl\"",
    );
    one(&format!("{RULE}freshness = 'strict'\n"), "cache.rule[1]: freshness = \"strict\"");
    let alone = format!("[cache]\nsole_writer = true\n{RULE}freshness = 'strict'\n");
    assert_eq!(warnings(&alone), Vec::<String>::new(), "it costs nothing there");
    assert_eq!(warnings("[[cache.rule]]\neffect = 'deny'\nfreshness = 'ttl'\nhinted = true\n"), Vec::<String>::new());
}

#[test]
fn the_first_rules_need_a_restart_and_others_do_not() {
    let settings = |text: &str| read(&format!("{SERVER}{text}"));
    let other = RULE.replace("runs", "steps");
    for first in [RULE, "[cache]\npreset = 'workflow-engine'\n"] {
        let (none, some) = (settings(""), settings(first));
        let changes = Changes::between(&none, &some);
        assert!(changes.at_once.is_empty() && keys(&changes.restart).contains(&"cache.rule"), "{changes:?}");
        let in_force = some.without_restart(&none);
        assert!(Changes::between(&none, &in_force).is_empty() && !in_force.cache.follows());
    }
    let (one, two) = (settings(RULE), settings(&other));
    assert_eq!(keys(&Changes::between(&one, &two).at_once), ["cache.rule"]);
    let in_force = two.without_restart(&one);
    assert_eq!(in_force.cache.rules[0].tables, ["steps"]);
    // Who has followed from the start goes on, also while there are no rules.
    let empty = settings("").without_restart(&in_force);
    assert!(empty.cache.rules.is_empty() && empty.cache.follows());
    let again = settings(RULE);
    assert_eq!(keys(&Changes::between(&empty, &again).at_once), ["cache.rule"]);
    assert_eq!(again.without_restart(&empty).cache.rules.len(), 1);
}

#[test]
fn a_reload_keeps_what_of_a_cache_needs_a_restart() {
    let old = read(&format!("{SERVER}{RULE}"));
    let text = "[cache]\nmode = 'on'\nmax_bytes = '2GiB'\nmax_entry = '1GiB'\nsole_writer = true\npublication = 'p'\n";
    let new = read(&format!("{SERVER}{text}{RULE}"));
    let changes = Changes::between(&old, &new);
    assert_eq!(keys(&changes.restart), ["cache.max_bytes", "cache.publication", "cache.sole_writer"]);
    assert_eq!(keys(&changes.at_once), ["cache.max_entry", "cache.mode"]);
    let shown = changes.restart[0].values.clone().unwrap();
    assert_eq!((shown.old.as_deref(), shown.new.as_deref()), (Some("256MiB"), Some("2GiB")));
    let cache = new.without_restart(&old).cache;
    assert_eq!((cache.mode, cache.max_bytes, cache.sole_writer), (CacheMode::On, 256 << 20, false));
    assert_eq!((cache.max_entry, cache.publication.as_str()), (256 << 20, "pgweir_cache"));
}

use config::{ClassRule, Limits, Network, TenantRule};

use super::*;

fn tenants(rules: Vec<TenantRule>) -> Tenants {
    Tenants {
        rules,
        max_tenants: 3,
        limits: BTreeMap::from([("configured".to_owned(), Limits::default())]),
        ..Tenants::default()
    }
}

fn resolver_of(tenants: &Tenants) -> Resolver {
    Resolver::new(tenants, &Directory::new(tenants))
}

fn application(pattern: &str) -> TenantRule {
    TenantRule::by_pattern(Origin::ApplicationName, pattern)
}

fn setting(name: &str) -> TenantRule {
    TenantRule::whole(Origin::Setting { name: name.to_owned(), path: Vec::new() })
}

fn user() -> TenantRule {
    TenantRule::whole(Origin::User)
}

fn facts<'a>(startup: &'a dyn Lookup, settings: &'a dyn Lookup) -> Facts<'a> {
    Facts {
        user: "anna",
        user_suffix: "",
        database: "shop",
        application_name: "worker-acme-7",
        server_name: "acme.db.example",
        certificate: "",
        address: None,
        startup,
        settings,
        comment: &NOTHING,
    }
}

#[test]
fn the_first_rule_that_yields_a_name_wins() {
    let startup = [("tenant", "from-startup")];
    let set = [("app.tenant_id", "from-setting")];
    let option = || TenantRule::whole(Origin::Option("tenant".to_owned()));
    for (rules, tenant, rule) in [
        (vec![], "default", None),
        (vec![user()], "anna", Some(0)),
        (vec![TenantRule::whole(Origin::Database)], "shop", Some(0)),
        (vec![application("worker-{tenant}-*")], "acme", Some(0)),
        (vec![application("web-{tenant}"), user()], "anna", Some(1)),
        (vec![option(), setting("app.tenant_id")], "from-startup", Some(0)),
        (vec![setting("app.tenant_id"), option()], "from-setting", Some(0)),
        (vec![setting("app.other"), option()], "from-startup", Some(1)),
        (vec![user(), setting("app.tenant_id")], "anna", Some(0)),
    ] {
        let resolver = resolver_of(&tenants(rules));
        assert_eq!(resolver.resolve(&facts(&startup, &set)), Resolution { tenant: tenant.into(), rule });
    }
}

#[test]
fn an_empty_name_is_no_name() {
    let resolver = resolver_of(&tenants(vec![setting("app.tenant_id"), user()]));
    assert_eq!(resolver.resolve(&facts(&[], &[("app.tenant_id", "")])).tenant, "anna");
}

#[test]
fn settings_behind_the_rule_that_decided_change_nothing() {
    let resolver = resolver_of(&tenants(vec![
        application("worker-{tenant}-*"),
        setting("app.tenant_id"),
        user(),
        setting("app.late"),
    ]));
    for (name, current, reacts) in [
        ("app.tenant_id", Some(0), false),
        ("app.tenant_id", Some(1), true),
        ("APP.Tenant_ID", Some(2), true),
        ("app.tenant_id", None, true),
        ("application_name", Some(0), true),
        ("application_name", Some(2), true),
        ("app.late", Some(2), false),
        ("search_path", Some(2), false),
    ] {
        assert_eq!(resolver.reacts_to(name, current), reacts, "{name} {current:?}");
    }
    assert_eq!(resolver.settings().collect::<Vec<_>>(), ["app.tenant_id", "app.late"]);
    let by_user = resolver_of(&tenants(vec![user(), application("{tenant}")]));
    assert!(!by_user.reacts_to("application_name", Some(0)));
}

#[test]
fn patterns() {
    for (pattern, name, tenant) in [
        ("{tenant}", "acme", Some("acme")),
        ("{tenant}", "", None),
        ("worker-{tenant}-*", "worker-acme-7", Some("acme")),
        ("worker-{tenant}-*", "worker-acme-", Some("acme")),
        ("worker-{tenant}-*", "worker-acme", None),
        ("worker-{tenant}-*", "worker--7", None),
        ("worker-{tenant}-*", "worker-a-b-c", Some("a")),
        ("worker-{tenant}-*", "web-acme-7", None),
        ("{tenant}-web", "big-co-web", Some("big-co")),
        ("{tenant}-web", "-web", None),
        ("{tenant}*", "acme", Some("acme")),
        ("*-{tenant}", "a-b-c", Some("b-c")),
        ("*/{tenant}/*", "x/acme/y", Some("acme")),
        ("*/{tenant}/*", "x/acme", None),
        ("a*b*{tenant}", "axxbxacme", Some("xacme")),
        ("w-{tenant}-*-end", "w-acme-x-end", Some("acme")),
        ("w-{tenant}-*-end", "w-acme-x-ende", None),
        ("w-{tenant}-*-end", "w-acme-end", None),
        ("ü-{tenant}-*", "ü-ä-1", Some("ä")),
        ("{tenant}-*", "ä", None),
    ] {
        assert_eq!(Pattern::new(pattern).tenant_in(name), tenant, "{pattern} {name}");
    }
}

#[test]
fn a_nasty_pattern_takes_no_longer_than_the_name_is_long() {
    let pattern = Pattern::new(&format!("{}{{tenant}}{}", "*a".repeat(60), "-*a".repeat(60)));
    let name = "a".repeat(200_000);
    let started = std::time::Instant::now();
    assert_eq!(pattern.tenant_in(&name), None);
    assert!(started.elapsed().as_secs() < 2);
}

#[test]
fn what_decides_first_by_every_origin() {
    let jwt = r#"{"sub": 7, "app_metadata": {"tenant_id": "from-jwt"}, "list": [1]}"#;
    let startup = [("tenant", "from-startup")];
    let set = [("request.jwt.claims", jwt), ("broken", "{")];
    let comment = [("tenant", "from-comment")];
    let facts = Facts {
        user_suffix: "from-suffix",
        certificate: "from-certificate",
        address: Some("10.9.1.2".parse().unwrap()),
        comment: &comment,
        ..facts(&startup, &set)
    };
    let claim = |name: &str, path: &str| {
        let path = path.split('.').map(str::to_owned).collect();
        TenantRule::whole(Origin::Setting { name: name.to_owned(), path })
    };
    let network = |network: &str, tenant: &str| TenantRule {
        origin: Origin::Network(vec![Network::parse(network).unwrap()]),
        pattern: None,
        tenant: Some(tenant.to_owned()),
    };
    let fixed = TenantRule { tenant: Some("workers".to_owned()), ..application("^worker") };
    for (rules, tenant, rule) in [
        (vec![claim("request.jwt.claims", "app_metadata.tenant_id")], "from-jwt", Some(0)),
        (vec![claim("request.jwt.claims", "sub")], "7", Some(0)),
        (vec![claim("request.jwt.claims", "app_metadata"), user()], "anna", Some(1)),
        (vec![claim("request.jwt.claims", "app_metadata.other"), user()], "anna", Some(1)),
        (vec![claim("request.jwt.claims", "list"), user()], "anna", Some(1)),
        (vec![claim("broken", "a"), user()], "anna", Some(1)),
        (vec![TenantRule::whole(Origin::UserSuffix(".".to_owned())), user()], "from-suffix", Some(0)),
        (vec![TenantRule::whole(Origin::Certificate), user()], "from-certificate", Some(0)),
        (vec![TenantRule::whole(Origin::Comment("tenant".to_owned())), user()], "from-comment", Some(0)),
        // What the connection says first, no comment changes.
        (vec![user(), TenantRule::whole(Origin::Comment("tenant".to_owned()))], "anna", Some(0)),
        (vec![network("10.8.0.0/16", "home"), network("10.9.0.0/16", "office")], "office", Some(1)),
        (vec![TenantRule::by_pattern(Origin::ServerName, "{tenant}.db.*")], "acme", Some(0)),
        (vec![application("worker-(?<tenant>[a-z]+)-[0-9]+$")], "acme", Some(0)),
        (vec![application("web-(?<tenant>[a-z]+)"), user()], "anna", Some(1)),
        (vec![fixed], "workers", Some(0)),
    ] {
        let resolver = resolver_of(&tenants(rules));
        assert_eq!(resolver.resolve(&facts), Resolution { tenant: tenant.into(), rule });
    }
}

#[test]
fn the_first_class_that_shows_is_the_class() {
    let rule = |class: &str, origin, pattern: Option<&str>| ClassRule {
        class: class.to_owned(),
        origin,
        pattern: pattern.map(str::to_owned),
    };
    let settings = Tenants {
        classes: vec![
            rule("migration", Origin::Comment("job".to_owned()), None),
            rule("worker", Origin::ApplicationName, Some("^worker")),
            rule("batch", Origin::User, Some("^anna$")),
        ],
        class_limits: BTreeMap::from([("zeta".to_owned(), Limits::default())]),
        ..Tenants::default()
    };
    let directory = Directory::new(&settings);
    let resolver = Resolver::new(&settings, &directory);
    let class = |facts: &Facts<'_>| resolver.class_name(resolver.class(facts)).to_owned();
    let comment = [("job", "42")];
    let base = facts(&NOTHING, &NOTHING);
    assert_eq!(class(&Facts { comment: &comment, ..base }), "migration");
    assert_eq!(class(&base), "worker");
    assert_eq!(class(&Facts { application_name: "web", ..base }), "batch");
    assert_eq!(class(&Facts { application_name: "web", user: "bob", ..base }), "");
    assert_eq!(resolver.class_name(directory.class("zeta")), "zeta");
    assert_eq!(directory.class("unknown"), ClassId::NONE);
    assert!(resolver.reads_comments() && resolver.reacts_to("application_name", Some(0)));
}

#[test]
fn a_users_suffix_is_the_tenant_and_the_rest_logs_in() {
    let dotted = tenants(vec![TenantRule::whole(Origin::UserSuffix(".".to_owned()))]);
    for (user, split) in [
        ("app.acme", ("app", "acme")),
        ("app.x.acme", ("app.x", "acme")),
        ("app", ("app", "")),
        (".acme", (".acme", "")),
        ("app.", ("app.", "")),
    ] {
        assert_eq!(split_user(&dotted, user), split);
    }
    assert_eq!(split_user(&tenants(Vec::new()), "app.acme"), ("app.acme", ""));
}

#[test]
fn strangers_are_bounded_and_configured_names_always_fit() {
    let directory = Directory::new(&tenants(Vec::new()));
    let ids: Vec<TenantId> = ["a", "b", "c", "d", "e"].map(|name| directory.id(name)).to_vec();
    assert_eq!(ids[3..], [TenantId::OTHER, TenantId::OTHER]);
    assert!(ids[..3].iter().all(|id| *id != TenantId::OTHER));
    assert_ne!(directory.id("configured"), TenantId::OTHER);
    assert_eq!(directory.id("a"), ids[0]);
    assert_eq!(&*directory.name(ids[1]), "b");
    assert_eq!(&*directory.name(TenantId::OTHER), "(others)");
    assert_eq!(directory.id("(others)"), TenantId::OTHER, "whoever chooses that name is one of them");
    let names: Vec<String> = directory.names().iter().map(|name| name.to_string()).collect();
    assert_eq!(names, ["(others)", "default", "configured", "a", "b", "c"]);
}

#[test]
fn a_reload_makes_room_and_keeps_ids() {
    let directory = Directory::new(&tenants(Vec::new()));
    let before: Vec<TenantId> = ["a", "b", "c"].map(|name| directory.id(name)).to_vec();
    let mut settings = tenants(Vec::new());
    settings.max_tenants = 5;
    settings.limits.insert("new".to_owned(), Limits::default());
    directory.reload(&settings);
    assert_ne!(directory.id("new"), TenantId::OTHER);
    assert_ne!(directory.id("d"), TenantId::OTHER);
    assert_eq!(["a", "b", "c"].map(|name| directory.id(name)).to_vec(), before);
}

#[test]
fn names_that_configurations_bring_over_time_have_an_end_too() {
    let directory = Directory::new(&tenants(Vec::new()));
    for number in 0..2 * MAX_CONFIGURED {
        let limits = BTreeMap::from([(format!("tenant {number}"), Limits::default())]);
        directory.reload(&Tenants { limits, ..tenants(Vec::new()) });
    }
    assert_eq!(directory.names().len(), MAX_CONFIGURED);
    assert!(directory.known("configured").is_some() && directory.known("tenant 5").is_some());
    assert_eq!(directory.known(&format!("tenant {}", 2 * MAX_CONFIGURED - 1)), None);
}

fn with_classes(names: &[&str]) -> Tenants {
    let limits = names.iter().map(|name| ((*name).to_owned(), Limits::default()));
    Tenants { class_limits: limits.collect(), ..Tenants::default() }
}

#[test]
fn a_class_keeps_its_number_whatever_comes_before_it_in_a_reload() {
    let directory = Directory::new(&with_classes(&["worker"]));
    let worker = directory.class("worker");
    assert_ne!(worker, ClassId::NONE);
    let settings = with_classes(&["batch", "worker"]);
    directory.reload(&settings);
    assert_eq!(directory.class("worker"), worker);
    assert_ne!(directory.class("batch"), worker);
    let settings = with_classes(&["batch"]);
    directory.reload(&settings);
    let resolver = Resolver::new(&settings, &directory);
    assert_eq!((resolver.class_name(worker), resolver.class_name(directory.class("batch"))), ("worker", "batch"));
}

#[test]
fn numbers_of_classes_that_are_gone_are_given_again_when_there_are_no_others() {
    let directory = Directory::new(&with_classes(&["stays"]));
    let stays = directory.class("stays");
    for round in 0..1_000 {
        let name = format!("class {round}");
        directory.reload(&with_classes(&[&name, "stays"]));
        assert_eq!(directory.class("stays"), stays);
        assert!(![ClassId::NONE, stays].contains(&directory.class(&name)), "{name}");
        assert!(directory.classes().len() <= MAX_NUMBERS);
    }
}

#[test]
fn names_that_no_tenant_has_are_nobody() {
    let directory = Directory::new(&tenants(Vec::new()));
    for name in ["", &"x".repeat(MAX_NAME + 1)] {
        assert_eq!(directory.id(name), TenantId::OTHER);
    }
    assert_ne!(directory.id(&"x".repeat(MAX_NAME)), TenantId::OTHER);
}

#[test]
fn a_memo_never_remembers_strangers() {
    let directory = Directory::new(&tenants(Vec::new()));
    let mut memo = Memo::default();
    for number in 0..1000 {
        memo.id(&format!("tenant {number}"), &directory);
    }
    assert_eq!(memo.ids.len(), 3);
    assert_eq!(memo.id("tenant 1", &directory), directory.id("tenant 1"));
}

#[test]
fn workers_that_meet_a_name_at_once_agree_on_its_id() {
    let directory = Directory::new(&tenants(Vec::new()));
    let ids: Vec<Vec<TenantId>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| ["x", "y", "z"].map(|name| directory.id(name)).to_vec())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|of_thread| *of_thread == ids[0]));
    assert_eq!(directory.names().len(), 6);
}

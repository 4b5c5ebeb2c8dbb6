use config::Limits;

use super::*;

fn tenants(rules: Vec<TenantRule>) -> Tenants {
    Tenants {
        rules,
        default: "default".to_owned(),
        max_tenants: 3,
        default_limits: Limits::default(),
        limits: BTreeMap::from([("configured".to_owned(), Limits::default())]),
    }
}

fn application(pattern: &str) -> TenantRule {
    TenantRule::ApplicationName(pattern.to_owned())
}

fn setting(name: &str) -> TenantRule {
    TenantRule::Setting(name.to_owned())
}

fn facts<'a>(startup: &'a dyn Lookup, settings: &'a dyn Lookup) -> Facts<'a> {
    Facts {
        user: "anna",
        database: "shop",
        application_name: "worker-acme-7",
        server_name: "acme.db.example",
        startup,
        settings,
    }
}

#[test]
fn the_first_rule_that_yields_a_name_wins() {
    let startup = [("tenant", "from-startup")];
    let set = [("app.tenant_id", "from-setting")];
    let option = || TenantRule::StartupOption("tenant".to_owned());
    for (rules, tenant, rule) in [
        (vec![], "default", None),
        (vec![TenantRule::User], "anna", Some(0)),
        (vec![TenantRule::Database], "shop", Some(0)),
        (vec![application("worker-{tenant}-*")], "acme", Some(0)),
        (vec![application("web-{tenant}"), TenantRule::User], "anna", Some(1)),
        (vec![option(), setting("app.tenant_id")], "from-startup", Some(0)),
        (vec![setting("app.tenant_id"), option()], "from-setting", Some(0)),
        (vec![setting("app.other"), option()], "from-startup", Some(1)),
        (vec![TenantRule::User, setting("app.tenant_id")], "anna", Some(0)),
    ] {
        let resolver = Resolver::new(&tenants(rules));
        assert_eq!(resolver.resolve(&facts(&startup, &set)), Resolution { tenant, rule });
    }
}

#[test]
fn an_empty_name_is_no_name() {
    let resolver = Resolver::new(&tenants(vec![setting("app.tenant_id"), TenantRule::User]));
    assert_eq!(resolver.resolve(&facts(&[], &[("app.tenant_id", "")])).tenant, "anna");
}

#[test]
fn settings_behind_the_rule_that_decided_change_nothing() {
    let resolver = Resolver::new(&tenants(vec![
        application("worker-{tenant}-*"),
        setting("app.tenant_id"),
        TenantRule::User,
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
    let by_user = Resolver::new(&tenants(vec![TenantRule::User, application("{tenant}")]));
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
fn strangers_are_bounded_and_configured_names_always_fit() {
    let directory = Directory::new(&tenants(Vec::new()));
    let ids: Vec<TenantId> = ["a", "b", "c", "d", "e"].map(|name| directory.id(name)).to_vec();
    assert_eq!(ids[3..], [TenantId::OTHER, TenantId::OTHER]);
    assert!(ids[..3].iter().all(|id| *id != TenantId::OTHER));
    assert_ne!(directory.id("configured"), TenantId::OTHER);
    assert_eq!(directory.id("a"), ids[0]);
    assert_eq!(&*directory.name(ids[1]), "b");
    assert_eq!(&*directory.name(TenantId::OTHER), "other");
    assert_eq!(directory.id("other"), TenantId::OTHER);
    let names: Vec<String> = directory.names().iter().map(|name| name.to_string()).collect();
    assert_eq!(names, ["other", "default", "configured", "a", "b", "c"]);
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

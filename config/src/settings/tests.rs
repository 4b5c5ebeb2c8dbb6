mod admin;
mod cache;

use super::*;
use crate::schema::{Kind, Reload, Row};

/// Files of rules and of maps; every other one holds a userlist line, which serves as a password too.
struct Files;

impl Sources for Files {
    fn env(&self, name: &str) -> Option<String> {
        name.starts_with("PGWEIR_TEST_").then(|| format!("value of {name}")).or_else(|| {
            ["PGWEIR_ADMIN_TOKEN", "ACME_TOKEN", "REPORTING_PASSWORD", "REPORTING_UPSTREAM_PASSWORD"]
                .contains(&name)
                .then(|| format!("secret of {name}"))
        })
    }

    fn read(&self, path: &str) -> Result<String, String> {
        let text = match path {
            "hba" => "local all all trust\n",
            "maps" => "other root postgres\n",
            _ => "\"listed\" \"secret\"\n",
        };
        Ok(text.to_owned())
    }

    fn tenants(&self, folder: &str) -> Result<Vec<(String, String)>, String> {
        if folder == "other" { Ok(Vec::new()) } else { Err("no such folder".to_owned()) }
    }

    fn cores(&self) -> usize {
        3
    }
}

fn keys(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.key.as_str()).collect()
}

const BASE: &str = "[databases.app]\nupstream = 'postgres://h/app'\n[peers]\nid = 9\n[users.anna]\n[tenant.limits.acme]\n\
    [cache]\n[[cache.rule]]\ntables = ['t']\nttl = '1m'\n\
    [tls]\ncert_file = 'c'\nkey_file = 'k'\nca_file = 'a'\n\
    [upstream_tls]\nmode = 'require'\ncert_file = 'c'\nkey_file = 'k'\nca_file = 'a'\n[auth]\nquery_user = 'asker'\n";

fn read(text: &str) -> Settings {
    Settings::from_toml(text, &Overrides::default(), &Files).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"))
}

/// A value other than the default, as TOML.
fn other_value(row: &Row) -> String {
    match row.path {
        "unix_socket_mode" => return "'0770'".to_owned(),
        "auth.hba_file" => return "'hba'".to_owned(),
        "auth.ident_file" => return "'maps'".to_owned(),
        "tenant.table.database" => return "'app'".to_owned(),
        "tenant.table.query" => return "'TABLE t'\ndatabase = 'app'".to_owned(),
        "tenant.table.interval" => return "'1m'\ndatabase = 'app'".to_owned(),
        "tenant.default.mode" | "tenant.default.modes.<limit>" => return "'warn'".to_owned(),
        "auth.map" => return "'other'\nident_file = 'maps'\nmethod = 'peer'".to_owned(),
        "auth.query" | "databases.<name>.auth_query" => return "'select lookup($1)'".to_owned(),
        "admin.tenant_token.<name>.tenant" => return "'acme'\ntoken = 'own'\n[admin]\ntoken = 't'".to_owned(),
        "admin.tenant_token.<name>.token" | "admin.tenant_token.<name>.token_file" => {
            return "'other'\ntenant = 'acme'\n[admin]\ntoken = 't'".to_owned();
        }
        "admin.tenant_token.<name>.token_sha256" => {
            return format!("'{}'\ntenant = 'acme'\n[admin]\ntoken = 't'", "0f".repeat(32));
        }
        "admin.access.<name>.role" => return "'viewer'\ntoken = 'own'".to_owned(),
        "admin.access.<name>.tenant" => {
            return "'acme'\nrole = 'tenant'\ntoken = 'own'\n[admin]\ntoken = 't'".to_owned();
        }
        "admin.access.<name>.token" | "admin.access.<name>.token_file" => return "'other'\nrole = 'viewer'".to_owned(),
        "admin.access.<name>.token_sha256" => return format!("'{}'\nrole = 'viewer'", "0f".repeat(32)),
        "admin.token_sha256" => return format!("'{}'", "0f".repeat(32)),
        "admin.tls_cert_file" => return "'c'\ntls_key_file = 'k'".to_owned(),
        "admin.tls_key_file" => return "'k'\ntls_cert_file = 'c'".to_owned(),
        "admin.tls_min_version" => return "'1.3'\ntls_cert_file = 'c'\ntls_key_file = 'k'".to_owned(),
        _ => {}
    }
    match row.kind {
        Kind::Flag => (row.default == Some("false")).to_string(),
        Kind::Fraction => "0.5".to_owned(),
        Kind::Count(low, _) | Kind::CountOrAuto(low, _) => (low + 1).to_string(),
        Kind::Time { .. } => "'3s'".to_owned(),
        Kind::Text if row.path == "peers.<id>.address" => "'h:1'".to_owned(),
        Kind::Text | Kind::Secret => "'other'".to_owned(),
        Kind::Word(words) => format!("'{}'", words.last().unwrap()),
        Kind::Addresses | Kind::AddressOrOff => "'127.0.0.1:7000'".to_owned(),
        Kind::Networks => "['10.0.0.0/8', '2001:db8::1']".to_owned(),
        Kind::Names => "['runs', 'audit.*']".to_owned(),
        Kind::Size => "'3MiB'".to_owned(),
        Kind::Url => "'postgres://u:p@elsewhere:1/d'".to_owned(),
    }
}

fn concrete(path: &str) -> String {
    path.replace("users.<name>", "users.anna")
        .replace("databases.<name>", "databases.app")
        .replace("tenant_token.<name>", "tenant_token.acme")
        .replace("access.<name>", "access.acme")
        .replace("<id>", "3")
        .replace("<limit>", "max_rows")
}

/// Puts a key into the base text: it replaces the one that stands there.
fn with_key(path: &str, value: &str) -> String {
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let line = format!("{key} = {value}\n");
    if section.is_empty() {
        return format!("{line}{BASE}");
    }
    let header = format!("[{section}]\n");
    match BASE.split_once(&header) {
        Some((before, after)) => {
            let (own, others) = after.split_at(after.find("\n[").map_or(after.len(), |end| end + 1));
            let own: String = own.split_inclusive('\n').filter(|old| !old.starts_with(&format!("{key} = "))).collect();
            format!("{before}{header}{line}{own}{others}")
        }
        None => format!("{BASE}{header}{line}"),
    }
}

/// Where a key shows up in the settings, when it is not under its own name.
fn expected_key(path: &str) -> String {
    match path {
        "auth.userlist" => "users.listed.password".to_owned(),
        _ if path.contains("tls.") => path.to_owned(),
        "auth.hba_file" | "auth.ident_file" | "admin.tls_cert_file" | "admin.tls_key_file" => path.to_owned(),
        _ if path.starts_with("admin.") => path.trim_end_matches("_file").trim_end_matches("_sha256").to_owned(),
        "databases.app.password" | "databases.app.password_file" => "databases.app.upstream".to_owned(),
        _ if path.starts_with("auth.query") => {
            let own = path.trim_end_matches("_file").replace("auth.query", "databases.app.auth");
            if own.ends_with(".auth") { format!("{own}_query") } else { own }
        }
        _ => path.trim_end_matches("_file").replace("pool.", "databases.app."),
    }
}

#[test]
fn unix_sockets_are_folders_with_ports_and_stand_beside_addresses() {
    let settings = read(&format!("listen = ['127.0.0.1:1', '/run/pgweir:6432', '/tmp/.s.PGSQL.7']\n{BASE}"));
    let shown: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["127.0.0.1:1", "/run/pgweir/.s.PGSQL.6432", "/tmp/.s.PGSQL.7"]);
    assert_eq!(settings.listen.iter().map(ListenAddress::port).collect::<Vec<_>>(), [1, 6432, 7]);
    assert_eq!(settings.unix_socket, UnixSocket::default());
    let private =
        read(&format!("listen = '/run/pgweir/:6432'\nunix_socket_mode = '0770'\nunix_socket_group = 'app'\n{BASE}"));
    assert_eq!(private.listen, settings.listen[1..2]);
    assert_eq!(private.unix_socket, UnixSocket { mode: 0o770, group: Some("app".to_owned()) });
    let on_root = read(&format!("listen = '/:6432'\n{BASE}"));
    assert_eq!(on_root.listen[0].to_string(), "/.s.PGSQL.6432");
}

#[test]
fn every_default_is_valid_and_every_key_arrives() {
    let base = read(BASE);
    for row in schema::all().filter(|row| !row.path.contains("[]")) {
        if let Some(default) = row.default {
            let parsed = text::parse(row, default, Quoted::Either, &Files);
            assert!(parsed.is_ok(), "{}: {parsed:?}", row.path);
        }
        let path = concrete(row.path);
        let changed = read(&with_key(&path, &other_value(row)));
        let changes = Changes::between(&base, &changed);
        let key = expected_key(&path);
        let (there, elsewhere) = match row.reload {
            Reload::Restart => (&changes.restart, &changes.at_once),
            Reload::AtOnce => (&changes.at_once, &changes.restart),
        };
        assert!(keys(there).contains(&key.as_str()) && elsewhere.is_empty(), "{path}: {changes:?}");
    }
}

#[test]
fn a_database_takes_every_key_of_the_pool() {
    let base = read(BASE);
    for row in schema::POOL {
        let path = row.path.replace("pool.", "databases.app.");
        let changes = Changes::between(&base, &read(&with_key(&path, &other_value(row))));
        assert_eq!(keys(&changes.at_once), [path]);
    }
}

#[test]
fn each_kind_of_rule_arrives_in_order() {
    let text = format!(
        "{BASE}{}",
        (0..11).map(|n| format!("[[tenant.rule]]\nfrom = 'setting'\nname = 'app.t{n}'\n")).collect::<String>()
            + "[[tenant.rule]]\nfrom = 'option'\nname = 'tenant'\n[[tenant.rule]]\nfrom = 'application_name'\npattern = '{tenant}'\n[[tenant.rule]]\nfrom = 'database'\n[[tenant.rule]]\nfrom = 'user'\n"
    );
    let setting = |name: String| TenantRule::whole(Origin::Setting { name, path: Vec::new() });
    let mut expected: Vec<TenantRule> = (0..11).map(|n| setting(format!("app.t{n}"))).collect();
    expected.extend([
        TenantRule::whole(Origin::Option("tenant".to_owned())),
        TenantRule::by_pattern(Origin::ApplicationName, "{tenant}"),
        TenantRule::whole(Origin::Database),
        TenantRule::whole(Origin::User),
    ]);
    assert_eq!(read(&text).tenants.rules, expected);
}

#[test]
fn mutes_arrive_in_order_and_a_reload_takes_them() {
    let entries: String = (0..11).map(|n| format!("[[observe.mute]]\nuser = 'u{n}'\n")).collect();
    let last = "[[observe.mute]]\nfingerprint = '00d1e8a1b2c3d4e5'\nkind = 'n_plus_one'\nuntil = '2026-12-31'\nnote = 'the importer'\n";
    let settings = read(&format!("{BASE}{entries}{last}"));
    let mut expected: Vec<Mute> = (0..11).map(|n| Mute { user: Some(format!("u{n}")), ..Mute::default() }).collect();
    expected.push(Mute {
        fingerprint: Some(0x00d1_e8a1_b2c3_d4e5),
        kind: Some("n_plus_one".to_owned()),
        until_us: Some(1_798_675_200_000_000),
        note: Some("the importer".to_owned()),
        ..Mute::default()
    });
    assert_eq!(settings.observe.mutes, expected);
    let changes = Changes::between(&read(BASE), &settings);
    assert_eq!((keys(&changes.at_once), changes.restart), (vec!["observe.mute"], Vec::new()));
}

#[test]
fn each_table_of_limits_says_only_what_stands_in_it() {
    let tenants = read("[databases.a]\nupstream = 'postgres://h'\n[tenant.default]\nstatement_timeout = '5s'\nmode = 'warn'\n[tenant.class.worker]\nmax_bytes = '2MiB'\n[tenant.limits.a]\nstatement_timeout = 0\nmodes.max_rows = 'observe'\n[tenant.limits.b]\n[tenant.fingerprint.00d1e8a1b2c3d4e5]\nblocked = true\n").tenants;
    let said = Limits::default().with_time(LimitKey::StatementTimeout, Duration::from_secs(5));
    assert_eq!(tenants.default_limits, said.with(LimitKey::Mode, LimitValue::Mode(Mode::Warn)));
    assert_eq!(tenants.class_limits["worker"], Limits::default().with_count(LimitKey::MaxBytes, 2 << 20));
    let lifted = Limits::default().with_time(LimitKey::StatementTimeout, Duration::ZERO);
    assert_eq!(tenants.limits["a"], lifted.with_mode(LimitKey::MaxRows, Mode::Observe));
    assert!(tenants.limits["b"].is_empty());
    let blocked = Limits::default().with(LimitKey::Blocked, LimitValue::Flag(true));
    assert_eq!(tenants.fingerprints[&0x00d1_e8a1_b2c3_d4e5], blocked);
}

#[test]
fn every_limit_has_a_row_of_its_type() {
    for key in LimitKey::ALL {
        let path = format!("tenant.default.{}", key.word());
        let row = schema::LIMITS.iter().find(|row| row.path == path).unwrap_or_else(|| panic!("{path}"));
        let fits = match key.kind() {
            LimitKind::Time => matches!(row.kind, Kind::Time { zero: true }),
            LimitKind::Threshold => matches!(row.kind, Kind::Time { zero: false }),
            LimitKind::Count => matches!(row.kind, Kind::Count(..)),
            LimitKind::Size => row.kind == Kind::Size,
            LimitKind::Flag => row.kind == Kind::Flag,
            LimitKind::Names => row.kind == Kind::Names,
            LimitKind::Word => matches!(row.kind, Kind::Word(_)),
        };
        assert!(fits, "{path}");
    }
}

#[test]
fn tenants_of_a_folder_are_tenants_and_their_mistakes_have_a_place() {
    let base = format!("{BASE}[tenant]\ndirectory = 'tenants.d'\n");
    let folder = |files: &'static [(&'static str, &'static str)]| Folder(files);
    let read = |files| Settings::from_toml(&base, &Overrides::default(), &folder(files));
    let tenants = read(&[("t1", "statement_timeout = '1s'"), ("t2", "")]).unwrap().tenants;
    assert_eq!(tenants.limits["t1"], Limits::default().with_time(LimitKey::StatementTimeout, Duration::from_secs(1)));
    assert!(tenants.limits["t2"].is_empty());
    for (files, said) in [
        (
            &[("t1", "\nstatement_timeuot = '1s'")][..],
            "tenants.d/t1.toml:2: tenant.limits.t1.statement_timeuot: there is no such key; did you mean statement_timeout?",
        ),
        (&[("acme", "")], "stands in tenants.d/acme.toml too"),
        (&[("t1", "a = ")], "tenants.d/t1.toml:1: this is not TOML"),
    ] {
        let mistakes = read(files).unwrap_err().to_string();
        assert!(mistakes.contains(said), "{mistakes}");
    }
    let missing = Settings::from_toml(&base, &Overrides::default(), &Files).unwrap_err().to_string();
    assert!(missing.contains("cannot read tenants.d"), "{missing}");
}

/// A folder of tenants, and nothing else.
struct Folder(&'static [(&'static str, &'static str)]);

impl Sources for Folder {
    fn env(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &str) -> Result<String, String> {
        Files.read(path)
    }

    fn tenants(&self, _folder: &str) -> Result<Vec<(String, String)>, String> {
        Ok(self.0.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }
}

#[test]
fn the_zero_config_start_lends_its_password_to_nobody_else() {
    let settings = Settings::from_upstream("postgres://app:pw@h:6000/db", Overrides::default(), &Files).unwrap();
    let every = settings.wildcard.unwrap().upstream;
    assert_eq!(every.hosts, [Host { name: "h".to_owned(), port: 6000 }]);
    assert_eq!((every.database, every.user, every.password), (None, None, None));
    assert_eq!(settings.users["app"].secret, UserSecret::Plain(Secret::new("pw")));
    assert_eq!(settings.databases["db"].upstream.database.as_deref(), Some("db"));
    assert_eq!(settings.databases["db"].upstream.password, None);
    assert_eq!(settings.auth.method, AuthMethod::PassThrough);
    assert_eq!(settings.workers, 3);
}

#[test]
fn overrides_win_and_are_checked_alike() {
    let overrides =
        Overrides::default().with_flag("pool.size", "7", "--pool-size").with("listen", "127.0.0.1:1, [::1]:2");
    let settings = Settings::from_toml(&format!("{BASE}[pool]\nsize = 5\n"), &overrides, &Files).unwrap();
    assert_eq!((settings.databases["app"].pool.size, settings.listen.len()), (7, 2));
    let wrong = Overrides::default().with_flag("pool.size", "0", "--pool-size").with("pool.sise", "1");
    let mistakes = Settings::from_toml(BASE, &wrong, &Files).unwrap_err();
    let shown: Vec<String> = mistakes.iter().map(|mistake| mistake.show("f")).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown[0].starts_with("--pool-size: pool.size: is not possible"), "{shown:?}");
    assert!(shown[1].starts_with("pool.sise: pool.sise: there is no such key"), "{shown:?}");
}

#[test]
fn peers_are_numbered_and_every_mistake_is_told() {
    let base = BASE.replace("[peers]\nid = 9\n", "");
    let peers =
        read(&format!("{base}[peers]\nid = 0\n[peers.1]\naddress = 'b:6432'\n[peers.2]\naddress = '[::1]:7'\n")).peers;
    assert_eq!(peers.own, 1);
    let shown: Vec<_> = peers.addresses.iter().map(|(number, address)| format!("{number} {address}")).collect();
    assert_eq!(shown, ["2 b:6432", "3 [::1]:7"]);
    let wrong = format!(
        "{base}[peers]\nid = 3\n[peers.3]\naddress = 'a:1'\n[peers.x]\naddress = 'a:1'\n[peers.4]\naddress = 'a'\n[peers.5]\n"
    );
    let mistakes = Settings::from_toml(&wrong, &Overrides::default(), &Files).unwrap_err();
    assert_eq!(mistakes.iter().count(), 3, "{mistakes}");
    let nameless = Settings::from_toml(&format!("{base}[peers.1]\naddress = 'a:1'\n"), &Overrides::default(), &Files);
    assert!(nameless.unwrap_err().to_string().contains("add id"));
}

#[test]
fn a_reload_keeps_what_needs_a_restart() {
    let running =
        read("[databases.app]\nupstream = 'postgres://h/app'\n[peers]\nid = 9\n[users.anna]\n[tenant.limits.acme]\n");
    let text = "listen = '127.0.0.1:1'\nworkers = 9\nmax_clients = 9\n[peers]\nid = 9\n[databases.app]\nupstream = 'postgres://h/app'\n[users.anna]\n[tenant.limits.acme]\n[admin]\nlisten = 'off'\n[log]\nformat = 'json'\nlevel = 'debug'\n[observe]\ncompat = 18\nstate_directory = '/s'\n";
    let new = read(text);
    let waiting = Changes::between(&running, &new).restart;
    assert_eq!(keys(&waiting), ["admin.listen", "observe.compat", "observe.state_directory", "workers"]);
    assert_eq!(waiting[3].values, Some(Values { old: Some("3".to_owned()), new: Some("9".to_owned()) }));
    let in_force = new.without_restart(&running);
    let changes = Changes::between(&running, &in_force);
    assert_eq!(
        (keys(&changes.at_once), changes.restart),
        (vec!["listen", "log.format", "log.level", "max_clients"], vec![])
    );
    assert!(Changes::between(&running, &running.clone()).is_empty());
}

#[test]
fn changes_of_databases_users_and_tenants_are_named() {
    let changes = Changes::between(&read(BASE), &read("[databases.\"a.b\"]\nupstream = 'postgres://h/app'\n"));
    for key in ["databases.\"a.b\".upstream", "databases.app.upstream", "users.anna.password", "tenant.limits.acme"] {
        assert!(changes.at_once.iter().any(|change| change.key == key), "{key}: {changes:?}");
    }
    let secret = |password: &str| read(&format!("{BASE}[users.bob]\npassword = '{password}'\n"));
    assert_eq!(keys(&Changes::between(&secret("a"), &secret("b")).at_once), ["users.bob.password"]);
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let text = format!("listen = '0.0.0.0:1'\n{BASE}connect = 1\n")
        .replace("connect = 1\n", "method = 'trust'\n[pool]\nqueue_timeout = '1s'\n");
    let warnings = read(&text).warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("auth.method: trust") && warnings[1].starts_with("databases.app: connect_timeout"));
    let md5 = read(
        &format!("{BASE}[users.bob]\npassword = 'md50123456789abcdef0123456789abcdef'\n")
            .replace("[auth]\n", "[auth]\nmethod = 'scram-sha-256'\n"),
    );
    assert_eq!(md5.warnings().len(), 1);
    assert!(read(BASE).warnings().is_empty());
}

#[test]
fn the_example_is_valid_and_names_every_key() {
    let example = include_str!("../../../docs/pgweir.toml");
    let settings = read(example);
    assert_eq!(settings.databases.len(), 2);
    assert!(settings.wildcard.is_some() && settings.tenants.rules.len() == 6);
    for row in schema::all() {
        let key = row.path.rsplit('.').next().unwrap().replace("<limit>", "statement_rate");
        assert!(example.contains(&format!("{key} = ")), "{}", row.path);
    }
}

#[test]
fn the_reference_on_file_is_up_to_date() {
    assert_eq!(crate::reference(), include_str!("../../../docs/config.md"), "run `make docs`");
    for row in schema::all() {
        assert!(crate::reference().contains(row.meaning), "{} stands in no section", row.path);
    }
}

#[test]
fn values_are_shown_and_secrets_are_not() {
    let all = |secret: &str| {
        read(&format!(
            "[admin]\ntoken = '{secret}1'\n[auth]\nquery_user = 'asker'\nquery_password = '{secret}2'\n\
             [users.bob]\npassword = '{secret}3'\nupstream_password = '{secret}4'\n\
             [databases.app]\nupstream = 'postgres://u:{secret}5@h/app'\nauth_user = 'a'\nauth_password = '{secret}6'\n\
             [databases.b]\nupstream = 'postgres://u@h/app'\npassword = '{secret}7'\n"
        ))
    };
    let changes = Changes::between(&all("geheim"), &all("secret"));
    let expected = [
        "admin.token",
        "databases.app.auth_password",
        "databases.app.upstream",
        "databases.b.auth_password",
        "databases.b.upstream",
        "users.bob.password",
        "users.bob.upstream_password",
    ];
    assert_eq!(keys(&changes.at_once), expected);
    assert!(changes.at_once.iter().all(|change| change.values.is_none()), "{changes:?}");
    // One that comes or goes shows as little.
    let bare = "[databases.app]\nupstream = 'postgres://h/app'\n";
    for (old, new) in [(all("geheim"), read(bare)), (read(bare), all("geheim"))] {
        let changes = Changes::between(&old, &new);
        assert!(changes.at_once.len() > 20 && !format!("{changes:?}").contains("geheim"), "{changes:?}");
    }

    let value = |old: &str, new: &str, key: &str| {
        let changes = Changes::between(&read(old), &read(new));
        let change = changes.at_once.into_iter().find(|change| change.key == key);
        let values = change.unwrap_or_else(|| panic!("{key} has not changed")).values;
        values.map(|values| (values.old, values.new))
    };
    let text = |text: &str| Some(text.to_owned());
    for (old, new, key, shown) in [
        ("", "max_clients = 7", "max_clients", (text("5000"), text("7"))),
        (
            "",
            "listen = ['127.0.0.1:1', '/run/x:2']",
            "listen",
            (text("127.0.0.1:6432"), text("127.0.0.1:1, /run/x/.s.PGSQL.2")),
        ),
        ("", "[pool]\nmode = 'session'", "databases.app.mode", (text("transaction"), text("session"))),
        ("", "[tenant.limits.b]\nmax_rows = 5", "tenant.limits.b.max_rows", (None, text("5"))),
        ("[tenant.limits.b]\nmax_rows = 5", "", "tenant.limits.b", (text("a table"), None)),
        ("", "[[tenant.rule]]\nfrom = 'user'", "tenant.rule", (text("none"), text("user"))),
        ("", "[tls]\ncert_file = 'c'\nkey_file = 'k'", "tls.key_file", (text("none"), text("k"))),
        ("", "[log]\nfile = 'x'", "log.file", (text("none"), text("x"))),
    ] {
        let whole = |more: &str| format!("{more}\n{bare}");
        assert_eq!(value(&whole(old), &whole(new), key), Some(shown), "{key}");
    }
    let moved = value(bare, "[databases.app]\nupstream = 'postgres://u:p@h2/other'\n", "databases.app.upstream");
    assert_eq!(moved, Some((text("h:5432/app"), text("u@h2:5432/other"))));
    let long = "x".repeat(1000);
    let cut = value(bare, &format!("[tenant]\ndefault_name = '{}'\n{bare}", &long[..128]), "tenant.default_name");
    assert_eq!(cut, Some((text("default"), text(&long[..128]))));
    let cut = value(bare, &format!("[log]\nfile = '{long}'\n{bare}"), "log.file").unwrap().1.unwrap();
    assert_eq!(cut.chars().count(), 201);
}

#[test]
fn secrets_do_not_show_in_debug() {
    let settings = Settings::from_upstream(
        "postgres://app:geheim@h/db",
        Overrides::default().with("admin.token", "geheim"),
        &Files,
    );
    assert!(!format!("{settings:?}").contains("geheim"));
    assert!(
        !format!("{:?}", Overrides::default().with("admin.token", "geheim").with_upstream("geheim", "x"))
            .contains("geheim")
    );
}

//! Every mistake is told with its line, its key and what to do; all of them at once.

use std::collections::HashMap;

use config::{Mistakes, Overrides, Place, Settings, Sources};

#[derive(Default)]
struct World {
    variables: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl Sources for World {
    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| (*value).to_owned())
    }

    fn read(&self, path: &str) -> Result<String, String> {
        self.files.get(path).map(|text| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
    }
}

fn read(text: &str) -> Result<Settings, Mistakes> {
    let world = World {
        variables: HashMap::from([("SET", "value"), ("EMPTY", ""), ("SECRET", "geheim"), ("NESTED", "${SECRET}")]),
        files: HashMap::from([
            ("secret", "geheim\n"),
            ("blank", " \n"),
            ("users", "\"anna\" \"x\"\n"),
            ("broken", "\"anna\" \"x\"\nbob\n\"carl\n"),
            ("rules", "local all all peer map=absent\n"),
            ("bad rules", "local all all trust\nhost all +staff all ldap\n"),
            ("no rules", "# none\n"),
        ]),
    };
    Settings::from_toml(text, &Overrides::default(), &world)
}

/// The mistakes of `text`, where a database stands behind it so that only `text` is to blame.
fn told(text: &str) -> Vec<String> {
    let whole = format!("{text}\n[databases.ok]\nupstream = \"postgres://h/d\"\n");
    match read(&whole) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(|mistake| mistake.show("f")).collect(),
    }
}

#[test]
fn every_mistake_in_a_file_of_rules_is_told_with_its_line() {
    let starts = |text: &str, expected: &[&str]| {
        let told = told(text);
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}");
        }
    };
    starts(
        "[auth]\nhba_file = 'bad rules'",
        &[
            "f:2: auth.hba_file: bad rules, line 2: names the members of a role (\"+staff\")",
            "f:2: auth.hba_file: bad rules, line 2: asks for the method \"ldap\"",
        ],
    );
    starts("[auth]\nhba_file = 'rules'", &["f:2: auth.hba_file: line 1: names the map \"absent\""]);
    starts("[auth]\nhba_file = 'no rules'", &["f:2: auth.hba_file: names no rules, which holds no rule"]);
    starts("[auth]\nhba_file = 'absent'", &["f:2: auth.hba_file: cannot read absent: no such file"]);
    starts("[auth]\nmethod = 'cert'\nmap = 'x'", &["f:3: auth.map: names the map \"x\""]);
    starts("[auth]\nquery = 'select 1'\nquery_user = 'a'", &["f:2: auth.query: has no $1"]);
    starts("[auth]\nquery = 'select $1'", &["f:2: auth.query: is never asked"]);
    starts("[auth]\nfailure_exempt = ['10.0.0.0/40']", &["f:2: auth.failure_exempt: \"10.0.0.0/40\" has more bits"]);
}

#[test]
fn one_mistake_one_sentence() {
    for (text, expected) in [
        ("lisen = '127.0.0.1:1'", "f:1: lisen: there is no such key; did you mean listen?"),
        ("\n\n  pool_mode = 'session'", "f:3: pool_mode: there is no such key; here it is called pool.mode"),
        ("[pool]\nsise = 5", "f:2: pool.sise: there is no such key; did you mean size?"),
        ("[poool]\nsize = 5", "f:1: poool: there is no such key; did you mean pool?"),
        ("pool = 5", "f:1: pool: is a table; write [pool] with its keys below"),
        (
            "[listen]\nx = 1",
            "f:1: listen: is a table; write an address with its port, such as \"127.0.0.1:6432\", or a list of them",
        ),
        ("workers = 0", "f:1: workers: is not possible; write a whole number from 1 to 256, or \"auto\""),
        ("workers = -1", "f:1: workers: is not possible; write a whole number from 1 to 256, or \"auto\""),
        ("workers = 2.5", "f:1: workers: is a number with a fraction; write a whole number from 1 to 256, or \"auto\""),
        ("max_clients = '5'", "f:1: max_clients: is text; write a whole number from 1 to 1000000, without quotes"),
        (
            "max_clients = 99999999999999999999",
            "f:1: max_clients: is not possible; write a whole number from 1 to 1000000, without quotes",
        ),
        (
            "max_clients = true",
            "f:1: max_clients: is not possible; write a whole number from 1 to 1000000, without quotes",
        ),
        ("unix_socket_dir = '/run'", "f:1: unix_socket_dir: there is no such key; here it is called listen"),
        (
            "listen = '/run/pgweir'",
            "f:1: listen: \"/run/pgweir\" has no port from 1 to 65535 at its end; write /run/pgweir:6432",
        ),
        (
            "listen = '/run/.s.PGSQL.0'",
            "f:1: listen: \"/run/.s.PGSQL.0\" has no port from 1 to 65535 at its end; write /run/pgweir:6432",
        ),
        (
            "unix_socket_mode = '0888'",
            "f:1: unix_socket_mode: is no set of permissions; write them in octal, such as \"0770\"",
        ),
        (
            "unix_socket_mode = '7777'",
            "f:1: unix_socket_mode: is no set of permissions; write them in octal, such as \"0770\"",
        ),
        ("listen = []", "f:1: listen: is empty; name at least one address"),
        (
            "listen = '6432'",
            "f:1: listen: \"6432\" is not an address with a port; write 127.0.0.1:6432, 0.0.0.0:6432 or [::1]:6432",
        ),
        (
            "listen = ['[::1]:1', 5]",
            "f:1: listen: holds something that is not text; write [\"127.0.0.1:6432\", \"[::1]:6432\"]",
        ),
        (
            "pool.queue_timeout = 5",
            "f:1: pool.queue_timeout: \"5\" has no unit; write it as 500ms, 10s, 5m, 1h or 2d (only 0 may stand alone)",
        ),
        ("pool.queue_timeout = 0", "f:1: pool.queue_timeout: cannot be 0; write a duration such as 500ms or 10s"),
        (
            "pool.queue_timeout = 'soon'",
            "f:1: pool.queue_timeout: \"soon\" is not a duration; write it as 500ms, 10s, 5m, 1h30m or 2d",
        ),
        (
            "pool.mode = 'transactoin'",
            "f:1: pool.mode: \"transactoin\" is not one of transaction, session, statement; did you mean transaction?",
        ),
        ("observe.samples = 'yes'", "f:1: observe.samples: is text; write true or false, without quotes"),
        ("log.level = 3", "f:1: log.level: is a bare value; write one of error, warn, info, debug, in quotes"),
        ("log.file = ''", "f:1: log.file: is empty; give it a value or leave it out"),
        ("log.file = 2020-01-01", "f:1: log.file: is a date; write text in quotes"),
        ("[pool]\nmin_size = 21", "f:2: pool.min_size: is 21, more than size = 20; lower it or raise size"),
        (
            "[pool]\nconnect_backoff = '1m'",
            "f:2: pool.connect_backoff: is longer than connect_backoff_max; lower it or raise connect_backoff_max",
        ),
        (
            "[databases.\"a.b\"]\nsize = 0\nupstream = 'postgres://h'",
            "f:2: databases.\"a.b\".size: is not possible; write a whole number from 1 to 10000, without quotes",
        ),
        (
            "[databases.a]",
            "f:1: databases.a: has no upstream; add upstream = \"postgres://user:password@host:5432/database\"",
        ),
        (
            "[databases.a]\nupstream = 'mysql://u:geheim@h'",
            "f:2: databases.a.upstream: is not a database URL; write postgres://user:password@host:5432/database",
        ),
        (
            "[admin]\nlisten = '0.0.0.0:6433'",
            "f:2: admin.listen: is reachable from the network and has no token; set admin.token or admin.token_file, and admin.tls_cert_file and admin.tls_key_file, or listen on 127.0.0.1",
        ),
        (
            "[admin]\nlisten = '127.0.0.1:6432'",
            "f:2: admin.listen: is the same address as listen; give the admin port another port",
        ),
        (
            "[admin]\ntoken = 'a'\ntoken_file = 'secret'",
            "f:3: admin.token_file: stands beside token; leave one of the two out",
        ),
        (
            "[admin]\ntoken_file = 'nowhere'",
            "f:2: admin.token_file: cannot read nowhere: no such file; correct the path or its permissions",
        ),
        (
            "[admin]\ntoken_file = 'blank'",
            "f:2: admin.token_file: names blank, which is empty; write the secret into it",
        ),
        (
            "[admin]\ntoken = '${NONE}'",
            "f:2: admin.token: uses ${NONE}, which is not set; set the variable NONE where the proxy is started",
        ),
        ("[admin]\ntoken = '${EMPTY}'", "f:2: admin.token: is empty; give it a value or leave it out"),
        (
            "[admin]\ntoken = 'x${SET'",
            "f:2: admin.token: has a ${ without its }; write ${NAME}, or $${ for the characters themselves",
        ),
        (
            "[admin]\ntoken = '${a b}'",
            "f:2: admin.token: has a ${…} that names no variable; write ${NAME} with letters, digits and _",
        ),
        (
            "[admin]\ntoken = \"a\\u0000b\"",
            "f:2: admin.token: holds a NUL character, which no name or password can; remove it",
        ),
        (
            "[auth]\nmethod = 'md5'",
            "f:2: auth.method: lets only listed users in, and none is listed; add [users.NAME], auth.userlist or auth.query_user, or use \"passthrough\"",
        ),
        (
            "[auth]\nuserlist = 'nowhere'",
            "f:2: auth.userlist: cannot read nowhere: no such file; correct the path or its permissions",
        ),
        (
            "[auth]\nuserlist = 'users'\n[users.anna]",
            "f:3: users.anna: stands in users too; remove it from one of the two",
        ),
        (
            "[users.a]\npassword = 'SCRAM-SHA-256$x'",
            "f:2: users.a.password: has a broken SCRAM-SHA-256 verifier; copy rolpassword of pg_authid whole: SCRAM-SHA-256$iterations:salt$stored:server",
        ),
        ("[tenant.rule]\nfrom = 'user'", "f:1: tenant.rule: is a list of tables; write [[tenant.rule]] for each entry"),
        ("[observe.mute]\nuser = 'x'", "f:1: observe.mute: is a list of tables; write [[observe.mute]] for each entry"),
        (
            "[[observe.mute]]\nnote = 'all of it'",
            "f:1: observe.mute[1]: would silence every finding; name a fingerprint, kind, database, user, application, client, tenant or route",
        ),
        (
            "[[observe.mute]]\nfingerprint = '42'",
            "f:2: observe.mute[1].fingerprint: is not a fingerprint; copy the 16 hexadecimal digits of the finding's child",
        ),
        (
            "[[observe.mute]]\nuser = 'x'\nuntil = 'tomorrow'",
            "f:3: observe.mute[1].until: is not a moment; write it as 2026-12-31 or 2026-12-31T18:00:00Z",
        ),
        (
            "[[observe.mute]]\nkind = 'n_plus_two'",
            "f:2: observe.mute[1].kind: \"n_plus_two\" is not one of n_plus_one, n_plus_one_write, insert_loop, recursive_walk, duplicate, loop_unsourced, plan_changed, regression, slowdown, slow_transaction, idle_in_transaction; did you mean n_plus_one?",
        ),
        (
            "[[tenant.rule]]",
            "f:1: tenant.rule[1]: has no from; add from = \"user\", \"database\", \"application_name\", \"option\", \"setting\", \"comment\", \"sni\", \"certificate\" or \"network\"",
        ),
        (
            "[[tenant.rule]]\nfrom = 'user'\n[[tenant.rule]]\nfrom = 'setting'",
            "f:3: tenant.rule[2]: has no name; add name = \"app.tenant_id\"",
        ),
        (
            "[[tenant.rule]]\nfrom = 'user'\nname = 'x'",
            "f:3: tenant.rule[1].name: has no meaning with from = \"user\"; remove it",
        ),
        (
            "[[tenant.rule]]\nfrom = 'setting'\nname = 'a b'",
            "f:3: tenant.rule[1].name: is not the name of a setting; use letters, digits, _ and dots, as app.tenant_id",
        ),
        (
            "[[tenant.rule]]\nfrom = 'application_name'\npattern = '{tenant}-{tenant}'",
            "f:3: tenant.rule[1].pattern: must hold {tenant} exactly once and no other braces, as worker-{tenant}-*",
        ),
        (
            "[[tenant.rule]]\nfrom = 'application_name'\npattern = 'x-.*'",
            "f:3: tenant.rule[1].pattern: has no group that is the tenant's name; write tenant:(?<tenant>[a-z0-9-]+), or worker-{tenant}-* without a regular expression",
        ),
        (
            "[[tenant.rule]]\nfrom = 'network'\nnetworks = ['10.0.0.0/8']",
            "f:1: tenant.rule[1]: has no tenant; add tenant = \"acme\"",
        ),
        (
            "[[tenant.rule]]\nfrom = 'setting'\nname = 'request.jwt.claims'\npath = 'a..b'",
            "f:4: tenant.rule[1].path: is no path of members; write their names with dots between, as app_metadata.tenant_id",
        ),
        (
            "[[tenant.classify]]\nclass = 'worker'\nfrom = 'network'",
            "f:3: tenant.classify[1].from: \"network\" is not one of user, database, application_name, option, setting, comment",
        ),
        (
            "[tenant.fingerprint.nine]\nblocked = true",
            "f:1: tenant.fingerprint.nine: is not a fingerprint; copy the 16 hexadecimal digits that /api/v1/queries and the logs show",
        ),
        (
            "[tenant.fingerprint.00d1e8a1b2c3d4e5]\nmax_clients = 4",
            "f:2: tenant.fingerprint.00d1e8a1b2c3d4e5.max_clients: cannot be said of a single statement; say it of a tenant or a class",
        ),
        (
            "[tenant.class.worker]\nmin_upstreams = 2",
            "f:2: tenant.class.worker.min_upstreams: cannot be said of a class; say it of a tenant",
        ),
        (
            "[tenant.class.worker]\nmodes.max_waiting = 'observe'",
            "f:2: tenant.class.worker.modes.max_waiting: has no meaning without max_waiting of this class: a tenant's holds for all its classes, in the tenant's mode",
        ),
        (
            "[tenant.default.modes]\nmax_row = 'observe'",
            "f:2: tenant.default.modes.max_row: is no limit that has a mode; did you mean max_rows?",
        ),
        (
            "[tenant.limits.acme]\nmode = 'enforced'",
            "f:2: tenant.limits.acme.mode: \"enforced\" is not one of off, observe, warn, enforce; did you mean enforce?",
        ),
        (
            "[tenant.limits.acme]\nstatement_timeuot = '5s'",
            "f:2: tenant.limits.acme.statement_timeuot: there is no such key; did you mean statement_timeout?",
        ),
        (
            "[observe]\nstatements = false\nn_plus_one = true",
            "f:3: observe.n_plus_one: needs observe.statements; switch that on or this off",
        ),
        ("a = 1\na = 2", "f:2: this is not TOML: duplicate key; put it right, the rest of the file is checked then"),
    ] {
        assert_eq!(told(text), [expected], "{text}");
    }
}

#[test]
fn all_at_once_in_the_order_of_the_file() {
    let text = "workers = 0\n[pool]\nsise = 1\nmode = 'x'\n[databases.a]\n[auth]\nuserlist = 'broken'\n";
    let lines: Vec<String> =
        told(text).iter().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        ["f:1 workers", "f:3 pool.sise", "f:4 pool.mode", "f:5 databases.a", "f:7 auth.userlist", "f:7 auth.userlist"]
    );
}

#[test]
fn columns_count_characters() {
    let mistakes = read("pool = { \"ü\" = 1 , sise = 2 }\n[databases.a]\nupstream='postgres://h'").unwrap_err();
    let places: Vec<Place> = mistakes.iter().map(|mistake| mistake.place.clone()).collect();
    assert_eq!(places, [Place::File(1, 10), Place::File(1, 20)]);
}

#[test]
fn nothing_at_all_asks_for_an_upstream() {
    for text in ["", "# only a comment\n", "[pool]\n"] {
        let mistakes = read(text).unwrap_err();
        assert_eq!(mistakes.count(), 1);
        assert!(mistakes.to_string().contains("no upstream is configured"), "{mistakes}");
    }
}

#[test]
fn no_message_holds_a_secret() {
    for text in [
        "[admin]\ntoken = '${SECRET}'\ntoken_file = 'secret'",
        "[users.a]\npassword = 'geheim'\npassword_file = 'secret'",
        "[databases.a]\nupstream = 'postgres://u:${SECRET}@h:99999/d'",
        "[databases.a]\nupstream = 'postgres://u:geheim@h/d?x=1'",
        "[users.a]\npassword = 'SCRAM-SHA-256$geheim'",
        "[users.a]\npassword = ['geheim']",
    ] {
        let told = told(text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(!told[0].contains("geheim"), "{told:?}");
    }
}

#[test]
fn variables_are_put_in_once_and_not_looked_into() {
    for (text, expected) in [
        ("${SET}", "value"),
        ("a${SET}b${SET}c", "avaluebvaluec"),
        ("$${SET}", "${SET}"),
        ("${NESTED}", "${SECRET}"),
        ("$5{}", "$5{}"),
        ("cost$", "cost$"),
    ] {
        let settings = read(&format!("[admin]\ntoken = '{text}'\n[databases.a]\nupstream = 'postgres://h'")).unwrap();
        let digest = config::TokenDigest::of(expected.as_bytes());
        assert_eq!(settings.admin.unwrap().tokens[0].digest, digest, "{text}");
    }
}

#[test]
fn hostile_text_is_refused_quickly_and_without_a_panic() {
    let megabyte = 1 << 20;
    for text in [
        "[".repeat(megabyte),
        "{".repeat(megabyte),
        format!("a = {}", "[".repeat(megabyte)),
        format!("a = {}", "{a=".repeat(megabyte / 3)),
        "a.".repeat(megabyte / 2),
        "\"".repeat(megabyte),
        format!("{} = 1", "x".repeat(megabyte)),
        "\0".repeat(1000),
        format!("listen = '{}'", "9".repeat(megabyte)),
        format!("workers = {}", "9".repeat(megabyte)),
        format!("[admin]\ntoken = '{}'", "${".repeat(megabyte / 2)),
        "\u{feff}[pool]\nsise = 1".to_owned(),
        "[[tenant.rule]]\n".repeat(10_000),
    ] {
        let started = std::time::Instant::now();
        let mistakes = read(&text).unwrap_err();
        assert!(mistakes.iter().all(|mistake| mistake.show("f").len() < 1000), "a message grows with the input");
        assert!(started.elapsed().as_secs() < 20, "{}", &text[..20.min(text.len())]);
    }
}

/// `secret` stands for any file that can be read.
#[test]
fn what_tls_lacks_is_named() {
    for (text, expected) in [
        (
            "[tls]\nmode = 'require'",
            "f:2: tls.mode: needs a certificate to show to clients; add tls.cert_file and tls.key_file",
        ),
        (
            "[tls]\nmode = 'verify-ca'\ncert_file = 'secret'\nkey_file = 'secret'",
            "f:2: tls.mode: checks clients' certificates; add tls.ca_file, the authorities that sign them",
        ),
        ("[tls]\ncert_file = 'secret'", "f:2: tls.cert_file: names a certificate without its key; add key_file"),
        (
            "[upstream_tls]\nkey_file = 'secret'",
            "f:2: upstream_tls.key_file: names a key without its certificate; add cert_file",
        ),
        (
            "[upstream_tls]\nmode = 'verify-full'",
            "f:4: databases.ok.upstream: asks for verify-full and names no authority; add sslrootcert=FILE or sslrootcert=system to the URL, or upstream_tls.ca_file",
        ),
        (
            "[databases.a]\nupstream = 'postgres://h/d?sslmode=require&sslrootcert=system'",
            "f:2: databases.a.upstream: takes the system's authorities, which sign for everybody, with require; use verify-full",
        ),
        (
            "[databases.a]\nupstream = 'postgres://h/d?sslnegotiation=direct'",
            "f:2: databases.a.upstream: begins with TLS directly, where prefer could not fall back; use require, verify-ca or verify-full",
        ),
        (
            "[databases.a]\nupstream = 'postgres://h/d?sslmode=disable&channel_binding=require'",
            "f:2: databases.a.upstream: requires channel binding without TLS; allow TLS, or set channel_binding to prefer",
        ),
    ] {
        assert_eq!(told(text), [expected], "{text}");
    }
    let system = read("[databases.a]\nupstream = 'postgres://h/d?sslrootcert=system'").unwrap();
    assert_eq!(system.databases["a"].upstream.tls.mode, config::TlsMode::VerifyFull, "as for libpq");
    let one = "[upstream_tls]\nmode = 'verify-full'\nca_file = 'secret'\n[databases.a]\nupstream = 'postgres://h/d?sslmode=disable'";
    assert_eq!(read(one).unwrap().databases["a"].upstream.tls.mode, config::TlsMode::Disable, "the URL wins");
}

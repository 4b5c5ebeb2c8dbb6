//! Limits on results, several of them on the same one.

use config::PoolMode::Transaction;
use integration_tests::{RawClient, Site, eventually, http, tenants};

use super::tenant_times::{RULES, client_of};

fn site(toml: &str) -> Site {
    let tenants = tenants(&format!("{RULES}{toml}"));
    Site::behind(Transaction, |proxy| proxy.size(2).with(|settings| settings.tenants = tenants))
}

/// How often a tenant's limit was reached: observed, warned, enforced.
fn reached(site: &Site, tenant: &str, limit: &str) -> [u64; 3] {
    let counts = super::tenants::reached(site, tenant, limit);
    ["observed", "warned", "enforced"].map(|mode| counts[mode].as_u64().unwrap_or(0))
}

/// Rows of a result, and the code of the error behind them.
fn asked(client: &mut RawClient, sql: &str) -> (usize, Option<String>) {
    let reply = client.query(sql);
    let errors = reply.errors();
    (reply.rows().len(), errors.first().map(|error| error.code().to_owned()))
}

fn cut() -> Option<String> {
    Some("53400".to_owned())
}

/// The fingerprint that `select * from generate_series(…)` goes by.
fn fingerprint() -> String {
    let site = site("");
    client_of(&site, "any").query("select * from generate_series(1, 3)").ok();
    let queries = http::fetch(site.admin(), "/api/v1/queries").json();
    let rows = queries["queries"].as_array().unwrap();
    let row = rows.iter().find(|row| row["text"].as_str().unwrap().contains("generate_series"));
    row.unwrap()["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn a_limit_that_is_only_looked_at_leaves_the_other_one_in_force() {
    let site = site(
        "[tenant.limits.r]\nmax_rows = 10\nmodes.max_rows = 'observe'\nmax_bytes = '64KiB'\n\
         [tenant.limits.w]\nmax_rows = 10\nmodes.max_rows = 'warn'\nmax_bytes = '64KiB'\n\
         [tenant.limits.b]\nmax_bytes = '1KiB'\nmodes.max_bytes = 'observe'\nmax_rows = 500\n",
    );
    let large = "select repeat('x', 1000) from generate_series(1, 100000)";
    for tenant in ["r", "w"] {
        let (rows, code) = asked(&mut client_of(&site, tenant), large);
        assert!((60..70).contains(&rows) && code == cut(), "{tenant}: {rows} rows, {code:?}");
        assert_eq!(reached(&site, tenant, "max_bytes"), [0, 0, 1]);
    }
    assert_eq!((reached(&site, "r", "max_rows"), reached(&site, "w", "max_rows")), ([1, 0, 0], [0, 1, 0]));
    assert_eq!(asked(&mut client_of(&site, "b"), large), (500, cut()));
    assert_eq!((reached(&site, "b", "max_bytes"), reached(&site, "b", "max_rows")), ([1, 0, 0], [0, 0, 1]));
}

#[test]
fn a_limit_of_a_fingerprint_that_is_only_looked_at_stands_beside_its_tenants() {
    let strict = fingerprint();
    let of = |own: &str| site(&format!("[tenant.limits.t]\nmax_rows = 20\n[tenant.fingerprint.{strict}]\n{own}"));
    let series = "select * from generate_series(1, 100000)";
    for (most, counted) in [(5, 1), (20, 1), (50, 0)] {
        let site = of(&format!("max_rows = {most}\nmodes.max_rows = 'observe'\n"));
        assert_eq!(asked(&mut client_of(&site, "t"), series), (20, cut()), "{most}");
        assert_eq!(reached(&site, "t", "max_rows"), [counted, 0, 1], "{most}");
    }
    // One that is enforced takes its place, whichever is lower.
    for most in [5, 50] {
        let site = of(&format!("max_rows = {most}\n"));
        assert_eq!(asked(&mut client_of(&site, "t"), series), (most, cut()));
    }
}

#[test]
fn each_result_of_a_text_is_held_to_its_limits_again() {
    let site =
        site("[tenant.limits.t]\nmax_rows = 10\nmode = 'observe'\nmax_bytes = '4KiB'\nmodes.max_bytes = 'enforce'\n");
    let small = "select * from generate_series(1, 20)";
    let mut client = client_of(&site, "t");
    assert_eq!(asked(&mut client, &format!("{small}; {small}; {small}")), (60, None));
    assert_eq!(reached(&site, "t", "max_rows"), [3, 0, 0], "once for each result");
    let (rows, code) =
        asked(&mut client, &format!("{small}; select repeat('x', 1000) from generate_series(1, 100000)"));
    assert!((23..26).contains(&rows) && code == cut(), "{rows} rows, {code:?}");
}

#[test]
fn a_reload_that_takes_one_limit_away_leaves_the_other_one_in_force() {
    let limits = |toml: &str| tenants(&format!("{RULES}[tenant.limits.t]\n{toml}"));
    let mut settings = None;
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(2).with(|settings| settings.tenants = limits("max_rows = 10\nmax_bytes = '64KiB'\n"));
        settings = Some(proxy.settings());
        proxy
    });
    let mut client = client_of(&site, "t");
    let pause = "length(pg_sleep(case when n = 5 then 1 else 0 end)::text)";
    client.start_query(format!("select repeat('x', 1000 + 0 * {pause}) from generate_series(1, 100000) n"));
    let sleeping =
        "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
    eventually("it runs", || site.run_directly(sleeping).value() == "1");
    let tenants = limits("max_bytes = '64KiB'\n");
    site.reload(config::Settings { tenants, ..settings.unwrap() });
    let reply = client.reply();
    let rows = reply.rows().len();
    assert!((60..70).contains(&rows) && reply.error().code() == "53400", "{rows} rows");
}

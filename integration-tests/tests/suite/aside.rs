//! Connections beside the pools: they have a bound of their own, are shown, and know what clients have proven.

use std::time::Duration;

use config::AuthMethod;
use integration_tests::{Cluster, Hba, Proxy, RawClient, eventually, http};

const ANNA: [(&str, &str); 2] = [("user", "anna"), ("database", "postgres")];

/// How many there are of a kind.
fn beside(proxy: &Proxy, kind: &str) -> u64 {
    metric(proxy, &format!("pgweir_side_connections{{kind=\"{kind}\"}}"))
}

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let text = http::fetch(proxy.admin(), "/metrics").body;
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
}

#[test]
fn a_listener_has_a_place_beside_full_pools_and_leaves_none_for_a_trial() {
    let cluster = Cluster::builder().hba(Hba::Scram).start();
    cluster.create_role("anna", Some("pencil"));
    cluster.create_role("bob", Some("pencil"));
    let proxy = Proxy::before(cluster.address())
        .with(|settings| {
            settings.auth.method = AuthMethod::PassThrough;
            settings.max_upstreams = 1;
            settings.max_side_connections = 1;
        })
        .start();
    let mut anna = RawClient::login_with(proxy.address(), &ANNA, "pencil");
    anna.query("listen news").ok();
    assert_eq!(beside(&proxy, "listener"), 1);
    anna.query("notify news").ok();
    let refused = RawClient::try_login(proxy.address(), &[("user", "bob"), ("database", "postgres")], "pencil");
    let refused = refused.unwrap_err();
    assert_eq!((refused.code(), refused.is_whole()), ("53300", true), "{refused:?}");
    assert!(refused.message().contains("cannot be asked about this login"), "{refused:?}");
    assert!(refused.hint().contains("max_side_connections"), "{refused:?}");
    // What is known needs no connection.
    assert_eq!(RawClient::login_with(proxy.address(), &ANNA, "pencil").query("select 1").value(), "1");
    assert_eq!(beside(&proxy, "password_trial"), 0);
}

#[test]
fn functions_are_looked_at_with_what_clients_have_proven() {
    let cluster = Cluster::builder().hba(Hba::Scram).start();
    cluster.create_role("anna", Some("pencil"));
    cluster.run(
        "postgres",
        "create function become(who text) returns text language plpgsql as \
         $$ begin perform set_config('app.tenant_id', who, false); return who; end $$",
    );
    let verifier = cluster.value("postgres", "select rolpassword from pg_authid where rolname = 'anna'");
    for method in [AuthMethod::PassThrough, AuthMethod::ScramSha256] {
        let proxy = Proxy::before(cluster.address())
            .pool(|pool| pool.inspect_functions = Some(Duration::from_secs(3600)))
            .with(|settings| {
                settings.auth.method = method;
                if method == AuthMethod::ScramSha256 {
                    // The keys of her own login are all that there is.
                    let secret = config::parse_secret(&verifier).unwrap();
                    settings.users.insert("anna".to_owned(), config::User::from(secret));
                }
            })
            .start();
        let mut anna = RawClient::login_with(proxy.address(), &ANNA, "pencil");
        eventually("the functions have been looked at", || metric(&proxy, "pgweir_pool_suspects") == 1);
        eventually("that connection is closed", || beside(&proxy, "inspection") == 0);
        assert_eq!(anna.query("select become('anna')").value(), "anna");
        let clients = http::fetch(proxy.admin(), "/api/v1/clients").json();
        assert_eq!(clients["clients"][0]["pinned"], "function", "{method:?}: {clients}");
    }
}

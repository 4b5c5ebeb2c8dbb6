//! Where secrets come from: a userlist, files, the environment, URLs. What is read there is what logs in, on both sides.

use std::net::SocketAddr;

use integration_tests::cluster::free_port;
use integration_tests::{Cluster, Hba, RawClient, Scratch, Service, Signal, eventually};

/// Logs in; who the server sees, or the error's code.
fn login(address: SocketAddr, user: &str, password: &str) -> Result<String, String> {
    let parameters = [("user", user), ("database", "postgres")];
    let client = RawClient::try_login(address, &parameters, password);
    client.map(|mut client| client.query("select current_user").value()).map_err(|error| error.code().to_owned())
}

#[test]
fn each_source_of_secrets_lets_its_user_in_on_both_sides() {
    let cluster = Cluster::builder().hba(Hba::Scram).start();
    for (user, password) in [("anna", "pencil"), ("bob", "paper"), ("carl", "ink"), ("app", "app secret")] {
        cluster.create_role(user, Some(password));
    }
    let verifier = cluster.value("postgres", "select rolpassword from pg_authid where rolname = 'anna'");
    let files = Scratch::new();
    let userlist = files.file("users.txt", &format!("\"anna\" \"{verifier}\"\n\"dora\" \"wool\"\n"));
    let bobs = files.file("bob", "paper\n");
    let apps = files.file("app", "app secret\n");
    let [listen, admin] = [0, 0].map(|_| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let config = format!(
        "listen = '{listen}'\n[admin]\nlisten = '{admin}'\n[auth]\nmethod = 'scram-sha-256'\nuserlist = '{}'\n\
         [users.bob]\npassword_file = '{}'\n[users.carl]\npassword = '${{CARLS_PASSWORD}}'\n\
         [users.eve]\npassword = 'mail'\nupstream_user = 'app'\nupstream_password_file = '{}'\n\
         [databases.postgres]\nupstream = 'postgres://{}/postgres'\n",
        userlist.display(),
        bobs.display(),
        apps.display(),
        cluster.address()
    );
    let service = Service::new(false).variable("CARLS_PASSWORD", "ink");
    let process = service.start(&config);
    let ok = |user: &str| Ok::<_, String>(user.to_owned());
    // By the keys of her own login, by a file, by a variable, and as somebody else by a file.
    assert_eq!(login(listen, "anna", "pencil"), ok("anna"));
    assert_eq!(login(listen, "bob", "paper"), ok("bob"));
    assert_eq!(login(listen, "carl", "ink"), ok("carl"));
    assert_eq!(login(listen, "eve", "mail"), ok("app"));
    for (user, password) in
        [("anna", "paper"), ("bob", "paper\n"), ("carl", "${CARLS_PASSWORD}"), ("eve", "app secret")]
    {
        assert_eq!(login(listen, user, password), Err("28P01".to_owned()), "{user}");
    }
    // A reload reads the files again.
    std::fs::write(&userlist, "\"dora\" \"wool\"\n").unwrap();
    process.child.signal(Signal::Hangup);
    eventually("anna is not listed any more", || login(listen, "anna", "pencil").is_err());
    assert_eq!(login(listen, "bob", "paper"), ok("bob"));
    let log = process.log();
    for secret in ["paper", "ink", "app secret", "wool", "pencil"] {
        assert!(!log.contains(secret), "the log tells {secret}: {log}");
    }
}

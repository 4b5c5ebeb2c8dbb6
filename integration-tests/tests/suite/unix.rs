//! Clients that come by a Unix socket: its file, its permissions, and who is at the other end.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use config::PoolMode::Transaction;
use config::{AuthMethod, Host, IdentMaps, ListenAddress, UnixSocket};
use integration_tests::cluster::free_port;
use integration_tests::process::pgweir;
use integration_tests::proxy::Builder;
use integration_tests::{Cluster, Proxy, RawClient, Scratch, Service, Signal, eventually, frontend, http};

use crate::restart::{Storm, restarts};

/// A socket in this folder.
fn place(folder: &Scratch) -> ListenAddress {
    ListenAddress::unix(folder.path().to_str().unwrap(), "6432").unwrap()
}

fn file(place: &ListenAddress) -> PathBuf {
    place.to_string().into()
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// A proxy that listens there too.
fn proxy(place: &ListenAddress) -> Builder {
    let place = place.clone();
    Proxy::before(Cluster::shared().address()).with(|settings| settings.listen.push(place))
}

fn login(place: &ListenAddress) -> RawClient {
    RawClient::login(place.clone(), "postgres", "postgres")
}

/// The configuration of a process that listens there.
fn text(place: &ListenAddress, more: &str) -> String {
    format!(
        "listen = '{place}'\n{more}\n[admin]\nlisten = '127.0.0.1:{}'\n[auth]\nmethod = 'trust'\n\
         [databases.'*']\nupstream = 'postgres://postgres@{}'\nsize = 4\n[shutdown]\ndrain_timeout = '10s'\n",
        free_port(),
        Cluster::shared().address()
    )
}

/// How a process fails to start with this configuration.
fn complaint(text: &str) -> String {
    let folder = Scratch::new();
    let config = folder.file("pgweir.toml", text);
    let out = pgweir(&["serve", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn clients_query_and_cancel_by_a_socket() {
    let folder = Scratch::new();
    let place = place(&folder);
    let proxy = proxy(&place).mode(Transaction).size(1).start();
    let mut client = login(&place);
    assert_eq!(client.query("select 'by a file'").value(), "by a file");
    client.start_query("select pg_sleep(60)");
    let sleeps = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active' \
                  and client_port is not null and backend_type = 'client backend'";
    eventually("the query runs", || Cluster::shared().value("postgres", sleeps) != "0");
    client.cancel();
    assert_eq!(client.reply().error().code(), "57014");
    assert_eq!(client.query("select 1").value(), "1");
    // One pool, whichever way a client comes, and a key works by either way.
    let mut other = RawClient::login(proxy.address(), "postgres", "postgres");
    assert_eq!(other.query("select 2").value(), "2");
    client.query("begin").ok();
    other.start_query("select 3");
    eventually("it waits for the only server", || {
        http::fetch(proxy.admin(), "/api/v1/clients").body.contains("\"state\":\"waiting\"")
    });
    let (pid, key) = other.key.clone().unwrap();
    integration_tests::client::cancel(place, pid, &key);
    assert_eq!(other.reply().error().code(), "57014");
}

#[test]
fn a_client_by_a_socket_that_closes_its_side_gets_its_answer_and_one_that_is_gone_frees_its_server() {
    let folder = Scratch::new();
    let place = place(&folder);
    let _proxy = proxy(&place).mode(Transaction).size(1).start();
    let mut patient = login(&place);
    patient.say(frontend::query("select pg_sleep(0.3), 'heard'")).half_close();
    assert_eq!(patient.read_to_end().rows().len(), 1);
    let mut gone = login(&place);
    gone.start_query("select pg_sleep(60)");
    std::thread::sleep(Duration::from_millis(200));
    gone.vanish();
    assert_eq!(login(&place).query("select 'served'").value(), "served");
}

#[test]
fn operators_see_the_socket_and_who_came_by_it() {
    let folder = Scratch::new();
    let place = place(&folder);
    let proxy = proxy(&place).start();
    let _client = login(&place);
    let sockets = http::fetch(proxy.admin(), "/api/v1/sockets").json();
    let own = &sockets["sockets"][1];
    assert_eq!(own["address"], place.to_string());
    assert_eq!((&own["kind"], &own["origin"], &own["accepted"]), (&"unix".into(), &"own".into(), &1.into()));
    assert_eq!(sockets["sockets"][0]["kind"], "tcp");
    let clients = http::fetch(proxy.admin(), "/api/v1/clients").json();
    assert_eq!(clients["clients"][0]["address"], format!("unix:{}", std::process::id()));
}

#[test]
fn permissions_and_group_are_as_configured_and_change_with_a_reload() {
    let folder = Scratch::new();
    let place = place(&folder);
    let groups = fs::read_to_string("/etc/group").unwrap();
    let (name, number) = groups
        .lines()
        .filter_map(|line| Some((line.split(':').next()?, line.split(':').nth(2)?.parse::<u32>().ok()?)))
        .find(|(_, number)| *number != 0)
        .unwrap();
    let builder = proxy(&place).with(|s| s.unix_socket = UnixSocket { mode: 0o770, group: Some(name.to_owned()) });
    let (mut settings, proxy) = (builder.settings(), builder.start());
    let found = || {
        let found = fs::symlink_metadata(file(&place)).unwrap();
        (found.permissions().mode() & 0o777, found.gid())
    };
    assert_eq!(found(), (0o770, number));
    settings.unix_socket = UnixSocket { mode: 0o700, group: Some("0".to_owned()) };
    proxy.reload(settings.clone());
    assert_eq!(found(), (0o700, 0));
    settings.unix_socket.group = Some("no such group".to_owned());
    settings.listen.push("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into());
    let refused = proxy.try_reload(settings).unwrap_err().to_string();
    assert!(refused.contains("there is no group no such group"), "{refused}");
    assert_eq!(found(), (0o700, 0));
}

#[test]
fn a_reload_that_is_refused_forgets_no_socket_that_it_would_have_closed() {
    let folder = Scratch::new();
    let place = place(&folder);
    let builder = proxy(&place);
    let (settings, proxy) = (builder.settings(), builder.start());
    let tcp = proxy.address();
    let mut wrong = settings.clone();
    wrong.listen.retain(|place| place.tcp().is_none());
    wrong.unix_socket.group = Some("no such group".to_owned());
    proxy.try_reload(wrong.clone()).unwrap_err();
    let sockets = || http::fetch(proxy.admin(), "/api/v1/sockets").json()["sockets"].as_array().unwrap().len();
    assert_eq!(sockets(), 2, "both are open still");
    // The same, and then without the mistake: nothing is bound again that is open.
    proxy.reload(settings);
    assert_eq!(RawClient::login(tcp, "postgres", "postgres").query("select 1").value(), "1");
    wrong.unix_socket.group = None;
    proxy.reload(wrong);
    eventually("it is closed", || sockets() == 1);
    assert_eq!(login(&place).query("select 1").value(), "1");
}

#[test]
fn a_reload_opens_and_closes_sockets_and_clients_stay() {
    let (one, two) = (Scratch::new(), Scratch::new());
    let (first, second) = (place(&one), place(&two));
    let builder = proxy(&first);
    let (mut settings, proxy) = (builder.settings(), builder.start());
    let mut client = login(&first);
    settings.listen.retain(|place| place.tcp().is_some());
    settings.listen.push(second.clone());
    proxy.reload(settings);
    assert_eq!(login(&second).query("select 1").value(), "1");
    eventually("the old file is gone", || !file(&first).exists());
    assert_eq!(client.query("select 'still here'").value(), "still here");
    drop(proxy);
    assert!(!file(&second).exists(), "a socket's file goes with its process");
    assert_eq!(fs::read_dir(two.path()).unwrap().count(), 0, "nothing else is left in the folder");
}

#[test]
fn what_a_dead_process_left_is_replaced() {
    let folder = Scratch::new();
    let place = place(&folder);
    drop(UnixListener::bind(file(&place)).unwrap());
    assert!(is_socket(&file(&place)));
    let service = Service::new(false);
    let mut killed = service.start(&text(&place, ""));
    assert_eq!(login(&place).query("select 1").value(), "1");
    killed.child.signal(Signal::Kill);
    killed.child.wait_for(Duration::from_secs(10)).expect("it is dead");
    assert!(is_socket(&file(&place)), "nobody has taken it away");
    let mut next = service.start(&text(&place, ""));
    assert_eq!(login(&place).query("select 2").value(), "2");
    next.child.signal(Signal::Terminate);
    next.child.wait_for(Duration::from_secs(10)).expect("it drains");
    assert!(!file(&place).exists());
}

#[test]
fn what_a_living_process_has_is_left_alone() {
    let folder = Scratch::new();
    let place = place(&folder);
    let theirs = UnixListener::bind(file(&place)).unwrap();
    let said = complaint(&text(&place, ""));
    assert!(said.contains("another program listens on this socket; stop it"), "{said}");
    // PostgreSQL keeps a lock beside its socket: no process of ours.
    let lock = format!("{place}.lock");
    fs::write(&lock, "").unwrap();
    let said = complaint(&text(&place, "listen_reuse_port = true"));
    assert!(said.contains("another program listens on this socket; stop it"), "{said}");
    drop(theirs);
    fs::remove_file(file(&place)).unwrap();
    fs::write(file(&place), "precious").unwrap();
    let said = complaint(&text(&place, ""));
    assert!(said.contains("there is a file of this name that is no socket"), "{said}");
    assert_eq!(fs::read_to_string(file(&place)).unwrap(), "precious");
    let said = complaint(&text(&ListenAddress::unix("/nowhere", "1").unwrap(), ""));
    assert!(said.contains("cannot listen on /nowhere/.s.PGSQL.1 (listen): No such file"), "{said}");
}

#[test]
fn a_start_that_fails_leaves_no_file() {
    let folder = Scratch::new();
    let place = place(&folder);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = text(&place, "").replace(
        &format!("listen = '{place}'\n"),
        &format!("listen = ['{place}', '{}']\n", busy.local_addr().unwrap()),
    );
    let said = complaint(&config);
    assert!(said.contains("another program uses this port"), "{said}");
    assert!(!file(&place).exists());
}

#[test]
fn a_new_process_takes_the_socket_over_and_nobody_is_refused() {
    let folder = Scratch::new();
    let place = place(&folder);
    let service = Service::new(false);
    let mut serving = service.start(&text(&place, "listen_reuse_port = true"));
    let storm = Storm::begin(place.clone());
    for _ in 0..restarts() {
        let next = service.start(&text(&place, "listen_reuse_port = true"));
        let mut old = std::mem::replace(&mut serving, next);
        old.child.signal(Signal::Terminate);
        let status = old.child.wait_for(Duration::from_secs(20)).expect("it drains");
        assert_eq!(status.code(), Some(0), "{}", old.log());
        assert!(is_socket(&file(&place)), "the old process has left what is the new one's");
    }
    storm.end();
    // A cancel for a client of the old process arrives there.
    let mut client = login(&place);
    let next = service.start(&text(&place, "listen_reuse_port = true"));
    client.start_query("select pg_sleep(60)");
    std::thread::sleep(Duration::from_millis(300));
    client.cancel();
    assert_eq!(client.reply().error().code(), "57014", "{}", next.log());
}

#[test]
fn a_socket_file_of_the_service_manager_stays_when_its_process_ends() {
    let folder = Scratch::new();
    let place = place(&folder);
    let socket = UnixListener::bind(file(&place)).unwrap();
    let sockets: [(&str, &dyn AsFd); 1] = [("pgweir.socket", &socket)];
    let service = Service::new(false);
    let config = text(&ListenAddress::unix("/nowhere", "1").unwrap(), "");
    let mut serving = service.start_with(&config, &sockets);
    let storm = Storm::begin(place.clone());
    for _ in 0..restarts() {
        serving.child.signal(Signal::Terminate);
        let status = serving.child.wait_for(Duration::from_secs(20)).expect("it drains");
        assert_eq!(status.code(), Some(0), "{}", serving.log());
        assert!(is_socket(&file(&place)));
        serving = service.start_with(&config, &sockets);
    }
    storm.end();
}

#[test]
fn rules_for_local_clients_hold_for_sockets_alone() {
    let folder = Scratch::new();
    let place = place(&folder);
    let rules = "local all postgres trust\nlocal all all reject\nhost all all 127.0.0.1/32 reject\n";
    let proxy = proxy(&place)
        .with(|s| {
            s.auth.hba = Some(config::hba::parse(rules).unwrap());
            s.auth.method = AuthMethod::Reject;
        })
        .start();
    assert_eq!(login(&place).query("select 1").value(), "1");
    let parameters = [("user", "anna"), ("database", "postgres")];
    let local = RawClient::try_login(place, &parameters, "").unwrap_err();
    assert_eq!(local.code(), "28000");
    assert!(local.message().contains("[local]"), "{local:?}");
    let network = RawClient::try_login(proxy.address(), &[("user", "postgres"), ("database", "postgres")], "");
    assert_eq!(network.unwrap_err().code(), "28000");
}

/// The system's name of who runs the tests.
fn system_user() -> String {
    let out = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_system_tells_who_is_at_the_other_end() {
    let folder = Scratch::new();
    let place = place(&folder);
    let me = system_user();
    Cluster::shared().run(
        "postgres",
        &format!("do $$ begin create role \"{me}\" login; exception when duplicate_object then null; end $$"),
    );
    let proxy = proxy(&place).with(|settings| settings.auth.method = AuthMethod::Peer).start();
    let as_user = |user: &str| {
        let parameters = [("user", user), ("database", "postgres")];
        RawClient::try_login(place.clone(), &parameters, "")
            .map(|mut client| client.query("select current_user").value())
    };
    assert_eq!(as_user(&me).unwrap(), me);
    let another = as_user("postgres").unwrap_err();
    assert_eq!(another.code(), "28000", "{another:?}");
    assert!(another.message().contains("Peer authentication failed for user \"postgres\""), "{another:?}");
    // Nobody can be told from a distance.
    let network = RawClient::try_login(proxy.address(), &[("user", &me), ("database", "postgres")], "").unwrap_err();
    assert_eq!(network.code(), "28000");
}

#[test]
fn a_map_says_whom_a_systems_user_may_be() {
    let folder = Scratch::new();
    let place = place(&folder);
    let me = system_user();
    let maps = format!("ops {me} postgres\nothers nobody-at-all anna\n");
    let rules = "local all postgres peer map=ops\nlocal all all peer map=others\n";
    let _proxy = proxy(&place)
        .with(|settings| {
            settings.auth.hba = Some(config::hba::parse(rules).unwrap());
            settings.auth.maps = IdentMaps::parse(&maps).unwrap();
        })
        .start();
    assert_eq!(login(&place).query("select current_user").value(), "postgres");
    for user in ["anna", me.as_str()] {
        let parameters = [("user", user), ("database", "postgres")];
        let refused = RawClient::try_login(place.clone(), &parameters, "").unwrap_err();
        assert_eq!(refused.code(), "28000", "{user}: {refused:?}");
    }
}

#[test]
fn servers_are_reached_and_cancelled_by_their_socket() {
    let cluster = Cluster::shared();
    let host = Host { name: cluster.socket_folder().to_str().unwrap().to_owned(), port: cluster.port() };
    let proxy = Proxy::before(cluster.address())
        .size(1)
        .with(|settings| settings.wildcard.as_mut().unwrap().upstream.hosts = vec![host])
        .start();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    assert_eq!(client.query("select inet_server_addr() is null").value(), "t");
    client.start_query("select pg_sleep(61)");
    let sleeps = "select count(*) from pg_stat_activity where query = 'select pg_sleep(61)' and state = 'active'";
    eventually("the query runs", || cluster.value("postgres", sleeps) != "0");
    client.cancel();
    assert_eq!(client.reply().error().code(), "57014");
    assert_eq!(client.query("select 1").value(), "1");
}

//! Names of servers that stand for another address than they did: connections follow.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use config::{Host, ListenLoss};
use integration_tests::proxy::Builder;
use integration_tests::{Cluster, FakeUpstream, Proxy, RawClient, eventually};
use pgweir::upstream::resolve::{Answer, Resolver};

/// What the only name stands for now, and how often it was asked for.
#[derive(Debug, Default)]
struct Scripted(Mutex<(Vec<IpAddr>, usize)>);

impl Resolver for Scripted {
    fn resolve(&self, _: &str) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let mut inner = self.0.lock().unwrap();
        inner.1 += 1;
        let found = inner.0.clone();
        Box::pin(async move { Ok(found) })
    }
}

impl Scripted {
    fn says(&self, addresses: &[[u8; 4]]) {
        self.0.lock().unwrap().0 = addresses.iter().map(|address| IpAddr::from(*address)).collect();
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn is_asked_again(&self) {
        let before = self.asked();
        eventually("the name is looked up twice more", || self.asked() >= before + 2);
    }
}

const ONE: [u8; 4] = [127, 0, 0, 1];
const TWO: [u8; 4] = [127, 0, 0, 2];

/// A proxy before `db.test`, which stands for the first address, and is looked up so often.
fn before(port: u16, every: Duration) -> (Builder, Arc<Scripted>) {
    let names = Arc::new(Scripted::default());
    names.says(&[ONE]);
    let builder = Proxy::before(SocketAddr::from((ONE, port))).resolver(names.clone()).with(|settings| {
        settings.dns_max_ttl = every;
        settings.wildcard.as_mut().unwrap().upstream.hosts = vec![Host { name: "db.test".to_owned(), port }];
    });
    (builder, names)
}

fn server_at(address: SocketAddr) -> FakeUpstream {
    FakeUpstream::start_at(address, |connection| connection.login().and_then(|()| connection.serve()))
}

fn client(proxy: &Proxy) -> RawClient {
    RawClient::login(proxy.address(), "anna", "shop")
}

const OFTEN: Duration = Duration::from_millis(50);

#[test]
fn connections_follow_a_name_to_its_new_address_at_their_next_boundary() {
    let old = server_at((ONE, 0).into());
    let new = server_at((TWO, old.address().port()).into());
    let (builder, names) = before(old.address().port(), OFTEN);
    let proxy = builder.size(2).start();
    let (mut busy, mut resting) = (client(&proxy), client(&proxy));
    busy.query("begin").ok();
    assert_eq!(resting.query("select 1").value(), "1");
    assert_eq!((old.logins(), new.logins()), (2, 0));
    names.says(&[TWO]);
    eventually("the connection at rest is closed", || old.has_closed(1) || old.has_closed(0));
    resting.query("select 'there'").ok();
    assert!(new.queries().contains(&"select 'there'".to_owned()));
    busy.query("begin /* here */").ok();
    assert!(old.queries().contains(&"begin /* here */".to_owned()), "a transaction ends where it began");
    busy.query("commit").ok();
    eventually("the other one is closed too", || old.has_closed(0) && old.has_closed(1));
    assert_eq!(busy.query("select 1").value(), "1");
    assert_eq!(old.logins(), 2);
}

#[test]
fn a_name_that_nobody_knows_or_that_stands_for_more_moves_nobody() {
    let server = server_at((ONE, 0).into());
    let (builder, names) = before(server.address().port(), OFTEN);
    let proxy = builder.size(1).start();
    let mut client = client(&proxy);
    for answer in [&[][..], &[TWO, ONE], &[ONE]] {
        names.says(answer);
        names.is_asked_again();
        assert_eq!(client.query("select 1").value(), "1", "{answer:?}");
    }
    assert_eq!(server.logins(), 1);
}

#[test]
fn with_no_time_to_live_names_are_looked_up_to_connect_and_no_more() {
    let server = server_at((ONE, 0).into());
    let (builder, names) = before(server.address().port(), Duration::ZERO);
    let mut settings = builder.settings();
    let proxy = builder.size(1).start();
    let mut client = client(&proxy);
    let asked = names.asked();
    names.says(&[TWO]);
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(client.query("select 1").value(), "1");
    assert_eq!((names.asked(), server.logins()), (asked, 1));
    // A reload is enough to have them looked up.
    settings.dns_max_ttl = OFTEN;
    proxy.reload(settings);
    eventually("the connection is closed", || server.has_closed(0));
}

#[test]
fn who_listens_is_told_when_the_name_moves_on() {
    let (builder, names) = before(Cluster::shared().port(), OFTEN);
    let proxy = builder.pool(|pool| pool.listen.loss = ListenLoss::Close).start();
    let mut client = RawClient::login(proxy.address(), "postgres", "postgres");
    client.query("listen news").ok();
    names.is_asked_again();
    assert_eq!(client.query("select 1").value(), "1");
    names.says(&[TWO]);
    assert_eq!(client.read_to_end().error().code(), "08006");
}

//! Several workers, one pool.

use std::time::{Duration, Instant};

use integration_tests::{Cluster, Proxy, RawClient, http};

/// Upstreams that went from one worker to another.
fn stolen(proxy: &Proxy) -> u64 {
    let body = http::fetch(proxy.admin(), "/metrics").body;
    let values = body.lines().filter(|line| line.starts_with("pgweir_upstreams_stolen_total{"));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

/// Both sleep at the same time; gives how long it took, and the servers that they were on.
fn both_sleep(clients: [&mut RawClient; 2], seconds: &str) -> (Duration, [String; 2]) {
    let begun = Instant::now();
    let [one, other] = clients;
    for client in [&mut *one, &mut *other] {
        client.start_query(format!("select pg_backend_pid() from pg_sleep({seconds})"));
    }
    let servers = [one.reply().value().to_owned(), other.reply().value().to_owned()];
    (begun.elapsed(), servers)
}

#[test]
fn no_server_idles_on_one_worker_while_a_client_waits_on_another() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_database();
    let proxy = Proxy::before(cluster.address()).size(2).with(|settings| settings.workers = 2).start();
    // A client goes to the worker with the fewest: by turns.
    let mut clients: Vec<_> = (0..4).map(|_| RawClient::login(proxy.address(), "postgres", &database)).collect();
    let [here, there, also_here, also_there] = clients.as_mut_slice() else { panic!("four clients") };
    // Whoever is busy is on one worker, and a moment later on the other: both servers have to follow.
    let (_, servers) = both_sleep([there, also_there], "0.05");
    for round in 0..10 {
        let before = stolen(&proxy);
        let pair = if round % 2 == 0 { [&mut *here, &mut *also_here] } else { [&mut *there, &mut *also_there] };
        let (took, mut now) = both_sleep(pair, "0.2");
        assert!(took < Duration::from_millis(390), "round {round}: one waited for the other, {took:?}");
        now.sort();
        let mut known = servers.clone();
        known.sort();
        assert_eq!(now, known, "round {round}");
        assert_eq!(stolen(&proxy) - before, 2, "round {round}: the servers were on the other worker");
    }
}

//! Who notified: a listener is told the process id that the sender was told, whatever server ran it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use integration_tests::{Message, RawClient, Signal, Site, child, everywhere_transactional};

/// The next message, which has to be a notification: its sender and payload.
fn heard(client: &mut RawClient) -> (u32, String) {
    match client.read() {
        Message::NotificationResponse { pid, payload, .. } => (pid, payload),
        other => panic!("a notification was awaited: {other:?}"),
    }
}

fn told(client: &RawClient) -> u32 {
    client.key.clone().unwrap().0
}

#[test]
fn a_listener_is_told_the_sender_by_the_process_id_that_it_was_told() {
    everywhere_transactional(|site| {
        let (mut listener, mut one, mut other) = (site.client(), site.client(), site.client());
        listener.query("listen news").ok();
        for round in 0..20 {
            for (name, sender) in [("one", &mut one), ("other", &mut other)] {
                match round % 4 {
                    0 => drop(sender.query(format!("notify news, '{name}'")).ok()),
                    1 => drop(sender.query(format!("select pg_notify('news', '{name}')")).ok()),
                    2 => {
                        sender.parse("", "select pg_notify($1, $2)").bind("", &["news", name]).execute().sync();
                        sender.reply().ok();
                    }
                    _ => {
                        sender.query("begin").ok();
                        sender.query(format!("notify news, '{name}'")).ok();
                        sender.query("select 1").ok();
                        sender.query("commit").ok();
                    }
                }
            }
            assert_eq!(heard(&mut listener), (told(&one), "one".to_owned()), "round {round}");
            assert_eq!(heard(&mut listener), (told(&other), "other".to_owned()), "round {round}");
        }
    });
}

#[test]
fn what_comes_in_one_pipeline_is_its_senders() {
    everywhere_transactional(|site| {
        let (mut listener, mut one, mut other) = (site.client(), site.client(), site.client());
        listener.query("listen news").ok();
        for _ in 0..10 {
            for part in 0..5 {
                one.parse("", &format!("notify news, 'one {part}'")).bind("", &[]).execute().sync();
            }
            one.send();
            (0..5).for_each(|_| drop(one.reply().ok()));
            other.query("notify news, 'other'").ok();
            for part in 0..5 {
                assert_eq!(heard(&mut listener), (told(&one), format!("one {part}")));
            }
            assert_eq!(heard(&mut listener), (told(&other), "other".to_owned()));
        }
    });
}

#[test]
fn what_no_text_shows_is_never_taken_for_somebody_elses() {
    everywhere_transactional(|site| {
        site.client()
            .query("create function tell() returns void language plpgsql as $$ begin perform pg_notify('news', 'hidden'); end $$")
            .ok();
        let mut listener = site.client();
        listener.query("listen news").ok();
        let address = site.address();
        let database = &site.database;
        let senders: BTreeMap<String, u32> = std::thread::scope(|scope| {
            let each = |name: &'static str| {
                scope.spawn(move || {
                    let mut sender = RawClient::login(address, integration_tests::cluster::SUPERUSER, database);
                    for _ in 0..60 {
                        let text = match name {
                            "hidden" => "select tell()".to_owned(),
                            _ => format!("notify news, '{name}'"),
                        };
                        sender.query(text).ok();
                    }
                    (name.to_owned(), told(&sender))
                })
            };
            let threads = ["one", "other", "hidden"].map(each);
            threads.map(|thread| thread.join().unwrap()).into()
        });
        for _ in 0..180 {
            let (sender, payload) = heard(&mut listener);
            match payload.as_str() {
                // In a direct connection it is its sender's own; here, the server's.
                "hidden" => assert!(sender != senders["one"] && sender != senders["other"], "{sender}: {senders:?}"),
                name => assert_eq!(sender, senders[name], "{name}: {senders:?}"),
            }
        }
    });
}

#[test]
fn a_sender_that_vanishes_leaves_no_name_behind() {
    let site = Site::pooled(Transaction, 1);
    let mut listener = site.client();
    listener.query("listen news").ok();
    let mut sender = site.client();
    let gone = told(&sender);
    sender.query("begin").ok();
    sender.query("notify news, 'never'").ok();
    sender.vanish();
    let mut other = site.client();
    other.query("do $$ begin perform pg_notify('news', 'hidden'); end $$").ok();
    other.query("notify news, 'shown'").ok();
    let (by, payload) = heard(&mut listener);
    assert!(payload == "hidden" && by != gone && by != told(&other), "{by}: {payload}");
    assert_eq!(heard(&mut listener), (told(&other), "shown".to_owned()));
}

#[test]
fn a_client_that_listens_and_notifies_is_the_same_to_itself_and_to_others() {
    everywhere_transactional(|site| {
        let (mut one, mut other) = (site.client(), site.client());
        one.query("listen news").ok();
        other.query("listen news").ok();
        for _ in 0..10 {
            let reply = one.query("notify news, 'x'").ok();
            let by = reply.messages.iter().find_map(|message| match message {
                Message::NotificationResponse { pid, .. } => Some(*pid),
                _ => None,
            });
            assert_eq!(by, Some(told(&one)));
            assert_eq!(heard(&mut other), (told(&one), "x".to_owned()));
        }
    });
}

#[test]
fn a_listener_whose_server_hangs_holds_a_sender_up_for_seconds_only() {
    let site = Site::pooled(Transaction, 1);
    let mut listener = site.client();
    listener.query("listen news").ok();
    let mut sender = site.client();
    // The shared listening connection is the only other one to this database.
    let servers = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
        and backend_type = 'client backend'";
    let hangs: u32 = sender.query(servers).ok().value().parse().unwrap();
    child::send(hangs, Signal::Stop);
    let asked = Instant::now();
    let reply = sender.query("notify news, 'said'");
    let waited = asked.elapsed();
    child::send(hangs, Signal::Continue);
    assert!(reply.errors().is_empty(), "{reply:?}");
    assert!(waited < Duration::from_secs(12), "{waited:?}");
    assert_eq!(sender.query("select 1").value(), "1");
}

//! LISTEN and NOTIFY: the same from PostgreSQL itself, in session mode, and in transaction mode, where clients that
//! listen keep no server for it.

use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::{Message, RawClient, Reply, Site, everywhere, everywhere_transactional, http};

/// Long enough for a notification that should not come to have come.
const QUIET: Duration = Duration::from_millis(150);

/// The next message, which has to be a notification: its channel and payload.
pub(crate) fn heard(client: &mut RawClient) -> (String, String) {
    match client.read() {
        Message::NotificationResponse { channel, payload, .. } => (channel, payload),
        other => panic!("a notification was awaited: {other:?}"),
    }
}

/// The notifications in a reply: process, channel, payload.
fn notifications(reply: &Reply) -> Vec<(u32, String, String)> {
    let each = reply.messages.iter().filter_map(|message| match message {
        Message::NotificationResponse { pid, channel, payload } => Some((*pid, channel.clone(), payload.clone())),
        _ => None,
    });
    each.collect()
}

fn pair(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

fn tag_of(reply: &Reply) -> Vec<&str> {
    let tags = reply.messages.iter().filter_map(|message| match message {
        Message::CommandComplete(tag) => Some(tag.as_str()),
        _ => None,
    });
    tags.collect()
}

#[test]
fn what_is_notified_after_listen_was_answered_is_heard() {
    everywhere(|site| {
        let (mut listener, mut sender) = (site.client(), site.client());
        let listened = listener.query("listen news").ok();
        assert_eq!((tag_of(&listened), listened.shape().as_str()), (vec!["LISTEN"], "CZ"));
        for payload in ["one", "", "three"] {
            sender.query(format!("notify news, '{payload}'")).ok();
            assert_eq!(heard(&mut listener), pair("news", payload));
        }
        sender.query("select pg_notify('news', 'by function')").ok();
        assert_eq!(heard(&mut listener), pair("news", "by function"));
        sender.query("notify other, 'x'").ok();
        assert!(listener.hears_nothing_for(QUIET));
        assert_eq!(listener.query("select 1").value(), "1");
    });
}

#[test]
fn clients_that_listen_keep_no_server() {
    let site = Site::pooled(Transaction, 1);
    let mut listeners: Vec<RawClient> = (0..20).map(|_| site.client()).collect();
    for listener in &mut listeners {
        listener.query("listen news").ok();
    }
    assert_eq!(site.client().query("select 1").value(), "1", "the only server is free");
    site.client().query("notify news, 'x'").ok();
    for listener in &mut listeners {
        assert_eq!(heard(listener), pair("news", "x"));
    }
    let backends = site.run_directly("select count(*) from pg_stat_activity where application_name = 'pgweir listener' and datname = current_database()");
    assert_eq!(backends.value(), "1");
    let shown = http::fetch(site.admin(), "/api/v1/listeners").json();
    let listener = &shown["listeners"][0];
    assert_eq!((&listener["clients"], &listener["channels"]), (&20.into(), &1.into()), "{shown}");
    assert_eq!((listener["state"].as_str(), listener["notifications"].as_u64()), (Some("listening"), Some(1)));
    let clients = http::fetch(site.admin(), "/api/v1/clients").json();
    assert!(clients["clients"].as_array().unwrap().iter().filter(|client| client["channels"] == 1).count() == 20);
    let pins = http::fetch(site.admin(), "/api/v1/pools").json()["pools"][0]["pins"].to_string();
    assert_eq!(pins, "{}");
}

#[test]
fn a_client_hears_itself_before_its_answer_and_knows_itself_by_its_process_id() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.query("listen mine").ok();
        let own = client.key.clone().unwrap().0;
        for round in 0..30 {
            // The server is used by somebody else in between, who notifies the same.
            other.query("notify mine, 'same'").ok();
            let reply = client.query("notify mine, 'same'").ok();
            let told = notifications(&reply);
            let ours = told.iter().filter(|(pid, ..)| *pid == own).count();
            assert_eq!(ours, 1, "round {round}: {told:?} for {own}");
            let mut all = told.len();
            while all < 2 {
                assert_eq!(heard(&mut client), pair("mine", "same"), "round {round}");
                all += 1;
            }
        }
        let in_block = [client.query("begin"), client.query("notify mine, 'later'"), client.query("commit")];
        let told: Vec<usize> = in_block.iter().map(|reply| notifications(reply).len()).collect();
        assert_eq!(told, [0, 0, 1]);
        let last = &in_block[2].messages;
        assert!(matches!(last.last(), Some(Message::ReadyForQuery('I'))), "{last:?}");
        assert_eq!(notifications(&in_block[2])[0].0, own);
    });
}

#[test]
fn a_listen_counts_when_its_transaction_commits() {
    everywhere(|site| {
        let (mut client, mut sender) = (site.client(), site.client());
        client.query("begin").ok();
        assert_eq!(tag_of(&client.query("listen a").ok()), ["LISTEN"]);
        client.query("rollback").ok();
        sender.query("notify a, 'undone'").ok();
        assert!(client.hears_nothing_for(QUIET));
        client.query("begin").ok();
        client.query("listen b").ok();
        client.query("savepoint s").ok();
        client.query("listen c").ok();
        client.query("unlisten b").ok();
        client.query("rollback to s").ok();
        client.query("listen d").ok();
        client.query("commit").ok();
        sender.query("notify c, 'undone'; notify b, '1'; notify d, '2'").ok();
        assert_eq!([heard(&mut client), heard(&mut client)], [pair("b", "1"), pair("d", "2")]);
        client.query("begin; unlisten b; rollback").ok();
        sender.query("notify b, '3'").ok();
        assert_eq!(heard(&mut client), pair("b", "3"));
        assert!(client.hears_nothing_for(QUIET));
    });
}

#[test]
fn a_failed_transaction_leaves_nothing_listened_to() {
    everywhere(|site| {
        let (mut client, mut sender) = (site.client(), site.client());
        assert_eq!(client.query("listen a; select 1/0").error().code(), "22012");
        client.query("begin").ok();
        client.query("listen b").ok();
        assert_eq!(client.query("select 1/0").error().code(), "22012");
        assert_eq!(tag_of(&client.query("commit")), ["ROLLBACK"]);
        client.parse("", "listen c").bind("", &[]).execute().parse("", "selec").sync();
        assert_eq!(client.reply().error().code(), "42601");
        sender.query("notify a; notify b; notify c").ok();
        assert!(client.hears_nothing_for(QUIET));
    });
}

#[test]
fn unlisten_in_all_its_forms_ends_it() {
    everywhere(|site| {
        let (mut client, mut sender) = (site.client(), site.client());
        for ending in ["unlisten a", "unlisten *", "discard all", "unlisten \"a\""] {
            client.query("listen a").ok();
            client.query("listen b").ok();
            sender.query("notify a, 'before'").ok();
            assert_eq!(heard(&mut client), pair("a", "before"));
            client.query(ending).ok();
            sender.query("notify a, 'after'").ok();
            assert!(client.hears_nothing_for(QUIET), "after {ending}");
            client.query("unlisten *").ok();
        }
        client.query("listen a").ok();
        client.query("reset all").ok();
        sender.query("notify a, 'still'").ok();
        assert_eq!(heard(&mut client), pair("a", "still"), "RESET ALL does not touch it");
        assert_eq!(tag_of(&client.query("unlisten nothing").ok()), ["UNLISTEN"]);
    });
}

#[test]
fn names_are_read_as_the_server_reads_them() {
    everywhere(|site| {
        let (mut client, mut sender) = (site.client(), site.client());
        let long = "x".repeat(80);
        let wide = "ü".repeat(40);
        client
            .query(format!(
                "listen Foo; listen \"Bar\"; listen \"with \"\"quotes\"\"\"; listen {long}; listen \"{wide}\""
            ))
            .ok();
        let cut = &long[..63];
        let wide_cut = "ü".repeat(31);
        for channel in ["foo", "Bar", "with \"quotes\"", cut, &wide_cut] {
            sender.query(format!("select pg_notify($${channel}$$, 'x')")).ok();
            assert_eq!(heard(&mut client), pair(channel, "x"));
        }
        sender.query("select pg_notify('Foo', 'x'), pg_notify('bar', 'x')").ok();
        assert!(client.hears_nothing_for(QUIET));
        for wrong in ["listen", "listen a b", "listen 'a'", "listen \"\"", "listen *"] {
            assert_eq!(client.query(wrong).error().code(), "42601", "{wrong}");
        }
    });
}

#[test]
fn payloads_of_any_length_and_kind_come_whole() {
    everywhere(|site| {
        let (mut client, mut sender) = (site.client(), site.client());
        client.query("listen news").ok();
        let longest = "p".repeat(7999);
        for payload in [longest.as_str(), "ünïcödé ✓", "new\nline", "'quoted' \"twice\""] {
            sender.query(format!("select pg_notify('news', $p${payload}$p$)")).ok();
            assert_eq!(heard(&mut client), pair("news", payload));
        }
        assert_eq!(sender.query("select pg_notify('news', repeat('x', 8000))").error().code(), "22023");
    });
}

#[test]
fn the_extended_protocol_listens_too() {
    everywhere(|site| {
        let (mut client, mut sender) = (site.client(), site.client());
        client.parse("l", "listen a").bind("l", &[]).execute().sync();
        assert_eq!(client.reply().ok().shape(), "12CZ");
        sender.query("notify a, '1'").ok();
        assert_eq!(heard(&mut client), pair("a", "1"));
        client.parse("u", "unlisten a").bind("u", &[]).execute().sync();
        client.reply().ok();
        sender.query("notify a, '2'").ok();
        assert!(client.hears_nothing_for(QUIET));
        client.bind("l", &[]).execute().sync();
        assert_eq!(client.reply().ok().shape(), "2CZ", "prepared once, executed again");
        sender.query("notify a, '3'").ok();
        assert_eq!(heard(&mut client), pair("a", "3"));
    });
}

#[test]
fn a_pipeline_hears_what_it_notifies_behind_its_listen() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        let own = client.key.clone().unwrap().0;
        for (number, sql) in
            ["listen p", "notify p, '1'", "select 1", "notify p, '2'", "unlisten p", "notify p, '3'"].iter().enumerate()
        {
            client.parse(&format!("s{number}"), sql).bind(&format!("s{number}"), &[]).execute().sync();
        }
        let replies: Vec<_> = (0..6).map(|_| notifications(&client.reply().ok())).collect();
        let told: Vec<_> = replies.iter().flatten().map(|(pid, _, payload)| (*pid, payload.as_str())).collect();
        assert_eq!(told, [(own, "1"), (own, "2")], "{replies:?}");
        // Together in one transaction, without waiting for anything.
        let reply = client.query("listen q; notify q, 'self'; select 2");
        assert_eq!(notifications(&reply), [(own, "q".to_owned(), "self".to_owned())]);
        assert_eq!(tag_of(&reply), ["LISTEN", "NOTIFY", "SELECT 1"]);
        let reply =
            client.query("begin; listen r; commit; notify r, 'x'; begin; unlisten r; rollback; notify r, 'y'").ok();
        // The first one stands in the transaction that is rolled back.
        assert_eq!(notifications(&reply), [(own, "r".to_owned(), "y".to_owned())]);
        client.start_query("listen s");
        client.start_query("notify s, 'z'");
        client.reply().ok();
        assert_eq!(notifications(&client.reply().ok()), [(own, "s".to_owned(), "z".to_owned())]);
    });
}

#[test]
fn nothing_is_told_within_a_transaction() {
    everywhere(|site| {
        let (mut client, mut sender) = (site.client(), site.client());
        client.query("listen news").ok();
        client.query("begin").ok();
        sender.query("notify news, 'meanwhile'").ok();
        assert!(client.hears_nothing_for(QUIET));
        assert_eq!(notifications(&client.query("select 1")), []);
        let told = notifications(&client.query("commit"));
        assert_eq!(told.len(), 1, "it comes before the answer to COMMIT");
        client.query("copy (select 1) to stdout").ok();
        assert!(client.hears_nothing_for(QUIET));
    });
}

#[test]
fn what_a_client_listened_to_is_not_heard_by_the_next_one() {
    let site = Site::pooled(Transaction, 1);
    let mut first = site.client();
    first.query("listen secrets").ok();
    let mut second = site.client();
    assert_eq!(second.query("select count(*) from pg_listening_channels()").value(), "0");
    site.run_directly("notify secrets, 'x'");
    assert!(second.hears_nothing_for(QUIET));
    assert_eq!(notifications(&second.query("select 1")), []);
    assert_eq!(heard(&mut first), pair("secrets", "x"));
    // A LISTEN that no text shows: what it hears goes to nobody.
    site.run_directly(
        "create function hidden() returns void language plpgsql as $$ begin execute 'listen secrets'; end $$",
    );
    second.query("select hidden()").ok();
    let reply = second.query("notify secrets, 'y'").ok();
    assert_eq!(notifications(&reply), []);
    assert_eq!(second.query("select count(*) from pg_listening_channels()").value(), "0", "and the server is reset");
}

#[test]
fn channels_that_nobody_listens_to_any_more_are_given_up() {
    let site = Site::pooled(Transaction, 2);
    let channels = |expected: u64| {
        let shown = || http::fetch(site.admin(), "/api/v1/listeners").json()["listeners"][0]["channels"].as_u64();
        integration_tests::eventually("the number of channels", || shown() == Some(expected));
    };
    let (mut first, mut second) = (site.client(), site.client());
    first.query("listen a; listen b").ok();
    second.query("listen b; listen c").ok();
    channels(3);
    first.query("unlisten a").ok();
    channels(2);
    first.vanish();
    channels(2);
    second.query("begin; listen d; listen e; rollback").ok();
    channels(2);
    second.terminate();
    channels(0);
}

#[test]
fn too_many_channels_are_refused_and_the_rest_stays() {
    let site = Site::pooled(Transaction, 1);
    let mut client = site.client();
    for part in 0..10 {
        let listens: String = (0..100).map(|n| format!("listen c{part}_{n};")).collect();
        client.query(listens).ok();
    }
    let refused = client.query("listen one_more");
    assert_eq!((refused.error().code(), refused.status()), ("54000", 'I'), "{:?}", refused.error());
    assert!(refused.error().is_whole());
    client.parse("", "listen one_more").bind("", &[]).execute().sync();
    assert_eq!(client.reply().error().code(), "54000");
    client.query("unlisten c0_0").ok();
    client.query("listen one_more").ok();
    site.run_directly("notify one_more, 'x'");
    assert_eq!(heard(&mut client), pair("one_more", "x"));
}

#[test]
fn encodings_are_kept_apart() {
    everywhere(|site| {
        let (mut utf8, mut latin1) = (site.client(), site.client_with(&[("client_encoding", "LATIN1")]));
        utf8.query("listen news").ok();
        latin1.query("listen news").ok();
        site.run_directly("notify news, 'ü'");
        assert_eq!(heard(&mut utf8), pair("news", "ü"));
        // One byte that is no UTF-8.
        assert_eq!(heard(&mut latin1), pair("news", "\u{fffd}"));
    });
}

//! The simple protocol.

use integration_tests::{Message, Site, eventually, everywhere, frontend};

#[test]
fn rows_commands_and_the_end_come_in_order() {
    everywhere(|site| {
        let reply = site.client().query("select n, null from generate_series(1, 3) n");
        assert_eq!(reply.shape(), "TDDDCZ");
        assert_eq!(reply.rows(), [["1", "∅"], ["2", "∅"], ["3", "∅"]]);
        assert_eq!((reply.commands(), reply.status()), (vec!["SELECT 3"], 'I'));
    });
}

#[test]
fn several_statements_in_one_query_answer_one_by_one() {
    everywhere(|site| {
        let mut client = site.client();
        let reply = client.query("create table t (n int); insert into t values (1), (2); select count(*) from t");
        assert_eq!(reply.commands(), ["CREATE TABLE", "INSERT 0 2", "SELECT 1"]);
        let failed = client.query("insert into t values (3); select 1/0; select 1");
        assert_eq!(failed.shape(), "CEZ");
        assert_eq!(client.query("select count(*) from t").value(), "2");
    });
}

#[test]
fn an_error_arrives_whole_and_the_client_goes_on() {
    everywhere(|site| {
        let mut client = site.client();
        let reply = client.query("select * from nowhere");
        assert_eq!((reply.error().code(), reply.error().is_whole(), reply.status()), ("42P01", true, 'I'));
        assert_eq!(client.query("select 1").value(), "1");
    });
}

#[test]
fn an_empty_query_is_answered_as_such() {
    everywhere(|site| {
        for text in ["", " ", ";", "-- nothing"] {
            assert_eq!(site.client().query(text).shape(), "IZ", "{text:?}");
        }
    });
}

#[test]
fn a_transaction_shows_its_status() {
    everywhere(|site| {
        let mut client = site.client();
        let status = |client: &mut integration_tests::RawClient, sql: &str| client.query(sql).status();
        assert_eq!(status(&mut client, "begin"), 'T');
        assert_eq!(status(&mut client, "select 1"), 'T');
        assert_eq!(status(&mut client, "select 1/0"), 'E');
        assert_eq!(client.query("select 1").error().code(), "25P02");
        assert_eq!(status(&mut client, "rollback"), 'I');
    });
}

#[test]
fn text_in_another_encoding_passes_byte_for_byte() {
    everywhere(|site| {
        let mut client = site.client_with(&[("client_encoding", "LATIN1")]);
        let reply = client.query(b"select 'caf\xE9'");
        let Message::DataRow(row) = &reply.messages[1] else { panic!("{reply:?}") };
        assert_eq!(row[0].as_deref(), Some(&b"caf\xE9"[..]));
    });
}

#[test]
fn notices_come_before_the_command_is_complete() {
    everywhere(|site| {
        let reply = site.client().query("do $$ begin raise notice 'heard'; end $$");
        assert_eq!(reply.notices()[0].message(), "heard");
        let tags: String = reply.messages.iter().map(Message::tag).collect();
        assert_eq!(tags, "NCZ");
    });
}

#[test]
fn queries_sent_ahead_are_answered_in_order() {
    everywhere(|site| {
        let mut client = site.client();
        for n in 0..50 {
            client.say(frontend::query(format!("select {n}")));
        }
        client.send();
        for n in 0..50 {
            assert_eq!(client.reply().value(), n.to_string());
        }
    });
}

#[test]
fn a_query_may_come_in_any_pieces() {
    everywhere(|site| {
        let mut client = site.client();
        for size in [1, 2, 3, 5, 7] {
            client.say(frontend::query("select 'one'")).say(frontend::query("select 'two'")).send_in_pieces(size);
            assert_eq!([client.reply().value(), client.reply().value()], ["one", "two"], "pieces of {size}");
        }
    });
}

#[test]
fn what_is_no_protocol_is_refused_and_ends_the_connection() {
    let bad: [(&str, &[u8]); 5] = [
        ("a length under 4", &[b'Q', 0, 0, 0, 3]),
        ("a negative length", &[b'Q', 0xFF, 0xFF, 0xFF, 0xFF]),
        ("an unknown type", &[b'y', 0, 0, 0, 4]),
        ("a query without its end", &[b'Q', 0, 0, 0, 5, b'x']),
        ("a Bind that is too short", &[b'B', 0, 0, 0, 5, b'x']),
    ];
    everywhere(|site| {
        for (what, bytes) in bad {
            let mut client = site.client();
            client.query("select 1").ok();
            client.say(bytes).say(frontend::sync()).send();
            // PostgreSQL ends the connection where framing is lost, and goes on where only a body is wrong.
            client.half_close();
            let reply = client.read_to_end();
            // PostgreSQL does not always say why.
            assert!(!site.is_proxied() || !reply.errors().is_empty(), "{what}: {reply:?}");
            assert!(reply.errors().iter().all(|error| error.code() == "08P01"), "{what}: {reply:?}");
            assert!(reply.rows().is_empty(), "{what}");
        }
        assert_eq!(site.client().query("select 1").value(), "1");
    });
}

#[test]
fn notifications_arrive_where_a_client_keeps_its_server() {
    for site in [Site::direct(), Site::pooled(config::PoolMode::Session, 2)] {
        let mut listener = site.client();
        listener.query("listen news").ok();
        site.client().query("notify news, 'extra'").ok();
        let reply = listener.read_until('A');
        assert!(matches!(&reply.messages[0], Message::NotificationResponse { channel, payload, .. }
            if channel == "news" && payload == "extra"));
    }
}

#[test]
fn what_was_sent_before_a_goodbye_is_carried_out() {
    everywhere(|site| {
        let mut watcher = site.client();
        watcher.query("create table farewell (a int)").ok();
        let mut hasty = site.client();
        hasty.query("select 1").ok();
        hasty.say(frontend::query("select pg_sleep(0.2); insert into farewell values (1)"));
        hasty.say(frontend::terminate()).send();
        drop(hasty);
        eventually("the row is there", || watcher.query("select count(*) from farewell").value() == "1");
    });
}

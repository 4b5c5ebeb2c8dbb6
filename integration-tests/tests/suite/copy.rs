//! COPY, in and out, well and badly ended.

use integration_tests::{RawClient, Site, everywhere, everywhere_transactional, frontend};

fn client_with_table(site: &Site) -> RawClient {
    let mut client = site.client();
    client.query("create table c (n int)").ok();
    client
}

fn count(client: &mut RawClient) -> String {
    client.query("select count(*) from c").value()
}

#[test]
fn copy_out_gives_the_data() {
    everywhere(|site| {
        let mut client = site.client();
        let reply = client.query("copy (select generate_series(1, 3)) to stdout");
        assert_eq!((reply.shape().as_str(), reply.copied()), ("HdddcCZ", b"1\n2\n3\n".to_vec()));
        let sql = "copy (select generate_series(1, 3)) to stdout";
        let extended = client.parse("", sql).bind("", &[]).execute().sync().reply();
        assert_eq!(extended.shape(), "12HdddcCZ");
    });
}

#[test]
fn copy_in_takes_the_data() {
    everywhere(|site| {
        let mut client = client_with_table(site);
        client.start_query("copy c from stdin");
        assert_eq!(client.read_until('G').shape(), "G");
        client.say(frontend::copy_data(b"1\n2")).say(frontend::copy_data(b"\n3\n")).say(frontend::copy_done());
        assert_eq!(client.reply().commands(), ["COPY 3"]);
        assert_eq!(count(&mut client), "3");
    });
}

#[test]
fn copy_in_may_be_sent_ahead() {
    everywhere(|site| {
        let mut client = client_with_table(site);
        client.say(frontend::query("copy c from stdin")).say(frontend::copy_data(b"1\n")).say(frontend::copy_done());
        client.say(frontend::query("select 'after'"));
        assert_eq!(client.reply().shape(), "GCZ");
        assert_eq!(client.reply().value(), "after");
    });
}

#[test]
fn copy_in_in_the_extended_protocol_ignores_a_sync_in_the_middle() {
    everywhere_transactional(|site| {
        let mut client = client_with_table(site);
        client.parse("", "copy c from stdin").bind("", &[]).execute().sync();
        assert_eq!(client.read_until('G').shape(), "12G");
        client.say(frontend::copy_data(b"1\n")).flush().sync();
        client.say(frontend::copy_data(b"2\n")).say(frontend::copy_done()).sync();
        assert_eq!(client.reply().shape(), "CZ");
        assert_eq!(count(&mut client), "2");
    });
}

#[test]
fn a_client_may_give_up_a_copy() {
    everywhere_transactional(|site| {
        let mut client = client_with_table(site);
        client.say(frontend::query("copy c from stdin")).say(frontend::copy_data(b"1\n"));
        client.say(frontend::copy_fail("changed my mind"));
        let reply = client.reply();
        assert_eq!((reply.shape().as_str(), reply.error().code()), ("GEZ", "57014"));
        assert!(reply.error().message().contains("changed my mind"));
        assert_eq!(count(&mut client), "0");
    });
}

#[test]
fn data_that_comes_after_the_error_reaches_nobody_else() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (client_with_table(site), site.client());
        client.start_query("copy c from stdin");
        client.read_until('G');
        let failed = client.say(frontend::copy_data(b"not a number\n")).reply();
        assert_eq!(failed.error().code(), "22P02");
        // The server has said that it is ready; the client does not know yet and goes on sending.
        client.say(frontend::copy_data(b"1\n")).send();
        client.say(frontend::copy_data(b"2\n")).say(frontend::copy_done()).send();
        assert_eq!(other.query("select 'untouched'").value(), "untouched");
        assert_eq!(count(&mut client), "0");
        assert_eq!(count(&mut other), "0");
    });
}

#[test]
fn an_error_in_an_extended_copy_waits_for_its_sync() {
    everywhere_transactional(|site| {
        let mut client = client_with_table(site);
        client.parse("", "copy c from stdin").bind("", &[]).execute().flush();
        assert_eq!(client.read_until('G').shape(), "12G");
        client.say(frontend::copy_data(b"bad\n")).say(frontend::copy_data(b"1\n")).say(frontend::copy_done()).sync();
        let reply = client.reply();
        assert_eq!((reply.shape().as_str(), reply.error().code()), ("EZ", "22P02"));
        assert_eq!(count(&mut client), "0");
    });
}

#[test]
fn a_copy_that_the_client_leaves_is_undone() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (client_with_table(site), site.client());
        client.start_query("copy c from stdin");
        client.read_until('G');
        client.say(frontend::copy_data(b"1\n")).send();
        client.vanish();
        assert_eq!(count(&mut other), "0");
    });
}

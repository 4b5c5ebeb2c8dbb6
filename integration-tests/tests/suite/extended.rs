//! The extended protocol: pipelines, and prepared statements that follow the client from server to server.

use config::PoolMode::Transaction;
use integration_tests::{Message, RawClient, Site, everywhere, everywhere_transactional, frontend};

/// Parse, Bind, Describe, Execute, Sync of an unnamed statement.
fn run(client: &mut RawClient, sql: &str, parameters: &[&str]) -> integration_tests::Reply {
    client.parse("", sql).bind("", parameters).say(frontend::describe(b'P', "")).execute().sync().reply()
}

fn run_prepared(client: &mut RawClient, name: &str, parameters: &[&str]) -> integration_tests::Reply {
    client.bind(name, parameters).execute().sync().reply()
}

#[test]
fn a_pipeline_is_answered_message_by_message() {
    everywhere(|site| {
        let reply = run(&mut site.client(), "select $1::int + 1", &["41"]);
        assert_eq!((reply.shape().as_str(), reply.value().as_str()), ("12TDCZ", "42"));
    });
}

#[test]
fn an_error_skips_to_the_next_sync_and_no_further() {
    everywhere(|site| {
        let mut client = site.client();
        client.parse("", "select 1").bind("", &[]).execute();
        client.parse("", "select nonsense from nowhere").bind("", &[]).execute();
        client.parse("", "select 3").bind("", &[]).execute().sync();
        client.parse("", "select 4").bind("", &[]).execute().sync();
        assert_eq!(client.reply().shape(), "12DCEZ");
        let after = client.reply();
        assert_eq!((after.shape().as_str(), after.value().as_str()), ("12DCZ", "4"));
    });
}

#[test]
fn statements_sent_ahead_with_a_sync_each_keep_their_order() {
    everywhere(|site| {
        let mut client = site.client();
        client.parse("ahead", "select $1::int").sync();
        for n in 0..100 {
            client.bind("ahead", &[&n.to_string()]).execute().sync();
        }
        assert_eq!(client.reply().shape(), "1Z");
        for n in 0..100 {
            assert_eq!(client.reply().value(), n.to_string());
        }
    });
}

#[test]
fn a_flush_brings_the_replies_and_waits_for_nothing() {
    everywhere(|site| {
        let mut client = site.client();
        client.parse("", "select 1").say(frontend::describe(b'S', "")).flush();
        assert_eq!(client.read_until('T').shape(), "1tT");
        client.bind("", &[]).execute().flush();
        assert_eq!(client.read_until('C').shape(), "2DC");
        assert_eq!(client.sync().reply().shape(), "Z");
    });
}

#[test]
fn a_named_statement_is_there_in_every_transaction() {
    everywhere_transactional(|site| {
        let (mut first, mut second) = (site.client(), site.client());
        assert_eq!(first.parse("same", "select 'first' || $1").sync().reply().shape(), "1Z");
        assert_eq!(second.parse("same", "select 'second' || $1").sync().reply().shape(), "1Z");
        for n in ["1", "2", "3"] {
            assert_eq!(run_prepared(&mut first, "same", &[n]).value(), format!("first{n}"));
            assert_eq!(run_prepared(&mut second, "same", &[n]).value(), format!("second{n}"));
        }
        first.query("begin").ok();
        assert_eq!(run_prepared(&mut first, "same", &["t"]).shape(), "2DCZ");
        first.query("commit").ok();
    });
}

#[test]
fn the_unnamed_statement_lives_until_its_client_replaces_it() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        assert_eq!(client.parse("", "select 'mine'").sync().reply().shape(), "1Z");
        assert_eq!(run(&mut other, "select 'theirs'", &[]).value(), "theirs");
        let again = run_prepared(&mut client, "", &[]);
        assert_eq!((again.shape().as_str(), again.value().as_str()), ("2DCZ", "mine"));
        // A simple query takes away its own client's alone, whichever server it runs on.
        other.query("select 1").ok();
        assert_eq!(run_prepared(&mut client, "", &[]).value(), "mine");
    });
}

#[test]
fn an_unnamed_statement_that_was_to_be_replaced_is_not_run_in_place_of_the_new_one() {
    let site = Site::behind(Transaction, |proxy| {
        proxy.size(1).pool(|pool| pool.queue_timeout = std::time::Duration::from_millis(200))
    });
    let (mut client, mut holder) = (site.client(), site.client());
    let replaces: [fn(&mut RawClient); 3] = [
        |client| _ = client.parse("", "select 'new'").bind("", &[]).execute().sync(),
        |client| _ = client.start_query("select 'new'"),
        |client| _ = client.start_query(format!("select 'new' /* {} */", "x".repeat(600 * 1024))),
    ];
    for replace in replaces {
        client.parse("", "select 'old'").sync().reply().ok();
        holder.query("begin").ok();
        replace(&mut client);
        assert_eq!(client.reply().error().code(), "53300");
        holder.query("commit").ok();
        assert_eq!(run_prepared(&mut client, "", &[]).error().code(), "26000");
    }
    // What fails before it comes to its Parse has replaced nothing.
    client.parse("", "select 'old'").sync().reply().ok();
    holder.query("begin").ok();
    client.bind("", &[]).execute().parse("", "select 'new'").sync();
    assert_eq!(client.reply().error().code(), "53300");
    holder.query("commit").ok();
    assert_eq!(run_prepared(&mut client, "", &[]).value(), "old");
}

#[test]
fn an_error_does_not_bring_back_an_unnamed_statement_that_a_query_took_away() {
    everywhere_transactional(|site| {
        for pipelined in [false, true] {
            let mut client = site.client();
            client.parse("", "select 'first'").sync();
            if !pipelined {
                client.reply().ok();
            }
            client.start_query("select 1");
            if pipelined {
                client.reply().ok();
            }
            client.reply().ok();
            // The Parse is skipped: what counts is what was there before it, and that is nothing.
            client.bind("nobody", &[]).parse("", "select 'skipped'").sync().reply().error();
            assert_eq!(run_prepared(&mut client, "", &[]).error().code(), "26000", "pipelined: {pipelined}");
        }
    });
}

#[test]
fn a_statement_is_described_wherever_it_is_prepared() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.parse("d", "select $1::int as a, $2::text as b").sync().reply();
        run(&mut other, "select 1", &[]);
        let reply = client.say(frontend::describe(b'S', "d")).sync().reply();
        assert_eq!(reply.shape(), "tTZ");
        assert_eq!(reply.messages[0], Message::ParameterDescription(vec![23, 25]));
        assert_eq!(reply.messages[1], Message::RowDescription(vec!["a".to_owned(), "b".to_owned()]));
    });
}

#[test]
fn an_unknown_statement_is_called_by_the_name_that_the_client_used() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        let bound = client.bind("nobody", &[]).execute().sync().reply();
        let described = client.say(frontend::describe(b'S', "nobody")).sync().reply();
        for reply in [bound, described] {
            assert_eq!((reply.shape().as_str(), reply.error().code()), ("EZ", "26000"));
            assert_eq!(reply.error().message(), "prepared statement \"nobody\" does not exist");
        }
    });
}

#[test]
fn a_name_is_taken_until_it_is_closed() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        client.parse("s", "select 1").sync().reply();
        let again = client.parse("s", "select 2").sync().reply();
        assert_eq!((again.shape().as_str(), again.error().code()), ("EZ", "42P05"));
        assert_eq!(again.error().message(), "prepared statement \"s\" already exists");
        assert_eq!(run_prepared(&mut client, "s", &[]).value(), "1");
        let closed = client.say(frontend::close(b'S', "s")).parse("s", "select 2").sync().reply();
        assert_eq!(closed.shape(), "31Z");
        assert_eq!(run_prepared(&mut client, "s", &[]).value(), "2");
        assert_eq!(client.say(frontend::close(b'S', "never there")).sync().reply().shape(), "3Z");
    });
}

#[test]
fn closing_a_portal_keeps_the_statement() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        client.parse("p", "select 1").sync().reply();
        assert_eq!(client.say(frontend::close(b'P', "p")).sync().reply().shape(), "3Z");
        assert_eq!(run_prepared(&mut client, "p", &[]).value(), "1");
    });
}

#[test]
fn a_parse_that_failed_leaves_nothing_behind() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        for _ in 0..2 {
            let failed = client.parse("f", "select wrong from nowhere").bind("f", &[]).execute().sync().reply();
            assert_eq!((failed.shape().as_str(), failed.error().code()), ("EZ", "42P01"));
            assert_eq!(run_prepared(&mut client, "f", &[]).error().code(), "26000");
        }
        // What stood behind the mistake was skipped, so it does not exist either.
        client.parse("f", "select wrong from nowhere").parse("skipped", "select 1").sync().reply();
        assert_eq!(run_prepared(&mut client, "skipped", &[]).error().code(), "26000");
        assert_eq!(client.parse("f", "select 'right'").sync().reply().shape(), "1Z");
        assert_eq!(run_prepared(&mut client, "f", &[]).value(), "right");
    });
}

#[test]
fn the_unnamed_statement_is_the_last_one_that_the_server_has_taken() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        // The second Parse is skipped: the first one counts, in the next request and in the one behind a query.
        client.parse("", "select 'first'").bind("nobody", &[]).parse("", "select 'skipped'").sync();
        assert_eq!(client.bind("", &[]).execute().sync().reply().error().code(), "26000");
        assert_eq!(client.reply().value(), "first");
        assert_eq!(run_prepared(&mut client, "", &[]).value(), "first");
        // One that fails itself takes away what was there.
        client.parse("", "select wrong from nowhere").sync().reply();
        assert_eq!(run_prepared(&mut client, "", &[]).error().code(), "26000");
        // DEALLOCATE ALL leaves it.
        client.parse("", "deallocate all").bind("", &[]).execute().parse("", "select 'kept'").sync().reply().ok();
        assert_eq!(run_prepared(&mut client, "", &[]).value(), "kept");
    });
}

#[test]
fn what_a_name_means_behind_an_error_is_what_the_server_has_taken() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        client.parse("known", "select 'known'").sync().reply().ok();
        // A Parse that is skipped defines nothing, also where the server holds its text.
        client.bind("nobody", &[]).parse("a", "select 'known'").sync().bind("a", &[]).execute().sync();
        assert_eq!(client.reply().error().code(), "26000");
        assert_eq!(client.reply().error().code(), "26000");
        // A Close that is skipped frees no name.
        client.bind("nobody", &[]).say(frontend::close(b'S', "known")).sync().parse("known", "select 'other'").sync();
        assert_eq!(client.reply().error().code(), "26000");
        assert_eq!(client.reply().error().code(), "42P05");
        assert_eq!(run_prepared(&mut client, "known", &[]).value(), "known");
    });
}

#[test]
fn deallocate_forgets_what_it_names_and_nothing_else() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        other.parse("a", "select 'other'").sync().reply();
        for forget in ["deallocate a", "DEALLOCATE ALL", "discard all", "deallocate prepare \"a\""] {
            client.parse("a", "select 'a'").sync().reply().ok();
            client.query(forget).ok();
            assert_eq!(run_prepared(&mut client, "a", &[]).error().code(), "26000", "{forget}");
        }
        assert_eq!(run_prepared(&mut other, "a", &[]).value(), "other");
    });
}

#[test]
fn what_is_parsed_behind_a_deallocate_stays() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        client.parse("a", "select 'old'").sync().reply();
        client.say(frontend::query("deallocate all")).parse("a", "select 'new'").sync();
        assert_eq!(client.reply().commands(), ["DEALLOCATE ALL"]);
        assert_eq!(client.reply().shape(), "1Z");
        assert_eq!(run_prepared(&mut client, "a", &[]).value(), "new");
    });
}

#[test]
fn a_portal_gives_its_rows_in_portions() {
    everywhere(|site| {
        let mut client = site.client();
        client.parse("", "select generate_series(1, 5)").bind("", &[]);
        for _ in 0..3 {
            client.say(frontend::execute("", 2));
        }
        let reply = client.sync().reply();
        assert_eq!((reply.shape().as_str(), reply.rows().len()), ("12DDsDDsDCZ", 5));
    });
}

#[test]
fn a_function_call_passes() {
    everywhere(|site| {
        let mut client = site.client();
        let abs = client.query("select 'abs(int4)'::regprocedure::oid").value().parse().unwrap();
        let reply = client.say(frontend::function_call(abs, &[&(-7i32).to_be_bytes()])).reply();
        assert_eq!(reply.shape(), "VZ");
        assert_eq!(reply.messages[0], Message::FunctionCallResponse(Some(7i32.to_be_bytes().to_vec())));
        assert_eq!(client.query("select 1").value(), "1");
    });
}

/// The value that a function gives, called by its OID.
fn call(client: &mut RawClient, function: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let reply = client.say(frontend::function_call(function, arguments)).reply().ok();
    let Some(Message::FunctionCallResponse(Some(value))) = reply.messages.first() else { panic!("{reply:?}") };
    value.clone()
}

#[test]
fn large_objects_are_written_and_read_by_function_calls() {
    // As libpq's lo_create, lo_open, lo_write, lo_lseek, lo_read and lo_close do.
    const LO_OPEN: u32 = 952;
    const LO_CLOSE: u32 = 953;
    const LO_READ: u32 = 954;
    const LO_WRITE: u32 = 955;
    const LO_SEEK: u32 = 956;
    const LO_CREAT: u32 = 957;
    const LO_UNLINK: u32 = 964;
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        let read_and_write = 0x6_0000u32.to_be_bytes();
        let object = call(&mut client, LO_CREAT, &[&read_and_write]);
        client.query("begin").ok();
        let mut call = |function: u32, arguments: &[&[u8]]| call(&mut client, function, arguments);
        let open = call(LO_OPEN, &[&object, &read_and_write]);
        let content: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(call(LO_WRITE, &[&open, &content]), 300_000u32.to_be_bytes());
        call(LO_SEEK, &[&open, &0u32.to_be_bytes(), &0u32.to_be_bytes()]);
        assert!(call(LO_READ, &[&open, &400_000u32.to_be_bytes()]) == content);
        call(LO_CLOSE, &[&open]);
        client.query("commit").ok();
        let number = u32::from_be_bytes(object.clone().try_into().unwrap());
        assert_eq!(other.query(format!("select length(lo_get({number}))")).value(), "300000");
        other.say(frontend::function_call(LO_UNLINK, &[&object])).reply().ok();
    });
}

#[test]
fn portals_of_a_transaction_give_their_rows_by_turns() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        client.query("begin").ok();
        for (portal, first) in [("a", 1), ("b", 11)] {
            client.parse("", &format!("select generate_series({first}, {})", first + 4));
            client.say(frontend::bind(portal, "", &[])).sync().reply().ok();
        }
        let mut rows = |portal: &str, count: u32| {
            let reply = client.say(frontend::execute(portal, count)).flush().sync().reply();
            let values: Vec<String> = reply.rows().iter().map(|row| row[0].clone()).collect();
            (values.join(" "), reply.shape())
        };
        assert_eq!(rows("a", 2), ("1 2".to_owned(), "DDsZ".to_owned()));
        assert_eq!(rows("b", 1), ("11".to_owned(), "DsZ".to_owned()));
        assert_eq!(rows("a", 2), ("3 4".to_owned(), "DDsZ".to_owned()));
        assert_eq!(rows("b", 0), ("12 13 14 15".to_owned(), "DDDDCZ".to_owned()));
        assert_eq!(rows("a", 9), ("5".to_owned(), "DCZ".to_owned()));
        client.say(frontend::close(b'P', "a")).sync().reply().ok();
        assert_eq!(client.say(frontend::execute("a", 0)).sync().reply().error().code(), "34000");
        client.query("rollback").ok();
        // Portals end with their transaction.
        assert_eq!(client.say(frontend::execute("b", 0)).sync().reply().error().code(), "34000");
    });
}

#[test]
fn transactions_begin_and_end_in_the_extended_protocol_too() {
    everywhere_transactional(|site| {
        let (mut client, mut other) = (site.client(), site.client());
        client.query("create table t (n int)").ok();
        assert_eq!(run(&mut client, "begin", &[]).status(), 'T');
        run(&mut client, "insert into t values ($1)", &["1"]).ok();
        assert_eq!(run(&mut client, "rollback", &[]).status(), 'I');
        assert_eq!(run(&mut other, "select count(*) from t", &[]).value(), "0");
    });
}

#[test]
fn a_pipeline_without_begin_is_one_transaction() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        client.query("create table t (n int)").ok();
        client.parse("", "insert into t values (1)").bind("", &[]).execute();
        client.parse("", "select 1/0").bind("", &[]).execute().sync();
        assert_eq!(client.reply().error().code(), "22012");
        assert_eq!(client.query("select count(*) from t").value(), "0");
    });
}

#[test]
fn any_cut_of_a_pipeline_gives_the_same_replies() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        for size in [1, 2, 3, 4, 6, 11] {
            let name = format!("cut{size}");
            client.parse(&name, "select $1::text").bind(&name, &["x"]).say(frontend::describe(b'P', ""));
            client.execute().sync().say(frontend::query("select 'simple'")).send_in_pieces(size);
            assert_eq!(client.reply().shape(), "12TDCZ", "pieces of {size}");
            assert_eq!(client.reply().value(), "simple", "pieces of {size}");
        }
    });
}

#[test]
fn more_statements_than_a_server_keeps_all_work() {
    everywhere_transactional(|site| {
        let mut client = site.client();
        for n in 0..250 {
            client.parse(&format!("s{n}"), &format!("select {n}")).sync().reply().ok();
        }
        for n in (0..250).rev() {
            assert_eq!(run_prepared(&mut client, &format!("s{n}"), &[]).value(), n.to_string());
        }
    });
}

/// A constant becomes a value when it is prepared, by the settings of who prepares it, and so do characters beyond ASCII.
#[test]
fn a_text_that_settings_give_another_meaning_is_another_statement() {
    let site = Site::behind(Transaction, |proxy| proxy.size(1));
    let prepare = |client: &mut RawClient, name: &str, sql: &str| {
        client.parse(name, sql).sync().reply().ok();
    };
    for (setting, one, other, sql, answers) in [
        ("DateStyle", "ISO, MDY", "ISO, DMY", "select extract(month from '01/02/2020'::date)::text", ["1", "2"]),
        (
            "TimeZone",
            "UTC",
            "Asia/Tokyo",
            "select extract(epoch from '1970-01-02'::timestamptz)::text",
            ["86400", "54000"],
        ),
        ("client_encoding", "UTF8", "LATIN1", "select length('é')::text", ["1", "2"]),
    ] {
        let mut clients = [one, other].map(|value| {
            let mut client = site.client();
            client.query(format!("set {setting} = '{value}'")).ok();
            client
        });
        clients.iter_mut().for_each(|client| prepare(client, "p", sql));
        for _ in 0..3 {
            let said = clients.each_mut().map(|client| run_prepared(client, "p", &[]).value());
            assert_eq!(said.each_ref().map(|said| said.split('.').next().unwrap()), answers, "{setting}");
        }
    }
}

//! tokio-postgres, with deadpool as its pool.
#![forbid(unsafe_code)]

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use rust_drivers::{CLIENTS, SET_TENANT, SETTING, TURNS, holds, own_statement, soon, times_run, url};
use tokio::sync::Barrier;
use tokio_postgres::{AsyncMessage, Client, Error, NoTls};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    holds("prepared_statements_are_reused", prepared_statements_are_reused()).await;
    holds("a_dropped_statement_is_closed", a_dropped_statement_is_closed()).await;
    holds("transactions_commit_and_roll_back", transactions_commit_and_roll_back()).await;
    holds("errors_keep_the_connection", errors_keep_the_connection()).await;
    holds("queries_may_be_sent_ahead", queries_may_be_sent_ahead()).await;
    holds("a_portal_reads_in_portions", a_portal_reads_in_portions()).await;
    holds("rows_are_copied_in_and_out", rows_are_copied_in_and_out()).await;
    holds("a_query_is_cancelled", a_query_is_cancelled()).await;
    holds("notifications_arrive", notifications_arrive()).await;
    for recycling in [RecyclingMethod::Fast, RecyclingMethod::Verified, RecyclingMethod::Clean] {
        let name = format!("each_client_of_a_pool_sees_its_own_tenant ({recycling:?})");
        holds(&name, each_client_of_a_pool_sees_its_own_tenant(recycling)).await;
    }
    println!("ok");
}

async fn connect() -> Client {
    let (client, connection) = tokio_postgres::connect(&url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn code<T>(result: Result<T, Error>) -> String {
    let error = result.err().expect("an error");
    error.code().unwrap_or_else(|| panic!("an error of the server, not {error}")).code().to_owned()
}

async fn number(client: &Client, statement: &str) -> i32 {
    client.query_one(statement, &[]).await.unwrap().get(0)
}

async fn prepared_statements_are_reused() {
    let mut client = connect().await;
    let twice = client.prepare("select $1::int4 * 2 /* reuse by tokio-postgres */").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    for number in 0..20i32 {
        assert_eq!(transaction.query_one(&twice, &[&number]).await.unwrap().get::<_, i32>(0), number * 2);
    }
    let row = transaction.query_one(&times_run("reuse by tokio-postgres"), &[]).await.unwrap();
    let (statements, runs): (i32, i32) = (row.get(0), row.get(1));
    assert!(statements == 1 && runs >= 20, "{statements} {runs}");
}

async fn a_dropped_statement_is_closed() {
    let client = connect().await;
    for number in 0..50i32 {
        let statement = client.prepare(&format!("select {number} + $1::int4")).await.unwrap();
        assert_eq!(client.query_one(&statement, &[&1i32]).await.unwrap().get::<_, i32>(0), number + 1);
    }
    assert_eq!(number(&client, "select 3").await, 3);
}

async fn transactions_commit_and_roll_back() {
    let mut client = connect().await;
    client.batch_execute("create table t (n int4 primary key); insert into t values (0)").await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    transaction.execute("insert into t values ($1)", &[&1i32]).await.unwrap();
    let savepoint = transaction.savepoint("before").await.unwrap();
    assert_eq!(code(savepoint.execute("insert into t values ($1)", &[&1i32]).await), "23505");
    savepoint.rollback().await.unwrap();
    transaction.commit().await.unwrap();
    let transaction = client.build_transaction().read_only(true).start().await.unwrap();
    assert_eq!(code(transaction.execute("insert into t values (2)", &[]).await), "25006");
    // Dropped without a word: the driver rolls back.
    drop(transaction);
    assert_eq!(number(&client, "select count(*)::int4 from t").await, 2);
}

async fn errors_keep_the_connection() {
    let client = connect().await;
    for _ in 0..2 {
        assert_eq!(code(client.query("selekt 1", &[]).await), "42601");
        assert_eq!(code(client.query("select * from nowhere where n = $1::int4", &[&1i32]).await), "42P01");
        assert_eq!(code(client.query("select 1 / $1::int4", &[&0i32]).await), "22012");
        assert_eq!(code(client.batch_execute("select 1; select 1 / 0; select 2").await), "22012");
        assert_eq!(number(&client, "select 1").await, 1);
    }
}

async fn queries_may_be_sent_ahead() {
    let client = connect().await;
    let statement = client.prepare("select $1::int4").await.unwrap();
    let statement = &statement;
    let client = &client;
    let queries = (0..50i32).map(|number| async move {
        let row = client.query_one(statement, &[&number]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), number);
    });
    futures_util::stream::iter(queries).buffered(50).collect::<Vec<()>>().await;
}

async fn a_portal_reads_in_portions() {
    let mut client = connect().await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("select generate_series(1, 25)", &[]).await.unwrap();
    let mut portions = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 10).await.unwrap();
        portions.push(rows.len());
        if rows.len() < 10 {
            break;
        }
    }
    assert_eq!(portions, [10, 10, 5]);
}

async fn rows_are_copied_in_and_out() {
    let client = connect().await;
    client.batch_execute("create table copied (n int4)").await.unwrap();
    let sink = client.copy_in("copy copied from stdin").await.unwrap();
    let mut sink = pin!(sink);
    for number in 0..5000 {
        sink.send(Bytes::from(format!("{number}\n"))).await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), 5000);
    let out: Vec<_> = client.copy_out("copy copied to stdout").await.unwrap().try_collect().await.unwrap();
    assert_eq!(out.iter().map(|chunk| chunk.iter().filter(|byte| **byte == b'\n').count()).sum::<usize>(), 5000);
    // Dropped before its end: the driver sends CopyFail.
    drop(client.copy_in::<_, Bytes>("copy copied from stdin").await.unwrap());
    assert_eq!(number(&client, "select count(*)::int4 from copied").await, 5000);
}

async fn a_query_is_cancelled() {
    let client = connect().await;
    for _ in 0..2 {
        let cancel = client.cancel_token();
        let cancelled = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cancel.cancel_query(NoTls).await.unwrap();
        };
        let (slow, ()) = soon(async { tokio::join!(client.batch_execute("select pg_sleep(30)"), cancelled) }).await;
        assert_eq!(code(slow), "57014");
        assert_eq!(number(&client, "select 1").await, 1);
    }
}

async fn notifications_arrive() {
    let (listener, mut connection) = tokio_postgres::connect(&url(), NoTls).await.unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                told.send(notification.payload().to_owned()).unwrap();
            }
        }
    });
    listener.batch_execute("listen tokio_news").await.unwrap();
    connect().await.batch_execute("notify tokio_news, 'hello'").await.unwrap();
    assert_eq!(soon(heard.recv()).await.as_deref(), Some("hello"));
}

async fn each_client_of_a_pool_sees_its_own_tenant(recycling_method: RecyclingMethod) {
    let manager = Manager::from_config(url().parse().unwrap(), NoTls, ManagerConfig { recycling_method });
    let pool = Pool::builder(manager).max_size(CLIENTS).build().unwrap();
    for _ in 0..2 {
        let together = Arc::new(Barrier::new(CLIENTS));
        let clients = (0..CLIENTS).map(|number| {
            let (pool, together) = (pool.clone(), Arc::clone(&together));
            tokio::spawn(async move {
                let tenant = format!("tenant {number}");
                let mut client = pool.get().await.unwrap();
                client.query_one(SET_TENANT, &[&tenant]).await.unwrap();
                let own = client.prepare_cached(&own_statement(&tenant)).await.unwrap();
                together.wait().await;
                for turn in 0..TURNS {
                    let seen: String = client.query_one(SETTING, &[]).await.unwrap().get(0);
                    assert_eq!(seen, tenant);
                    let transaction = client.transaction().await.unwrap();
                    assert_eq!(transaction.query_one(&own, &[&turn]).await.unwrap().get::<_, i32>(0), turn);
                    transaction.commit().await.unwrap();
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    }
}

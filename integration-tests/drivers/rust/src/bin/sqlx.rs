//! sqlx with its own pool.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use rust_drivers::{CLIENTS, SET_TENANT, SETTING, TURNS, holds, own_statement, soon, times_run, url};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{Connection, Error, Executor, PgConnection, Row};
use tokio::sync::Barrier;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    holds("prepared_statements_are_reused", prepared_statements_are_reused()).await;
    holds("a_small_cache_closes_what_it_drops", a_small_cache_closes_what_it_drops()).await;
    holds("transactions_commit_and_roll_back", transactions_commit_and_roll_back()).await;
    holds("errors_keep_the_connection", errors_keep_the_connection()).await;
    holds("rows_are_streamed", rows_are_streamed()).await;
    holds("rows_are_copied_in_and_out", rows_are_copied_in_and_out()).await;
    holds("several_statements_are_one_query", several_statements_are_one_query()).await;
    holds("a_query_is_cancelled", a_query_is_cancelled()).await;
    holds("notifications_arrive", notifications_arrive()).await;
    holds("each_client_of_a_pool_sees_its_own_tenant", each_client_of_a_pool_sees_its_own_tenant()).await;
    println!("ok");
}

async fn connect() -> PgConnection {
    PgConnection::connect(&url()).await.unwrap()
}

fn code<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Database(error)) => error.code().expect("a SQLSTATE").into_owned(),
        Err(error) => panic!("an error of the server, not {error}"),
        Ok(_) => panic!("went well"),
    }
}

async fn number(connection: &mut PgConnection, statement: &str) -> i32 {
    sqlx::query_scalar(statement).fetch_one(connection).await.unwrap()
}

async fn prepared_statements_are_reused() {
    let mut connection = connect().await;
    let mut transaction = connection.begin().await.unwrap();
    for number in 0..20i32 {
        let twice = sqlx::query_scalar::<_, i32>("select $1::int4 * 2 /* reuse by sqlx */").bind(number);
        assert_eq!(twice.fetch_one(&mut *transaction).await.unwrap(), number * 2);
    }
    let row = sqlx::query(&times_run("reuse by sqlx")).fetch_one(&mut *transaction).await.unwrap();
    let (statements, runs): (i32, i32) = (row.get(0), row.get(1));
    assert!(statements == 1 && runs >= 20, "{statements} {runs}");
    transaction.commit().await.unwrap();
    connection.close().await.unwrap();
}

async fn a_small_cache_closes_what_it_drops() {
    let options: PgConnectOptions = url().parse().unwrap();
    let mut connection = PgConnection::connect_with(&options.statement_cache_capacity(5)).await.unwrap();
    for _ in 0..2 {
        for number in 0..20i32 {
            let text = format!("select $1::int4 + {number}");
            let sum = sqlx::query_scalar::<_, i32>(&text).bind(1i32).fetch_one(&mut connection).await.unwrap();
            assert_eq!(sum, number + 1);
        }
    }
    connection.clear_cached_statements().await.unwrap();
    let once = sqlx::query("select $1::int4").bind(7i32).persistent(false);
    assert_eq!(once.fetch_one(&mut connection).await.unwrap().get::<i32, _>(0), 7);
}

async fn transactions_commit_and_roll_back() {
    let mut connection = connect().await;
    connection.execute("create table sqlx_things (n int4 primary key)").await.unwrap();
    let insert = "insert into sqlx_things values ($1)";
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query(insert).bind(1i32).execute(&mut *transaction).await.unwrap();
    let mut savepoint = transaction.begin().await.unwrap();
    sqlx::query(insert).bind(2i32).execute(&mut *savepoint).await.unwrap();
    assert_eq!(code(sqlx::query(insert).bind(1i32).execute(&mut *savepoint).await), "23505");
    savepoint.rollback().await.unwrap();
    transaction.commit().await.unwrap();
    let mut dropped = connection.begin().await.unwrap();
    sqlx::query(insert).bind(3i32).execute(&mut *dropped).await.unwrap();
    // Dropped without a word: the driver rolls back before the next statement.
    drop(dropped);
    assert_eq!(number(&mut connection, "select count(*)::int4 from sqlx_things").await, 1);
}

async fn errors_keep_the_connection() {
    let mut connection = connect().await;
    for _ in 0..2 {
        assert_eq!(code(sqlx::query("selekt 1").execute(&mut connection).await), "42601");
        let nowhere = sqlx::query("select * from nowhere where n = $1").bind(1i32);
        assert_eq!(code(nowhere.execute(&mut connection).await), "42P01");
        let divided = sqlx::query("select 1 / $1::int4").bind(0i32);
        assert_eq!(code(divided.execute(&mut connection).await), "22012");
        assert_eq!(number(&mut connection, "select 1").await, 1);
    }
}

async fn rows_are_streamed() {
    let mut connection = connect().await;
    let series = sqlx::query_scalar::<_, i32>("select generate_series(1, 1000)");
    let seen: Vec<i32> = series.fetch(&mut connection).try_collect().await.unwrap();
    assert_eq!(seen, (1..=1000).collect::<Vec<i32>>());
    // A stream that is left early: the driver reads the rest before the next statement.
    let mut stream = sqlx::query("select generate_series(1, 1000)").fetch(&mut connection);
    assert!(stream.try_next().await.unwrap().is_some());
    drop(stream);
    assert_eq!(number(&mut connection, "select 1").await, 1);
}

async fn rows_are_copied_in_and_out() {
    let mut connection = connect().await;
    connection.execute("create table sqlx_copied (n int4)").await.unwrap();
    let mut copy = connection.copy_in_raw("copy sqlx_copied from stdin").await.unwrap();
    for number in 0..5000 {
        copy.send(format!("{number}\n").into_bytes()).await.unwrap();
    }
    assert_eq!(copy.finish().await.unwrap(), 5000);
    let copy = connection.copy_in_raw("copy sqlx_copied from stdin").await.unwrap();
    copy.abort("changed my mind").await.unwrap();
    let out: Vec<_> = connection.copy_out_raw("copy sqlx_copied to stdout").await.unwrap().try_collect().await.unwrap();
    assert_eq!(out.iter().map(|chunk| chunk.iter().filter(|byte| **byte == b'\n').count()).sum::<usize>(), 5000);
}

async fn several_statements_are_one_query() {
    let mut connection = connect().await;
    let statements = "begin; insert into sqlx_things values (100); insert into sqlx_things values (101); commit";
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    assert_eq!(number(&mut connection, "select count(*)::int4 from sqlx_things where n >= 100").await, 2);
}

/// This driver has no cancel of its own: an application asks the server, as here.
async fn a_query_is_cancelled() {
    let (mut connection, mut other) = (connect().await, connect().await);
    let marker = "select pg_sleep(30) /* cancelled by sqlx */";
    let cancel = async {
        let by_text = "select count(pg_cancel_backend(pid))::int4 from pg_stat_activity \
                       where query like '%cancelled by sqlx%' and state = 'active' and pid <> pg_backend_pid()";
        while number(&mut other, by_text).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (slow, ()) = soon(async { tokio::join!(connection.execute(marker), cancel) }).await;
    assert_eq!(code(slow), "57014");
    assert_eq!(number(&mut connection, "select 1").await, 1);
}

async fn notifications_arrive() {
    let pool = PgPool::connect(&url()).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("sqlx_news").await.unwrap();
    sqlx::query("select pg_notify('sqlx_news', $1)").bind("hello").execute(&pool).await.unwrap();
    assert_eq!(soon(listener.recv()).await.unwrap().payload(), "hello");
    listener.unlisten_all().await.unwrap();
    drop(listener);
    pool.close().await;
}

async fn each_client_of_a_pool_sees_its_own_tenant() {
    let connected = Arc::new(AtomicUsize::new(0));
    let options = PgPoolOptions::new().min_connections(CLIENTS as u32).max_connections(CLIENTS as u32);
    let options = options.after_connect(move |connection, _| {
        let tenant = format!("tenant {}", connected.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            sqlx::query(SET_TENANT).bind(tenant).execute(connection).await?;
            Ok(())
        })
    });
    let pool = options.connect(&url()).await.unwrap();
    let together = Arc::new(Barrier::new(CLIENTS));
    let clients = (0..CLIENTS).map(|_| {
        let (pool, together) = (pool.clone(), Arc::clone(&together));
        tokio::spawn(async move {
            let mut client = pool.acquire().await.unwrap();
            let tenant: String = sqlx::query_scalar(SETTING).fetch_one(&mut *client).await.unwrap();
            let own = own_statement(&tenant);
            together.wait().await;
            for turn in 0..TURNS {
                let mut transaction = client.begin().await.unwrap();
                let seen: String = sqlx::query_scalar(SETTING).fetch_one(&mut *transaction).await.unwrap();
                assert_eq!(seen, tenant);
                let row = sqlx::query(&own).bind(turn).fetch_one(&mut *transaction).await.unwrap();
                assert_eq!(row.get::<i32, _>(0), turn);
                transaction.commit().await.unwrap();
            }
            tenant
        })
    });
    let mut tenants = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        tenants.push(client.await.unwrap());
    }
    tenants.sort();
    tenants.dedup();
    assert_eq!(tenants.len(), CLIENTS);
    pool.close().await;
}

//! Workers of job queues, for as long as QUEUE_SECONDS says: nothing of what they do is an N+1.

use std::time::{Duration, Instant};

use config::PoolMode::Transaction;
use config::Profile;
use integration_tests::{Site, eventually, http};
use rand::RngExt as _;
use tokio_postgres::{Client, NoTls};

const SCHEMA: &str = "
    create table jobs (id serial primary key, queue text, state text default 'queued', attempts int default 0);
    create table batches (id serial primary key, state text default 'queued', payload text);
    create table workers (id int primary key, seen timestamptz default now());
    create table events (id serial primary key, job_id int, what text);
    create index on jobs (state, id);
    create index on batches (state, id);
    insert into workers select n from generate_series(1, 40) n;
";

/// As graphile-worker: one statement takes a job, one ends it, and each step of it leaves an event.
async fn one_by_one(client: Client, worker: i32, until: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < until {
        let take = "update jobs set state = 'running', attempts = attempts + 1 where id = (select id from jobs \
            where state = 'queued' order by id limit 1 for update skip locked) returning id";
        let Some(job) = client.query_opt(take, &[]).await.unwrap() else {
            pause(20, 60).await;
            continue;
        };
        let id: i32 = job.get(0);
        for step in ["began", "fetched", "stored", "ended"] {
            client.execute("insert into events (job_id, what) values ($1, $2)", &[&id, &step]).await.unwrap();
            pause(5, 40).await;
        }
        client.execute("delete from jobs where id = $1", &[&id]).await.unwrap();
        client.execute("update workers set seen = now() where id = $1", &[&worker]).await.unwrap();
        done += 1;
    }
    done
}

/// As pg-boss: a transaction takes some, works on them, and completes them at once.
async fn in_batches(mut client: Client, until: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < until {
        let take = "with next as (select id from batches where state = 'queued' order by id limit 5 \
            for update skip locked) update batches b set state = 'active' from next where b.id = next.id \
            returning b.id, b.payload";
        let transaction = client.transaction().await.unwrap();
        let ids: Vec<i32> = transaction.query(take, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        transaction.commit().await.unwrap();
        pause(10, 50).await;
        let complete = "update batches set state = 'completed' where id = any($1::int[])";
        client.execute(complete, &[&ids]).await.unwrap();
        done += ids.len() as u64;
    }
    done
}

/// A worker that holds its job's row while it works, and one transaction for all of it.
async fn in_transactions(mut client: Client, until: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < until {
        let transaction = client.transaction().await.unwrap();
        let take = "select id from jobs where state = 'queued' order by id limit 1 for update skip locked";
        if let Some(job) = transaction.query_opt(take, &[]).await.unwrap() {
            let id: i32 = job.get(0);
            pause(1, 10).await;
            transaction.execute("update jobs set state = 'done' where id = $1", &[&id]).await.unwrap();
            done += 1;
        }
        transaction.commit().await.unwrap();
        pause(5, 30).await;
    }
    done
}

/// Its sign of life, and a look at the settings, as often as workers do that.
async fn heartbeat(client: Client, worker: i32, until: Instant) -> u64 {
    let mut beats = 0;
    while Instant::now() < until {
        client.execute("update workers set seen = now() where id = $1", &[&worker]).await.unwrap();
        client.query("select count(*) from jobs where queue = $1", &[&"mail"]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        beats += 1;
    }
    beats
}

/// Web requests that leave a job each.
async fn producer(client: Client, until: Instant) -> u64 {
    let mut made = 0;
    while Instant::now() < until {
        client.execute("insert into jobs (queue) values ($1)", &[&"mail"]).await.unwrap();
        client.execute("insert into batches (payload) values ($1)", &[&"x"]).await.unwrap();
        pause(15, 45).await;
        made += 1;
    }
    made
}

/// What must be found: for each job of a list, a statement of its own.
async fn one_for_each(client: Client) {
    let list = "select id from jobs order by id limit 20";
    for job in client.query(list, &[]).await.unwrap() {
        let id: i32 = job.get(0);
        client.query("select what from events where job_id = $1", &[&id]).await.unwrap();
    }
}

async fn pause(from: u64, to: u64) {
    let milliseconds = rand::rng().random_range(from..=to);
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[test]
fn what_queue_workers_do_is_no_finding() {
    let seconds = std::env::var("QUEUE_SECONDS").map_or(5, |seconds| seconds.parse().unwrap());
    let site = Site::behind(Transaction, |proxy| {
        let proxy = proxy.size(12);
        proxy.with(|settings| {
            settings.observe.profile = Profile::Production;
            settings.observe.events_per_second = 1_000_000;
        })
    });
    site.run_directly(SCHEMA).ok();
    let until = Instant::now() + Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done: u64 = runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for worker in 1..=20 {
            let (client, connection) = tokio_postgres::connect(&site.url(), NoTls).await.unwrap();
            tokio::spawn(connection);
            match worker {
                1..=6 => running.spawn(one_by_one(client, worker, until)),
                7..=10 => running.spawn(in_batches(client, until)),
                11..=13 => running.spawn(in_transactions(client, until)),
                14..=17 => running.spawn(heartbeat(client, worker, until)),
                _ => running.spawn(producer(client, until)),
            };
        }
        running.join_all().await.into_iter().sum()
    });
    // Bursts are judged within some milliseconds of their end.
    std::thread::sleep(Duration::from_millis(1_500));
    let body = http::fetch(site.admin(), "/api/v1/findings").json();
    println!("{done} jobs, beats and requests in {seconds} s");
    assert!(done > seconds * 20, "hardly any traffic: {done}");
    assert_eq!(body["total"], 0, "{body:#}");
    // Nothing was passed over, and who looks is awake.
    for left_out in ["events_skipped", "events_dropped", "detection_dropped"] {
        assert_eq!(body[left_out], 0, "{left_out}: {body:#}");
    }
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&site.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("insert into jobs (queue) select 'web' from generate_series(1, 20)").await.unwrap();
        one_for_each(client).await;
    });
    let found = || http::fetch(site.admin(), "/api/v1/findings").json()["findings"].as_array().unwrap().clone();
    eventually("the loop is found", || !found().is_empty());
    let kinds: Vec<_> = found().iter().map(|finding| finding["kind"].clone()).collect();
    assert_eq!(kinds, ["n_plus_one"]);
}

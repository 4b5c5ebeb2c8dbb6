//! A worker's letters, without a thread or a socket.

use config::Settings;
use policy::fair::{ClassShare, Key, Share};
use policy::tenant::TenantId;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::pool::DialFailure;
use crate::pool::ledger::Admission;
use crate::pool::tokens::Member;
use crate::shared::{WorkerSeat, testing};
use crate::telemetry::CloseReason;

/// Three workers, of which nobody opens the letters.
fn three(more: &str) -> (Arc<Shared>, Vec<UnboundedReceiver<Mail>>) {
    let text = format!("max_pools = 1\n[databases.shop]\nupstream = 'postgres://h'\n[pool]\nsize = 2\n{more}");
    let settings = Settings::from_toml(&text, &config::Overrides::default(), &config::NoSources).unwrap();
    let (seats, boxes): (Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            let (mail, letters) = mpsc::unbounded_channel();
            (WorkerSeat { mail, clients: Default::default() }, letters)
        })
        .unzip();
    (Arc::new(testing::shared(settings, seats.into())), boxes)
}

fn letters(mailbox: &mut UnboundedReceiver<Mail>) -> Vec<Mail> {
    std::iter::from_fn(|| mailbox.try_recv().ok()).collect()
}

/// A client of this worker waits.
fn wait(pool: &Pool, worker: usize, client: u64) {
    let key = Key { tenant: TenantId::OTHER, class: 0 };
    let (share, class) = (Share::default(), ClassShare::default());
    let claim = policy::fair::Claim { key, share, class, deadline: None, watched: false };
    let ticket = Ticket { worker, client, turn: 1 };
    assert_eq!(pool.ledger().wait(ticket, &claim, Instant::now()), Admission::Queued);
}

fn enter(shared: &Arc<Shared>, user: &str) -> Member {
    shared.enter_pool("shop", user, None).unwrap()
}

#[test]
fn who_gets_nothing_of_the_worker_that_was_asked_is_served_by_the_next_that_has_something() {
    let (shared, mut boxes) = three("");
    let pool = enter(&shared, "anna");
    // Both have asked worker 0, which had one when they did: the lowest is asked.
    wait(&pool, 1, 7);
    wait(&pool, 1, 8);
    pool.publish_idle(2, 1);
    let worker = Rc::new(Worker::new(0, shared.clone()));
    worker.open(Mail::Share(pool.clone()));
    let sent = letters(&mut boxes[2]);
    assert!(matches!(&sent[..], [Mail::Share(asked)] if asked.id == pool.id), "{sent:?}");
    assert!(letters(&mut boxes[0]).is_empty() && letters(&mut boxes[1]).is_empty());
    // Nothing idles anywhere: the letter ends here.
    pool.publish_idle(2, 0);
    worker.open(Mail::Share(pool.clone()));
    assert!(boxes.iter_mut().all(|mailbox| letters(mailbox).is_empty()));
}

#[test]
fn a_pool_that_gives_way_is_forgotten_by_every_worker() {
    let (shared, mut boxes) = three("");
    let anna = enter(&shared, "anna");
    let worker = Rc::new(Worker::new(0, shared.clone()));
    worker.pool(&anna);
    let gone = anna.id;
    drop(anna);
    let bob = enter(&shared, "bob");
    for mailbox in &mut boxes {
        for letter in letters(mailbox) {
            assert!(matches!(letter, Mail::Forget(pool) if pool == gone), "{letter:?}");
            worker.open(letter);
        }
    }
    assert!(worker.pools.borrow().is_empty() && bob.id != gone);
}

#[test]
fn those_who_wait_are_told_when_the_last_upstream_closes_and_none_is_made() {
    let (shared, mut boxes) = three("connect_backoff = '60s'\nconnect_backoff_max = '60s'\n");
    let (pool, now) = (enter(&shared, "anna"), Instant::now());
    pool.ledger().begin_dial();
    assert_eq!(pool.ledger().dialled(now), None);
    wait(&pool, 1, 7);
    pool.ledger().begin_dial();
    pool.set_failure(DialFailure::Unreachable(policy::verdict::ConnectFailure::Broken));
    assert_eq!(pool.ledger().dial_failed(now, 1.0), []);
    let worker = Rc::new(Worker::new(0, shared.clone()));
    pool.ledger().closed();
    worker.count_closed(&worker.pool(&pool), CloseReason::ServerClosed);
    let sent = letters(&mut boxes[1]);
    let told = |letter: &Mail| match letter {
        Mail::Failed(ticket, trouble) => (ticket.client, format!("{:?}", trouble)),
        other => panic!("{other:?}"),
    };
    let told: Vec<_> = sent.iter().map(told).collect();
    assert!(matches!(&told[..], [(7, trouble)] if trouble.contains("Unavailable")), "{told:?}");
    assert_eq!(pool.ledger().waiting(), 0);
}

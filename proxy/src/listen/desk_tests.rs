use super::super::testing::pool;
use super::*;

fn names(channels: &[&str]) -> Vec<Channel> {
    channels.iter().map(|name| name.as_bytes().into()).collect()
}

/// A listener with a clock that the test turns.
struct Bench {
    desk: Desk,
    now: Instant,
    pool: Arc<Pool>,
}

impl Bench {
    fn connected() -> Self {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        desk.connected(now);
        Self { desk, now, pool: pool() }
    }

    fn ask(&mut self, client: u64, what: What) {
        self.desk.ask(Ask { client, worker: client as usize % 2, what }, self.now);
    }

    fn enter(&mut self, client: u64, channels: &[&str], number: u64) {
        self.ask(client, What::Enter(names(channels), self.pool.clone(), number));
    }

    fn query(&mut self) -> Option<String> {
        self.desk.next_query(self.now).map(|sql| String::from_utf8(sql).unwrap())
    }

    /// The server answers what is under way; what is told then, as `client:news`.
    fn answered(&mut self) -> Vec<String> {
        assert!(self.desk.answered(self.now));
        self.told()
    }

    fn told(&mut self) -> Vec<String> {
        let letters = self.desk.letters();
        let told = letters.iter().flat_map(|letter| {
            let news = match &letter.news {
                News::Heard(heard) => format!("heard {}", String::from_utf8_lossy(&heard.payload)),
                News::Done(number) => format!("done {number}"),
                News::Failed(number, trouble) => format!("failed {number} {}", trouble.sqlstate().as_str()),
                News::Lost => "lost".to_owned(),
                News::Restored => "restored".to_owned(),
                News::StandIn { .. } => "of a stand-in".to_owned(),
            };
            letter.clients.iter().map(move |client| format!("{client}: {news}"))
        });
        told.collect()
    }

    fn notify(&mut self, channel: &str, payload: &str) -> usize {
        let said = view::Notification { process: 9, channel: channel.as_bytes(), payload: payload.as_bytes() };
        self.desk.notified(&said, self.now)
    }
}

#[test]
fn a_channel_is_listened_to_once_however_many_clients_ask() {
    let mut bench = Bench::connected();
    bench.enter(1, &["news"], 10);
    bench.enter(2, &["news", "Wei\"rd"], 20);
    assert_eq!(bench.query().unwrap(), "LISTEN \"news\";");
    assert_eq!(bench.query(), None, "one at a time");
    assert_eq!(bench.answered(), ["1: done 10"]);
    assert_eq!(bench.query().unwrap(), "LISTEN \"Wei\"\"rd\";");
    assert_eq!(bench.answered(), ["2: done 20"]);
    bench.enter(3, &["news"], 30);
    assert_eq!(bench.query().unwrap(), "", "its answer still proves that everything before has come");
    assert_eq!(bench.answered(), ["3: done 30"]);
}

#[test]
fn clients_that_catch_up_share_a_query() {
    let mut bench = Bench::connected();
    bench.enter(1, &["news"], 1);
    bench.query();
    bench.ask(2, What::CatchUp(2));
    assert_eq!(bench.answered(), ["1: done 1"], "it was asked after the query had been sent");
    bench.ask(3, What::CatchUp(3));
    assert_eq!(bench.query().unwrap(), "");
    assert_eq!(bench.notify("news", "x"), 1);
    assert_eq!(bench.answered(), ["1: heard x", "2: done 2", "3: done 3"], "what came before is told before");
}

#[test]
fn the_last_who_leaves_has_the_channel_unlistened() {
    let mut bench = Bench::connected();
    for client in [1, 2] {
        bench.enter(client, &["news"], client);
        bench.query();
        bench.answered();
    }
    bench.ask(1, What::Leave(names(&["news"])));
    assert_eq!(bench.query(), None);
    bench.ask(2, What::Gone);
    assert_eq!(bench.notify("news", "x"), 0);
    bench.enter(3, &["news"], 3);
    assert_eq!(bench.query().unwrap(), "", "somebody else wants it by now");
    bench.answered();
    bench.ask(3, What::Gone);
    assert_eq!(bench.query().unwrap(), "UNLISTEN \"news\";");
    bench.answered();
    assert!(!bench.desk.is_needed());
}

#[test]
fn a_client_that_leaves_while_it_enters_leaves_nothing() {
    let mut bench = Bench::connected();
    bench.enter(1, &["news"], 1);
    bench.query();
    bench.ask(1, What::Gone);
    bench.answered();
    assert_eq!(bench.query().unwrap(), "UNLISTEN \"news\";");
}

#[test]
fn a_refused_channel_harms_nobody_else() {
    let mut bench = Bench::connected();
    bench.enter(1, &["bad"], 1);
    bench.enter(2, &["good"], 2);
    bench.query();
    bench.desk.failed(*b"25006", "cannot execute LISTEN during recovery");
    assert_eq!(bench.answered(), ["1: failed 1 25006"]);
    assert_eq!(bench.notify("bad", "x"), 0);
    assert_eq!(bench.query().unwrap(), "LISTEN \"good\";");
    assert_eq!(bench.answered(), ["2: done 2"]);
}

#[test]
fn after_a_loss_everything_is_listened_to_again_before_anybody_is_told() {
    let mut bench = Bench::connected();
    bench.enter(1, &["a"], 1);
    bench.query();
    bench.answered();
    bench.ask(1, What::CatchUp(2));
    bench.query();
    bench.enter(2, &["b"], 3);
    bench.desk.lost();
    assert_eq!(bench.told(), ["2: lost", "1: lost", "1: done 2"], "nobody waits for a server that is gone");
    bench.ask(1, What::CatchUp(4));
    assert_eq!(bench.told(), ["1: done 4"]);
    assert_eq!(bench.query(), None);
    bench.desk.connected(bench.now);
    assert_eq!(bench.query().unwrap(), "LISTEN \"a\";");
    assert_eq!(bench.answered(), ["2: restored", "1: restored"]);
    assert_eq!(bench.query().unwrap(), "LISTEN \"b\";");
    assert_eq!(bench.answered(), ["2: done 3"]);
}

#[test]
fn a_server_that_refuses_what_the_last_one_took_is_left_alone() {
    let mut bench = Bench::connected();
    bench.enter(1, &["a"], 1);
    bench.query();
    bench.answered();
    bench.desk.lost();
    bench.desk.connected(bench.now);
    bench.query();
    bench.desk.failed(*b"25006", "cannot execute LISTEN during recovery");
    assert!(!bench.desk.answered(bench.now));
    bench.desk.lost();
    bench.desk.connected(bench.now);
    assert_eq!(bench.query().unwrap(), "LISTEN \"a\";", "it is not forgotten");
}

#[test]
fn many_channels_are_listened_to_again_in_parts() {
    let mut bench = Bench::connected();
    for client in 0..3 {
        let channels: Vec<String> = (0..400).map(|n| format!("c{client}_{n}")).collect();
        bench.enter(client, &channels.iter().map(String::as_str).collect::<Vec<_>>(), client);
        bench.query();
        bench.answered();
    }
    bench.desk.lost();
    bench.told();
    bench.desk.connected(bench.now);
    let parts: Vec<usize> = std::iter::from_fn(|| {
        let listens = bench.query()?.matches("LISTEN").count();
        let told = bench.answered();
        Some((listens, told.len()).0)
    })
    .collect();
    assert_eq!(parts, [500, 500, 200]);
}

#[test]
fn who_waits_for_too_long_is_told_so() {
    let mut bench = Bench::connected();
    bench.enter(1, &["a"], 1);
    bench.desk.lost();
    bench.told();
    bench.desk.expire(bench.now + Duration::from_millis(9_999));
    assert_eq!(bench.told(), [""; 0]);
    assert!(bench.desk.rest(bench.now) <= Duration::from_secs(10));
    bench.desk.expire(bench.now + Duration::from_secs(10));
    assert_eq!(bench.told(), ["1: failed 1 57P03"]);
    assert!(!bench.desk.is_needed());
}

#[test]
fn silence_is_not_trusted() {
    let mut bench = Bench::connected();
    bench.enter(1, &["a"], 1);
    bench.query();
    assert!(!bench.desk.is_overdue(bench.now));
    bench.answered();
    assert_eq!(bench.query(), None);
    assert_eq!(bench.desk.rest(bench.now), HEARTBEAT);
    bench.now += HEARTBEAT;
    assert_eq!(bench.query().unwrap(), "");
    bench.now += PATIENCE;
    assert!(bench.desk.is_overdue(bench.now));
}

//! Plays steps on clients and their mirrors, and compares.

use std::collections::VecDeque;
use std::time::Duration;

use integration_tests::{Cluster, Message, RawClient, Reply, frontend};

use super::Ground;
use super::action::{Action, Part};

/// Steps of the log that a failure shows.
const SHOWN: usize = 60;

/// What the server says that a session is, in one row. Names of what belongs to nobody else: temporary tables, statements
/// prepared by SQL, cursors that are held, locks; and whose rows it sees.
const STATE: &str = "select session_user, current_user, current_setting('search_path'), current_setting('TimeZone'), \
    current_setting('lock_timeout'), current_setting('application_name'), current_setting('statement_timeout'), \
    current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'), \
    coalesce(current_setting('app.tenant_id', true), '') as tenant, coalesce(current_setting('app.note', true), ''), \
    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), \
    (select string_agg(relname, ' ' order by relname) from pg_class where relnamespace = pg_my_temp_schema()), \
    (select string_agg(name, ' ' order by name) from pg_prepared_statements where from_sql), \
    (select string_agg(name, ' ' order by name) from pg_cursors where is_holdable), \
    (select string_agg(distinct owner, ' ') from public.items)";

/// Repeats itself for the same seed.
pub(super) struct Random(u64);

impl Random {
    /// SplitMix64: seeds that are near each other lead to runs that are not.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A client and its mirror.
struct Pair {
    clients: [RawClient; 2],
    tenant: String,
    /// Unique among all that ever were: key of its locks, and in its texts.
    number: u64,
    /// A transaction is open, or has failed.
    status: char,
    /// It may keep an upstream beyond its transaction.
    holds: bool,
    /// A query was sent whose reply is not read yet.
    pending: bool,
}

impl Pair {
    fn is_holder(&self) -> bool {
        self.status != 'I' || self.holds || self.pending
    }
}

/// One thread's clients.
pub(super) struct Hunter<'a> {
    ground: &'a Ground,
    random: Random,
    seed: u64,
    first: usize,
    pairs: Vec<Pair>,
    /// Upstreams that they may hold at one time: somebody else must always find one.
    holders: usize,
    made: u64,
    log: VecDeque<String>,
    /// Ends the mirrors' server processes, which would not notice that their clients have gone.
    killer: RawClient,
}

impl Drop for Hunter<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("PGWEIR_HUNT_SEED={:#x}; the last steps:", self.seed);
            self.log.iter().for_each(|line| eprintln!("  {line}"));
        }
    }
}

impl<'a> Hunter<'a> {
    /// `count` clients of the tenants from `first` on.
    pub(super) fn new(ground: &'a Ground, seed: u64, first: usize, count: usize, holders: usize) -> Self {
        let killer = Cluster::shared().connect(&ground.mirror);
        let random = Random(seed);
        let mut hunter =
            Self { ground, random, seed, first, pairs: Vec::new(), holders, made: 0, log: VecDeque::new(), killer };
        for place in 0..count {
            let pair = hunter.arrive(place);
            hunter.pairs.push(pair);
        }
        hunter
    }

    fn note(&mut self, line: String) {
        if self.log.len() == SHOWN {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    /// A new client of the tenant at this place, with startup parameters or without.
    fn arrive(&mut self, place: usize) -> Pair {
        self.made += 1;
        let tenant = format!("tenant_{}", self.first + place);
        let number = (self.first as u64 + 1) * 1_000_000 + self.made;
        let (options, application) = (format!("-c app.tenant_id={tenant} -c lock_timeout=7s"), format!("app {number}"));
        let mut more: Vec<(&str, &str)> = Vec::new();
        if self.random.below(2) == 0 {
            more.push(("options", &options));
        }
        if self.random.below(3) == 0 {
            more.extend([("application_name", application.as_str()), ("search_path", tenant.as_str())]);
        }
        if self.random.below(4) == 0 {
            more.push(("timezone", "America/Lima"));
        }
        self.note(format!("{place}: arrives as client {number} with {more:?}"));
        let login = |address, database: &str| {
            let mut parameters = vec![("user", "hunter"), ("database", database)];
            parameters.extend(more.iter().copied());
            RawClient::login_with(address, &parameters, "")
        };
        let proxied = login(self.ground.site.address(), &self.ground.site.database);
        let mirror = login(Cluster::shared().address(), &self.ground.mirror);
        Pair { clients: [proxied, mirror], tenant, number, status: 'I', holds: false, pending: false }
    }

    /// Somebody does something, and both ways it must come to the same.
    pub(super) fn step(&mut self) {
        let mut place = self.random.below(self.pairs.len());
        let holders: Vec<usize> = (0..self.pairs.len()).filter(|at| self.pairs[*at].is_holder()).collect();
        if holders.len() >= self.holders && !holders.contains(&place) {
            place = holders[self.random.below(holders.len())];
            if self.random.below(3) == 0 {
                return self.let_go(place);
            }
        }
        if self.pairs[place].pending {
            return self.finish(place);
        }
        let pair = &self.pairs[place];
        let action = self.random.action(&pair.tenant, pair.number, pair.status != 'I');
        // The name of a statement that was prepared by protocol is known in a DEALLOCATE that stands alone.
        let alone = |sql: &String| sql.starts_with("deallocate p");
        let started = self.random.below(12) == 0 && matches!(&action, Action::Query(sql) if !alone(sql));
        self.note(format!("{place}: {}{action:?}", if started { "starts " } else { "" }));
        self.pairs[place].holds |= action.may_pin();
        match action {
            Action::Query(sql) if started => {
                let sql = format!("{sql}; select pg_sleep(0.02)");
                start(&mut self.pairs[place].clients, &sql);
                self.pairs[place].pending = true;
            }
            Action::Query(sql) => {
                let ends = sql == "discard all" && self.pairs[place].status == 'I';
                self.both(place, |client| client.query(&sql));
                self.pairs[place].holds &= !ends;
                self.look(place);
            }
            Action::Pipeline(parts) => {
                for client in &mut self.pairs[place].clients {
                    say(client, &parts);
                    client.send();
                }
                for _ in parts.iter().filter(|part| matches!(part, Part::Sync)) {
                    self.both(place, RawClient::reply);
                }
                self.look(place);
            }
            Action::Cancelled(sql) => {
                self.both(place, |client| cancelled(client, &sql));
                self.look(place);
            }
            Action::VanishAmid(sql) => {
                start(&mut self.pairs[place].clients, &sql);
                self.replace(place, false);
            }
            Action::VanishBehind(mut parts) => {
                parts.retain(|part| !matches!(part, Part::Sync));
                for client in &mut self.pairs[place].clients {
                    say(client, &parts);
                    client.send();
                }
                self.replace(place, false);
            }
            Action::Leave { politely } => self.replace(place, politely),
        }
    }

    /// The client at this place gives back what it holds.
    fn let_go(&mut self, place: usize) {
        if self.pairs[place].pending {
            self.finish(place);
        }
        self.note(format!("{place}: lets go"));
        if self.pairs[place].status != 'I' {
            self.both(place, |client| client.query("rollback"));
        }
        self.both(place, |client| client.query("discard all"));
        self.pairs[place].holds = false;
        self.look(place);
    }

    /// The reply to what was started.
    fn finish(&mut self, place: usize) {
        self.note(format!("{place}: reads the reply"));
        self.pairs[place].pending = false;
        self.both(place, RawClient::reply);
        self.look(place);
    }

    fn replace(&mut self, place: usize, politely: bool) {
        let next = self.arrive(place);
        let Pair { clients: [proxied, mirror], .. } = std::mem::replace(&mut self.pairs[place], next);
        let (process, _) = mirror.key.clone().expect("a server gives a key");
        if politely {
            proxied.terminate();
            mirror.terminate();
        } else {
            proxied.vanish();
            mirror.vanish();
        }
        self.killer.query(format!("select pg_terminate_backend({process})")).ok();
    }

    /// Both do it, and both must have seen the same.
    fn both(&mut self, place: usize, act: impl Fn(&mut RawClient) -> Reply) {
        let pair = &mut self.pairs[place];
        let [proxied, direct] = pair.clients.each_mut().map(act);
        pair.status = direct.status();
        let (mut proxied, direct) = (seen(&proxied), seen(&direct));
        for (here, there) in proxied.iter_mut().zip(&direct) {
            // A Parse with two mistakes, a name that is taken and a text that is refused: the server names the other one.
            // In a failed transaction, a Bind that is wrong in itself: what it needs was not there, and could not be made.
            if matches!(here.as_str(), "error 42P05" | "error 25P02") && there.starts_with("error") {
                there.clone_into(here);
            }
        }
        assert_eq!(proxied, direct, "client {} of {}, left: through the proxy", pair.number, pair.tenant);
    }

    /// What the server says of the session, and whose rows it gives out.
    fn look(&mut self, place: usize) {
        if self.pairs[place].status == 'E' || self.random.below(4) == 0 {
            return;
        }
        self.both(place, |client| client.query(STATE));
        let pair = &mut self.pairs[place];
        let reply = pair.clients[0].query("select distinct owner from public.items");
        for row in reply.ok().rows() {
            assert_eq!(row[0], pair.tenant, "client {} reads rows of another tenant", pair.number);
        }
        pair.clients[1].query("select distinct owner from public.items").ok();
    }
}

fn start(clients: &mut [RawClient; 2], sql: &str) {
    for client in clients {
        client.start_query(sql);
    }
}

/// The reply to a query that its client cancels, and cancels again: one that comes before the query strikes nothing.
fn cancelled(client: &mut RawClient, sql: &str) -> Reply {
    client.start_query(sql);
    let mut messages: Vec<Message> = Vec::new();
    while messages.last().is_none_or(|message| message.tag() != 'Z') {
        if client.hears_nothing_for(Duration::from_millis(30)) {
            client.cancel();
        } else {
            match client.try_read() {
                Ok(Some(message)) => messages.push(message),
                end => panic!("{sql}: from {} came {messages:?}, and then {end:?}", client.peer()),
            }
        }
    }
    Reply { messages }
}

fn say(client: &mut RawClient, parts: &[Part]) {
    for part in parts {
        match part {
            Part::Parse(name, sql) => client.parse(name, sql),
            Part::Run(name, values) => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                client.bind(name, &values).execute()
            }
            Part::Close(name) => client.say(frontend::close(b'S', name)),
            Part::Sync => client.sync(),
        };
    }
}

/// What a client gets to see, without what may differ between two servers: texts of errors, oids, notices.
fn seen(reply: &Reply) -> Vec<String> {
    let told = reply.messages.iter().filter(|message| !message.is_asynchronous());
    told.map(|message| match message {
        Message::ErrorResponse(error) => format!("error {}", error.code()),
        Message::DataRow(values) => {
            let text =
                |value: &Option<Vec<u8>>| value.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            format!("row {:?}", values.iter().map(text).collect::<Vec<_>>())
        }
        Message::CommandComplete(tag) => format!("done {tag}"),
        Message::ReadyForQuery(status) => format!("ready {status}"),
        Message::CopyData(data) => format!("data {:?}", String::from_utf8_lossy(data)),
        other => other.tag().to_string(),
    })
    .collect()
}

//! What a client does in one step.

use super::hunter::Random;

/// A step, in words that are the same for a client and its mirror.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// A simple query.
    Query(String),
    /// Extended messages up to a Sync, sent at once.
    Pipeline(Vec<Part>),
    /// A query that takes long; the client cancels it.
    Cancelled(String),
    /// A query that takes long; the client is gone before it ends.
    VanishAmid(String),
    /// Messages without a Sync; the client is gone.
    VanishBehind(Vec<Part>),
    /// The client goes, with or without a goodbye.
    Leave {
        /// Whether it says goodbye.
        politely: bool,
    },
}

/// A piece of a pipeline.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// Parse under a name.
    Parse(&'static str, String),
    /// Bind and Execute of a named statement.
    Run(&'static str, Vec<String>),
    /// Close of a named statement.
    Close(&'static str),
    /// The end of a request, with others behind it.
    Sync,
}

impl Action {
    /// Whether the client may keep its upstream afterwards, beyond its transaction.
    pub(super) fn may_pin(&self) -> bool {
        let sql = match self {
            Self::Query(sql) | Self::Cancelled(sql) => sql.clone(),
            Self::Pipeline(parts) => format!("{parts:?}"),
            Self::VanishAmid(_) | Self::VanishBehind(_) | Self::Leave { .. } => return false,
        };
        let pins = [
            "temp ",
            "pg_advisory_lock",
            "listen",
            "with hold",
            "prepare ",
            "do $$",
            "become",
            "deep",
            "locks",
            "makes",
            "moves",
            "notes",
            "generate_series",
            "p0",
            "p1",
            "p2",
            "setseed",
        ];
        pins.iter().any(|word| sql.contains(word))
    }
}

const NAMES: [&str; 3] = ["p0", "p1", "p2"];
const ZONES: [&str; 3] = ["UTC", "Asia/Tokyo", "Europe/Oslo"];

impl Random {
    /// Any step of a client of this tenant; `open`: a transaction is.
    pub(super) fn action(&mut self, tenant: &str, client: u64, open: bool) -> Action {
        match self.below(40) {
            0 => Action::Leave { politely: self.below(2) == 0 },
            1 => Action::VanishAmid(self.slow(tenant)),
            2 => Action::VanishBehind(self.parts(tenant, client)),
            3 => Action::Cancelled(self.slow(tenant)),
            4..=11 => Action::Pipeline(self.parts(tenant, client)),
            12..=16 => Action::Query(self.block(open)),
            17..=24 => Action::Query(self.setting(tenant)),
            25 => Action::Query(format!("begin; {}; rollback", self.setting(tenant))),
            26 => Action::Query(format!("{}; {}", self.setting(tenant), self.setting(tenant))),
            27 => Action::Query(format!("{}; select 1/0", self.setting(tenant))),
            28 if open => Action::Query(format!("savepoint c; {}; rollback to c", self.setting(tenant))),
            28 => Action::Query(format!("begin; savepoint c; {}; rollback to c; commit", self.setting(tenant))),
            29 => Action::Query(format!("begin; {}; commit; select 1/0", self.setting(tenant))),
            30..=34 => Action::Query(self.state(client)),
            35..=36 => Action::Query(self.function(tenant, client)),
            _ => Action::Query(self.rows()),
        }
    }

    fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// A setting made, unmade, or made for a transaction alone, in each of its spellings.
    fn setting(&mut self, tenant: &str) -> String {
        let n = self.below(9) + 1;
        let zone = self.one_of(&ZONES);
        let role = self.one_of(&["none", "hunted_0", "hunted_1"]);
        let local = self.one_of(&["", "", "local ", "session "]);
        match self.below(18) {
            0 | 1 => format!("set {local}app.tenant_id to '{tenant}'"),
            2 => format!("select set_config('app.tenant_id', '{tenant}', {})", self.below(2) == 0),
            3 => format!("set {local}search_path to {tenant}, public"),
            4 => format!("select pg_catalog.set_config('search_path', '{tenant}', {})", self.below(2) == 0),
            5 => format!("set {local}time zone '{zone}'"),
            6 => format!("set {local}timezone = '{zone}'"),
            7 => format!("set {local}role {role}"),
            8 => format!("set {local}lock_timeout to '{n}s'"),
            9 => format!("set {local}application_name = 'app {n}'"),
            10 => format!("set {local}app.note to 'note {n}'"),
            11 => {
                format!("reset {}", self.one_of(&["app.tenant_id", "search_path", "timezone", "role", "lock_timeout"]))
            }
            12 => "reset all".to_owned(),
            13 => format!("set {local}lock_timeout to default"),
            14 => "set session characteristics as transaction isolation level repeatable read".to_owned(),
            15 => "set session characteristics as transaction isolation level read committed, read write".to_owned(),
            16 => format!("set {local}time zone local"),
            _ => format!("select set_config('app.note', 'n' || n, false) from generate_series(1, {n}) n"),
        }
    }

    /// Beginnings and ends, and what lies between them.
    fn block(&mut self, open: bool) -> String {
        let inside = [
            "commit",
            "commit",
            "rollback",
            "rollback",
            "savepoint a",
            "savepoint b",
            "rollback to a",
            "rollback to b",
            "release a",
            "select 1/0",
            "commit and chain",
            "rollback and chain",
        ];
        let outside = ["begin", "begin", "begin", "begin isolation level repeatable read", "select 1/0", "rollback"];
        if open { self.one_of(&inside) } else { self.one_of(&outside) }.to_owned()
    }

    /// State that no setting holds.
    fn state(&mut self, client: u64) -> String {
        let name = self.one_of(&NAMES);
        let all = [
            "create temp table mine (n int)".to_owned(),
            "create temp table brief (n int) on commit drop".to_owned(),
            "drop table mine".to_owned(),
            format!("insert into mine values ({client})"),
            "select count(*) from mine".to_owned(),
            format!("select pg_advisory_lock({client})"),
            format!("select pg_advisory_unlock({client})"),
            "select pg_advisory_unlock_all()".to_owned(),
            format!("select pg_try_advisory_xact_lock({client})"),
            format!("prepare sql_{name} as select '{client} prepared'"),
            format!("execute sql_{name}"),
            format!("deallocate {name}"),
            format!("deallocate sql_{name}"),
            "deallocate all".to_owned(),
            format!("declare held cursor with hold for select '{client} held'"),
            "declare brief cursor for select 1".to_owned(),
            "fetch held".to_owned(),
            "fetch brief".to_owned(),
            "close held".to_owned(),
            "close all".to_owned(),
            "listen news".to_owned(),
            "unlisten *".to_owned(),
            "discard all".to_owned(),
            "discard temp".to_owned(),
            "discard plans".to_owned(),
        ];
        self.one_of(&all)
    }

    /// The same, out of sight.
    fn function(&mut self, tenant: &str, client: u64) -> String {
        let all = [
            format!("select become('{tenant}')"),
            format!("select deep('{tenant}')"),
            format!("select locks({client})"),
            "select makes()".to_owned(),
            format!("select moves('{tenant}')"),
            format!("insert into notes values ('{tenant} noted')"),
            format!("do $$ begin perform set_config('app.tenant_id', '{tenant}', false); end $$"),
            "do $$ begin create temp table if not exists made (n int); end $$".to_owned(),
            "do $$ begin perform 1/0; end $$".to_owned(),
        ];
        self.one_of(&all)
    }

    fn rows(&mut self) -> String {
        let all = [
            "select owner, count(*) from public.items group by owner order by owner",
            "select owner from t",
            "insert into public.items (owner) values (nullif(current_setting('app.tenant_id', true), ''))",
            "update public.items set owner = owner",
            "copy (select owner from public.items order by id limit 3) to stdout",
            "select repeat('x', 70000)",
            "",
        ];
        self.one_of(&all).to_owned()
    }

    fn slow(&mut self, tenant: &str) -> String {
        let before = match self.below(4) {
            0 => String::new(),
            1 => format!("set app.tenant_id to '{tenant}'; "),
            2 => "begin; set lock_timeout to '9s'; ".to_owned(),
            _ => format!("set search_path to {tenant}; "),
        };
        format!("{before}select pg_sleep(60)")
    }

    /// Up to five pieces; the same names stand for other texts with every client.
    fn parts(&mut self, tenant: &str, client: u64) -> Vec<Part> {
        let mut parts: Vec<Part> = (0..=self.below(5)).map(|_| self.part(tenant, client)).collect();
        if !matches!(parts.last(), Some(Part::Sync)) {
            parts.push(Part::Sync);
        }
        parts
    }

    fn part(&mut self, tenant: &str, client: u64) -> Part {
        let name = self.one_of(&["", "", "p0", "p1", "p2"]);
        match self.below(12) {
            0..=1 => Part::Parse(name, format!("select '{client} {}', owner from public.items limit 1", self.below(3))),
            2 => Part::Parse(name, "select set_config('app.tenant_id', $1, false)".to_owned()),
            3 => Part::Parse(name, format!("set lock_timeout to '{}s'", self.below(9) + 1)),
            4 => Part::Parse(name, "select owner from t".to_owned()),
            5 => Part::Parse(name, "select 1/0".to_owned()),
            6 => Part::Parse(
                name,
                self.one_of(&["begin", "commit", "rollback", "savepoint a", "rollback to a"]).to_owned(),
            ),
            7..=8 => Part::Run(name, Vec::new()),
            9 => Part::Run(name, vec![tenant.to_owned()]),
            10 if !name.is_empty() => Part::Close(name),
            10 => Part::Run(name, Vec::new()),
            _ => Part::Sync,
        }
    }
}

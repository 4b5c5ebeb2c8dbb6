//! Ways to write a new version of a key: all that a transaction can be made of.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use integration_tests::{RawClient, Reply, frontend};

use super::Random;

/// Keys of each subject.
pub(super) const KEYS: usize = 6;

/// What has versions. The relations of one subject are always written together.
pub(super) const SUBJECTS: [Subject; 5] = [Subject::Main, Subject::Parts, Subject::Head, Subject::Cut, Subject::Loose];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A table whose trigger writes another one, with a view.
    Main,
    /// A partitioned table.
    Parts,
    /// A table that is referenced with ON UPDATE CASCADE.
    Head,
    /// A table that is truncated.
    Cut,
    /// Two tables that are written together by who writes.
    Loose,
}

/// All versions begin at 2: those that are committed are even, those that are undone are odd.
pub(super) const SCHEMA: &str = "
    create table main (key int primary key, version bigint);
    create table shadow (key int primary key, version bigint);
    create function follow() returns trigger language plpgsql as
        $$ begin update shadow set version = new.version where key = new.key; return new; end $$;
    create trigger follow after insert or update on main for each row execute function follow();
    create view main_view as select key, version from main where key >= 0;
    create function bump(k int, v bigint) returns bigint language plpgsql as
        $$ begin update main set version = v where key = k; return v; end $$;
    create function bump_twice(k int, v bigint) returns bigint language sql as
        $$ update main set version = $2 - 1 where key = $1; select bump($1, $2) $$;
    create procedure settle(k int, v bigint) language plpgsql as
        $$ begin update main set version = v where key = k; commit; end $$;
    create table inbox (key int, version bigint);
    create function deliver() returns trigger language plpgsql as
        $$ begin update main set version = new.version where key = new.key; return null; end $$;
    create trigger deliver before insert on inbox for each row execute function deliver();
    create table parts (key int, version bigint, primary key (key)) partition by range (key);
    create table parts_low partition of parts for values from (0) to (2);
    create table parts_high partition of parts for values from (2) to (100) partition by range (key);
    create table parts_a partition of parts_high for values from (2) to (4);
    create table parts_b partition of parts_high for values from (4) to (100);
    create table head (key int, version bigint, primary key (key, version));
    create table tail (key int, version bigint, foreign key (key, version) references head on update cascade);
    create table cut_0 (key int, version bigint); create table cut_1 (key int, version bigint);
    create table cut_2 (key int, version bigint);
    create table loose (key int, version bigint); create table twin (key int, version bigint);
    insert into shadow select k, 2 from generate_series(0, 5) k; insert into main select k, 2 from generate_series(0, 5) k;
    insert into parts select k, 2 from generate_series(0, 5) k;
    insert into head select k, 2 from generate_series(0, 5) k; insert into tail select k, 2 from generate_series(0, 5) k;
    insert into cut_0 values (0, 2), (3, 2); insert into cut_1 values (1, 2), (4, 2);
    insert into cut_2 values (2, 2), (5, 2);
    insert into loose select k, 2 from generate_series(0, 5) k; insert into twin select k, 2 from generate_series(0, 5) k";

/// What is known of versions by everybody.
#[derive(Debug)]
pub(super) struct Known {
    /// The lowest version that a read which begins now may see.
    pub(super) floor: Vec<AtomicU64>,
    /// The highest version that anybody has begun to write.
    pub(super) ceiling: Vec<AtomicU64>,
    pub(super) writes: AtomicU64,
}

impl Known {
    pub(super) fn new() -> Self {
        let all = || (0..SUBJECTS.len() * KEYS).map(|_| AtomicU64::new(2)).collect();
        Self { floor: all(), ceiling: all(), writes: AtomicU64::new(0) }
    }

    pub(super) fn place(subject: Subject, key: usize) -> usize {
        subject as usize * KEYS + key
    }

    pub(super) fn floors(&self) -> Vec<u64> {
        self.floor.iter().map(|floor| floor.load(SeqCst)).collect()
    }
}

/// Writes to the keys of its own.
pub(super) struct Writer<'a> {
    pub(super) client: RawClient,
    pub(super) known: &'a Known,
    pub(super) random: Random,
    /// Its keys are those that leave this rest of 3.
    pub(super) rest: usize,
    /// How to connect again.
    pub(super) login: &'a (dyn Fn() -> RawClient + Sync),
    pub(super) prepared: bool,
    /// Whether what it has written is acknowledged to all at once.
    pub(super) at_once: bool,
}

impl Writer<'_> {
    /// Writes once, or undoes it. The version that is in force behind it, by its place.
    pub(super) fn write(&mut self) -> Option<(usize, u64)> {
        let subject = *self.random.pick(&SUBJECTS);
        let key = self.rest + 3 * self.random.below(KEYS / 3);
        let place = Known::place(subject, key);
        let version = self.known.ceiling[place].load(SeqCst) + 2;
        if self.random.once_in(6) {
            self.undone(subject, key, version - 1);
            return None;
        }
        self.known.ceiling[place].store(version, SeqCst);
        match subject {
            Subject::Main => self.main(key, version),
            Subject::Parts => self.parts(key, version),
            Subject::Head => self.head(key, version),
            Subject::Cut => self.cut(key, version),
            Subject::Loose => self.loose(key, version),
        }
        self.known.writes.fetch_add(1, SeqCst);
        if self.at_once {
            self.known.floor[place].fetch_max(version, SeqCst);
        }
        Some((place, version))
    }

    fn run(&mut self, sql: &str) -> Reply {
        self.client.query(sql).ok()
    }

    fn copy(&mut self, sql: &str, data: &str) {
        self.client.start_query(sql).read_until('G');
        self.client.say(frontend::copy_data(data.as_bytes())).say(frontend::copy_done());
        self.client.reply().ok();
    }

    /// The row as its own transaction sees it.
    fn sees(&mut self, table: &str, key: usize, version: u64) {
        let sql = format!("select version from {table} where key = {key}");
        assert_eq!(self.client.query(&sql).ok().value(), version.to_string(), "a transaction's own write, {sql}");
    }

    fn main(&mut self, k: usize, v: u64) {
        let update = format!("update main set version = {v} where key = {k}");
        let (key, version) = (k.to_string(), v.to_string());
        match self.random.below(20) {
            0 | 1 => drop(self.run(&update)),
            2 => {
                self.client.parse("", "update main set version = $2 where key = $1").bind("", &[&key, &version]);
                self.client.execute().sync().reply().ok();
            }
            3 | 4 => {
                if !std::mem::replace(&mut self.prepared, true) {
                    self.client.parse("w", "update main set version = $2 where key = $1");
                }
                self.client.bind("w", &[&key, &version]).execute().sync().reply().ok();
            }
            5 => {
                self.run("begin");
                self.run(&format!("update main set version = {} where key = {k}", v - 1));
                self.sees("main", k, v - 1);
                self.run(&update);
                self.sees("shadow", k, v);
                self.run("commit");
            }
            6 => {
                self.run("begin");
                self.run(&format!("savepoint s; update main set version = {} where key = {k}", v - 1));
                self.run("rollback to s");
                self.run(&update);
                self.run("savepoint t; release t");
                self.run("commit");
            }
            7 => drop(self.run(&format!("select bump({k}, {v})"))),
            8 => drop(self.run(&format!("select bump_twice({k}, {v})"))),
            9 => drop(self.run(&format!(
                "merge into main using (values ({k}, {v})) s(k, v) on key = s.k when matched then update set version = s.v"
            ))),
            10 => drop(self.run(&format!("do $$ begin perform bump({k}, {v}); end $$"))),
            11 => self.copy("copy inbox from stdin", &format!("{k}\t{}\n{k}\t{v}\n", v - 1)),
            12 => {
                self.run("begin");
                self.run(&format!("delete from main where key = {k}"));
                self.copy("copy main (key, version) from stdin", &format!("{k}\t{v}\n"));
                self.run("commit");
            }
            13 => drop(self.run(&format!(
                "with w as (update main set version = {v} where key = {k} returning key) select count(*) from w"
            ))),
            14 => drop(self.run(&format!("update main_view set version = {v} where key = {k}"))),
            15 => drop(self.run(&format!("call settle({k}, {v})"))),
            16 => drop(self.run(&format!(
                "insert into main values ({k}, {v}) on conflict (key) do update set version = excluded.version"
            ))),
            17 => drop(self.run(&format!("select 1; begin; {update}; commit; select 2"))),
            18 => drop(self.run(&format!("explain analyze {update}"))),
            // An error behind the COMMIT of the same text.
            _ => drop(self.client.query(format!("begin; {update}; commit; select 1 / 0")).error()),
        }
    }

    fn parts(&mut self, k: usize, v: u64) {
        let leaf = ["parts_low", "parts_a", "parts_b"][k / 2];
        match self.random.below(5) {
            0 => drop(self.run(&format!("update parts set version = {v} where key = {k}"))),
            1 => drop(self.run(&format!("update {leaf} set version = {v} where key = {k}"))),
            2 => drop(self.run(&format!(
                "begin; delete from {leaf} where key = {k}; insert into parts values ({k}, {v}); commit"
            ))),
            3 => {
                self.run("begin");
                self.run(&format!("delete from parts where key = {k}"));
                self.copy(&format!("copy {leaf} from stdin"), &format!("{k}\t{v}\n"));
                self.sees("parts", k, v);
                self.run("commit");
            }
            _ => drop(self.run(&format!(
                "merge into parts using (values (1)) s on key = {k} when matched then update set version = {v}"
            ))),
        }
    }

    fn head(&mut self, k: usize, v: u64) {
        match self.random.below(2) {
            0 => drop(self.run(&format!("update head set version = {v} where key = {k}"))),
            _ => {
                self.run("begin");
                self.run(&format!("update head set version = {} where key = {k}", v - 1));
                self.run(&format!("update head set version = {v} where key = {k}"));
                self.sees("tail", k, v);
                self.run("commit");
            }
        }
    }

    fn cut(&mut self, k: usize, v: u64) {
        let table = format!("cut_{}", self.rest);
        let sql = match self.random.below(3) {
            0 => {
                // Both keys are its own.
                let other = (k + 3) % KEYS;
                let kept = self.known.ceiling[Known::place(Subject::Cut, other)].load(SeqCst);
                format!("begin; truncate {table}; insert into {table} values ({k}, {v}), ({other}, {kept}); commit")
            }
            1 => format!("begin; delete from {table} where key = {k}; insert into {table} values ({k}, {v}); commit"),
            _ => format!("update {table} set version = {v} where key = {k}"),
        };
        self.run(&sql);
    }

    fn loose(&mut self, k: usize, v: u64) {
        let (key, version) = (k.to_string(), v.to_string());
        match self.random.below(3) {
            0 => drop(self.run(&format!(
                "update loose set version = {v} where key = {k}; update twin set version = {v} where key = {k}"
            ))),
            // Two Executes and one Sync are one transaction.
            1 => {
                for table in ["loose", "twin"] {
                    self.client.parse("", &format!("update {table} set version = $2 where key = $1"));
                    self.client.bind("", &[&key, &version]).execute();
                }
                self.client.sync().reply().ok();
            }
            _ => {
                self.run("begin");
                self.run(&format!("update twin set version = {v} where key = {k}"));
                self.run(&format!("update loose set version = {v} where key = {k}"));
                self.run("commit");
            }
        }
    }

    /// What is written and undone again: nobody else may ever see it.
    fn undone(&mut self, subject: Subject, k: usize, v: u64) {
        let table = match subject {
            Subject::Main => "main".to_owned(),
            Subject::Parts => "parts".to_owned(),
            Subject::Head => "head".to_owned(),
            Subject::Cut => format!("cut_{}", self.rest),
            Subject::Loose => "loose".to_owned(),
        };
        let update = format!("update {table} set version = {v} where key = {k}");
        match self.random.below(6) {
            0 => {
                self.run("begin");
                self.run(&update);
                self.sees(&table, k, v);
                self.run("rollback");
            }
            1 => drop(self.client.query(format!("{update}; select 1 / 0")).error()),
            2 => {
                self.client.parse("", &update).bind("", &[]).execute();
                self.client.parse("", "select 1 / 0").bind("", &[]).execute().sync().reply().error();
            }
            3 => {
                self.run("begin");
                self.run(&update);
                self.client.query("select 1 / 0").error();
                assert_eq!(self.run("commit").commands(), ["ROLLBACK"]);
            }
            4 => {
                self.run("begin");
                self.run(&format!("savepoint s; {update}; rollback to s"));
                self.run("commit");
            }
            // Gone in the middle of its transaction.
            _ => {
                self.run("begin");
                self.run(&update);
                self.client = (self.login)();
                self.prepared = false;
            }
        }
    }
}

//! What operators end by hand.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use policy::cache::catalog::{Kind, Name};
use policy::cache::{Ending, Invalidated};

use super::{Cached, Caches, View};

/// What an operator wants ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByHand<'a> {
    /// Answers by rules with this tag.
    Tag(&'a str),
    /// Answers about this table, as `schema.name` or `name`.
    Table(&'a str),
    /// Answers to this tenant.
    Tenant(&'a str),
    /// All of them.
    All,
}

/// Why nothing was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotEnded {
    /// There is no such database.
    NoDatabase(String),
    /// No rule has this tag.
    NoTag(String),
    /// No catalog that was read has this table.
    NoTable(String),
    /// It is a view: answers depend on the tables that it reads.
    View(String),
}

impl fmt::Display for NotEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDatabase(name) => {
                write!(f, "nothing is kept of a database {name}; GET /api/v1/cache lists those that are cached")
            }
            Self::NoTag(tag) => write!(f, "no cache rule has the tag {tag}"),
            Self::NoTable(name) => write!(
                f,
                "there is no table {name} in the databases that are cached, or their catalogs have not been read; a name \
                 is spelt as the catalog has it, without quotes"
            ),
            Self::View(name) => {
                write!(f, "{name} is a view, and answers through it depend on the tables that it reads: name those")
            }
        }
    }
}

impl Caches {
    /// Ends answers because an operator asks for it: none that was made before is served again, and replies that are on
    /// their way are not kept. `database`: this one alone, by its name on its server or as [`Cached::name`] has it.
    /// Answers in how many databases.
    ///
    /// # Errors
    /// There is nothing of this name.
    pub fn invalidate(&self, database: Option<&str>, what: ByHand<'_>) -> Result<usize, NotEnded> {
        let mut all = self.all();
        if let Some(name) = database {
            all.retain(|cached| is_called(&cached.name, name));
            if all.is_empty() {
                return Err(NotEnded::NoDatabase(name.to_owned()));
            }
        }
        let (source, ended) = match what {
            ByHand::Tag(tag) => {
                let rules = self.rules();
                let known =
                    (0..u16::MAX).map_while(|at| rules.get(at)).any(|rule| rule.tags.iter().any(|own| own == tag));
                if !known {
                    return Err(NotEnded::NoTag(tag.to_owned()));
                }
                all.iter().for_each(|cached| cached.generations.end(Ending::Tag(tag)));
                (Invalidated::Tag, all.len())
            }
            ByHand::Tenant(tenant) => {
                all.iter().for_each(|cached| cached.generations.end(Ending::Tenant(tenant)));
                (Invalidated::Tenant, all.len())
            }
            ByHand::Table(name) => (Invalidated::Table, end_table(&all, name)?),
            ByHand::All => {
                all.iter().for_each(|cached| cached.generations.end(Ending::All));
                if database.is_none() {
                    // What nobody can ask for any more takes no room.
                    self.store.clear();
                }
                // It is another epoch now: the catalog has to be read by it.
                all.iter().for_each(|cached| cached.stirred.notify_one());
                (Invalidated::All, all.len())
            }
        };
        self.counters.invalidated.add(source, ended as u64);
        Ok(ended)
    }
}

/// Whether a database is meant: by all of its name, or by what it is called on its server.
fn is_called(known: &str, name: &str) -> bool {
    known == name || (!name.is_empty() && known.strip_suffix(name).is_some_and(|place| place.ends_with('/')))
}

fn end_table(all: &[Arc<Cached>], asked: &str) -> Result<usize, NotEnded> {
    let (schema, name) = match asked.split_once('.') {
        Some((schema, name)) => (Some(schema.to_owned()), name),
        None => (None, asked),
    };
    let name = Name { schema, name: name.to_owned() };
    // A database without a catalog has nothing that could be served; one whose catalog is read only now has nothing old.
    let views: Vec<(&Arc<Cached>, Arc<View>)> =
        all.iter().filter_map(|cached| Some((cached, cached.view()?))).collect();
    let (mut ended, mut is_view) = (0, false);
    for (cached, view) in views {
        let found = view.catalog.resolve(&name, None);
        let readable = |oid: &u32| {
            let kind = view.catalog.relation(*oid).map(|relation| relation.kind);
            matches!(kind, Some(Kind::Table | Kind::Partitioned | Kind::Materialized | Kind::Foreign))
        };
        is_view |= found.iter().any(|oid| view.catalog.relation(*oid).is_some_and(|it| it.kind == Kind::View));
        let tables: Vec<u32> = found.into_iter().filter(readable).collect();
        // Its rows are those of its partitions, and what reads a table's parents reads its rows as well.
        let rows = tables.iter().flat_map(|oid| view.catalog.descendants(*oid).into_iter().chain([*oid]));
        let all: BTreeSet<u32> = rows.flat_map(|oid| view.catalog.changed(oid).tables().clone()).collect();
        for oid in all {
            cached.generations.end(Ending::Table(oid));
        }
        ended += usize::from(!tables.is_empty());
    }
    match (ended, is_view) {
        (0, true) => Err(NotEnded::View(asked.to_owned())),
        (0, false) => Err(NotEnded::NoTable(asked.to_owned())),
        _ => Ok(ended),
    }
}

#[cfg(test)]
mod tests {
    use policy::cache::catalog::{Catalog, Facts, Persistence, Relation};

    use super::*;
    use crate::cache::testing::{caches, known};

    fn relation(oid: u32, schema: &str, name: &str, kind: Kind) -> Relation {
        Relation {
            oid,
            schema: schema.into(),
            name: name.into(),
            kind,
            persistence: Persistence::Permanent,
            row_security: false,
            own_types: false,
        }
    }

    /// Two databases; the first has a table, a partition of it, a view and a name in two schemas.
    fn two() -> (Caches, Arc<Cached>, Arc<Cached>) {
        let caches = caches();
        let (one, two) = (known(&caches, "a:5432/app"), known(&caches, "b:5432/app"));
        let facts = Facts {
            relations: vec![
                relation(1, "public", "runs", Kind::Partitioned),
                relation(2, "public", "runs_may", Kind::Table),
                relation(3, "public", "shown", Kind::View),
                relation(4, "audit", "runs", Kind::Table),
            ],
            inherits: vec![(2, 1)],
            ..Facts::default()
        };
        let epoch = one.generations.catalog_is_read(one.generations.epoch()).unwrap();
        one.set_view(Some(Arc::new(View {
            serial: crate::cache::Serial::default(),
            quiet: Default::default(),
            catalog: Catalog::new(facts),
            epoch,
            paths: Default::default(),
            published: Default::default(),
            unfit: None,
        })));
        (caches, one, two)
    }

    fn changed(cached: &Cached, oids: &[u32], act: impl FnOnce()) -> Vec<u32> {
        let read = |oid: &u32| cached.generations.table(*oid).generation();
        let before: Vec<_> = oids.iter().map(read).collect();
        act();
        oids.iter().zip(before).filter(|(oid, before)| read(oid) != *before).map(|(oid, _)| *oid).collect()
    }

    #[test]
    fn a_table_is_ended_by_its_name_with_what_reads_it_through_its_parents() {
        let (caches, one, _) = two();
        let ended = |name: &str| {
            changed(&one, &[1, 2, 3, 4], || assert_eq!(caches.invalidate(None, ByHand::Table(name)), Ok(1), "{name}"))
        };
        assert_eq!(ended("audit.runs"), [4]);
        assert_eq!(ended("runs"), [1, 2, 4], "of any schema, and their partitions");
        assert_eq!(ended("runs_may"), [1, 2], "and of its parents");
        assert_eq!(caches.counters.invalidated.of(Invalidated::Table), 3);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let (caches, ..) = two();
        let refused = |database: Option<&str>, what: ByHand<'_>| caches.invalidate(database, what).unwrap_err();
        assert_eq!(refused(None, ByHand::Table("shown")), NotEnded::View("shown".into()));
        assert_eq!(refused(None, ByHand::Table("nowhere")), NotEnded::NoTable("nowhere".into()));
        assert_eq!(refused(Some("b:5432/app"), ByHand::Table("runs")), NotEnded::NoTable("runs".into()));
        assert_eq!(refused(Some("pp"), ByHand::All), NotEnded::NoDatabase("pp".into()));
        assert_eq!(refused(Some(""), ByHand::All), NotEnded::NoDatabase(String::new()));
        assert_eq!(refused(None, ByHand::Tag("workflow")), NotEnded::NoTag("workflow".into()));
        assert_eq!(caches.counters.invalidated.all().map(|(_, count)| count).sum::<u64>(), 0);
    }

    #[test]
    fn all_is_another_epoch_of_the_databases_that_are_meant() {
        let (caches, one, two) = two();
        let epochs = || (one.generations.epoch(), two.generations.epoch());
        let before = epochs();
        assert_eq!(caches.invalidate(Some("a:5432/app"), ByHand::All), Ok(1));
        assert!(epochs().0 != before.0 && epochs().1 == before.1);
        assert_eq!(caches.invalidate(Some("app"), ByHand::All), Ok(2), "by its name on its server");
        assert_eq!(caches.invalidate(None, ByHand::All), Ok(2));
        assert!(epochs().1 != before.1);
        assert_eq!(caches.counters.invalidated.of(Invalidated::All), 5);
    }

    #[test]
    fn tags_and_tenants_are_ended_in_each_database() {
        let (caches, one, two) = two();
        caches.reload(&config::Cache {
            rules: vec![config::CacheRule {
                tables: vec!["runs".into()],
                ttl: std::time::Duration::from_secs(60),
                tags: vec!["run".into()],
                ..config::CacheRule::default()
            }],
            ..config::Cache::default()
        });
        let marks = [one.generations.tenant("acme"), two.generations.tenant("acme")];
        let tags = [one.generations.tags(["run"]), two.generations.tags(["run"])];
        let now = || {
            let of = |counter: &policy::cache::Counter| counter.now();
            (marks.each_ref().map(|mark| of(mark)), tags.each_ref().map(|tags| of(&tags[0])))
        };
        let before = now();
        assert_eq!(caches.invalidate(None, ByHand::Tenant("acme")), Ok(2));
        let tenants = now();
        assert!(tenants.0.iter().zip(before.0).all(|(now, before)| *now != before) && tenants.1 == before.1);
        assert_eq!(caches.invalidate(Some("b:5432/app"), ByHand::Tag("run")), Ok(1));
        assert!(now().1[1] != before.1[1] && now().1[0] == before.1[0]);
    }
}

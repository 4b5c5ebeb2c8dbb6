//! What a database lacks for writes past pgweir to be heard of, and the SQL that mends it.

use super::put;

/// Names that are told one by one.
const MAX_NAMED: usize = 20;

/// What rules want to hear of.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Their tables, as they are written.
    pub(super) tables: Vec<String>,
    /// Some of them name none: nobody knows what their statements read.
    pub(super) unnamed: bool,
}

/// What a server is.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) version: String,
    pub(super) wal_level: String,
    pub(super) max_slots: u64,
    pub(super) slots: u64,
    pub(super) max_senders: u64,
    pub(super) senders: u64,
    pub(super) standby: bool,
    /// Who asks, quoted.
    pub(super) user: String,
    /// Who may make a slot.
    pub(super) replicates: bool,
    /// What fresh sessions begin with.
    pub(super) isolation: String,
}

/// The publication.
#[derive(Debug, Clone, Default)]
pub(super) struct Publication {
    /// Its name, quoted.
    pub(super) quoted: String,
    pub(super) is_there: bool,
    /// It is FOR ALL TABLES.
    pub(super) all_tables: bool,
    /// It leaves no kind of change out.
    pub(super) all_changes: bool,
    /// It tells of a partition's change as of its root's: whoever reads the partition would not hear of it.
    pub(super) by_root: bool,
}

/// A table that a rule is about, or a part of one.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    /// Quoted, with its schema.
    pub(super) name: String,
    /// A partition or child: it is published with its parent.
    pub(super) part: bool,
    pub(super) published: bool,
    /// A WHERE of the publication leaves rows of it out.
    pub(super) filtered: bool,
    /// An UPDATE of it can be told.
    pub(super) identified: bool,
    /// An index that would tell its rows apart, quoted.
    pub(super) index: Option<String>,
}

/// What of the tables can be heard of.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    pub(super) publication: Publication,
    pub(super) tables: Vec<Listed>,
    /// Names of rules that nothing is called by.
    pub(super) unmatched: Vec<String>,
}

/// Something that is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lack {
    /// In words.
    pub(super) what: String,
    /// What mends it.
    pub(super) sql: Vec<String>,
}

/// All that is missing, in the order in which it is to be mended.
pub(super) fn lacks(server: &Server, heard: &Heard, publication: &str) -> Vec<Lack> {
    let mut lacks = of_server(server);
    let lack = |what: String, sql: Vec<String>| Lack { what, sql };
    let Heard { publication: known, tables, .. } = heard;
    let name = &known.quoted;
    // Before they are published: from then on the server refuses to change what it cannot tell.
    for table in tables.iter().filter(|table| !table.identified) {
        let (what, identity) = match &table.index {
            Some(index) => ("has an index that can be its replica identity", format!("USING INDEX {index}")),
            None => ("has no primary key: the whole of each old row goes into the log then", "FULL".to_owned()),
        };
        lacks.push(lack(
            format!(
                "{} has no replica identity, so its UPDATE and DELETE would fail once it is published; it {what}",
                table.name
            ),
            vec![format!("ALTER TABLE {} REPLICA IDENTITY {identity};", table.name)],
        ));
    }
    let missing: Vec<&str> = heard.missing().collect();
    if !known.is_there {
        let tables: Vec<&str> = tables.iter().filter(|table| !table.part).map(|table| &*table.name).collect();
        let sql = match tables.is_empty() {
            true => format!("CREATE PUBLICATION {name};"),
            false => format!("CREATE PUBLICATION {name} FOR TABLE {};", tables.join(", ")),
        };
        lacks.push(lack(format!("there is no publication {publication}"), vec![sql]));
    } else if !missing.is_empty() {
        let what = format!("the publication {publication} lacks {}", few(&missing));
        lacks.push(lack(what, vec![format!("ALTER PUBLICATION {name} ADD TABLE {};", missing.join(", "))]));
    }
    if known.is_there && !known.all_changes {
        let sql = format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');");
        lacks.push(lack(format!("the publication {publication} leaves kinds of changes out"), vec![sql]));
    }
    if known.by_root {
        let sql = format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = false);");
        lacks.push(lack(
            format!("the publication {publication} does not say which partition a change was made to"),
            vec![sql],
        ));
    }
    let filtered: Vec<&Listed> = tables.iter().filter(|table| table.filtered && !table.part).collect();
    if !filtered.is_empty() {
        let names: Vec<&str> = filtered.iter().map(|table| &*table.name).collect();
        let sql = names.iter().flat_map(|table| {
            [
                format!("ALTER PUBLICATION {name} DROP TABLE {table};"),
                format!("ALTER PUBLICATION {name} ADD TABLE {table};"),
            ]
        });
        let what = format!("the publication {publication} has a WHERE that leaves rows out of {}", few(&names));
        lacks.push(lack(what, sql.collect()));
    }
    lacks
}

fn of_server(server: &Server) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut lack = |what: String, sql: &[String]| lacks.push(Lack { what, sql: sql.to_vec() });
    if server.standby {
        lack("it is a standby, where nothing is cached; let the URL lead to the primary".to_owned(), &[]);
    }
    if server.isolation != "read committed" {
        let what = format!(
            "its sessions begin with default_transaction_isolation = \"{}\", and only what is read with read committed is cached",
            server.isolation
        );
        lack(what, &[]);
    }
    if server.wal_level != "logical" {
        let what = format!("wal_level is {}; another value needs a restart of the server", server.wal_level);
        lack(what, &["ALTER SYSTEM SET wal_level = 'logical';".to_owned()]);
    }
    for (key, what, used, most) in [
        ("max_replication_slots", "replication slots are taken", server.slots, server.max_slots),
        ("max_wal_senders", "WAL senders are at work", server.senders, server.max_senders),
    ] {
        if used >= most {
            let what = format!(
                "{used} of {most} {what}, and each pgweir needs one for each database; another limit needs a restart of the server"
            );
            lack(what, &[format!("ALTER SYSTEM SET {key} = {};", most + 4)]);
        }
    }
    if !server.replicates {
        lack(
            format!("{} may not make a replication slot", server.user),
            &[format!("ALTER ROLE {} REPLICATION;", server.user)],
        );
    }
    lacks
}

impl Heard {
    /// Tables that the publication does not have. Parts come with what they are parts of.
    fn missing(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().filter(|table| !table.part && !table.published).map(|table| &*table.name)
    }
}

/// Some of the names, and the number of the others.
fn few(names: &[&str]) -> String {
    let shown = names.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MAX_NAMED) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// Lines for people.
pub(super) fn tell(text: &mut String, name: &str, lacks: &[Lack], heard: &Heard, wanted: &Wanted, publication: &str) {
    if lacks.is_empty() {
        let tables = heard.tables.iter().filter(|table| !table.part).count();
        put(
            text,
            "cache",
            &format!(
                "{name}: writes past pgweir are heard of; the publication {publication} has all {tables} tables of the rules"
            ),
        );
    } else {
        put(
            text,
            "cache",
            &format!(
                "{name}: writes past pgweir cannot be heard of, so only rules with freshness = \"ttl\" are of use:"
            ),
        );
    }
    let mut line = |line: &str| put(text, "", line);
    for lack in lacks {
        line(&lack.what);
        lack.sql.iter().for_each(|sql| line(&format!("    {sql}")));
    }
    if heard.publication.all_tables {
        line(
            "the publication is FOR ALL TABLES: UPDATE and DELETE fail on every table without a replica identity, those of others too; one with a list of tables is better",
        );
    }
    if !heard.unmatched.is_empty() {
        let names: Vec<&str> = heard.unmatched.iter().map(String::as_str).collect();
        line(&format!("no table here is called {}", few(&names)));
    }
    if wanted.unnamed {
        line("some rules name no table: put what their statements read into the publication too");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Server {
        Server {
            version: "15.8".into(),
            wal_level: "logical".into(),
            max_slots: 10,
            slots: 9,
            max_senders: 10,
            senders: 0,
            standby: false,
            user: "app".into(),
            replicates: true,
            isolation: "read committed".into(),
        }
    }

    fn table(name: &str) -> Listed {
        Listed { name: name.to_owned(), published: true, identified: true, ..Listed::default() }
    }

    fn heard(tables: &[Listed]) -> Heard {
        let publication =
            Publication { quoted: "\"P\"".into(), is_there: true, all_changes: true, ..Publication::default() };
        Heard { publication, tables: tables.to_vec(), unmatched: Vec::new() }
    }

    fn sql(server: &Server, heard: &Heard) -> Vec<String> {
        lacks(server, heard, "P").into_iter().flat_map(|lack| lack.sql).collect()
    }

    #[test]
    fn each_lack_of_a_server_has_what_mends_it() {
        let (nothing, all) = (Vec::<String>::new(), heard(&[table("a.b")]));
        assert_eq!(sql(&good(), &all), nothing);
        assert!(lacks(&good(), &all, "P").is_empty());
        for (server, mends) in [
            (Server { wal_level: "replica".into(), ..good() }, Some("ALTER SYSTEM SET wal_level = 'logical';")),
            (Server { slots: 10, ..good() }, Some("ALTER SYSTEM SET max_replication_slots = 14;")),
            (Server { max_senders: 0, ..good() }, Some("ALTER SYSTEM SET max_wal_senders = 4;")),
            (Server { replicates: false, ..good() }, Some("ALTER ROLE app REPLICATION;")),
            (Server { standby: true, ..good() }, None),
            (Server { isolation: "serializable".into(), ..good() }, None),
        ] {
            assert_eq!(lacks(&server, &all, "P").len(), 1, "{server:?}");
            assert_eq!(sql(&server, &all), mends.map(str::to_owned).into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_publication_names_its_tables_and_comes_behind_their_identities() {
        let bare = Listed { published: false, identified: false, ..table("s.bare") };
        let indexed = Listed { index: Some("i".into()), ..Listed { name: "s.indexed".into(), ..bare.clone() } };
        let part = Listed { part: true, published: false, ..table("s.part") };
        let all = [bare, indexed, part, table("s.known")];
        let identities =
            ["ALTER TABLE s.bare REPLICA IDENTITY FULL;", "ALTER TABLE s.indexed REPLICA IDENTITY USING INDEX i;"];
        let mut there = heard(&all);
        let added = "ALTER PUBLICATION \"P\" ADD TABLE s.bare, s.indexed;";
        assert_eq!(sql(&good(), &there), [identities[0], identities[1], added]);
        there.publication.is_there = false;
        let made = "CREATE PUBLICATION \"P\" FOR TABLE s.bare, s.indexed, s.known;";
        assert_eq!(sql(&good(), &there), [identities[0], identities[1], made]);
        assert!(sql(&good(), &there).iter().all(|sql| !sql.contains("ALL TABLES")));
        there.tables.clear();
        assert_eq!(sql(&good(), &there), ["CREATE PUBLICATION \"P\";"]);
    }

    #[test]
    fn what_a_publication_leaves_out_is_told() {
        let mut half = heard(&[Listed { filtered: true, ..table("a.b") }]);
        half.publication.all_changes = false;
        let expected = [
            "ALTER PUBLICATION \"P\" SET (publish = 'insert, update, delete, truncate');",
            "ALTER PUBLICATION \"P\" DROP TABLE a.b;",
            "ALTER PUBLICATION \"P\" ADD TABLE a.b;",
        ];
        assert_eq!(sql(&good(), &half), expected);
        half.publication.by_root = true;
        assert!(
            sql(&good(), &half)
                .contains(&"ALTER PUBLICATION \"P\" SET (publish_via_partition_root = false);".to_owned())
        );
        half.publication.all_tables = true;
        half.unmatched = vec!["c".into()];
        let mut text = String::new();
        let wanted = Wanted { tables: vec!["a.b".into(), "c".into()], unnamed: true };
        tell(&mut text, "app", &lacks(&good(), &half, "P"), &half, &wanted, "P");
        for said in ["cache      app: ", "leaves kinds", "FOR ALL TABLES", "called c", "name no table", "    ALTER PUB"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
    }

    #[test]
    fn a_long_list_is_cut_in_words_and_not_in_sql() {
        let names: Vec<Listed> = (0..25).map(|n| Listed { published: false, ..table(&format!("s.t{n}")) }).collect();
        let lack = lacks(&good(), &heard(&names), "P").remove(0);
        assert!(lack.what.ends_with("s.t19 and 5 more") && lack.sql[0].contains("s.t24"), "{lack:?}");
    }
}

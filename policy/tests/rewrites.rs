//! What a finding tells to send instead, and that it is SQL.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

mod support;

use policy::finding::Finding;
use policy::fingerprint::{Analyser, Compat};
use policy::observe::{ColumnName, Thresholds};
use policy::statement::{Class, Flags};
use support::{Datum, Stream, run, text};

/// The type of what is written as a text.
const TEXT: u32 = 25;

const PARENT: &str = "select id, title from posts where blog_id = $1";

fn finding(child: &str, more: &[&str]) -> Finding {
    finding_behind((PARENT, "id"), child, more)
}

/// The same behind a parent whose result calls its first column so.
fn finding_behind((parent, column): (&str, &str), child: &str, more: &[&str]) -> Finding {
    let mut stream = Stream::default();
    let rows = (0..8).map(|row| vec![text(1_000 + 7 * row), text("t")]).collect();
    stream.send(parent, vec![text(7)]).returns(&[column, "title"], rows);
    for row in 0..8 {
        let mut parameters: Vec<_> = vec![text(1_000 + 7 * row)];
        parameters.extend(more.iter().map(|value| Datum::Typed(TEXT, value.replace("{}", &row.to_string()))));
        stream.send(child, parameters).returns(&["x"], vec![vec![text(row)]]);
    }
    let findings = run(&stream.statements, &Thresholds::from(config::Profile::Production));
    assert_eq!(findings.len(), 1, "{child}");
    findings.into_iter().next().unwrap()
}

/// Every statement of a rewrite is one that the lexer knows, ends where it should, and holds balanced parentheses.
fn assert_sensible(rewrite: &str) {
    let mut analyser = Analyser::new(Compat::default());
    let analysis = analyser.analyse(rewrite.as_bytes());
    assert!(!analysis.flags.contains(Flags::UNTERMINATED), "{rewrite}");
    for part in &analysis.parts {
        assert!(!matches!(part.class, Class::Other | Class::Empty), "{:?} in {rewrite}", part.class);
    }
    assert_eq!(rewrite.matches('(').count(), rewrite.matches(')').count(), "{rewrite}");
    assert!(!rewrite.contains('?'), "a constant that nobody can fill in: {rewrite}");
    assert!(rewrite.ends_with(';'), "{rewrite}");
}

#[test]
fn what_the_catalog_calls_a_column_stands_in_proof_and_rewrite() {
    let child = "select line from logs where run_id = $1";
    let name = ColumnName { table: "jobs".into(), column: "id".into() };
    for (parent, result, before, after) in [
        ("select id as run_id, title from runs where blog_id = $1", "run_id", None, Some("run_id = p.id)")),
        ("select id run_id, title from runs where blog_id = $1", "run_id", Some("= p.run_id)"), Some("= p.run_id)")),
        ("select * from runs where blog_id = $1", "run_id", Some("= p.run_id)"), Some("= p.run_id)")),
        ("select \"id\", title from runs where blog_id = $1", "id", Some("= p.id)"), Some("= p.id)")),
        ("select lower(id) as run_id, title from runs where blog_id = $1", "run_id", None, None),
    ] {
        let mut finding = finding_behind((parent, result), child, &[]);
        let joined = |finding: &Finding, with: Option<&str>| {
            let rewrite = finding.rewrite.as_deref().unwrap();
            assert_sensible(rewrite);
            assert_eq!(rewrite.contains("together with the parent"), with.is_some(), "{parent}: {rewrite}");
            assert!(with.is_none_or(|with| rewrite.contains(with)), "{parent}: {rewrite}");
        };
        assert_eq!(finding.evidence, Some(format!("runs.{result} → logs.run_id = $1")));
        joined(&finding, before);
        let id = finding.id.clone();
        assert!(finding.name_source(&name));
        assert_eq!(finding.evidence.as_deref(), Some("jobs.id → logs.run_id = $1"));
        assert_eq!(finding.parent.as_ref().unwrap().column.as_deref(), Some("jobs.id"));
        joined(&finding, after);
        assert!(!finding.name_source(&name), "nothing has changed");
        assert_eq!(finding.id, id, "it is the same finding whatever its columns are called");
    }
}

#[test]
fn each_shape_has_its_rewrite() {
    let table: [(&str, &[&str], &str); 12] = [
        (
            "select * from comments where post_id = $1",
            &[],
            "select * from comments where post_id = ANY($1::int8[]);\n-- or together with the parent:\nselect c.* from (select id, title from posts where blog_id = $1) as p join lateral (select * from comments where post_id = p.id) as c on true;",
        ),
        (
            "select body from comments c where c.post_id=$1 and lang = 'en'",
            &[],
            "select c.post_id, body from comments c where c.post_id = ANY($1::int8[]) and lang = $2;\n-- or together with the parent:\nselect c.* from (select id, title from posts where blog_id = $1) as p join lateral (select body from comments c where c.post_id = p.id and lang = $2) as c on true;",
        ),
        (
            "select count(*) from comments where post_id = $1",
            &[],
            "select post_id, count(*) from comments where post_id = ANY($1::int8[]) group by post_id;",
        ),
        (
            "select body from comments where post_id = $1 order by created_at desc limit 1",
            &[],
            "select distinct on (post_id) post_id, body from comments where post_id = ANY($1::int8[]) order by post_id, created_at desc;",
        ),
        (
            "select * from comments where post_id = $1 limit 1",
            &[],
            "select distinct on (post_id) * from comments where post_id = ANY($1::int8[]) order by post_id;",
        ),
        (
            "select body from comments where post_id = $1 order by created_at desc limit 3",
            &[],
            "select k.key, c.* from unnest($1::int8[]) as k(key) cross join lateral (select body from comments where post_id = k.key order by created_at desc limit $2) as c;",
        ),
        (
            "select * from comments where post_id in ($1)",
            &[],
            "select * from comments where post_id = ANY($1::int8[]);\n-- or together with the parent:\nselect c.* from (select id, title from posts where blog_id = $1) as p join lateral (select * from comments where post_id in (p.id)) as c on true;",
        ),
        ("delete from comments where post_id = $1", &[], "delete from comments where post_id = ANY($1::int8[]);"),
        (
            "update posts set seen = now() where id = $1",
            &[],
            "update posts set seen = now() where id = ANY($1::int8[]);",
        ),
        (
            "update posts set title = $2 where id = $1",
            &["title {}"],
            "update posts set title = v.v1 from unnest($2::text[], $1::int8[]) as v(v1, v2) where id = v.v2;",
        ),
        (
            "update posts set title = $2, blog_id = $3 where id = $1",
            &["title {}", "9"],
            "update posts set title = v.v1, blog_id = $3 from unnest($2::text[], $1::int8[]) as v(v1, v2) where id = v.v2;",
        ),
        (
            "select * from comments where post_id = $1 union select * from old_comments where post_id = $1",
            &[],
            "select k.key, c.* from unnest($1::int8[]) as k(key) cross join lateral (select * from comments where post_id = k.key union select * from old_comments where post_id = k.key) as c;",
        ),
    ];
    for (child, more, expected) in table {
        let found = finding(child, more);
        let rewrite = found.rewrite.unwrap_or_default();
        assert_sensible(&rewrite);
        assert_eq!(rewrite, expected, "{child}");
    }
}

#[test]
fn a_finding_proves_itself() {
    let found = finding("select * from comments where post_id = $1", &[]);
    assert_eq!(found.evidence.as_deref(), Some("posts.id → comments.post_id = $1"));
    assert_eq!(found.parent.as_ref().and_then(|parent| parent.column.as_deref()), Some("posts.id"));
    assert_eq!((found.child.column.as_deref(), found.child.parameter), (Some("comments.post_id"), Some(1)));
    assert_eq!((found.count, found.parent_executions, found.connections), (8, 1, 1));
    assert!((found.wasted_ms - 7.0 * 0.4).abs() < 1e-9);
    assert_eq!(found.id.len(), 16);
}

#[test]
fn loops_have_rewrites_too() {
    let insert = |count: u64, sql: &str| {
        let mut stream = Stream::default();
        for row in 0..count {
            stream.send(sql, vec![text("k"), text(row)]);
        }
        let findings = run(&stream.statements, &Thresholds::from(config::Profile::Production));
        assert_eq!(findings.len(), 1);
        findings[0].rewrite.clone().unwrap()
    };
    let few = insert(12, "insert into events (kind, payload) values ($1, $2)");
    assert_sensible(&few);
    assert!(few.ends_with("insert into events(kind, payload) values ($1, $2), ($3, $4);"), "{few}");
    let many = insert(1_200, "insert into events (kind, payload) values ($1, $2)");
    assert!(many.ends_with("copy events(kind, payload) from stdin;"), "{many}");

    let mut stream = Stream::default();
    for node in 1..14 {
        let children = (0..3).map(|child| vec![text(3 * node + child - 1)]).collect();
        stream.send("select id from nodes where parent_id = $1", vec![text(node)]).returns(&["id"], children);
    }
    let findings = run(&stream.statements, &Thresholds::from(config::Profile::Production));
    assert_eq!(findings[0].kind.name(), "recursive_walk");
    let walk = findings[0].rewrite.clone().unwrap();
    assert_sensible(&walk);
    assert!(walk.starts_with("with recursive walk as ("), "{walk}");
}

#[test]
fn of_a_text_that_was_cut_none_is_made() {
    assert!(finding("select body from comments where post_id = $1 order by x", &[]).rewrite.is_some());
    assert_eq!(finding("select body from comments where post_id = $1 order by …", &[]).rewrite, None);
}

/// What is told of a child whose parameters have these types, behind this parent.
fn typed(parent: &str, child: &str, key: u32, more: &[u32]) -> Option<String> {
    let mut stream = Stream::default();
    let rows = (0..8).map(|row| vec![text(1_000 + 7 * row), text("t")]).collect();
    stream.send(parent, vec![text(7)]).returns(&["id", "title"], rows);
    for row in 0..8 {
        let mut parameters = vec![Datum::Typed(key, (1_000 + 7 * row).to_string())];
        parameters.extend(more.iter().map(|oid| Datum::Typed(*oid, format!("value {row}"))));
        stream.send(child, parameters).returns(&["x"], vec![vec![text(row)]]);
    }
    let findings = run(&stream.statements, &Thresholds::from(config::Profile::Production));
    assert_eq!(findings.len(), 1, "{child}");
    let rewrite = findings.into_iter().next().unwrap().rewrite;
    rewrite.iter().for_each(|rewrite| assert_sensible(rewrite));
    rewrite
}

#[test]
fn casts_name_the_types_of_the_parameters_or_none() {
    // timestamptz, bool, numeric, jsonb, and one of the database's own.
    const OWN: u32 = 16_999;
    for (oid, name) in [(1184, "timestamptz"), (16, "bool"), (1700, "numeric"), (3802, "jsonb"), (TEXT, "text")] {
        let rewrite = typed(PARENT, "update posts set seen = $2 where id = $1", 23, &[oid]).unwrap();
        assert!(rewrite.contains(&format!("unnest($2::{name}[], $1::int4[])")), "{rewrite}");
    }
    for unknown in [OWN, 0] {
        assert_eq!(typed(PARENT, "update posts set seen = $2 where id = $1", 23, &[unknown]), None);
    }
    let own = typed(PARENT, "select body from comments where kind = $1", OWN, &[]).unwrap();
    assert!(own.starts_with("select kind, body from comments where kind = ANY($1);"), "{own}");
    assert_eq!(typed(PARENT, "select body from comments where kind = $1 order by x limit 3", OWN, &[]), None);
    let inet = typed(PARENT, "select body from comments where address = $1", 869, &[]).unwrap();
    assert!(inet.contains("= ANY($1::inet[])"), "{inet}");
}

#[test]
fn rows_that_become_one_are_told_by_what_is_called_anywhere_in_the_list() {
    let of = |list: &str| typed(PARENT, &format!("select {list} from comments where post_id = $1"), 23, &[]).unwrap();
    for list in ["coalesce(sum(size), 0)", "max(created_at) - min(created_at)", "1, count(*) filter (where seen)"] {
        let rewrite = of(list);
        assert!(rewrite.starts_with("select post_id, ") && rewrite.ends_with(" group by post_id;"), "{rewrite}");
    }
    for list in ["row_number() over (order by id)", "sum(size) over ()", "app.total(size)"] {
        assert!(of(list).contains("cross join lateral"), "{list}: it may look at other rows than one");
    }
    for list in ["lower(body), coalesce(size, 0)", "(select count(*) from likes where likes.comment = comments.id), id"]
    {
        let rewrite = of(list);
        assert!(rewrite.contains("= ANY($1::int4[])") && !rewrite.contains("group by"), "{rewrite}");
    }
}

#[test]
fn what_goes_on_behind_the_key_is_left_as_it_is() {
    for child in [
        "select body from comments where post_id = $1::int4",
        "select body from comments where post_id = $1 + 1",
        "select body from comments where post_id = $1 and other <> $1",
    ] {
        let rewrite = typed(PARENT, child, 23, &[]).unwrap();
        assert!(rewrite.contains("cross join lateral") && rewrite.contains("k.key"), "{rewrite}");
    }
    assert_eq!(typed(PARENT, "delete from comments where post_id = $1::int4", 23, &[]), None);
}

#[test]
fn a_parent_with_two_columns_of_a_name_is_not_joined() {
    let child = "select body from comments where post_id = $1";
    let joined = |parent: &str| typed(parent, child, 23, &[]).unwrap().contains("together with the parent");
    assert!(joined("select p.id, p.title from posts p where blog_id = $1"));
    assert!(joined("select * from posts where blog_id = $1"));
    for parent in [
        "select p.id, b.id from posts p join blogs b on b.id = p.blog_id where blog_id = $1",
        "select * from posts p join blogs b on b.id = p.blog_id where blog_id = $1",
        "select *, id from posts where blog_id = $1",
    ] {
        assert!(!joined(parent), "{parent}");
    }
}

#[test]
fn a_row_with_values_outside_it_is_not_written_several_times() {
    let mut stream = Stream::default();
    for row in 0..12 {
        let insert = "insert into events (kind, payload) values ($1, $2) on conflict (kind) do update set payload = $3";
        stream.send(insert, vec![text("k"), text(row), text(row)]);
    }
    let findings = run(&stream.statements, &Thresholds::from(config::Profile::Production));
    assert_eq!((findings[0].kind.name(), &findings[0].rewrite), ("insert_loop", &None));
}

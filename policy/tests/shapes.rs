//! Shapes of traffic that lie close to a border of the rules, each with the findings that it must give in either
//! profile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics is a test that fails")]

mod support;

use policy::observe::Thresholds;
use support::{Datum, Stream, kinds, run, text};

/// A list of rows, to be returned by the parent.
fn rows(count: u64, row: impl Fn(u64) -> Vec<Datum>) -> Vec<Vec<Datum>> {
    (0..count).map(row).collect()
}

fn check(stream: &Stream, expected: &[&str]) {
    for profile in [config::Profile::Development, config::Profile::Production] {
        let findings = run(&stream.statements, &Thresholds::from(profile));
        assert_eq!(kinds(&findings), expected, "{profile:?}: {findings:#?}");
    }
}

#[test]
fn small_ids_of_parents_and_children_may_overlap() {
    let mut stream = Stream::default();
    stream
        .send("select id, title from posts", vec![])
        .returns(&["id", "title"], rows(10, |i| vec![text(i), text("t")]));
    for i in 0..10_u64 {
        stream
            .send("select id, body from comments where post_id = $1", vec![text(i)])
            .returns(&["id", "body"], rows(3, |c| vec![text(i * 3 + c + 1), text("b")]));
    }
    check(&stream, &["n_plus_one"]);
}

#[test]
fn a_reference_may_repeat() {
    let mut stream = Stream::default();
    stream
        .send("select id, author_id from posts", vec![])
        .returns(&["id", "author_id"], rows(12, |i| vec![text(100 + 3 * i), text(900 + i * 7 % 4)]));
    for i in 0..12 {
        stream
            .send("select * from users where id = $1", vec![text(900 + i * 7 % 4)])
            .returns(&["id"], vec![vec![text(900 + i * 7 % 4)]]);
    }
    check(&stream, &["n_plus_one"]);
}

#[test]
fn a_linked_list_is_a_walk() {
    let mut stream = Stream::default();
    for i in 0..14 {
        stream
            .send("select next_id from nodes where id = $1", vec![text(i * 31 % 97 + 1000)])
            .returns(&["next_id"], vec![vec![text((i + 1) * 31 % 97 + 1000)]]);
    }
    check(&stream, &["recursive_walk"]);
}

#[test]
fn trees_that_are_walked_in_one_statement_each_are_what_should_be() {
    let mut stream = Stream { pause_us: 1_000, ..Stream::default() };
    let sql = "with recursive t as (select id, parent_id from folders where id = $1 union all select f.id, f.parent_id \
        from folders f join t on f.parent_id = t.id) select * from t";
    for root in 2001..2009_u64 {
        // Each root is a parent among the descendants of the one before.
        let rows = (0..4).map(|child| vec![text(5000 + root + child), text(root + child)]).collect();
        stream.send(sql, vec![text(root)]).returns(&["id", "parent_id"], rows);
    }
    check(&stream, &[]);
}

#[test]
fn a_tree_walked_level_by_level_is_a_walk() {
    let mut stream = Stream::default();
    stream
        .send("select id from nodes where parent_id is null", vec![])
        .returns(&["id"], rows(6, |i| vec![text(1000 + i)]));
    for i in 0..42 {
        stream
            .send("select id from nodes where parent_id = $1", vec![text(1000 + i)])
            .returns(&["id"], if i < 12 { rows(3, |c| vec![text(1006 + i * 3 + c)]) } else { vec![] });
    }
    check(&stream, &["recursive_walk"]);
}

#[test]
fn one_row_per_row_is_nested_all_the_same() {
    let mut stream = Stream::default();
    stream
        .send("select id from orders where user_id=$1", vec![text(1)])
        .returns(&["id"], rows(8, |i| vec![text(100 + 3 * i)]));
    for i in 0..8u64 {
        stream
            .send("select id, product_id from order_items where order_id=$1", vec![text(100 + 3 * i)])
            .returns(&["id", "product_id"], vec![vec![text(1000 + i), text(5000 + i * 37 % 11)]]);
        stream
            .send("select vendor_id from products where id=$1", vec![text(5000 + i * 37 % 11)])
            .returns(&["vendor_id"], vec![vec![text(9000 + i)]]);
        stream
            .send("select name from vendors where id=$1", vec![text(9000 + i)])
            .returns(&["name"], vec![vec![text("n")]]);
    }
    check(&stream, &["n_plus_one", "n_plus_one", "n_plus_one"]);
}

#[test]
fn two_children_per_row_in_any_order() {
    let mut stream = Stream::default();
    stream.send("select id from posts", vec![]).returns(&["id"], rows(20, |i| vec![text(1000 + 3 * i)]));
    for i in 0..20u64 {
        let j = i * 7 % 20;
        stream.send("select * from comments where post_id=$1", vec![text(1000 + 3 * j)]);
        stream.send("select count(*) from likes where post_id=$1", vec![text(1000 + 3 * j)]);
    }
    check(&stream, &["n_plus_one", "n_plus_one"]);
}

#[test]
fn small_integers_coincide() {
    let mut stream = Stream::default();
    stream
        .send("select id, name from categories", vec![])
        .returns(&["id", "name"], rows(20, |i| vec![text(i), text("n")]));
    for i in 0..9u64 {
        stream.connection = i;
        stream.pause_us = 9000;
        stream.send("select * from users where id=$1", vec![text(i * 7 % 20 + 1)]);
    }
    check(&stream, &[]);
}

#[test]
fn inserts_in_a_loop_are_one_kind_wherever_their_values_come_from() {
    let mut stream = Stream::default();
    stream.send("select id from posts", vec![]).returns(&["id"], rows(20, |i| vec![text(1000 + 3 * i)]));
    for i in 0..20u64 {
        stream.send("insert into seen (post_id) values ($1)", vec![text(1000 + 3 * i)]);
    }
    check(&stream, &["insert_loop"]);
}

#[test]
fn writes_in_transactions_of_their_own_are_still_caused() {
    let mut stream = Stream::default();
    stream.send("select id from posts", vec![]).returns(&["id"], rows(20, |i| vec![text(1000 + 3 * i)]));
    for i in 0..20u64 {
        stream.send("begin", vec![]);
        stream.send("delete from comments where post_id = $1", vec![text(1000 + 3 * i)]);
        stream.send("delete from posts where id = $1", vec![text(1000 + 3 * i)]);
        stream.send("commit", vec![]);
    }
    check(&stream, &["n_plus_one_write", "n_plus_one_write"]);
}

#[test]
fn many_users_with_one_list_and_one_click_each() {
    let mut stream = Stream::default();
    for u in 0..30u64 {
        stream.connection = u;
        stream
            .send("select id from posts where org=$1", vec![text(u)])
            .returns(&["id"], rows(20, |i| vec![text(1000 + 3 * i)]));
        stream.send("select * from posts where id=$1", vec![text(1000 + 3 * (u * 7 % 20))]);
    }
    check(&stream, &[]);
}

use super::*;

fn column(text: &str, index: usize) -> (Context, Option<String>, Option<String>) {
    let text = Text::new(text);
    let placeholder = text.placeholder(index).unwrap();
    let (table, column) = text.column_of(placeholder).map_or((None, None), |(t, c)| (t.map(str::to_owned), Some(c)));
    (placeholder.context, table, column)
}

/// Text, placeholder, and what is expected beside it: context, table, column.
type Row<'a> = (&'a str, usize, Context, Option<&'a str>, Option<&'a str>);

#[test]
fn columns_beside_placeholders() {
    let some = |name: &str| Some(name.to_owned());
    let table: &[Row<'_>] = &[
        ("select * from logs where event_id = $1", 0, Context::Equal, Some("logs"), Some("event_id")),
        ("select * from profiles where user_id=$1", 0, Context::Equal, Some("profiles"), Some("user_id")),
        ("select * from logs where event_id = ?", 0, Context::Equal, Some("logs"), Some("event_id")),
        (
            "select l.* from logs l join events e on e.id = l.event_id where l.event_id = $1",
            0,
            Context::Equal,
            Some("logs"),
            Some("event_id"),
        ),
        ("select * from a, b where b.x = $1", 0, Context::Equal, Some("b"), Some("x")),
        (
            "select * from \"Post\" where \"Post\".\"authorId\" = $1 and (1 = 1)",
            0,
            Context::Equal,
            Some("Post"),
            Some("authorId"),
        ),
        ("select * from t where id in ($1, $2)", 1, Context::Equal, Some("t"), Some("id")),
        ("select * from t where id = any($1)", 0, Context::Equal, Some("t"), Some("id")),
        ("select * from t where $1 = id", 0, Context::Equal, Some("t"), Some("id")),
        ("select * from t where $1::int = id", 0, Context::Equal, Some("t"), Some("id")),
        ("select * from t where id::text = $1", 0, Context::Equal, Some("t"), Some("id")),
        ("select * from t where lower(email) = $1", 0, Context::Equal, Some("t"), Some("email")),
        ("select * from t where id > $1 order by id limit $2 offset $3", 0, Context::Compare, Some("t"), Some("id")),
        ("select * from t where id > $1 order by id limit $2 offset $3", 1, Context::Limit, None, None),
        ("select * from t where id > $1 order by id limit $2 offset $3", 2, Context::Offset, None, None),
        ("update t set a = $1, b = $2 where id = $3", 1, Context::Assign, None, None),
        ("update t set a = $1, b = $2 where id = $3", 2, Context::Equal, Some("t"), Some("id")),
        ("insert into t (a, b) values ($1, $2)", 1, Context::Assign, None, None),
        ("delete from only s.t where id = $1", 0, Context::Equal, Some("s.t"), Some("id")),
        ("select f($1) from t", 0, Context::Other, None, None),
    ];
    for (text, index, context, name, col) in table {
        assert_eq!(column(text, *index), (*context, name.and_then(some), col.and_then(some)), "{text}");
    }
}

#[test]
fn constants_count_on_after_parameters() {
    let text = Text::new("select * from t where a = ? and b = $1 limit ?");
    let indexes: Vec<usize> = text.placeholders.iter().map(|placeholder| placeholder.index).collect();
    assert_eq!(indexes, [1, 0, 2]);
}

#[test]
fn any_bytes_are_taken_apart_without_panic() {
    for text in
        ["", "(", ")", "$", "$99999999999999999999999", "\"", "= $1", "in ($1", "from", "? ? ?", "from a.", "é = $1"]
    {
        let _parsed = Text::new(text);
    }
}

#[test]
fn values_behind_limit_are_told_only_where_it_is_sure_which_they_are() {
    let page = Positions::of("select a from t where b = $1 and c = ? limit ? offset $2");
    // $1, $2, and behind them two constants.
    assert_eq!([0, 1, 2, 3].map(|place| page.hold(place, 2, 2)), [false, true, false, true]);
    let any = |text: &str, parameters, constants| {
        let positions = Positions::of(text);
        (0..8).any(|place| positions.hold(place, parameters, constants))
    };
    assert!(any("select a from t where b = ? limit ?", 0, 2));
    assert!(!any("select a from t where b in (...) limit ?", 0, 4), "a list is shown as one");
    assert!(
        !any("select a from t where (select 1 from u where d ? ? limit ?) = b and c = ?", 0, 3),
        "jsonb has a ? too"
    );
    assert!(!any("select a from t where b = ? and c = $3 limit ?", 0, 2), "$3 has no value");
    assert!(!any("select a from t where b = ? limit ?…", 0, 2), "the end is not shown");
}

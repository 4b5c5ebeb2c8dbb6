//! Do two columns look like a key and a reference to it?
//!
//! Small integers coincide all the time: 1 to 20 is in every table. A name that fits is what tells a cause from a
//! coincidence; where values alone are proof enough, it only ranks.

/// How well two names fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Fit {
    /// Nothing speaks for it.
    #[default]
    None,
    /// One is a key, the other a reference, but to something of another name (`users.id` and `author_id`).
    Weak,
    /// A reference to that very table (`posts.id` and `post_id`), the same reference, or the same column.
    Strong,
}

/// A column as far as its names are known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Named<'a> {
    pub(super) table: Option<&'a str>,
    pub(super) column: Option<&'a str>,
}

/// How well a column of a result fits the column that a parameter is compared with.
pub(super) fn fit(source: Named<'_>, target: Named<'_>) -> Fit {
    let (Some(from), Some(to)) = (source.column, target.column) else { return Fit::None };
    match (role(from), role(to)) {
        (Role::Key, Role::Key) => same_table(source.table, target.table),
        (Role::Key, Role::Reference(stem)) => refers(&stem, source.table),
        (Role::Reference(stem), Role::Key) => refers(&stem, target.table),
        (Role::Reference(a), Role::Reference(b)) if a == b => Fit::Strong,
        (Role::Plain, Role::Plain) if from.eq_ignore_ascii_case(to) => Fit::Strong,
        _ => Fit::None,
    }
}

/// What a column's name says about it.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// `id`, `uuid`: a table's own key.
    Key,
    /// `post_id`, `postId`: a reference to what the stem names.
    Reference(String),
    /// Anything else.
    Plain,
}

fn role(column: &str) -> Role {
    const KEYS: [&str; 5] = ["id", "uuid", "guid", "pk", "oid"];
    const SUFFIXES: [&str; 8] = ["_id", "_uuid", "_guid", "_key", "_fk", "_pk", "_code", "_ref"];
    let lower = column.to_ascii_lowercase();
    if KEYS.contains(&lower.as_str()) {
        return Role::Key;
    }
    if let Some(stem) = SUFFIXES.iter().find_map(|suffix| lower.strip_suffix(suffix)).filter(|stem| !stem.is_empty()) {
        return Role::Reference(stem.to_owned());
    }
    match column.strip_suffix("Id").or_else(|| column.strip_suffix("ID")).or_else(|| column.strip_suffix("Uuid")) {
        Some(stem) if !stem.is_empty() => Role::Reference(snake(stem)),
        _ => Role::Plain,
    }
}

/// Whether `stem` names one row of `table`: `post` of `posts`, `item` of `order_items`, `category` of `categories`.
fn refers(stem: &str, table: Option<&str>) -> Fit {
    let Some(table) = table else { return Fit::Weak };
    let table = snake(bare(table));
    let single = singular(&table);
    let same = single == stem || single == singular(stem) || table.strip_suffix("es") == Some(stem);
    let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('_'));
    if same || ends(&single, stem) || ends(stem, &single) { Fit::Strong } else { Fit::Weak }
}

fn same_table(a: Option<&str>, b: Option<&str>) -> Fit {
    match (a, b) {
        (Some(a), Some(b)) if bare(a) == bare(b) => Fit::Strong,
        _ => Fit::None,
    }
}

/// A table's name without its schema.
pub(super) fn bare(table: &str) -> &str {
    table.rsplit('.').next().unwrap_or(table)
}

/// `OrderItem` and `order_item` as `order_item`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// English plurals as tables wear them.
fn singular(name: &str) -> String {
    if let Some(stem) = name.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    for plural in ["sses", "xes", "ches", "shes", "zes"] {
        if name.ends_with(plural) {
            return name.strip_suffix("es").unwrap_or(name).to_owned();
        }
    }
    match name.strip_suffix('s') {
        Some(stem) if stem.len() > 1 && !stem.ends_with('s') && !stem.ends_with('u') => stem.to_owned(),
        _ => match name {
            "people" => "person".to_owned(),
            "children" => "child".to_owned(),
            _ => name.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(name: &'a str) -> Named<'a> {
        match name.rsplit_once('.') {
            Some((table, column)) => Named { table: Some(table), column: Some(column) },
            None => Named { table: None, column: Some(name) },
        }
    }

    #[test]
    fn names_that_fit() {
        let table = [
            ("posts.id", "comments.post_id", Fit::Strong),
            ("public.posts.id", "comments.post_id", Fit::Strong),
            ("categories.id", "items.category_id", Fit::Strong),
            ("boxes.id", "items.box_id", Fit::Strong),
            ("statuses.id", "items.status_id", Fit::Strong),
            ("order_items.id", "x.item_id", Fit::Strong),
            ("order_items.product_id", "products.id", Fit::Strong),
            ("OrderItem.id", "x.orderItemId", Fit::Strong),
            ("Post.id", "Comment.postId", Fit::Strong),
            ("people.id", "x.person_id", Fit::Strong),
            ("users.id", "posts.author_id", Fit::Weak),
            ("posts.author_id", "users.id", Fit::Weak),
            ("id", "post_id", Fit::Weak),
            ("posts.id", "posts.id", Fit::Strong),
            ("posts.id", "users.id", Fit::None),
            ("id", "id", Fit::None),
            ("a.tenant_id", "b.tenant_id", Fit::Strong),
            ("a.author_id", "b.user_id", Fit::None),
            ("a.email", "b.email", Fit::Strong),
            ("a.email", "b.name", Fit::None),
            ("a.paid", "b.p_id", Fit::None),
        ];
        for (from, to, expected) in table {
            assert_eq!(fit(named(from), named(to)), expected, "{from} {to}");
        }
        assert_eq!(fit(Named::default(), named("a.id")), Fit::None);
    }
}

//! What a select list calls and how its columns are named, as far as a rewrite depends on it.

use super::text::{Text, TokenKind, unquote};

/// The functions in a select list, subqueries apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// An aggregate: all rows become one.
    pub(super) aggregate: bool,
    /// What looks at several rows in another way, or a function of which nobody knows whether it does.
    pub(super) other: bool,
}

const AGGREGATES: [&str; 31] = [
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "every",
    "bool_or",
    "bool_and",
    "bit_and",
    "bit_or",
    "bit_xor",
    "any_value",
    "array_agg",
    "string_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "xmlagg",
    "range_agg",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "variance",
    "var_pop",
    "var_samp",
    "corr",
    "mode",
    "percentile_cont",
    "percentile_disc",
    "regr_count",
];

/// Functions of one row, and words that stand before a parenthesis without being one.
const OF_ONE_ROW: [&str; 59] = [
    "abs",
    "all",
    "and",
    "any",
    "array",
    "as",
    "btrim",
    "case",
    "cast",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "concat",
    "concat_ws",
    "date",
    "date_part",
    "date_trunc",
    "distinct",
    "else",
    "exists",
    "extract",
    "filter",
    "floor",
    "format",
    "greatest",
    "in",
    "initcap",
    "interval",
    "is",
    "json_build_object",
    "jsonb_build_object",
    "least",
    "left",
    "length",
    "like",
    "lower",
    "ltrim",
    "md5",
    "not",
    "now",
    "nullif",
    "numeric",
    "octet_length",
    "or",
    "position",
    "replace",
    "right",
    "round",
    "row",
    "row_to_json",
    "rtrim",
    "substring",
    "then",
    "to_char",
    "to_json",
    "trim",
    "upper",
    "when",
];

/// Of the text's own select list.
pub(super) fn calls(text: &Text<'_>) -> Calls {
    let mut found = Calls::default();
    let mut subquery = 0_i32;
    for token in 1..list_end(text) {
        let (word, next) = (text.word(token), text.word(token + 1));
        match word {
            // Nothing within a subquery makes a row of this list.
            "(" if subquery > 0 || matches!(next, "select" | "with" | "values") => subquery += 1,
            ")" if subquery > 0 => subquery -= 1,
            _ if subquery > 0 => {}
            "over" => found.other = true,
            _ if next != "(" || !is_name(text, token) => {}
            _ if AGGREGATES.contains(&word) => found.aggregate = true,
            _ => found.other |= !OF_ONE_ROW.contains(&word),
        }
    }
    found
}

/// Whether another statement that has this one in its FROM may name this column: it has just one of that name. A name behind
/// AS is not in a normalised text, and none of it counts.
pub(super) fn is_unambiguous(text: &Text<'_>, column: &str) -> bool {
    let (mut depth, mut named, mut starred) = (0_i32, 0, 0);
    let end = list_end(text);
    for token in 1..end {
        match text.word(token) {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "*" if matches!(text.word(token - 1), "select" | "," | ".") => starred += 1,
            // The name in front of a cast is the column's too.
            word if depth == 0 && is_name(text, token) && unquote(word) == column => {
                let next = text.word(token + 1);
                let last = token + 1 == end || matches!(next, "," | "::" | "");
                named += i32::from(last && text.word(token.wrapping_sub(1)) != "::");
            }
            _ => {}
        }
    }
    match starred {
        0 => named == 1,
        1 => named == 0 && text.tables.len() == 1,
        _ => false,
    }
}

fn list_end(text: &Text<'_>) -> usize {
    text.top_level("from").unwrap_or(text.tokens.len())
}

fn is_name(text: &Text<'_>, token: usize) -> bool {
    text.tokens.get(token).is_some_and(|token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted))
}

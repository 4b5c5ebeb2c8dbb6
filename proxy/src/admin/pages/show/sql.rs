//! Statements for reading: broken into lines at their clauses, words told from values. It is a lexer for looks: what it
//! takes for a word wrongly is coloured wrongly, and nothing more.

use maud::{Markup, html};

use super::text::{LONGEST, beginning, visible};

/// What a piece of a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Name,
    Value,
    Note,
    Space,
    Sign,
}

/// Words of SQL that are told from names, in upper case and sorted.
const WORDS: &[&str] = &[
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COMMIT",
    "CONFLICT",
    "COPY",
    "CREATE",
    "CROSS",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DO",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FETCH",
    "FILTER",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LISTEN",
    "LOCKED",
    "NOT",
    "NOTHING",
    "NOTIFY",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RECURSIVE",
    "RETURNING",
    "RIGHT",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "SKIP",
    "TABLE",
    "THEN",
    "TO",
    "TRUE",
    "UNION",
    "UNIQUE",
    "UPDATE",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

/// Words that begin a line of their own outside parentheses.
const CLAUSES: &[&str] = &[
    "EXCEPT",
    "FOR",
    "FROM",
    "GROUP",
    "HAVING",
    "INTERSECT",
    "LIMIT",
    "OFFSET",
    "ORDER",
    "RETURNING",
    "SELECT",
    "SET",
    "UNION",
    "VALUES",
    "WHERE",
    "WINDOW",
];

/// Words in front of JOIN.
const JOINS: &[&str] = &["CROSS", "FULL", "INNER", "JOIN", "LEFT", "RIGHT"];

fn is_in(words: &[&str], word: &str) -> bool {
    words.binary_search_by(|known| known.bytes().cmp(word.bytes().map(|byte| byte.to_ascii_uppercase()))).is_ok()
}

/// A statement on a few lines, in a block of its own.
pub(in super::super) fn block(text: &str) -> Markup {
    let (shown, more) = beginning(text, LONGEST);
    let shown = visible(shown);
    html! {
        pre.sql dir="ltr" tabindex="0" { code { (coloured(&broken(&pieces(&shown)))) } }
        @if more { p.note { "The rest of " (super::figure::bytes(text.len() as f64)) " is not shown." } }
    }
}

/// The beginning of a statement on one line.
pub(in super::super) fn line(text: &str) -> Markup {
    let (shown, more) = beginning(text, 240);
    let shown = visible(shown);
    let pieces = pieces(&shown);
    let joined: Vec<(Kind, &str)> =
        pieces.into_iter().map(|(kind, piece)| if kind == Kind::Space { (kind, " ") } else { (kind, piece) }).collect();
    html! { code.sql dir="ltr" { (coloured(&joined)) @if more { "…" } } }
}

fn coloured(pieces: &[(Kind, &str)]) -> Markup {
    html! {
        @for (kind, piece) in pieces {
            @match kind {
                Kind::Word => b { (piece) },
                Kind::Value => i { (piece) },
                Kind::Note => span.note { (piece) },
                Kind::Name | Kind::Space | Kind::Sign => (piece),
            }
        }
    }
}

/// Cuts a statement into its pieces; together they are the whole text.
fn pieces(text: &str) -> Vec<(Kind, &str)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = piece(rest, first);
        let (piece, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        pieces.push((kind, piece));
        rest = behind;
    }
    pieces
}

/// What stands first, and how many bytes of it there are: at least one letter.
fn piece(text: &str, first: char) -> (Kind, usize) {
    let while_is = |is: fn(char) -> bool| text.find(|letter| !is(letter)).unwrap_or(text.len());
    let through = |from: usize, end: &str| {
        text.get(from..).and_then(|rest| rest.find(end)).map_or(text.len(), |at| from + at + end.len())
    };
    match first {
        _ if first.is_whitespace() => (Kind::Space, while_is(char::is_whitespace)),
        '\'' => (Kind::Value, through(1, "'")),
        '"' => (Kind::Name, through(1, "\"")),
        '-' if text.starts_with("--") => (Kind::Note, text.find('\n').unwrap_or(text.len())),
        '/' if text.starts_with("/*") => (Kind::Note, through(2, "*/")),
        '?' => (Kind::Value, 1),
        '$' if text.get(1..2).is_some_and(|next| next.as_bytes().first().is_some_and(u8::is_ascii_digit)) => (
            Kind::Value,
            1 + text.get(1..).and_then(|rest| rest.find(|c: char| !c.is_ascii_digit())).unwrap_or(text.len() - 1),
        ),
        _ if first.is_ascii_digit() => {
            (Kind::Value, while_is(|letter| letter.is_ascii_alphanumeric() || letter == '.'))
        }
        _ if first.is_alphabetic() || first == '_' => {
            let length = while_is(|letter| letter.is_alphanumeric() || letter == '_' || letter == '$');
            let word = text.get(..length).unwrap_or_default();
            (if is_in(WORDS, word) { Kind::Word } else { Kind::Name }, length)
        }
        _ => (Kind::Sign, first.len_utf8()),
    }
}

/// Puts line breaks in front of clauses, and keeps those that are there only in notes: how a client breaks its lines says
/// nothing.
fn broken<'a>(pieces: &[(Kind, &'a str)]) -> Vec<(Kind, &'a str)> {
    let mut lines: Vec<(Kind, &str)> = Vec::with_capacity(pieces.len() + 16);
    let (mut depth, mut last, mut between, mut after_note) = (0_usize, "", false, false);
    for (kind, piece) in pieces {
        match (kind, *piece) {
            (Kind::Space, _) => {
                let blank = if after_note { "\n" } else { " " };
                if lines.last().is_some_and(|(kind, _)| *kind != Kind::Space) {
                    lines.push((Kind::Space, blank));
                }
                continue;
            }
            (Kind::Sign, "(") => depth += 1,
            (Kind::Sign, ")") => depth = depth.saturating_sub(1),
            (Kind::Word, word) if depth == 0 && !lines.is_empty() => {
                if let Some(blank) = break_before(word, last, &mut between) {
                    if lines.last().is_some_and(|(kind, _)| *kind == Kind::Space) {
                        lines.pop();
                    }
                    lines.push((Kind::Space, blank));
                }
            }
            _ => {}
        }
        after_note = *kind == Kind::Note && piece.starts_with("--");
        if *kind == Kind::Word {
            last = piece;
        } else if *kind != Kind::Note {
            last = "";
        }
        lines.push((*kind, piece));
    }
    lines
}

/// The break in front of a word that stands outside parentheses, `last` being the word right before it.
fn break_before(word: &str, last: &str, between: &mut bool) -> Option<&'static str> {
    let is = |text: &str, other: &str| text.eq_ignore_ascii_case(other);
    if is(word, "between") {
        *between = true;
    }
    if is(word, "and") && std::mem::take(between) {
        return None;
    }
    if is(word, "and") || is(word, "or") {
        return Some("\n  ");
    }
    // LEFT JOIN is one line, and so are INSERT … SELECT's INTO, DO UPDATE SET, IS DISTINCT FROM, DELETE FROM.
    if is_in(JOINS, word) {
        return (!is_in(JOINS, last) && !is(last, "outer")).then_some("\n");
    }
    let goes_on = ["delete", "distinct", "all", "any", "union", "explain", "do", "update", "as"];
    (is_in(CLAUSES, word) && !goes_on.iter().any(|known| is(last, known))).then_some("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        broken(&pieces(text)).iter().map(|(_, piece)| *piece).collect()
    }

    #[test]
    fn words_are_sorted() {
        assert!(WORDS.is_sorted() && CLAUSES.is_sorted() && JOINS.is_sorted());
    }

    #[test]
    fn clauses_begin_lines() {
        assert_eq!(
            read(
                "select id,\n   name from runs r left join steps s on s.run_id = r.id where a = $1 and b between ? and ? order by id limit ?"
            ),
            "select id, name\nfrom runs r\nleft join steps s on s.run_id = r.id\nwhere a = $1\n  and b between ? and ?\norder by id\nlimit ?"
        );
        assert_eq!(read("delete from t where (a = ? and b = ?)"), "delete from t\nwhere (a = ? and b = ?)");
        assert_eq!(read("update t set a = ? returning id"), "update t\nset a = ?\nreturning id");
        assert_eq!(read("select 1 -- note\n from t"), "select 1 -- note\nfrom t");
    }

    #[test]
    fn pieces_are_the_whole_text_whatever_it_is() {
        for text in [
            "'open",
            "\"open",
            "/* open",
            "$",
            "$1",
            "$a$x$a$",
            "--",
            "ä'ö\"ü",
            "\u{0}\u{202e}",
            "é.1e5$",
            "😀😀",
            "- -",
            "1..2",
        ] {
            let whole: String = pieces(text).iter().map(|(_, piece)| *piece).collect();
            assert_eq!(whole, text);
        }
    }

    #[test]
    fn hostile_texts_stay_texts() {
        let shown = block("select '</code><script>alert(1)</script>' from \"<b>\"").into_string();
        assert!(!shown.contains("<script>") && shown.contains("&lt;script&gt;"), "{shown}");
        assert!(line("select \0\u{202e}x").into_string().contains("␀\u{fffd}x"));
        let long = block(&"select ä, ".repeat(200_000)).into_string();
        assert!(long.len() < 400_000 && long.contains("is not shown"), "{}", long.len());
        assert!(line(&"x".repeat(1 << 20)).into_string().len() < 400);
    }
}

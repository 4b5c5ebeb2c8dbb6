//! "Did you mean": what to write instead of a key or word that does not exist.

use crate::schema;

/// What other poolers and PostgreSQL call it, and our key for it.
const ELSEWHERE: [(&str, &str); 24] = [
    ("listen_addr", "listen"),
    ("listen_port", "listen"),
    ("port", "listen"),
    ("unix_socket_dir", "listen"),
    ("unix_socket_directories", "listen"),
    ("max_client_conn", "max_clients"),
    ("max_connections", "max_clients"),
    ("pool_mode", "pool.mode"),
    ("default_pool_size", "pool.size"),
    ("pool_size", "pool.size"),
    ("min_pool_size", "pool.min_size"),
    ("query_wait_timeout", "pool.queue_timeout"),
    ("server_connect_timeout", "pool.connect_timeout"),
    ("server_idle_timeout", "pool.idle_timeout"),
    ("server_lifetime", "pool.lifetime"),
    ("max_prepared_statements", "pool.max_prepared"),
    ("auth_type", "auth.method"),
    ("auth_file", "auth.userlist"),
    ("auth_hba_file", "auth.hba_file"),
    ("auth_ident_file", "auth.ident_file"),
    ("auth_query", "auth.query"),
    ("auth_user", "auth.query_user"),
    ("auth_dbname", "auth.query_database"),
    ("authentication_timeout", "auth.login_timeout"),
];

/// The sentence for a key that does not exist.
pub(crate) fn unknown_key(path: &[&str]) -> String {
    let (key, parent) = path.split_last().map_or(("", path), |(key, parent)| (*key, parent));
    let siblings = schema::children(parent);
    // What is written just so elsewhere is no slip of the pen.
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == key) {
        return format!("there is no such key; here it is called {ours}");
    }
    if let Some(near) = nearest(key, &siblings) {
        return format!("there is no such key; did you mean {near}?");
    }
    let elsewhere = schema::all().find(|row| row.path.rsplit('.').next() == Some(key));
    if let Some(row) = elsewhere {
        return format!("there is no such key here; did you mean {}?", row.path);
    }
    format!("there is no such key; possible here: {}", siblings.join(", "))
}

/// `; did you mean x?`, or nothing.
pub(crate) fn among(word: &str, words: &[&str]) -> String {
    nearest(word, words).map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    let (distance, near) = words.iter().map(|other| (distance(word, other), *other)).min()?;
    (distance <= allowed).then_some(near)
}

/// Edits between two words: insert, remove, replace, each 1. Words far longer than any key are not looked at.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(65).collect(), b.chars().collect());
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, x) in a.iter().enumerate() {
        let mut left = row + 1;
        let mut diagonal = row;
        let mut line = vec![left];
        for (y, up) in b.iter().zip(above.iter().skip(1)) {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = *up;
            left = replaced.min(up + 1).min(left + 1);
            line.push(left);
        }
        above = line;
    }
    above.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in [
            ("", "", 0),
            ("size", "size", 0),
            ("sise", "size", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("Size", "size", 0),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn sentences() {
        for (path, sentence) in [
            (&["pool", "sise"][..], "there is no such key; did you mean size?"),
            (&["databases", "x", "upstraem"], "there is no such key; did you mean upstream?"),
            (&["databases", "x", "sise"], "there is no such key; did you mean size?"),
            (&["pool_mode"], "there is no such key; here it is called pool.mode"),
            (&["statement_timeout"], "there is no such key here; did you mean tenant.default.statement_timeout?"),
            (&["log", "colour"], "there is no such key; possible here: file, format, level"),
        ] {
            assert_eq!(unknown_key(path), sentence);
        }
    }
}

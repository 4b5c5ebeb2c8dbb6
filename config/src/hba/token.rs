//! Lines into fields into words, as PostgreSQL reads its files of rules and maps.
//!
//! Blanks part fields, commas the words of one field. Double quotes take away a word's special meaning and let it hold
//! anything; a quote inside them is doubled. `#` begins a comment, a backslash at a line's end joins the next line.

/// A word of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// It began with a quote: it is a name, whatever it looks like.
    pub(crate) quoted: bool,
}

impl Word {
    /// Whether it is this word of the syntax.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// A line with something on it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it begins, from 1.
    pub(crate) number: usize,
    /// Its fields; none is empty. An error: what is wrong with its form.
    pub(crate) fields: Result<Vec<Vec<Word>>, &'static str>,
}

/// Every line of a file that is not empty or a comment.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut physical = text.lines().enumerate();
    while let Some((index, first)) = physical.next() {
        let mut whole = first.to_owned();
        while let Some(before) = whole.strip_suffix('\\') {
            let length = before.len();
            whole.truncate(length);
            let Some((_, next)) = physical.next() else { break };
            whole.push_str(next);
        }
        let fields = fields(&whole);
        if fields.as_ref().is_err() || fields.as_ref().is_ok_and(|fields| !fields.is_empty()) {
            found.push(Line { number: index + 1, fields });
        }
    }
    found
}

fn fields(line: &str) -> Result<Vec<Vec<Word>>, &'static str> {
    let mut fields: Vec<Vec<Word>> = Vec::new();
    let mut rest = line;
    // A comma behind the last word: the next word belongs to the same field.
    let mut goes_on = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', ',']);
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(fields);
        }
        let (word, after) = word(rest)?;
        if word.text.contains('\0') {
            return Err("holds a NUL character; remove it");
        }
        match fields.last_mut().filter(|_| goes_on) {
            Some(field) => field.push(word),
            None => fields.push(vec![word]),
        }
        goes_on = after.starts_with(',');
        rest = after;
    }
}

/// The word at the start of `text`, and what follows it.
fn word(text: &str) -> Result<(Word, &str), &'static str> {
    let mut word = Word { text: String::new(), quoted: text.starts_with('"') };
    let mut quotes = false;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' if quotes && characters.peek().is_some_and(|(_, next)| *next == '"') => {
                word.text.push('"');
                characters.next();
            }
            '"' => quotes = !quotes,
            ' ' | '\t' | '\r' | ',' | '#' if !quotes => return Ok((word, text.get(at..).unwrap_or_default())),
            _ => word.text.push(character),
        }
    }
    if quotes { Err("has a quote that is never closed; close it on the same line") } else { Ok((word, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields as text: quoted words in angle brackets, words of a field joined by `+`.
    fn shown(text: &str) -> Vec<(usize, String)> {
        let shown_word = |word: &Word| if word.quoted { format!("<{}>", word.text) } else { word.text.clone() };
        let shown_field = |field: &Vec<Word>| field.iter().map(shown_word).collect::<Vec<_>>().join("+");
        let lines = lines(text).into_iter().map(|line| {
            let fields = line.fields.map(|fields| fields.iter().map(shown_field).collect::<Vec<_>>().join(" "));
            (line.number, fields.unwrap_or_else(|error| format!("error: {error}")))
        });
        lines.collect()
    }

    #[test]
    fn words_and_fields() {
        for (text, expected) in [
            ("", vec![]),
            ("  # nothing\n\t\n", vec![]),
            ("local all all trust", vec![(1, "local all all trust")]),
            ("\n host a,b c  # why\r\n", vec![(2, "host a+b c")]),
            ("host a, b ,c d", vec![(1, "host a+b c d")]),
            ("host \"a b\",\"all\" \"x#\"\"y\"", vec![(1, "host <a b>+<all> <x#\"y>")]),
            ("x\"y z\" w#c", vec![(1, "xy z w")]),
            ("host all \\\nall \\\ntrust\nlocal", vec![(1, "host all all trust"), (4, "local")]),
            ("host \\", vec![(1, "host")]),
            ("\"\" x", vec![(1, "<> x")]),
        ] {
            let expected: Vec<(usize, String)> = expected.into_iter().map(|(n, t)| (n, t.to_owned())).collect();
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_quote_that_stays_open_is_told_with_its_line() {
        let found = shown("local all all trust\nhost \"a all\nlocal \"\0\" x y");
        assert_eq!(found[0].1, "local all all trust");
        assert!(found[1].1.starts_with("error: has a quote") && found[1].0 == 2, "{found:?}");
        assert!(found[2].1.starts_with("error: holds a NUL"), "{found:?}");
    }
}

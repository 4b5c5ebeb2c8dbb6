//! What a rule does, of its definition as the server prints it.

use super::super::text::{CLOSE, OPEN, SEMICOLON, Text};
use crate::lexer::Word;

/// The statements that stand behind `DO [INSTEAD]` in what `pg_get_ruledef` says. The functions that its condition calls are
/// not among them. What cannot be told is an open quote, which is taken for anything.
///
/// ```
/// use policy::cache::catalog::rule_actions;
/// let rule = "CREATE RULE r AS\n    ON INSERT TO public.runs\n   WHERE (new.a > 1) DO  DELETE FROM public.log;";
/// assert_eq!(rule_actions(rule), "DELETE FROM public.log");
/// assert_eq!(rule_actions("CREATE RULE r AS ON UPDATE TO public.runs DO INSTEAD NOTHING;"), "");
/// ```
pub fn rule_actions(definition: &str) -> &str {
    let text = Text::new(definition.as_bytes());
    // A reserved word: as a name it is quoted.
    let word = (0..text.tokens.len()).find(|at| text.word(*at) == Word::Do).filter(|_| !text.broken);
    let Some(at) = word else { return "'" };
    let mut first = if text.says_one_of(at + 1, &["instead", "also"]) { at + 2 } else { at + 1 };
    if text.says(first, "nothing") {
        return "";
    }
    let mut last = text.tokens.len().saturating_sub(1);
    if text.is(last, SEMICOLON) {
        last = last.saturating_sub(1);
    }
    // Several stand in parentheses, each with a semicolon behind it.
    if text.is(first, OPEN) && text.is(last, CLOSE) && text.is(last.saturating_sub(1), SEMICOLON) {
        (first, last) = (first + 1, last.saturating_sub(2));
    }
    let place = |at: usize| text.get(at).map(|token| (token.start as usize, token.end as usize));
    let (Some((start, _)), Some((_, end))) = (place(first), place(last)) else { return "'" };
    definition.get(start..end).unwrap_or("'")
}

#[cfg(test)]
mod tests {
    use super::super::Acts;
    use super::*;

    #[test]
    fn several_statements_are_all_there() {
        let rule = "CREATE RULE r AS\n    ON UPDATE TO public.t\n   WHERE (old.\"do\" <> 'do'::text) DO INSTEAD ( UPDATE \
                    public.a SET b = new.b;\n INSERT INTO c (d)\n  VALUES (f(new.d));\n);";
        let acts = Acts::of(rule_actions(rule).as_bytes());
        assert!(!acts.anything && !acts.catalog, "{acts:?}");
        let mut names: Vec<_> = acts.targets.iter().map(|target| target.name.name.as_str()).collect();
        // They are in the order of their schemas first.
        names.sort_unstable();
        assert_eq!((names.as_slice(), acts.calls.len()), (["a", "c"].as_slice(), 1));
        assert_eq!(rule_actions("CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1);"), "(SELECT 1)");
    }

    #[test]
    fn what_is_no_rule_may_do_anything() {
        for text in ["", "DO", "CREATE RULE r AS ON INSERT TO t", "CREATE RULE r AS ON INSERT TO t DO INSERT INTO \"x"]
        {
            assert!(Acts::of(rule_actions(text).as_bytes()).anything, "{text}");
        }
    }
}

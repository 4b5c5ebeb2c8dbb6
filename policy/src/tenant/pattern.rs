//! Patterns: text with `*` for anything and one `{tenant}`, or a regular expression with a group `tenant`.

use regex_lite::Regex;

/// A compiled pattern. What comes from clients is matched in linear time: nothing backtracks.
#[derive(Debug)]
pub(super) enum Pattern {
    /// `worker-{tenant}-*`.
    Simple(Simple),
    /// `tenant:(?<tenant>[a-z0-9-]+)`; boxed, as it is much larger. `None`: it is no expression, and nothing matches.
    Regex(Option<Box<Regex>>),
}

impl Pattern {
    /// Compiles what the configuration has checked.
    pub(super) fn new(text: &str) -> Self {
        match text.contains("{tenant}") {
            true => Self::Simple(Simple::new(text)),
            false => Self::Regex(Regex::new(text).ok().map(Box::new)),
        }
    }

    /// The tenant in `value`: the group of that name, or without such a group the whole value.
    pub(super) fn tenant_in<'a>(&self, value: &'a str) -> Option<&'a str> {
        match self {
            Self::Simple(simple) => simple.tenant_in(value),
            Self::Regex(regex) => {
                let regex = regex.as_deref()?;
                let found = regex.captures(value)?;
                if regex.capture_names().flatten().any(|name| name == "tenant") {
                    found.name("tenant").map(|name| name.as_str())
                } else {
                    Some(value)
                }
            }
        }
    }
}

/// Text with stars. Matching is linear in the name times the number of stars; nothing recurses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Simple {
    /// What must precede the tenant.
    before: Glob,
    /// What must follow it, from where the tenant ends.
    after: Glob,
}

/// Pieces of text with anything between them.
#[derive(Debug, PartialEq, Eq)]
struct Glob {
    pieces: Box<[Box<str>]>,
}

impl Glob {
    fn new(text: &str) -> Self {
        Self { pieces: text.split('*').map(Into::into).collect() }
    }

    /// Where the shortest match that begins at the start of `text` ends.
    fn shortest_prefix(&self, text: &str) -> Option<usize> {
        let mut pieces = self.pieces.iter();
        let first = pieces.next()?;
        let mut end = text.starts_with(first.as_ref()).then_some(first.len())?;
        for piece in pieces {
            end += text.get(end..)?.find(piece.as_ref())? + piece.len();
        }
        Some(end)
    }

    /// Whether the whole of `text` matches.
    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.pieces.as_ref() else {
            return self.pieces.first().is_none_or(|only| only.as_ref() == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_ref()) else {
            return false;
        };
        for piece in middle {
            match rest.split_once(piece.as_ref()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last.as_ref())
    }

    /// The text between the start and the first star: a tenant's name ends where it begins.
    fn head(&self) -> &str {
        self.pieces.first().map_or("", AsRef::as_ref)
    }

    fn has_star(&self) -> bool {
        self.pieces.len() > 1
    }
}

impl Simple {
    /// Compiles `worker-{tenant}-*`. The configuration has checked that `{tenant}` stands in it exactly once.
    fn new(text: &str) -> Self {
        let (before, after) = text.split_once("{tenant}").unwrap_or((text, ""));
        Self { before: Glob::new(before), after: Glob::new(after) }
    }

    /// The tenant in `name`: what stands between the shortest match of the part before it and the first place where
    /// the text behind it begins (the last such place, that is the end, where the pattern ends without a star).
    fn tenant_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.get(self.before.shortest_prefix(name)?..)?;
        if !self.after.has_star() {
            return rest.strip_suffix(self.after.head()).filter(|tenant| !tenant.is_empty());
        }
        let head = self.after.head();
        if head.is_empty() {
            // `{tenant}*` has no mark where the name ends: it takes all that the rest of the pattern leaves.
            return self.after.matches(rest).then_some(rest).filter(|tenant| !tenant.is_empty());
        }
        // A tenant is at least one character, so the mark is looked for behind the first.
        let skip = rest.chars().next()?.len_utf8();
        let end = skip + rest.get(skip..)?.find(head)?;
        self.after.matches(rest.get(end..)?).then(|| rest.get(..end)).flatten()
    }
}

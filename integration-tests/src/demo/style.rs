//! How the report looks: colour on a terminal, plain text elsewhere and where NO_COLOR asks for it.

use std::io::IsTerminal;

/// Columns that the report fits into.
pub const WIDTH: usize = 100;

/// Whether there is colour, and whether lines can be drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// A person looks at a terminal: progress may refresh its line.
    pub terminal: bool,
    /// Escape codes for colour are welcome.
    pub colour: bool,
}

impl Style {
    /// What standard output and the environment ask for. `on_behalf` is set when another process hands our output on
    /// to its terminal.
    pub fn of_output(on_behalf: bool) -> Self {
        let terminal = on_behalf || std::io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { terminal: terminal && !dumb, colour: terminal && !refused && !dumb }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A heading with a rule behind it.
    pub fn heading(self, text: &str) -> String {
        let rule = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 4));
        format!("\n{} {} {}\n", self.dim("──"), self.paint("1;36", text), self.dim(&rule))
    }

    /// What matters.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What explains.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// What holds.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What does not.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Statements.
    pub fn code(self, text: &str) -> String {
        self.paint("33", text)
    }
}

/// Cuts a text to so many characters, with an ellipsis for what is left out.
pub fn cut(text: &str, width: usize) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= width {
        return flat;
    }
    let kept: String = flat.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Breaks a text into lines of so many characters at its blanks.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_escape_codes() {
        let plain = Style { terminal: false, colour: false };
        assert!(!(plain.heading("a") + &plain.bad("b")).contains('\x1b'));
        let colourful = Style { terminal: true, colour: true };
        assert_eq!(colourful.good("b"), "\x1b[32mb\x1b[0m");
    }

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrapped("select a\n from b where c", 10), ["select a", "from b", "where c"]);
        assert_eq!(wrapped("unbreakable", 4), ["unbreakable"]);
        assert!(wrapped("  ", 4).is_empty());
    }

    #[test]
    fn texts_are_cut_by_characters_and_numbers_grouped() {
        assert_eq!(cut("select  äöü\n from x", 11), "select äöü…");
        assert_eq!(cut("short", 11), "short");
        assert_eq!((grouped(7), grouped(1234), grouped(1_234_567)), ("7".into(), "1 234".into(), "1 234 567".into()));
    }
}

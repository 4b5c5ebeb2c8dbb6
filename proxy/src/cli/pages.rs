//! What a shell and `man` want to know of the command line.

use std::io;

use clap::CommandFactory as _;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;
use clap_mangen::Man;

use super::CommandLine;

/// The shells that there are completions for.
pub(super) fn shells() -> PossibleValuesParser {
    PossibleValuesParser::new(["bash", "zsh", "fish"])
}

/// A script that completes commands and flags.
pub(super) fn completions(shell: &str) -> Vec<u8> {
    let shell = match shell {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "pgweir", &mut script);
    script
}

/// The manual page: the program, each of its commands, exit codes, and where to read on.
///
/// # Errors
/// Never: it is written to memory.
pub(super) fn man() -> io::Result<String> {
    let mut command = CommandLine::command();
    command.build();
    let mut page = Vec::new();
    let whole =
        Man::new(command.clone()).section("1").manual("pgweir").source(concat!("pgweir ", env!("CARGO_PKG_VERSION")));
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for own in command.get_subcommands().filter(|own| own.get_name() != "help") {
        page.extend(of_command(own)?);
    }
    page.extend_from_slice(REST.as_bytes());
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// A command as a part of the section about all of them.
fn of_command(own: &clap::Command) -> io::Result<Vec<u8>> {
    let man = Man::new(own.clone());
    let (mut synopsis, mut description, mut options) = (Vec::new(), Vec::new(), Vec::new());
    man.render_synopsis_section(&mut synopsis)?;
    man.render_description_section(&mut description)?;
    if own.get_arguments().any(|argument| argument.get_id() != "help") {
        man.render_options_section(&mut options)?;
    }
    let mut text = format!(".SS \"pgweir {}\"\n", own.get_name());
    for part in [synopsis, description, options] {
        let part = String::from_utf8_lossy(&part).into_owned();
        // Its own heading would be one of the whole page.
        let body = part
            .lines()
            .filter(|line| !line.starts_with(".SH ") && !line.starts_with(".ie ") && !line.starts_with(".el "));
        for line in body {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(".PP\n");
    }
    Ok(text.into_bytes())
}

/// What no table of flags says.
const REST: &str = r#".SH "EXIT STATUS"
0: done. 1: it failed, and standard error says why. 2: the arguments are wrong.
.PP
.B pgweir status
answers as a monitoring plugin does: 0, all is well; 1, somebody should look at it; 2, clients are turned away or nobody answers;
3, it was asked wrongly.
.PP
.B pgweir watch
has its own: docs/findings.md.
.SH SIGNALS
SIGHUP reads the configuration again. SIGTERM lets requests and transactions end, behind shutdown.grace; SIGINT
does so without the grace; SIGQUIT ends at once. SIGUSR1 pauses all
databases, SIGUSR2 resumes them.
.SH ENVIRONMENT
Most flags have a variable, named beside them. NO_COLOR takes colours away.
.SH "SEE ALSO"
.BR psql (1),
.BR pgbench (1);
the pages of docs/: getting-started.md, config.md, operations.md, admin-api.md, metrics.md, logs.md, troubleshooting.md.
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_completed_and_has_its_part_of_the_manual() {
        let manual = man().unwrap();
        for shell in ["bash", "zsh", "fish"] {
            let script = String::from_utf8(completions(shell)).unwrap();
            for command in CommandLine::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} lacks {}", command.get_name());
            }
        }
        for command in CommandLine::command().get_subcommands() {
            assert!(manual.contains(&format!(".SS \"pgweir {}\"", command.get_name())), "{}", command.get_name());
        }
        assert!(!manual.contains(".SH OPTIONS"), "a command's options are no section of the whole page");
    }
}

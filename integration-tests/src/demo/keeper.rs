//! `--keep`: the demo runs in a process of its own that stays behind with everything it started, while the one that
//! the person called hands its output on and ends with its verdict.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use super::Outcome;
use super::style::Style;
use crate::Signal;

/// Set in the process that stays: whose terminal it writes to, `terminal` or `pipe`.
pub const STAYING: &str = "PGWEIR_DEMO_STAYING";
/// Begins the line with which the staying process says how it went (a byte that no report holds).
const VERDICT: char = '\u{4}';

/// Starts this program again as the one that stays, hands on what it prints, and returns its verdict.
pub fn leave_behind(style: Style) -> Outcome<ExitCode> {
    end_previous()?;
    let mut staying = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(STAYING, if style.terminal { "terminal" } else { "pipe" })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What ends the caller's group must not end what is to stay.
        .process_group(0)
        .spawn()?;
    let output = BufReader::new(staying.stdout.take().ok_or("the pipe was asked for")?);
    let mut terminal = std::io::stdout();
    for piece in output.split(b'\n') {
        let piece = piece?;
        let text = String::from_utf8_lossy(&piece);
        if let Some(verdict) = text.strip_prefix(VERDICT) {
            return Ok(if verdict == "kept" { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        writeln!(terminal, "{text}")?;
    }
    Err("the demo ended before its report".into())
}

/// Called by the staying process when its report is out: notes where it is, and says how it went.
pub fn settle(all_hold: bool) -> Outcome<()> {
    let note = note();
    if let Some(folder) = note.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(note, std::process::id().to_string())?;
    println!("{VERDICT}{}", if all_hold { "kept" } else { "broken" });
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
pub async fn stay() -> Outcome<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(fs::remove_file(note()));
    Ok(())
}

/// Ends what an earlier `--keep` left running. Whether there was something.
pub fn end_previous() -> Outcome<bool> {
    let Ok(text) = fs::read_to_string(note()) else { return Ok(false) };
    let pid: u32 = text.trim().parse().map_err(|_| format!("{} holds no process id", note().display()))?;
    let ours = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| is_demo(&program));
    if ours {
        crate::child::send(pid, Signal::Terminate);
        let gone = crate::within(std::time::Duration::from_secs(15), || !Path::new(&format!("/proc/{pid}")).exists());
        if !gone {
            return Err(format!("the demo that was left running (process {pid}) does not end").into());
        }
    }
    drop(fs::remove_file(note()));
    Ok(ours)
}

/// Numbers of processes are given again: only a process that runs this program is one that we left. (A binary that was
/// built anew since has ` (deleted)` behind its path.)
fn is_demo(program: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().replace(" (deleted)", ""));
    std::env::current_exe().is_ok_and(|own| name(&own) == name(program))
}

/// Where the staying process notes its id: beside the binary, which is where the next call is started from.
fn note() -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_extension("pid")
}

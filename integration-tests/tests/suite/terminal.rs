//! `pgweir top` on a terminal of its own, and `pgweir status`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use config::PoolMode::Transaction;
use integration_tests::process::pgweir;
use integration_tests::{Child, Signal, Site, eventually, within};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const WIDTH: usize = 80;
const HEIGHT: usize = 24;

/// A terminal as far as `pgweir top` uses one: places, and what was sent.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// All that was sent, for what is not a letter in a place.
    sent: Vec<u8>,
}

impl Screen {
    fn take(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        // From the beginning each time: a sequence may have come in two pieces.
        let text = String::from_utf8_lossy(&self.sent).into_owned();
        (self.rows, self.row, self.column) = (vec![vec![' '; WIDTH]; HEIGHT], 0, 0);
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\u{1b}' => self.sequence(&mut letters),
                '\r' => self.column = 0,
                '\n' => self.row += 1,
                _ => {
                    if let Some(place) = self.rows.get_mut(self.row).and_then(|row| row.get_mut(self.column)) {
                        *place = letter;
                    }
                    self.column += 1;
                }
            }
        }
    }

    fn sequence(&mut self, letters: &mut std::str::Chars<'_>) {
        if letters.next() != Some('[') {
            return;
        }
        let mut numbers = String::new();
        let end = loop {
            match letters.next() {
                Some(letter) if letter.is_ascii_alphabetic() => break letter,
                Some(letter) => numbers.push(letter),
                None => return,
            }
        };
        let mut parts = numbers.split(';').map(|number| number.parse::<usize>().unwrap_or(1));
        match end {
            'H' => {
                self.row = parts.next().unwrap_or(1).saturating_sub(1);
                self.column = parts.next().unwrap_or(1).saturating_sub(1);
            }
            'J' => self.rows = vec![vec![' '; WIDTH]; HEIGHT],
            _ => {}
        }
    }

    fn text(&self) -> String {
        self.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
    }
}

/// A pgweir on a terminal.
struct Terminal {
    child: Child,
    keys: File,
    slave: OwnedFd,
    screen: Arc<Mutex<Screen>>,
}

impl Terminal {
    fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: HEIGHT as u16, ws_col: WIDTH as u16, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let mut command = pgweir(arguments);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").envs(environment.iter().copied());
        for (number, stream) in [0, 1, 2].map(|number| (number, Stdio::from(slave.try_clone().unwrap()))) {
            match number {
                0 => command.stdin(stream),
                1 => command.stdout(stream),
                _ => command.stderr(stream),
            };
        }
        let child = Child::spawn(&mut command);
        let keys = File::from(master);
        let screen = Arc::<Mutex<Screen>>::default();
        let (mut output, shown) = (keys.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut piece) {
                shown.lock().unwrap().take(&piece[..read]);
            }
        });
        Self { child, keys, slave: OwnedFd::from(slave), screen }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().text()
    }

    fn shows(&self, words: &str) {
        let seen = within(Duration::from_secs(20), || self.text().contains(words));
        assert!(seen, "{words} is not on\n{}", self.text());
    }

    /// Whether lines are edited and echoed again, and the screen from before is back with its cursor.
    fn is_given_back(&self) {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{modes:?}");
        eventually("the screen is given back", || {
            let sent = String::from_utf8_lossy(&self.screen.lock().unwrap().sent).into_owned();
            let left = sent.rfind("\u{1b}[?1049l");
            left.is_some()
                && left > sent.rfind("\u{1b}[?1049h")
                && sent.rfind("\u{1b}[?25h") > sent.rfind("\u{1b}[?25l")
        });
    }
}

/// Clients that run the same statement again and again until this is dropped.
struct Traffic(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Traffic {
    fn of(site: &Site, sql: &'static str) -> Self {
        let (stop, mut client) = (Arc::<AtomicBool>::default(), site.client());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                client.query(sql).ok();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        drop(self.1.take().map(std::thread::JoinHandle::join));
    }
}

fn top(admin: SocketAddr, environment: &[(&str, &str)]) -> Terminal {
    Terminal::run(&["top", "--admin", &admin.to_string(), "--interval", "300ms"], environment)
}

#[test]
fn top_shows_what_runs_looks_closer_and_gives_the_terminal_back() {
    let site = Site::pooled(Transaction, 2);
    let _traffic = Traffic::of(&site, "select relname from pg_class where relkind = 'r'");
    let _other = Traffic::of(&site, "select count(*) from pg_am");
    let mut terminal = top(site.admin(), &[]);
    // 80 columns show how a text begins.
    terminal.shows("select relname");
    terminal.shows("select count");
    terminal.shows("ready");
    terminal.shows("calls/s");
    terminal.press("/pg_class\r");
    terminal.shows("with “pg_class”");
    eventually("the other statement is filtered out", || !terminal.text().contains("select count"));
    terminal.press("\r");
    terminal.shows("fingerprint");
    terminal.shows("select relname from pg_class where relkind = ?");
    terminal.shows("tenant");
    terminal.press("\u{7f}");
    terminal.shows("statement");
    terminal.press("3");
    terminal.shows("wait p95");
    terminal.press("?");
    terminal.shows("any key closes it");
    terminal.press("xq");
    let ended = terminal.child.wait_for(Duration::from_secs(20));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    terminal.is_given_back();
}

#[test]
fn top_gives_the_terminal_back_when_it_is_ended() {
    let site = Site::pooled(Transaction, 2);
    site.client().query("select 1").ok();
    for signal in [Signal::Terminate, Signal::Hangup] {
        let mut terminal = top(site.admin(), &[]);
        terminal.shows("ready");
        terminal.child.signal(signal);
        let ended = terminal.child.wait_for(Duration::from_secs(20));
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
        terminal.is_given_back();
    }
}

#[test]
fn top_says_that_nobody_answers_and_goes_on() {
    let site = Site::pooled(Transaction, 2);
    let admin = site.admin();
    drop(site);
    let mut terminal = top(admin, &[("NO_COLOR", "1")]);
    terminal.shows("does not answer");
    assert!(terminal.child.is_running());
    // Bold, dim and underlined are no colours.
    let sent = String::from_utf8_lossy(&terminal.screen.lock().unwrap().sent).into_owned();
    for colour in 30..38 {
        assert!(
            !sent.contains(&format!("\u{1b}[{colour}m")) && !sent.contains(&format!("\u{1b}[38;5;{}m", colour - 30)),
            "{colour}"
        );
    }
    terminal.press("\u{3}");
    assert!(terminal.child.wait_for(Duration::from_secs(20)).is_some());
    terminal.is_given_back();
}

/// Runs it to its end without a terminal.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = pgweir(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn one_screen_is_printed_as_text() {
    let site = Site::pooled(Transaction, 2);
    let _traffic = Traffic::of(&site, "select relname from pg_class where relkind = 'i'");
    let admin = site.admin().to_string();
    eventually("the statement is listed", || {
        let (code, page, complaint) = run(&["top", "--once", "--admin", &admin, "--filter", "relkind"]);
        assert_eq!(code, Some(0), "{complaint}");
        assert!(!page.contains('\u{1b}'), "{page}");
        page.contains("select relname from pg_class where relkind = ?") && page.contains("calls/s")
    });
    let (_, page, _) = run(&["top", "--once", "--admin", &admin, "--tab", "pools"]);
    assert!(page.contains("waiting") && page.contains("wait p95"), "{page}");
    let (code, _, complaint) = run(&["top", "--admin", &admin]);
    assert!(code == Some(1) && complaint.contains("needs a terminal"), "{complaint}");
    let (code, _, complaint) = run(&["top", "--once", "--admin", &admin, "--sort", "colour"]);
    assert!(code == Some(1) && complaint.contains("busy, calls/s"), "{complaint}");
}

#[test]
fn status_judges_as_a_monitoring_plugin_does() {
    let site = Site::pooled(Transaction, 1);
    let admin = site.admin().to_string();
    let mut holder = site.client();
    holder.query("select 1").ok();
    let (code, page, _) = run(&["status", "--admin", &admin]);
    assert_eq!(code, Some(0), "{page}");
    assert!(page.starts_with("OK  pgweir ") && page.contains(&format!("at {admin}, ready, up ")), "{page}");
    assert!(page.contains("statements/s") && page.contains("wait p95"), "{page}");

    holder.query("begin").ok();
    let mut waiting = site.client();
    let waiter = std::thread::spawn(move || waiting.query("select 2").ok());
    eventually("somebody waits", || {
        let (code, page, _) = run(&["status", "--json", "--admin", &admin]);
        let told: serde_json::Value = serde_json::from_str(&page).unwrap();
        code == Some(1)
            && told["status"] == "warning"
            && told["notices"][0]["text"].as_str().unwrap().contains("1 client waits")
    });
    holder.query("commit").ok();
    waiter.join().unwrap();

    drop(site);
    let (code, page, _) = run(&["status", "--admin", &admin]);
    assert!(code == Some(2) && page.starts_with("CRITICAL  pgweir does not answer"), "{page}");
    let (code, page, _) = run(&["status", "--admin", "nonsense"]);
    assert!(code == Some(3) && page.starts_with("UNKNOWN  --admin"), "{page}");
}

#[test]
fn shells_and_man_are_told_of_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(&["completions", shell]);
        assert!(code == Some(0) && script.contains("explain-policy"), "{shell}: {script}");
    }
    assert_eq!(run(&["completions", "tcsh"]).0, Some(2));
    let (code, page, _) = run(&["man"]);
    assert!(code == Some(0) && page.contains(".TH pgweir 1"), "{page}");
    let (code, page, _) = run(&["log-reference"]);
    assert!(code == Some(0) && page.contains("slow statement"), "{page}");
}

//! `pgweir top`: a running pgweir on a terminal, live.
//!
//! ```text
//!   keys ────────┐
//!   signals ─────┼─► one channel ─► App ─► draw        fetcher ─► admin port
//!   fetcher ─────┘                   └────── wishes ──────┘
//! ```
//! The screen waits for the next of these and draws behind each: nothing turns while nothing happens.

mod app;
mod draw;
mod fetch;
pub(super) mod model;
mod screen;
mod sheet;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event};

use super::Failure;
use super::http::Admin;
use app::{App, Wish};
use draw::Theme;
use fetch::{Asked, Fetcher};
use model::{Snapshot, Tab, Window};
use screen::Screen;

/// Between two looks of `--once`.
const ONCE_PAUSE: Duration = Duration::from_secs(1);
/// The screen of `--once` where no terminal says its size.
const ONCE_SIZE: (u16, u16) = (120, 40);

/// What to show of which pgweir.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// The admin address of the running pgweir
    #[arg(long, value_name = "ADDRESS", env = "PGWEIR_ADMIN", default_value = "127.0.0.1:6433")]
    admin: String,
    /// Its bearer token, if it has one. Other users see flags: prefer the variable
    #[arg(long, value_name = "TOKEN", env = "PGWEIR_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// PEM file with the authority of its certificate, or with the certificate itself, where its address is https://…
    #[arg(long, value_name = "FILE", env = "PGWEIR_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
    /// The list to begin with
    #[arg(long, value_name = "LIST", value_enum, default_value = "statements")]
    tab: Tab,
    /// Sort it by this column, as it stands above it, such as "busy" or "p95 ms"
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
    /// Only rows that hold all these words
    #[arg(long, value_name = "WORDS", default_value = "")]
    filter: String,
    /// How often to look
    #[arg(long, value_name = "TIME", value_parser = config::units::parse_duration, default_value = "2s")]
    interval: Duration,
    /// No colours, also on a terminal (as with NO_COLOR)
    #[arg(long)]
    no_color: bool,
    /// Print one screen as text, and end
    #[arg(long)]
    once: bool,
}

/// What comes to the screen.
#[derive(Debug)]
enum Message {
    Event(Event),
    Looked(Tab, Result<Box<Snapshot>, String>),
    History(String, Result<Vec<Window>, String>),
    /// A signal, or no more keys: the end.
    Stop,
}

/// Does it.
///
/// # Errors
/// There is no terminal, or nobody answers (`--once`).
pub(super) fn run(top: &Top) -> Result<(), Failure> {
    let admin = Admin::new(&top.admin, top.admin_token.clone())?.believing(top.admin_ca.as_deref())?;
    let mut app = App::new(admin.address(), top.tab, &top.filter);
    if let Some(column) = &top.sort {
        app.sort_by(column)?;
    }
    if top.once {
        return once(&admin, &mut app);
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err("pgweir top needs a terminal; `pgweir top --once` prints one screen without".into());
    }
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let theme = Theme { colours: !top.no_color && !is_set("NO_COLOR") };
    let interval = top.interval.max(Duration::from_millis(200));
    let (messages, inbox) = channel();
    let fetcher = Fetcher::start(admin, interval, top.tab, &messages)?;
    listen_to_signals(&messages)?;
    let mut screen = Screen::enter()?;
    listen_to_keys(messages)?;
    live(&mut app, theme, &mut screen, &inbox, &fetcher)
}

/// Draws what comes until somebody wants the end. The screen is put back when it is dropped, however this ends.
fn live(
    app: &mut App,
    theme: Theme,
    screen: &mut Screen,
    inbox: &Receiver<Message>,
    fetcher: &Fetcher,
) -> Result<(), Failure> {
    loop {
        screen.draw(|frame| draw::draw(frame, app, theme))?;
        let Ok(first) = inbox.recv() else { return Ok(()) };
        // A hand on a key sends faster than some terminals draw.
        for message in std::iter::once(first).chain(inbox.try_iter()) {
            match take(app, message) {
                Wish::None => {}
                Wish::Quit => return Ok(()),
                Wish::Look(tab) => fetcher.ask(Asked::Look(tab)),
                Wish::History(fingerprint) => fetcher.ask(Asked::History(fingerprint)),
            }
        }
    }
}

fn take(app: &mut App, message: Message) -> Wish {
    match message {
        Message::Event(Event::Key(key)) => return app.key(key),
        // A new size: what follows draws anew.
        Message::Event(_) => {}
        Message::Looked(tab, Ok(snapshot)) => app.take(tab, *snapshot),
        Message::History(fingerprint, Ok(windows)) => app.take_history(&fingerprint, windows),
        Message::Looked(_, Err(trouble)) | Message::History(_, Err(trouble)) => app.trouble = Some(trouble),
        Message::Stop => return Wish::Quit,
    }
    Wish::None
}

/// Keys, on a thread that sleeps while none is pressed.
fn listen_to_keys(messages: Sender<Message>) -> io::Result<()> {
    let listen = move || {
        while let Ok(event) = event::read() {
            if messages.send(Message::Event(event)).is_err() {
                return;
            }
        }
        // The terminal is gone.
        _ = messages.send(Message::Stop);
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(listen).map(drop)
}

/// SIGTERM, SIGHUP (a terminal that closes) and a SIGINT from elsewhere.
fn listen_to_signals(messages: &Sender<Message>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let messages = messages.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut hangup, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?)
    };
    let listen = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        _ = messages.send(Message::Stop);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop)
}

/// One screen as text: two looks, so that there are rates.
fn once(admin: &Admin, app: &mut App) -> Result<(), Failure> {
    app.take(app.tab, Snapshot::take(admin, app.tab)?);
    std::thread::sleep(ONCE_PAUSE);
    app.take(app.tab, Snapshot::take(admin, app.tab)?);
    let size = if io::stdout().is_terminal() { ratatui::crossterm::terminal::size().ok() } else { None };
    let text = screenful(app, size.unwrap_or(ONCE_SIZE));
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The screen as lines of text, without what is only there for keys.
fn screenful(app: &mut App, (width, height): (u16, u16)) -> String {
    // Drawing into memory cannot fail.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| draw::draw(frame, app, Theme { colours: false }));
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer.cell((x, y)).map_or(" ", |cell| cell.symbol());
            line.push_str(symbol);
            // A wide letter takes two places and stands in the first.
            x += (ratatui::text::Span::raw(symbol).width().max(1)) as u16;
        }
        line.trim_end().to_owned()
    };
    let lines: Vec<String> = (0..height.saturating_sub(1)).map(line).collect();
    let used = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    lines.into_iter().take(used).map(|line| line + "\n").collect()
}

//! The terminal while it is ours, and that it is given back as it was.

use std::io::{self, Stdout, Write as _};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::{Frame, Terminal};

/// A terminal that is ours until this is dropped.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal. Whatever ends the program from here on gives it back: an end, an error, a panic.
    ///
    /// # Errors
    /// It is none, or is gone.
    pub(super) fn enter() -> io::Result<Self> {
        let usual = std::panic::take_hook();
        // What a panic says is to be read on the terminal that was there before.
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            usual(panic);
        }));
        enable_raw_mode()?;
        let entered = execute!(io::stdout(), EnterAlternateScreen)
            .and_then(|()| Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? }));
        if entered.is_err() {
            give_back();
        }
        entered
    }

    /// Draws what differs from the last time.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// As it was. A terminal that is gone takes nothing back.
fn give_back() {
    _ = disable_raw_mode();
    _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    _ = io::stdout().flush();
}

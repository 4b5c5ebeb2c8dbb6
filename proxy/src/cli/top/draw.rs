//! Drawing: the state of the screen in, cells out.

mod detail;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell as Place, Clear, Paragraph, Row, Table, TableState};

use super::app::App;
use super::model::{Tab, View};
use super::sheet::{Column, Sheet};
use crate::cli::ask::{figure, printable, span};

/// How words look. Without colours everything is told by weight and place alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) colours: bool,
}

impl Theme {
    fn of(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// What names things.
    pub(super) fn label(self) -> Style {
        if self.colours { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }

    /// What should be seen first.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What somebody should look at.
    pub(super) fn alarm(self) -> Style {
        self.of(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// What is broken.
    pub(super) fn broken(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// What is well.
    pub(super) fn well(self) -> Style {
        self.of(Color::Green)
    }

    fn accent(self) -> Style {
        self.of(Color::Cyan)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Width of a column that takes what the others leave, at least.
const LEAST: u16 = 10;
/// Below this width the lists that are not shown are named by their numbers alone.
const NARROW: u16 = 57;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, theme: Theme) {
    let [head, tabs, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(headline(app, theme)), head);
    frame.render_widget(Paragraph::new(tab_line(app, theme, tabs.width < NARROW)), tabs);
    match app.detail.clone() {
        Some(shown) => detail::draw(frame, body, app, &shown, theme),
        None => list(frame, body, app, theme),
    }
    frame.render_widget(Paragraph::new(foot_line(app, theme)), foot);
    if app.help {
        help(frame, theme);
    }
}

/// Who it is and how it is; what all pools do.
fn headline(app: &App, theme: Theme) -> Vec<Line<'static>> {
    let Some(view) = app.view() else {
        let words = if app.trouble.is_some() { "" } else { "  asking …" };
        return vec![Line::from(vec![
            Span::styled("pgweir", theme.strong()),
            Span::from(format!("  {}{words}", app.address)),
        ])];
    };
    let told = &view.now;
    let mut first = vec![Span::styled("pgweir", theme.strong())];
    if let Some(version) = &told.version {
        first.push(Span::from(format!(" {}", version.version)));
    }
    first.push(Span::from(format!("  {}", app.address)));
    if let Some(version) = &told.version {
        first.push(Span::styled("  up ", theme.label()));
        first.push(Span::from(span(version.uptime_seconds)));
    }
    first.push(Span::from("  "));
    first.push(match &told.not_ready {
        None => Span::styled("ready", theme.well()),
        Some(reasons) => Span::styled(format!("not ready: {}", reasons.join(", ")), theme.broken()),
    });
    if app.paused {
        first.push(Span::styled("  paused", theme.alarm()));
    }
    vec![Line::from(first), totals(view, theme)]
}

fn totals(view: &View, theme: Theme) -> Line<'static> {
    let Some(pools) = &view.now.pools else { return Line::default() };
    let sum = |of: fn(&super::model::Pool) -> u64| pools.iter().map(of).sum::<u64>();
    let (waiting, used) = (sum(|pool| pool.clients.waiting), sum(|pool| pool.upstreams.active));
    let mut words = vec![
        Span::styled("clients ", theme.label()),
        Span::from(format!("{}, ", sum(|pool| pool.clients.total))),
        Span::styled(format!("{waiting} waiting"), if waiting > 0 { theme.alarm() } else { Style::new() }),
        Span::styled("  upstreams ", theme.label()),
        Span::from(format!("{used} of {} used", used + sum(|pool| pool.upstreams.idle))),
    ];
    if view.measured {
        words.push(Span::styled("  calls/s ", theme.label()));
        words.push(Span::styled(figure(view.all.calls), theme.strong()));
        words.push(Span::styled("  errors/s ", theme.label()));
        let errors = if view.all.errors > 0.0 { theme.alarm() } else { Style::new() };
        words.push(Span::styled(figure(view.all.errors), errors));
        words.push(Span::styled("  busy ", theme.label()));
        words.push(Span::from(figure(view.all.busy)));
    }
    Line::from(words)
}

fn tab_line(app: &App, theme: Theme, narrow: bool) -> Line<'static> {
    let mut words = Vec::new();
    for (number, tab) in (1..).zip(Tab::ALL) {
        let style = if tab == app.tab {
            theme.accent().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
        } else {
            theme.label()
        };
        let title = if narrow && tab != app.tab { number.to_string() } else { format!("{number} {}", tab.title()) };
        words.push(Span::styled(title, style));
        words.push(Span::from("  "));
    }
    if let Some((rows, of)) = app.view().and_then(|view| view.now.cut) {
        words.push(Span::styled(format!("first {rows} of {of}  "), theme.alarm()));
    }
    if !app.filter.is_empty() && !app.typing {
        words.push(Span::styled(format!("with “{}”", printable(&app.filter)), theme.alarm()));
    }
    Line::from(words)
}

fn foot_line(app: &App, theme: Theme) -> Line<'static> {
    if app.typing {
        return Line::from(vec![
            Span::styled("filter ", theme.label()),
            Span::styled(format!("{}▏", printable(&app.filter)), theme.strong()),
        ]);
    }
    if let Some(trouble) = &app.trouble {
        return Line::from(Span::styled(printable(trouble), theme.broken()));
    }
    let keys = if app.detail.is_some() {
        "Esc back  Space pause  ? help  q quit"
    } else {
        "↑↓ Enter look closer  / filter  s sort  r reverse  Space pause  ? help  q quit"
    };
    Line::from(Span::styled(keys, theme.label()))
}

/// The list of the tab.
fn list(frame: &mut Frame<'_>, area: Rect, app: &mut App, theme: Theme) {
    let sheet = app.sheet();
    let (order, reversed) = app.order();
    let fitting = fitting(sheet.columns, order, area.width);
    let header = fitting.iter().map(|(at, column, _)| {
        let at = *at;
        let mark = if reversed { "▴" } else { "▾" };
        let title = if at == order { format!("{}{mark}", column.title) } else { column.title.to_owned() };
        let style = if at == order { theme.accent() } else { theme.label() };
        let right = sheet.rows.first().and_then(|row| row.cells.get(at)).is_some_and(super::sheet::Cell::is_number);
        Place::from(Line::styled(title, style).alignment(if right { Alignment::Right } else { Alignment::Left }))
    });
    let rows = sheet.rows.iter().map(|row| {
        let style = if row.alarming { theme.alarm() } else { Style::new() };
        let cells = fitting.iter().filter_map(|(at, ..)| Some((*at, row.cells.get(*at)?)));
        Row::new(cells.map(|(at, cell)| {
            let side = if cell.is_number() { Alignment::Right } else { Alignment::Left };
            // The first column says which rows somebody should look at; the rest stays readable.
            let style = if at == 0 { style } else { Style::new() };
            Place::from(Line::styled(cell.shown(), style).alignment(side))
        }))
    });
    let widths = fitting.iter().map(|(_, column, width)| match column.width {
        0 => Constraint::Min(*width),
        _ => Constraint::Length(*width),
    });
    let table = Table::new(rows, widths).header(Row::new(header)).row_highlight_style(theme.selected());
    let mut state = TableState::new().with_offset(app.offset).with_selected(Some(app.selection(&sheet)));
    frame.render_stateful_widget(table, area, &mut state);
    app.offset = state.offset();
    if sheet.rows.is_empty() {
        nothing(frame, area, app, &sheet, theme);
    }
}

/// The columns that there is room for, with their places and widths: a figure that is cut is another figure. The last ones go
/// first; those that say what a row is, and by what it is sorted, stay.
fn fitting(columns: &[Column], order: usize, room: u16) -> Vec<(usize, Column, u16)> {
    let width = |at: usize, column: &Column| match column.width {
        0 => LEAST,
        // The mark of the order stands behind the title.
        width => width.max(column.title.chars().count() as u16 + u16::from(at == order)),
    };
    let mut fitting: Vec<_> = columns.iter().enumerate().map(|(at, column)| (at, *column, width(at, column))).collect();
    let taken = |all: &[(usize, Column, u16)]| all.iter().map(|(.., width)| width + 1).sum::<u16>().saturating_sub(1);
    while taken(&fitting) > room {
        let last = fitting.iter().rposition(|(at, column, _)| *at > 0 && *at != order && column.width > 0);
        let Some(last) = last else { break };
        fitting.remove(last);
    }
    fitting
}

fn nothing(frame: &mut Frame<'_>, area: Rect, app: &App, sheet: &Sheet, theme: Theme) {
    let words = match app.view() {
        _ if !sheet.rows.is_empty() => return,
        None => "",
        Some(_) if !app.filter.is_empty() => "nothing with this filter; Esc takes it away",
        Some(view) if app.tab == Tab::Pools && view.now.pools.is_none() => "the token does not open pools",
        Some(_) if app.tab == Tab::Findings => "no open finding",
        Some(_) => "nothing so far",
    };
    let below = Rect { y: area.y.saturating_add(2), height: area.height.saturating_sub(2).min(1), ..area };
    frame.render_widget(Paragraph::new(Span::styled(words, theme.label())).centered(), below);
}

const HELP: &[(&str, &str)] = &[
    ("1 … 5, Tab", "another list"),
    ("↑ ↓ PgUp PgDn g G", "another row"),
    ("Enter", "a statement or finding closely; a tenant's statements;"),
    ("", "a pool's clients"),
    ("Esc", "back, and the filter away"),
    ("/", "filter as you type: rows that hold all these words"),
    ("s S", "sort by the next column, by the one before"),
    ("r", "the other way round"),
    ("Space", "hold everything still, and go on"),
    ("q, Ctrl-C", "the end"),
    ("", ""),
    ("busy", "how many ran at once, on average since the last look"),
    ("calls/s", "since the last look; at first, of the last minute"),
    ("mean, p95", "since the proxy started, or its statistics were reset"),
];

fn help(frame: &mut Frame<'_>, theme: Theme) {
    let whole = frame.area();
    let (width, height) = (76.min(whole.width), (HELP.len() as u16 + 2).min(whole.height));
    let area = Rect { x: (whole.width - width) / 2, y: (whole.height - height) / 2, width, height };
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(key, meaning)| {
            Line::from(vec![Span::styled(format!("{key:<19}"), theme.strong()), Span::from(*meaning)])
        })
        .collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Help: any key closes it ")), area);
}

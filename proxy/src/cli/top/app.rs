//! What the screen shows and what keys do to it. No terminal, no clock, no sockets.

use std::collections::HashMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{List, Snapshot, Statement, Tab, View, Window};
use super::sheet::{Sheet, columns, usual_order};

/// The longest filter, in characters.
const MAX_FILTER: usize = 100;
/// Rows that a page key goes.
const PAGE: isize = 10;

/// The state of the screen.
#[derive(Debug)]
pub(super) struct App {
    /// Where the proxy is.
    pub(super) address: String,
    /// The list that is shown.
    pub(super) tab: Tab,
    /// What is typed goes to the filter.
    pub(super) typing: bool,
    /// What stands in it.
    pub(super) filter: String,
    /// Nothing new is shown.
    pub(super) paused: bool,
    /// The help is open.
    pub(super) help: bool,
    /// What is looked at more closely.
    pub(super) detail: Option<Detail>,
    /// Why there is nothing new.
    pub(super) trouble: Option<String>,
    /// The last look at each list.
    views: HashMap<Tab, View>,
    orders: HashMap<Tab, (usize, bool)>,
    selected: Option<String>,
    /// The first row on the screen.
    pub(super) offset: usize,
}

/// One thing, closely.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Detail {
    /// A statement of a tenant, and how it has run, once that is told.
    Statement { id: String, windows: Option<Vec<Window>> },
    /// A finding.
    Finding { id: String },
}

/// What a key asks for beyond the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    None,
    /// The end.
    Quit,
    /// The list of this tab, at once.
    Look(Tab),
    /// How a statement has run.
    History(String),
}

impl App {
    /// Shows a tab of a proxy that nothing is known of yet.
    pub(super) fn new(address: &str, tab: Tab, filter: &str) -> Self {
        Self {
            address: address.to_owned(),
            tab,
            typing: false,
            filter: filter.to_owned(),
            paused: false,
            help: false,
            detail: None,
            trouble: None,
            views: HashMap::new(),
            orders: HashMap::new(),
            selected: None,
            offset: 0,
        }
    }

    /// Takes a new look, unless it is paused.
    pub(super) fn take(&mut self, tab: Tab, snapshot: Snapshot) {
        self.trouble = None;
        if self.paused && self.views.contains_key(&tab) {
            return;
        }
        let before = self.views.remove(&tab).map(|view| view.now);
        self.views.insert(tab, View::new(snapshot, before.as_ref()));
    }

    /// Takes how a statement has run.
    pub(super) fn take_history(&mut self, fingerprint: &str, told: Vec<Window>) {
        if let Some(Detail::Statement { id, windows }) = &mut self.detail
            && id.starts_with(fingerprint)
        {
            *windows = Some(told);
        }
    }

    /// The last look at the list that is shown.
    pub(super) fn view(&self) -> Option<&View> {
        self.views.get(&self.tab)
    }

    /// The list as it is shown.
    pub(super) fn sheet(&self) -> Sheet {
        let (order, reversed) = self.order();
        match self.view() {
            Some(view) => Sheet::new(view, order, reversed, &self.filter),
            None => Sheet { columns: columns(self.tab), rows: Vec::new() },
        }
    }

    /// The column that the list is sorted by, and whether the other way round.
    pub(super) fn order(&self) -> (usize, bool) {
        self.orders.get(&self.tab).copied().unwrap_or_else(|| (usual_order(self.tab), false))
    }

    /// Sorts by a column.
    ///
    /// # Errors
    /// The list has none of this name.
    pub(super) fn sort_by(&mut self, name: &str) -> Result<(), String> {
        let names: Vec<&str> = columns(self.tab).iter().map(|column| column.title).collect();
        let at = names.iter().position(|known| known.eq_ignore_ascii_case(name));
        let at = at.ok_or_else(|| format!("--sort: there is no such column; use one of {}", names.join(", ")))?;
        self.orders.insert(self.tab, (at, false));
        Ok(())
    }

    /// The number of the selected row.
    pub(super) fn selection(&self, sheet: &Sheet) -> usize {
        let selected = self.selected.as_ref();
        selected.and_then(|id| sheet.rows.iter().position(|row| row.id == *id)).unwrap_or(0)
    }

    /// The statement that is looked at closely.
    pub(super) fn statement(&self, id: &str) -> Option<&Statement> {
        match &self.views.get(&Tab::Statements)?.now.list {
            List::Statements(all) => all.iter().find(|own| own.id() == id),
            _ => None,
        }
    }

    /// All tenants' rows of the same statement.
    pub(super) fn siblings(&self, fingerprint: &str) -> Vec<&Statement> {
        match self.views.get(&Tab::Statements).map(|view| &view.now.list) {
            Some(List::Statements(all)) => all.iter().filter(|own| own.fingerprint == fingerprint).collect(),
            _ => Vec::new(),
        }
    }

    /// Does what a key says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Wish::Quit;
        }
        if self.typing {
            return self.key_of_filter(key);
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Wish::Quit } else { Wish::None };
        }
        match key.code {
            KeyCode::Char('q') => Wish::Quit,
            KeyCode::Esc if self.detail.is_some() => self.close(),
            KeyCode::Esc => {
                self.filter.clear();
                Wish::None
            }
            KeyCode::Backspace | KeyCode::Left if self.detail.is_some() => self.close(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => {
                self.help = true;
                Wish::None
            }
            KeyCode::Char(' ' | 'p') => {
                self.paused = !self.paused;
                if self.paused { Wish::None } else { Wish::Look(self.tab) }
            }
            KeyCode::Char('/') => {
                (self.typing, self.detail) = (true, None);
                Wish::None
            }
            KeyCode::Char(digit @ '1'..='5') => {
                let at = digit as usize - '1' as usize;
                self.turn_to(Tab::ALL.get(at).copied().unwrap_or(self.tab))
            }
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Tab::ALL.len() - 1),
            KeyCode::Enter | KeyCode::Right if self.detail.is_none() => self.open(),
            _ if self.detail.is_none() => self.key_of_list(key.code),
            _ => Wish::None,
        }
    }

    fn key_of_filter(&mut self, key: KeyEvent) -> Wish {
        match key.code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => self.filter.clear(),
            KeyCode::Char(letter) if self.filter.chars().count() < MAX_FILTER && !letter.is_control() => {
                self.filter.push(letter);
            }
            KeyCode::Down | KeyCode::Up => {
                self.typing = false;
                return self.key_of_list(key.code);
            }
            _ => {}
        }
        Wish::None
    }

    fn key_of_list(&mut self, code: KeyCode) -> Wish {
        match code {
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Char('s' | '>') => self.sort_next(1),
            KeyCode::Char('S' | '<') => self.sort_next(columns(self.tab).len() - 1),
            KeyCode::Char('r') => {
                let (order, reversed) = self.order();
                self.orders.insert(self.tab, (order, !reversed));
            }
            _ => {}
        }
        Wish::None
    }

    fn sort_next(&mut self, by: usize) {
        let (order, reversed) = self.order();
        let count = columns(self.tab).len();
        let next = if order < count { (order + by) % count } else { 0 };
        self.orders.insert(self.tab, (next, reversed));
    }

    fn go(&mut self, by: isize) {
        let sheet = self.sheet();
        let last = sheet.rows.len().saturating_sub(1);
        let next = self.selection(&sheet).saturating_add_signed(by).min(last);
        self.selected = sheet.rows.get(next).map(|row| row.id.clone());
    }

    fn turn(&mut self, by: usize) -> Wish {
        let at = Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or(0);
        self.turn_to(Tab::ALL.get((at + by) % Tab::ALL.len()).copied().unwrap_or(self.tab))
    }

    fn turn_to(&mut self, tab: Tab) -> Wish {
        (self.tab, self.detail, self.selected, self.offset) = (tab, None, None, 0);
        Wish::Look(tab)
    }

    /// Shows another list without asking for it.
    #[cfg(test)]
    pub(super) fn turn_for_test(&mut self, tab: Tab) {
        _ = self.turn_to(tab);
    }

    fn close(&mut self) -> Wish {
        self.detail = None;
        Wish::None
    }

    /// Looks at the selected row more closely: at the statement or finding itself, at a tenant's statements, at a pool's
    /// clients, at what a client's tenant runs.
    fn open(&mut self) -> Wish {
        let sheet = self.sheet();
        let Some(row) = sheet.rows.get(self.selection(&sheet)) else { return Wish::None };
        let id = row.id.clone();
        self.selected = Some(id.clone());
        let told = self.view().map(|view| &view.now);
        match told.map(|told| &told.list) {
            Some(List::Statements(_)) => {
                let fingerprint = id.split(' ').next().unwrap_or_default().to_owned();
                self.detail = Some(Detail::Statement { id, windows: None });
                return Wish::History(fingerprint);
            }
            Some(List::Findings(_)) => self.detail = Some(Detail::Finding { id }),
            Some(List::Tenants(_)) => return self.filtered(Tab::Statements, id),
            Some(List::Pools) => {
                let (database, user) = id.split_once('/').unwrap_or((&id, ""));
                return self.filtered(Tab::Clients, format!("{user}/{database}"));
            }
            Some(List::Clients(all)) => {
                let tenant = all.iter().find(|own| own.id.to_string() == id).map(|own| own.tenant.clone());
                return self.filtered(Tab::Statements, tenant.unwrap_or_default());
            }
            None => {}
        }
        Wish::None
    }

    fn filtered(&mut self, tab: Tab, filter: String) -> Wish {
        self.filter = filter;
        self.turn_to(tab)
    }
}

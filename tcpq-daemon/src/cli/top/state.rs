//! What is shown, and what a key or a reading makes of it. Pure.

use std::collections::HashMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::{
    cli::top::model::{self, History, Key, Order, Reading, Row, Turned},
    model::incident::record::Summary,
};

/// Which part of the screen keys go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    Listeners,
    Incidents,
    Listener(Key),
    /// An incident's screen, as `tcpq incidents show` has it, or why there is none.
    Incident {
        text: String,
        line: usize,
    },
    Help,
}

/// What has to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    End,
    /// Fetch an incident and show it.
    Incident(String),
}

/// Whether the picture goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Motion {
    Goes,
    Held,
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) view: View,
    pub(super) order: Order,
    pub(super) turned: Turned,
    pub(super) motion: Motion,
    /// What names have to hold.
    pub(super) text: String,
    /// Keys go to `text`.
    pub(super) types: bool,
    /// The row that is chosen, by its key: rows move.
    pub(super) chosen: Option<Key>,
    pub(super) chosen_incident: usize,
    pub(super) rows: Vec<Row>,
    pub(super) incidents: Vec<Summary>,
    pub(super) histories: HashMap<Key, History>,
    /// Why there is nothing new.
    pub(super) trouble: Option<String>,
    /// Rows that fit on the screen: what a page is.
    pub(super) page: usize,
    /// The incident that was wished for and has not come yet.
    awaited: Option<String>,
    /// Where an incident was opened.
    from: View,
    last: Option<Reading>,
    unarranged: Vec<Row>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            view: View::Listeners,
            order: Order::Trouble,
            turned: Turned::Forwards,
            motion: Motion::Goes,
            text: String::new(),
            types: false,
            chosen: None,
            chosen_incident: 0,
            rows: Vec::new(),
            incidents: Vec::new(),
            histories: HashMap::new(),
            trouble: None,
            page: 10,
            awaited: None,
            from: View::Listeners,
            last: None,
            unarranged: Vec::new(),
        }
    }

    /// A reading, or why there is none.
    pub(super) fn read(&mut self, reading: Result<Reading, String>) {
        match reading {
            Ok(reading) => {
                self.trouble = None;
                let rows = model::rows(self.last.as_ref(), &reading);
                // Plots are of every reading, also while the picture is held.
                let mut histories = HashMap::with_capacity(rows.len());
                for row in &rows {
                    let mut history = self.histories.remove(&row.key).unwrap_or_default();
                    history.add(row);
                    histories.insert(row.key.clone(), history);
                }
                self.histories = histories;
                if let Err(error) = &reading.incidents {
                    self.trouble = Some(format!("no incidents: {error}"));
                }
                if self.motion == Motion::Goes {
                    self.incidents = reading.incidents.clone().unwrap_or_default();
                    self.unarranged = rows;
                    self.arrange();
                }
                self.last = Some(reading);
            }
            Err(error) => {
                self.trouble = Some(error);
                // What comes next may be another daemon's, and its counters begin anew.
                self.last = None;
            }
        }
    }

    /// The text of an incident. Who has gone on meanwhile does not get it any more.
    pub(super) fn show(&mut self, id: &str, text: String) {
        if self.awaited.take_if(|awaited| awaited == id).is_some() {
            self.view = View::Incident { text, line: 0 };
        }
    }

    /// Where the chosen row is.
    pub(super) fn place(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.rows.iter().position(|row| row.key == *chosen)
    }

    /// The row of a listener, if it is still there.
    pub(super) fn row(&self, key: &Key) -> Option<&Row> {
        self.unarranged.iter().find(|row| row.key == *key)
    }

    /// A key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Wish::End);
        }
        self.awaited = None;
        if self.types {
            self.typed(key.code);
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::End),
            KeyCode::Char('?') | KeyCode::F(1) => self.view = View::Help,
            KeyCode::Char(' ') => {
                self.motion = match self.motion {
                    Motion::Goes => Motion::Held,
                    Motion::Held => Motion::Goes,
                };
            }
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.arrange();
            }
            KeyCode::Char('r') => {
                self.turned = match self.turned {
                    Turned::Forwards => Turned::Round,
                    Turned::Round => Turned::Forwards,
                };
                self.arrange();
            }
            KeyCode::Char('/') => {
                self.view = View::Listeners;
                self.types = true;
            }
            KeyCode::Esc | KeyCode::Backspace => self.back(),
            KeyCode::Tab | KeyCode::BackTab => {
                self.view = match self.view {
                    View::Listeners => View::Incidents,
                    _ => View::Listeners,
                };
            }
            KeyCode::Enter => return self.open(),
            KeyCode::Char('i') => return self.incident_of_listener(),
            code => self.go(code),
        }
        None
    }

    fn typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.types = false,
            KeyCode::Esc => {
                self.types = false;
                self.text.clear();
            }
            KeyCode::Backspace => drop(self.text.pop()),
            KeyCode::Char(c) => self.text.push(c),
            _ => {}
        }
        self.arrange();
    }

    fn back(&mut self) {
        if self.view == View::Listeners {
            self.text.clear();
            self.arrange();
        }
        self.view = match self.view {
            View::Incident { .. } => self.from.clone(),
            _ => View::Listeners,
        };
    }

    fn open(&mut self) -> Option<Wish> {
        match &self.view {
            View::Listeners => {
                let row = self.rows.get(self.place().unwrap_or(0))?;
                self.view = View::Listener(row.key.clone());
                None
            }
            View::Incidents => {
                let id = self.incidents.get(self.chosen_incident)?.id.to_string();
                Some(self.wish(id))
            }
            View::Listener(_) => self.incident_of_listener(),
            View::Incident { .. } | View::Help => None,
        }
    }

    fn wish(&mut self, id: String) -> Wish {
        self.awaited = Some(id.clone());
        self.from = self.view.clone();
        Wish::Incident(id)
    }

    fn incident_of_listener(&mut self) -> Option<Wish> {
        let row = match &self.view {
            View::Listener(key) => self.row(key),
            View::Listeners => self.rows.get(self.place().unwrap_or(0)),
            _ => None,
        };
        let id = row?.incident.as_ref()?.id.to_string();
        Some(self.wish(id))
    }

    fn go(&mut self, code: KeyCode) {
        let page = self.page.max(1);
        let to = |from: usize, count: usize| {
            let last = count.saturating_sub(1);
            let place = match code {
                KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
                KeyCode::Down | KeyCode::Char('j') => from.saturating_add(1),
                KeyCode::PageUp => from.saturating_sub(page),
                KeyCode::PageDown => from.saturating_add(page),
                KeyCode::Home | KeyCode::Char('g') => 0,
                KeyCode::End | KeyCode::Char('G') => last,
                _ => from,
            };
            place.min(last)
        };
        match &mut self.view {
            View::Listeners => {
                let place = to(self.place().unwrap_or(0), self.rows.len());
                self.chosen = self.rows.get(place).map(|row| row.key.clone());
            }
            View::Incidents => {
                self.chosen_incident = to(self.chosen_incident, self.incidents.len());
            }
            View::Incident { text, line, .. } => *line = to(*line, text.lines().count()),
            View::Listener(_) | View::Help => {}
        }
    }

    fn arrange(&mut self) {
        self.rows = model::arrange(self.unarranged.clone(), self.order, self.turned, &self.text);
        if self.chosen.is_some() && self.place().is_none() {
            self.chosen = None;
        }
        self.chosen_incident = self.chosen_incident.min(self.incidents.len().saturating_sub(1));
    }
}

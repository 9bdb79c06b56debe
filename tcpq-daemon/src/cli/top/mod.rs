//! `tcpq top`: the listeners live, on the whole screen.

pub(super) mod args;
mod feed;
mod model;
mod render;
mod state;
mod terminal;

use std::{
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    time::Duration,
};

use anyhow::{Context as _, bail};
use ratatui::crossterm::event::{self, Event};

use crate::cli::{
    ask::Daemon,
    top::{
        args::TopArgs,
        feed::{Feed, Message},
        state::{State, Wish},
        terminal::Screen,
    },
};

/// How long a key or an answer may wait to be seen.
const GLANCE: Duration = Duration::from_millis(50);

/// Answers that wait to be seen; who asks waits for more.
const ANSWERS: usize = 8;

pub(super) fn run(args: &TopArgs) -> anyhow::Result<()> {
    // That there is no daemon is told before the screen is taken.
    Daemon::new(&args.ask)?.get::<serde_json::Value>("/api/v1/listeners")?;
    let (tell, told) = sync_channel(ANSWERS);
    let feed = Feed::start(args, tell)?;
    let mut screen = Screen::take()?;
    let mut state = State::new();
    let mut picture = Picture::Old;
    loop {
        if picture == Picture::Old {
            screen
                .terminal
                .draw(|frame| render::draw(frame, &mut state))
                .context("the terminal cannot be written to")?;
        }
        picture = Picture::Fresh;
        if event::poll(GLANCE).context("the terminal cannot be read")? {
            // A key, or another size.
            picture = Picture::Old;
            if let Event::Key(key) = event::read().context("the terminal cannot be read")? {
                match state.press(key) {
                    Some(Wish::End) => return Ok(()),
                    Some(Wish::Incident(id)) => feed.ask(id),
                    None => {}
                }
            }
        }
        match take(&told, &mut state) {
            Goes::On => {}
            Goes::Anew => picture = Picture::Old,
            Goes::No => return Ok(()),
            Goes::Wrong => bail!("the daemon is not asked any more; this is a defect of tcpq"),
        }
    }
}

/// Whether what is on the screen is what there is to show.
#[derive(PartialEq, Eq)]
enum Picture {
    Old,
    Fresh,
}

enum Goes {
    /// Nothing was told.
    On,
    /// Something was.
    Anew,
    No,
    /// Who asks has ended by itself.
    Wrong,
}

fn take(told: &Receiver<Message>, state: &mut State) -> Goes {
    let mut goes = Goes::On;
    loop {
        match told.try_recv() {
            Ok(Message::Reading(reading)) => state.read(reading),
            Ok(Message::Incident { id, text }) => state.show(&id, text),
            Ok(Message::End) => return Goes::No,
            Err(TryRecvError::Disconnected) => return Goes::Wrong,
            Err(TryRecvError::Empty) => return goes,
        }
        goes = Goes::Anew;
    }
}

#[cfg(test)]
mod tests;

//! The terminal: taken over, and given back as it was, however the command ends.

use std::{
    io::{self, IsTerminal as _, Stdout},
    panic,
    sync::Once,
};

use anyhow::{Context as _, bail};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

/// A terminal that is taken over; given back when dropped.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes it over.
    pub(super) fn take() -> anyhow::Result<Self> {
        static HOOK: Once = Once::new();
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            bail!(
                "top needs a terminal for its input and output; `tcpq list` prints the same once, \
                 and `tcpq list --json` for programs"
            );
        }
        HOOK.call_once(|| {
            let usual = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                // The message is to be read on the usual screen.
                give_back();
                usual(panic);
            }));
        });
        enable_raw_mode().context("the terminal cannot be taken over")?;
        if let Err(error) = execute!(io::stdout(), EnterAlternateScreen) {
            give_back();
            return Err(error).context("the terminal cannot be taken over");
        }
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let terminal = terminal.inspect_err(|_| give_back());
        Ok(Self { terminal: terminal.context("the terminal's size is not known")? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Best effort: there is nowhere to say that it failed.
fn give_back() {
    drop(disable_raw_mode());
    drop(execute!(io::stdout(), LeaveAlternateScreen, Show));
}

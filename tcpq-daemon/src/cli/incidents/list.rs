//! Incidents as a table.

use jiff::tz::TimeZone;

use crate::{
    cli::{
        incidents::when,
        list::columns::endpoint,
        table::{table as new_table, text},
    },
    model::{
        incident::record::{ListenerName, State, Summary},
        text::printable,
    },
};

const COLUMNS: [&str; 8] =
    ["ID", "BEGAN", "LASTED", "LISTENER", "PROCESS", "VERDICT", "OVERFLOWS", "DROPS"];

/// The newest first.
pub(super) fn table(incidents: &[Summary], zone: &TimeZone) -> String {
    if incidents.is_empty() {
        return "no incidents\n".to_owned();
    }
    let mut table = new_table(&COLUMNS);
    for it in incidents {
        let lasted = when::lasted(it.last.since(it.opened));
        let sure = it.confidence.map_or_else(String::new, |it| format!(" ({})", it.name()));
        table.add_row([
            it.id.to_string(),
            when::full(it.opened, zone),
            match it.state {
                State::Closed => lasted,
                State::Open | State::Interrupted => format!("{lasted} {}", it.state.name()),
            },
            listener(&it.listener),
            it.process.as_deref().map_or_else(|| "-".to_owned(), printable),
            format!("{}{sure}", it.cause.name()),
            it.overflows.to_string(),
            it.drops.map_or_else(|| "-".to_owned(), |drops| drops.to_string()),
        ]);
    }
    text(&table)
}

/// `0.0.0.0:80`, with its namespace where that is not the host's.
pub(in crate::cli) fn listener(name: &ListenerName) -> String {
    let ListenerName { netns, address, port } = name;
    let address = printable(address);
    let place = match port.parse() {
        Ok(port) => endpoint(&address, port),
        // Of many ports: the name says so.
        Err(_) if address == *port => address,
        Err(_) => format!("{address} {}", printable(port)),
    };
    if netns == "host" { place } else { format!("{place} in {}", printable(netns)) }
}

//! The time-line of an incident: what each second was like.

use serde::{Deserialize, Serialize};

use crate::model::{group::Queue, incident::moment::Moment};

/// What a flight recorder keeps of one reading of a group. All counts are of the time since
/// the reading before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// When the reading was.
    pub at: Moment,
    /// Time since the one before. Unit: milliseconds.
    pub span_ms: u64,
    /// Sum of the accept queues at the reading.
    pub accept_queue: Queue,
    /// How full the fullest socket's accept queue was, in thousandths of its limit + 1.
    pub accept_fill: u64,
    /// Sum of the SYN queues at the reading.
    pub syn_queue: Queue,
    /// Overflows at the SYN.
    pub overflows_syn: u64,
    /// At the final ACK.
    pub overflows_ack: u64,
    /// At a SYN cookie's ACK.
    pub overflows_cookie: u64,
    /// ListenDrops, overflows included, SYNs that were not unicast excluded.
    pub drops: u64,
    /// SYN cookies sent.
    pub cookies_sent: u64,
    /// Connections that entered the accept queue.
    pub enqueued: u64,
    /// Connections that accept() took.
    pub accepts: u64,
    /// Waits for accept() that were measured.
    pub waits: u64,
    /// Their sum. Unit: microseconds.
    pub waited_us: u64,
    /// The cell of the histogram that 99 of 100 of them do not exceed.
    pub wait_p99_cell: u64,
}

impl Second {
    /// Overflows at all stages.
    pub const fn overflows(&self) -> u64 {
        self.overflows_syn + self.overflows_ack + self.overflows_cookie
    }

    /// Whatever was refused: overflows, and drops for another reason.
    pub const fn refused(&self) -> u64 {
        let overflows = self.overflows();
        if self.drops > overflows { self.drops } else { overflows }
    }

    /// Whether nothing happened and nothing waited.
    pub fn is_idle(&self) -> bool {
        let Self { at: _, span_ms: _, accept_queue, accept_fill: _, syn_queue, .. } = *self;
        let Self { overflows_syn, overflows_ack, overflows_cookie, drops, cookies_sent, .. } =
            *self;
        let Self { enqueued, accepts, waits, waited_us: _, wait_p99_cell: _, .. } = *self;
        let queued = accept_queue.length + syn_queue.length;
        let refused = overflows_syn + overflows_ack + overflows_cookie + drops;
        queued + refused + cookies_sent + enqueued + accepts + waits == 0
    }

    /// All of it as numbers.
    pub const fn numbers(&self) -> [u64; COLUMNS] {
        [
            self.at.0,
            self.span_ms,
            self.accept_queue.length,
            self.accept_queue.limit,
            self.accept_fill,
            self.syn_queue.length,
            self.syn_queue.limit,
            self.overflows_syn,
            self.overflows_ack,
            self.overflows_cookie,
            self.drops,
            self.cookies_sent,
            self.enqueued,
            self.accepts,
            self.waits,
            self.waited_us,
            self.wait_p99_cell,
        ]
    }

    /// From such numbers.
    pub const fn from_numbers(columns: [u64; COLUMNS]) -> Self {
        let [
            at,
            span_ms,
            accept_length,
            accept_limit,
            accept_fill,
            syn_length,
            syn_limit,
            overflows_syn,
            overflows_ack,
            overflows_cookie,
            drops,
            cookies_sent,
            enqueued,
            accepts,
            waits,
            waited_us,
            wait_p99_cell,
        ] = columns;
        Self {
            at: Moment(at),
            span_ms,
            accept_queue: Queue { length: accept_length, limit: accept_limit },
            accept_fill,
            syn_queue: Queue { length: syn_length, limit: syn_limit },
            overflows_syn,
            overflows_ack,
            overflows_cookie,
            drops,
            cookies_sent,
            enqueued,
            accepts,
            waits,
            waited_us,
            wait_p99_cell,
        }
    }
}

/// Numbers in a [`Second`].
pub const COLUMNS: usize = 17;

/// Names of the columns in JSON.
const NAMES: [&str; COLUMNS] = [
    "at",
    "span_ms",
    "accept_queue_length",
    "accept_queue_limit",
    "accept_queue_fill_permille",
    "syn_queue_length",
    "syn_queue_limit",
    "overflows_syn",
    "overflows_ack",
    "overflows_cookie",
    "drops",
    "cookies_sent",
    "enqueued",
    "accepts",
    "waits",
    "waited_us",
    "wait_p99_cell",
];

/// Seconds in the order of time. Those in which nothing happened and nothing waited are left
/// out. In JSON it is a table: `columns` are its columns' names, `rows` its rows; the first
/// column is milliseconds since 1970, in each row but the first the difference to the one
/// before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(into = "Table", try_from = "Table")]
pub struct Timeline {
    /// The seconds.
    pub seconds: Vec<Second>,
}

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<u64>>,
}

impl From<Timeline> for Table {
    fn from(timeline: Timeline) -> Self {
        let mut before = 0;
        let mut row = |second: &Second| {
            let mut row = second.numbers();
            row[0] = second.at.0.saturating_sub(before);
            before = second.at.0;
            row.to_vec()
        };
        Self {
            columns: NAMES.map(str::to_owned).to_vec(),
            rows: timeline.seconds.iter().map(&mut row).collect(),
        }
    }
}

impl TryFrom<Table> for Timeline {
    type Error = String;

    /// Columns of another version that are not known are left out; those it lacks are 0.
    fn try_from(table: Table) -> Result<Self, String> {
        let place = |name: &String| NAMES.iter().position(|known| known == name);
        let places: Vec<_> = table.columns.iter().map(place).collect();
        let mut at: u64 = 0;
        let mut seconds = Vec::with_capacity(table.rows.len());
        for row in table.rows {
            if row.len() != places.len() {
                return Err(format!("{} figures in {} columns", row.len(), places.len()));
            }
            let mut columns = [0; COLUMNS];
            for (place, figure) in places.iter().zip(row) {
                if let Some(column) = place.and_then(|place| columns.get_mut(place)) {
                    *column = figure;
                }
            }
            at = at.saturating_add(columns[0]);
            columns[0] = at;
            seconds.push(Second::from_numbers(columns));
        }
        Ok(Self { seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_line_is_read_as_it_was_written() {
        let second = |at| Second { at: Moment(at), span_ms: 1000, accepts: 7, ..Second::default() };
        let timeline = Timeline { seconds: vec![second(5000), second(6001)] };
        let text = serde_json::to_string(&timeline).unwrap();
        assert!(text.contains("[1001,1000,"), "{text}");
        assert_eq!(serde_json::from_str::<Timeline>(&text).unwrap(), timeline);
    }

    #[test]
    fn columns_of_another_version_do_no_harm() {
        let text = r#"{"columns":["at","news","accepts"],"rows":[[5,9,1],[2,9,3]]}"#;
        let timeline: Timeline = serde_json::from_str(text).unwrap();
        let told: Vec<_> = timeline.seconds.iter().map(|it| (it.at.0, it.accepts)).collect();
        assert_eq!(told, [(5, 1), (7, 3)]);
        assert!(serde_json::from_str::<Timeline>(r#"{"columns":["at"],"rows":[[]]}"#).is_err());
    }
}

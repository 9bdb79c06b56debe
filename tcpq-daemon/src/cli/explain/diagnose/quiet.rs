//! Nothing happens now: what was before, and what is good to know.

use crate::{
    cli::{
        ask::Source,
        explain::{
            diagnose::{Case, Finding, Found, drops::other_drops, seconds},
            evidence::Figures,
        },
    },
    serve::api::{ListenerDto, OverflowsDto},
};

impl Case<'_> {
    /// What the counters have from before.
    pub(super) fn before(&self) -> Option<Found> {
        let total = self.total.as_ref()?;
        let overflows = total.overflows.total().unwrap_or(0);
        let none_in = |quiet: fn(&Figures) -> Option<u64>| {
            let window = self.evidence.window.as_ref().filter(|it| quiet(&it.change) == Some(0));
            window.map_or_else(String::new, |it| {
                format!(", none in the last {}", seconds(it.seconds))
            })
        };
        if overflows > 0 {
            let live = &self.evidence.listener.members;
            let of_live: Option<u64> =
                live.iter().map(|it| it.overflows.and_then(OverflowsDto::total)).sum();
            let gone = !live.is_empty() && of_live == Some(0);
            let mut because = vec![format!(
                "{overflows} overflows since it is watched{}",
                none_in(|it| it.overflows.total())
            )];
            if gone {
                because.push("all of them at sockets that have closed since".into());
            }
            because.extend(self.who_set_it());
            because.push(
                "whether the program paused or a burst was too long is unknown: ask again while it \
                 overflows"
                    .into(),
            );
            return Some(Found {
                finding: Finding::OverflowedBefore,
                because,
                advice: self
                    .limit
                    .as_ref()
                    .filter(|_| !gone)
                    .map(|limit| self.adviser.raise(limit)),
            });
        }
        let [full, pressure] = ["queue_full", "backlog_pressure"].map(|it| total.syn_drops(it));
        let off = self.evidence.settings.as_ref().is_some_and(|it| it.tcp_syncookies == 0);
        if full + pressure > 0 {
            let mut because = self.syn_drops(full, pressure);
            if !off {
                because.pop();
            }
            return Some(Found {
                finding: Finding::DroppedBefore,
                because,
                advice: off.then(|| self.adviser.turn_cookies_on()),
            });
        }
        let harmless = total.syn_drops("not_unicast");
        let drops = total.listen_drops.filter(|drops| *drops > harmless)?;
        let all = format!("{drops} drops since it is watched{}", none_in(|it| it.listen_drops));
        Some(Found {
            finding: Finding::DroppedBefore,
            because: [vec![all], other_drops(total)].concat(),
            advice: None,
        })
    }

    pub(super) fn nothing(&self) -> Found {
        let finding = match &self.total {
            None => Finding::NothingWrongNow,
            Some(total) if total.overflows.total().is_none() => Finding::CannotTell,
            Some(_) => Finding::NothingWrong,
        };
        let because = match finding {
            Finding::NothingWrong => {
                let harmless = self.total.as_ref().map_or(0, |it| it.syn_drops("not_unicast"));
                match harmless {
                    0 => vec!["no overflow and no drop since it is watched".into()],
                    _ => vec![format!(
                        "no overflow since it is watched; the {harmless} SYNs that were dropped had \
                         a broadcast or multicast address"
                    )],
                }
            }
            Finding::NothingWrongNow => {
                vec!["no queue is full; `tcpq serve` counts what happens between two looks".into()]
            }
            _ => Vec::new(),
        };
        Found { finding, because, advice: None }
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let ListenerDto { overflows, accepts, accept_errors, syn_drops, .. } =
            &self.evidence.listener;
        let mut notes: Vec<_> = self.failed_before().into_iter().collect();
        if let Some(settings) = &self.evidence.settings {
            let netns = self.adviser.netns();
            if settings.tcp_abort_on_overflow != 0 {
                notes.push(format!(
                    "tcp_abort_on_overflow is on in {netns}: who is refused at the final ACK gets a \
                     RST instead of another try"
                ));
            }
            if settings.tcp_syncookies == 0 {
                notes.push(format!("SYN cookies are off in {netns}: a full SYN queue drops SYNs"));
            }
        } else {
            notes.push("the settings of its namespace are unknown".into());
        }
        if self.evidence.source == Source::Daemon {
            let OverflowsDto { syn, ack, cookie } = overflows.unwrap_or_default();
            let missing: Vec<_> = [
                ("overflows at the SYN", syn.is_none()),
                ("overflows at the final ACK", ack.is_none()),
                ("overflows at a SYN cookie's ACK", cookie.is_none()),
                ("accepts", accepts.is_none()),
                ("errors of accept()", accept_errors.is_none()),
                ("reasons of drops", syn_drops.is_none()),
            ]
            .into_iter()
            .filter_map(|(what, missing)| missing.then_some(what))
            .collect();
            if !missing.is_empty() {
                notes.push(format!("not told here: {} (tcpq doctor says why)", missing.join(", ")));
            }
            if self.evidence.window.is_none() && self.evidence.listener.sockets > 0 {
                notes.push("rates are unknown: its counters began anew between two looks".into());
            }
        }
        notes
    }
}

//! Which limit a listener has, and who set it.

use serde::{Deserialize, Serialize};

/// One socket's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limit {
    /// What is in force; the queue holds one more.
    pub effective: u64,
    /// What listen() was asked for, if that is known. Below 0 it means as much as is allowed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requested: Option<i32>,
    /// `net.core.somaxconn` of the namespace now, if that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub somaxconn: Option<u32>,
    /// What made it so.
    pub set_by: SetBy,
}

/// What makes the limit as low as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SetBy {
    /// The program asked for no more.
    Program,
    /// It asked for more than `net.core.somaxconn`.
    Somaxconn,
    /// It asked for more than `net.core.somaxconn` was when it called listen().
    SomaxconnAtListen,
    /// It asked for exactly `net.core.somaxconn`.
    Both,
    /// What it asked for is not known.
    Unknown,
}

impl Limit {
    /// `inet_listen()` takes the smaller of what is asked for, as an unsigned number, and
    /// `net.core.somaxconn` at that moment.
    pub fn new(effective: u64, requested: Option<i32>, somaxconn: Option<u32>) -> Self {
        let allowed = somaxconn.map(u64::from);
        let set_by = match requested.map(|asked| u64::from(asked.cast_unsigned())) {
            Some(asked) if asked > effective && allowed == Some(effective) => SetBy::Somaxconn,
            Some(asked) if asked > effective => SetBy::SomaxconnAtListen,
            Some(asked) if asked == effective && allowed == Some(effective) => SetBy::Both,
            Some(asked) if asked == effective => SetBy::Program,
            // The limit changed since: what is known of listen() no longer holds.
            Some(_) | None => SetBy::Unknown,
        };
        Self { effective, requested, somaxconn, set_by }
    }

    /// Who set it, in one sentence.
    pub fn sentence(&self, program: &str, netns: &str) -> String {
        let Self { effective, requested, somaxconn, set_by } = *self;
        let asked = match requested {
            Some(asked @ ..0) => format!("{asked}, as much as is allowed"),
            Some(asked) => asked.to_string(),
            None => "an unknown backlog".to_owned(),
        };
        let setting = format!("net.core.somaxconn of {netns}");
        match (set_by, somaxconn) {
            (SetBy::Program, Some(allowed)) if u64::from(allowed) > effective => format!(
                "{program} asked listen() for {asked}; {setting} would allow {allowed}{}",
                default(allowed)
            ),
            (SetBy::Program, _) => format!("{program} asked listen() for {asked}"),
            (SetBy::Somaxconn, allowed) => format!(
                "{program} asked listen() for {asked}, {setting} clipped it to {effective}{}",
                allowed.map_or("", default)
            ),
            (SetBy::SomaxconnAtListen, allowed) => format!(
                "{program} asked listen() for {asked}, {setting} clipped it to {effective} at that \
                 time{}",
                allowed.map_or_else(String::new, |allowed| format!("; it is {allowed} now"))
            ),
            (SetBy::Both, allowed) => format!(
                "{program} asked listen() for {asked}, which is {setting}, too{}",
                allowed.map_or("", default)
            ),
            (SetBy::Unknown, Some(allowed)) if u64::from(allowed) == effective => format!(
                "what {program} asked listen() for is unknown; {setting} is {allowed}, too{}",
                default(allowed)
            ),
            (SetBy::Unknown, Some(allowed)) => format!(
                "what {program} asked listen() for is unknown; {setting} is {allowed}{} now",
                default(allowed)
            ),
            (SetBy::Unknown, None) => {
                format!("what {program} asked listen() for is unknown, and so is {setting}")
            }
        }
    }
}

/// Every namespace begins with the kernel's default, whatever the host has.
const fn default(somaxconn: u32) -> &'static str {
    match somaxconn {
        4096 => " (the default)",
        128 => " (the default before Linux 5.4)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_set_it() {
        for (effective, requested, somaxconn, set_by) in [
            (5, Some(5), Some(4096), SetBy::Program),
            (5, Some(5), None, SetBy::Program),
            (0, Some(0), Some(4096), SetBy::Program),
            (511, Some(511), Some(128), SetBy::Program),
            (128, Some(511), Some(128), SetBy::Somaxconn),
            (4096, Some(-1), Some(4096), SetBy::Somaxconn),
            (128, Some(511), Some(4096), SetBy::SomaxconnAtListen),
            (128, Some(511), None, SetBy::SomaxconnAtListen),
            (4096, Some(4096), Some(4096), SetBy::Both),
            (128, None, Some(128), SetBy::Unknown),
            (128, Some(5), Some(128), SetBy::Unknown),
        ] {
            let limit = Limit::new(effective, requested, somaxconn);
            assert_eq!(limit.set_by, set_by, "{limit:?}");
        }
    }

    #[test]
    fn both_figures_and_the_setting_are_named() {
        let said = Limit::new(128, Some(511), Some(128)).sentence("node", "web1");
        assert_eq!(
            said,
            "node asked listen() for 511, net.core.somaxconn of web1 clipped it to 128 (the \
             default before Linux 5.4)"
        );
        let said = Limit::new(5, Some(5), Some(4096)).sentence("python3", "host");
        assert_eq!(
            said,
            "python3 asked listen() for 5; net.core.somaxconn of host would allow 4096 (the \
             default)"
        );
        let said = Limit::new(4096, Some(-1), Some(4096)).sentence("envoy", "host");
        assert!(said.contains("-1, as much as is allowed"), "{said}");
    }
}

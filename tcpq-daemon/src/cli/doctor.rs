//! `tcpq doctor`: facts and plan.

use std::io::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    app::look,
    cli::{
        args::DoctorArgs,
        list,
        table::{table, text},
    },
    kernel::{
        attach::Limits,
        facts::{CpuOffsets, KernelFacts},
        privilege,
    },
    model::{
        audit::NetnsAudit,
        hooks::SignalPlan,
        self_test::{SelfTest, Wish},
    },
    serve::{
        api::ListenersDto,
        client::{self, ClientError, Endpoint},
    },
};

/// The JSON form; a contract.
#[derive(Debug, Serialize)]
struct Report<'a> {
    kernel: Kernel,
    /// Of this command; the daemon's are in its log.
    missing_privileges: Vec<Lacking>,
    self_test: Tested,
    /// The kernel's own counters beside the daemon's, if one is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Vec<NetnsAudit>>,
    signals: &'a [SignalPlan],
}

/// A privilege that this command lacks.
#[derive(Debug, Serialize)]
struct Lacking {
    name: &'static str,
    without: &'static str,
}

/// What a running daemon says.
struct Daemon {
    tested: Tested,
    audit: Vec<NetnsAudit>,
}

/// A self-test's outcome, and whose it is.
#[derive(Debug, Serialize)]
struct Tested {
    by: Tester,
    #[serde(flatten)]
    outcome: SelfTest,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Tester {
    /// The daemon that is running, when it started.
    Daemon,
    /// This command.
    Doctor,
}

#[derive(Debug, Serialize)]
struct Kernel {
    release: String,
    possible_cpus: usize,
    per_cpu_counters: Fact,
    dropping_functions: Fact,
    kfree_skb_names_socket: bool,
    listen_overflow_drop_reason: bool,
}

/// A fact that may be unknown for a reason.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Fact {
    Yes(bool),
    No { missing: String },
}

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let daemon = daemon(args)?;
    // A daemon sees every listener, the ones of a self-test of ours, too.
    let wish = if daemon.is_some() { Wish::Skip } else { args.self_test.wish() };
    let (facts, plan, own) =
        look::plan(&args.paths.roots(), args.backend.choice(), Limits::default(), wish)?;
    let (self_test, audit) = match daemon {
        Some(Daemon { tested, audit }) => (tested, Some(audit)),
        None => (Tested { by: Tester::Doctor, outcome: own }, None),
    };
    let lacking = privilege::missing(&args.paths.roots().procfs)?;
    let report = Report {
        kernel: kernel(&facts),
        missing_privileges: lacking
            .into_iter()
            .map(|it| Lacking { name: it.name, without: it.without })
            .collect(),
        self_test,
        audit,
        signals: &plan.signals,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", render(&report))?;
    }
    Ok(())
}

/// What the daemon says, if one is running.
fn daemon(args: &DoctorArgs) -> anyhow::Result<Option<Daemon>> {
    let endpoint = Endpoint::Socket(client::socket_path(&args.paths.run_dir));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no asynchronous runtime")?;
    let outcome = match runtime.block_on(client::get(&endpoint, "/api/v1/self-test")) {
        Ok(outcome) => outcome,
        Err(ClientError::NoDaemon { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let listeners: ListenersDto = runtime.block_on(client::get(&endpoint, "/api/v1/listeners"))?;
    let tested = Tested { by: Tester::Daemon, outcome };
    Ok(Some(Daemon { tested, audit: listeners.audit }))
}

fn kernel(facts: &KernelFacts) -> Kernel {
    Kernel {
        release: facts.release.clone(),
        possible_cpus: facts.possible_cpus,
        per_cpu_counters: match &facts.cpu_offsets {
            CpuOffsets::Symbol(_) | CpuOffsets::Program => Fact::Yes(true),
            CpuOffsets::Unknown(missing) => Fact::No { missing: missing.clone() },
        },
        dropping_functions: fact(&facts.dropping_functions),
        kfree_skb_names_socket: facts.kfree_has_rx_sk,
        listen_overflow_drop_reason: facts.reason_listen_overflow.is_some(),
    }
}

/// The first of several hooks: all of them are in `--json` and in `tcpq_hook_info`.
fn in_short(hooks: &str) -> String {
    let names: Vec<_> = hooks.split(" + ").collect();
    match *names.as_slice() {
        [""] => "-".to_owned(),
        [first, _, _, ..] => format!("{first} and {} more", names.len() - 1),
        _ => hooks.to_owned(),
    }
}

fn fact<T>(known: &Result<T, String>) -> Fact {
    match known {
        Ok(_) => Fact::Yes(true),
        Err(missing) => Fact::No { missing: missing.clone() },
    }
}

fn render(report: &Report<'_>) -> String {
    let kernel = &report.kernel;
    let yes = |is: bool| if is { "yes" } else { "no" };
    let known = |fact: &Fact| match fact {
        Fact::Yes(_) => "yes".to_owned(),
        Fact::No { missing } => format!("no: {missing}"),
    };
    let mut out = format!(
        "Kernel {} with BTF, {} possible CPUs\n\
         \x20 the kernel's own per-CPU counters      {}\n\
         \x20 addresses of the receive functions     {}\n\
         \x20 kfree_skb names the receiving socket   {}\n\
         \x20 drop reason for a refused final ACK    {}\n\n",
        kernel.release,
        kernel.possible_cpus,
        known(&kernel.per_cpu_counters),
        known(&kernel.dropping_functions),
        yes(kernel.kfree_skb_names_socket),
        yes(kernel.listen_overflow_drop_reason),
    );
    if !report.missing_privileges.is_empty() {
        out.push_str("Missing privileges of this command (a daemon says its own in its log)\n");
        let lines = report.missing_privileges.iter();
        out.extend(lines.map(|it| format!("  {}: {}\n", it.name, it.without)));
        out.push('\n');
    }
    let whose = match report.self_test.by {
        Tester::Daemon => "of the running daemon",
        Tester::Doctor => "just now",
    };
    let outcome = &report.self_test.outcome;
    let mut lines = vec![format!("Self-test {outcome} ({whose})")];
    lines.extend(outcome.replaced().iter().map(|finding| format!("  replaced: {finding}")));
    lines.extend(outcome.wrong().iter().map(|finding| format!("  wrong: {finding}")));
    out.push_str(&lines.join("\n"));
    out.push_str("\n\n");
    if let Some(audit) = &report.audit {
        out.push_str("Audit: the kernel's own counters beside the daemon's\n");
        out.extend(audit.iter().map(|netns| format!("  {}\n", list::audit_line(netns))));
        out.push('\n');
    }
    let mut signals = table(&["SIGNAL", "", "BACKEND", "HOOK"]);
    for plan in report.signals {
        let hook = in_short(&plan.hook);
        signals.add_row([plan.signal.name(), plan.exactness.name(), plan.backend_name(), &hook]);
    }
    out.push_str(&text(&signals));
    let reasons: Vec<_> =
        report.signals.iter().filter_map(|plan| Some((plan, plan.reason.as_deref()?))).collect();
    if !reasons.is_empty() {
        out.push_str("\nNotes\n");
        for (plan, reason) in reasons {
            out.extend(["  ", plan.signal.name(), ": ", reason, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hooks_are_told_in_short() {
        assert_eq!(in_short(""), "-");
        assert_eq!(in_short("a + b"), "a + b");
        assert_eq!(in_short("a + b + c"), "a and 2 more");
    }
}

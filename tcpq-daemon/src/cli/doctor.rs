//! `tcpq doctor`: facts and plan.

use std::io::Write as _;

use serde::Serialize;

use crate::{
    app::look,
    cli::{
        args::DoctorArgs,
        table::{Side, table, text},
    },
    kernel::{
        attach::Limits,
        facts::{CpuOffsets, KernelFacts},
    },
    model::hooks::SignalPlan,
};

/// The JSON form; a contract.
#[derive(Debug, Serialize)]
struct Report<'a> {
    kernel: Kernel,
    signals: &'a [SignalPlan],
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
    let (facts, plan) = look::plan(&args.paths.roots(), args.backend.choice(), Limits::default())?;
    let report = Report { kernel: kernel(&facts), signals: &plan.signals };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", render(&report))?;
    }
    Ok(())
}

fn kernel(facts: &KernelFacts) -> Kernel {
    Kernel {
        release: facts.release.clone(),
        possible_cpus: facts.possible_cpus,
        per_cpu_counters: match &facts.cpu_offsets {
            CpuOffsets::Symbol(_) | CpuOffsets::Iterator => Fact::Yes(true),
            CpuOffsets::Unknown(missing) => Fact::No { missing: missing.clone() },
        },
        dropping_functions: fact(&facts.dropping_functions),
        kfree_skb_names_socket: facts.kfree_has_rx_sk,
        listen_overflow_drop_reason: facts.reason_listen_overflow.is_some(),
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
    let mut signals = table(&[
        ("SIGNAL", Side::Left),
        ("", Side::Left),
        ("BACKEND", Side::Left),
        ("HOOK", Side::Left),
    ]);
    for plan in report.signals {
        let hook = if plan.hook.is_empty() { "-" } else { &plan.hook };
        signals.add_row([plan.signal.name(), plan.exactness.name(), plan.backend_name(), hook]);
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

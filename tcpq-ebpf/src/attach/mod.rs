//! Entry points, by program type. Names say backend and function: `fe_` fentry,
//! `fx_` fexit, `kp_` kprobe, `kr_` kretprobe, `tp_` BTF tracepoint, `it_` iterator,
//! `rt_` run by the daemon.

mod fentry;
mod iter;
mod kprobe;
mod run;
mod tracepoint;

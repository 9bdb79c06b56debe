//! Empty on purpose: the programs are the binary `tcpq-probes`; this library
//! exists so that cargo rebuilds the daemon when they change.
#![no_std]

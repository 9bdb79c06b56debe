//! Rows that the iterators write, read by the daemon as one byte stream.

use crate::{
    listener::{Listener, ListenerKey},
    wire,
};

wire! {
    /// One live listener and its queues at this moment.
    pub struct ListenerRow {
        /// Address of its socket.
        pub sk: u64,
        /// What was remembered of it.
        pub listener: Listener,
        /// What the socket holds now.
        pub now: ListenerNow,
    }

    /// A listening socket's own fields.
    pub struct ListenerNow {
        /// `sk_ack_backlog`.
        pub accept_queue_length: u32,
        /// `sk_max_ack_backlog`.
        pub accept_queue_limit: u32,
        /// `icsk_accept_queue.qlen`.
        pub syn_queue_length: u32,
        /// `sk_drops`.
        pub sk_drops: u32,
        /// The namespace's `net.ipv4.tcp_max_syn_backlog`.
        pub max_syn_backlog: u32,
        /// The namespace's `net.ipv4.tcp_syncookies`.
        pub syncookies: u32,
        /// `skc_state`: anything but [`crate::TCP_LISTEN`] is a stale entry.
        pub state: u32,
        /// `skc_num`: the port, if it was not known when the listener was first seen.
        pub port: u32,
    }
}

impl ListenerRow {
    /// Which listener.
    pub const fn key(&self) -> ListenerKey {
        ListenerKey { sk: self.sk, born_ns: self.listener.born_ns }
    }
}

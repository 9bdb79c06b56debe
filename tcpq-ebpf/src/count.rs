//! Adds to a listener's totals on this CPU.

use tcpq_common::{
    listener::ListenerKey,
    totals::{Loss, Totals},
};

use crate::{
    lifecycle::{self, Pending},
    maps::{TOTALS, lose},
    read::Sock,
};

/// The totals of the listener at `sk` on this CPU.
#[inline(always)]
pub(crate) fn totals(sk: Sock, pending: Pending) -> Option<&'static mut Totals> {
    let listener = lifecycle::listener(sk, pending)?;
    if listener.port == 0 {
        // listen() on an unbound socket enters LISTEN before it has a port.
        listener.port = sk.port().unwrap_or(0);
    }
    of(ListenerKey { sk: sk.0, born_ns: listener.born_ns })
}

#[inline(always)]
pub(crate) fn of(key: ListenerKey) -> Option<&'static mut Totals> {
    let Some(totals) = TOTALS.get_ptr_mut(key) else {
        lose(Loss::TotalsFull);
        return None;
    };
    // SAFETY: the value is this CPU's own, and its users do not nest on a CPU
    // but for accept() in process context, which touches a field of its own.
    Some(unsafe { &mut *totals })
}

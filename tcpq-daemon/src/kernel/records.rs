//! The ring buffer: waits for readiness, never polls, and counts what it cannot read.

use aya::maps::{MapData, RingBuf};
use tcpq_common::record::{Kind, Record};
use tokio::io::{Interest, unix::AsyncFd};
use zerocopy::FromBytes;

use crate::{
    kernel::{attach::Attached, error::KernelError},
    model::snapshot::EventTally,
};

/// The ring, read by hand.
pub struct Ring(RingBuf<MapData>);

impl Ring {
    /// Takes the ring out of the loaded object.
    pub fn new(attached: &mut Attached) -> Result<Self, KernelError> {
        let map = attached.ebpf.take_map("RECORDS").ok_or(KernelError::Map { name: "RECORDS" })?;
        RingBuf::try_from(map).ok().map(Self).ok_or(KernelError::Map { name: "RECORDS" })
    }

    /// Takes out what is there, in order. One that is still being written ends it.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        while let Some(item) = self.0.next() {
            each(&item);
        }
    }
}

/// The reader of the ring.
pub struct Records {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Records {
    /// Waits for what comes. Needs a tokio runtime.
    pub fn new(ring: Ring) -> Result<Self, KernelError> {
        let ring =
            register(ring.0).map_err(|source| KernelError::Read { what: "records", source })?;
        Ok(Self { ring })
    }

    /// Waits until there is something, then adds all of it to `tally` and shows each record.
    pub async fn drain_into(
        &mut self,
        tally: &mut EventTally,
        mut each: impl FnMut(Kind, &Record),
    ) -> std::io::Result<()> {
        let mut guard = self.ring.readable_mut().await?;
        let ring = guard.get_inner_mut();
        while let Some(item) = ring.next() {
            if let Some((kind, record)) = count(&item, tally) {
                each(kind, &record);
            }
        }
        guard.clear_ready();
        Ok(())
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that a descriptor stays open")]
fn register(ring: RingBuf<MapData>) -> std::io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its map's descriptor, never changes it, and is itself
    // owned by the `AsyncFd`.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(Into::into)
}

/// Counts one record by its kind, or as undecodable.
pub fn count(bytes: &[u8], tally: &mut EventTally) -> Option<(Kind, Record)> {
    let decoded = decode(bytes);
    match &decoded {
        Some((kind, _record)) => {
            let position = Kind::ALL.iter().position(|known| known == kind);
            if let Some(count) = position.and_then(|position| tally.by_kind.get_mut(position)) {
                *count += 1;
            }
        }
        None => tally.undecodable += 1,
    }
    decoded
}

/// A record, if it has the right size and a known kind.
pub fn decode(bytes: &[u8]) -> Option<(Kind, Record)> {
    let record = Record::read_from_bytes(bytes).ok()?;
    Some((Kind::try_from(record.kind).ok()?, record))
}

/// Prints what the programs log; a development aid.
#[cfg(feature = "bpf-log")]
pub fn start_log(ebpf: &mut aya::Ebpf) {
    use tracing::warn;

    // `doctor` and `list` have no runtime, and nothing to log for.
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    match aya_log::EbpfLogger::init(ebpf) {
        Ok(mut logger) => {
            tokio::spawn(async move {
                let mut interval = tokio::time::interval(std::time::Duration::from_millis(200));
                loop {
                    interval.tick().await;
                    logger.flush();
                }
            });
        }
        Err(error) => warn!(%error, "no log from the eBPF programs"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::*;

    #[test]
    fn a_whole_record_is_counted_by_its_kind() {
        let mut tally = EventTally::default();
        let record = Record { kind: Kind::OverflowAck as u32, ..Record::ZERO };
        count(record.as_bytes(), &mut tally);
        assert_eq!(tally.by_kind, [0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(tally.undecodable, 0);
    }

    #[test]
    fn an_unknown_kind_is_undecodable() {
        let mut tally = EventTally::default();
        count(Record { kind: 99, ..Record::ZERO }.as_bytes(), &mut tally);
        count(Record::ZERO.as_bytes(), &mut tally);
        assert_eq!(tally.undecodable, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_counted_once(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut tally = EventTally::default();
            count(&bytes, &mut tally);
            prop_assert_eq!(tally.by_kind.iter().sum::<u64>() + tally.undecodable, 1);
        }
    }
}

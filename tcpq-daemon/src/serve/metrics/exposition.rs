//! An exposition, made a chunk at a time as its reader takes it: how many listeners there are,
//! and how slow the reader is, does not matter to the memory it takes.

use std::{ops::Range, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{
        prometheus_protobuf::{self, EncodeError},
        text,
    },
    registry::Registry,
};

use super::{
    classic,
    families::{Families, Piece},
    format::Format,
    process::Process,
};
use crate::model::{incident::tally::Tally, snapshot::Snapshot};

/// Chunks have this size, or as much more as a piece has.
const CHUNK: usize = 64 << 10;

/// Groups of a piece: 100 KB of the largest family, and 10 KB of most.
const GROUPS: usize = 64;

/// What is still to be told of a snapshot.
#[derive(Debug)]
pub struct Exposition {
    families: Families,
    format: Format,
    next: Next,
    /// One piece of text.
    piece: String,
}

#[derive(Debug)]
enum Next {
    Families(Piece),
    Process,
    Nothing,
}

impl Exposition {
    /// All of it. `reading`: how long it took to read the kernel side.
    pub fn new(
        snapshot: Arc<Snapshot>,
        incidents: Tally,
        reading: Duration,
        format: Format,
    ) -> Self {
        let families = Families::new(snapshot, incidents, reading, format);
        let mut exposition = Self { families, format, next: Next::Nothing, piece: String::new() };
        exposition.next = Next::Families(Piece { family: 0, groups: exposition.groups_from(0) });
        exposition
    }

    /// The next chunk; `None`: that was all.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, EncodeError> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK {
            match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Families(piece) => self.next = self.encode_families(&piece, &mut chunk)?,
                Next::Process => {
                    self.encode(Process, Part::First, &mut chunk)?;
                    if self.format == Format::OpenMetrics {
                        text::encode_eof(&mut self.piece)?;
                        chunk.extend(self.piece.as_bytes());
                    }
                }
                Next::Nothing => break,
            }
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// What comes after it.
    fn encode_families(&mut self, piece: &Piece, chunk: &mut Vec<u8>) -> Result<Next, EncodeError> {
        let (families, met) = self.families.piece(piece);
        let part = if piece.groups.start == 0 { Part::First } else { Part::Later };
        self.encode(families, part, chunk)?;
        if !met.exists(piece) {
            return Ok(Next::Process);
        }
        let more = met.is_by_group() && piece.groups.end < self.families.groups_in_all();
        let (family, from) =
            if more { (piece.family, piece.groups.end) } else { (piece.family + 1, 0) };
        Ok(Next::Families(Piece { family, groups: self.groups_from(from) }))
    }

    /// The messages of protobuf are whole families.
    fn groups_from(&self, start: usize) -> Range<usize> {
        let all = self.families.groups_in_all();
        match self.format {
            Format::Protobuf => 0..all,
            Format::Classic | Format::OpenMetrics => start..all.min(start + GROUPS),
        }
    }

    fn encode(
        &mut self,
        what: impl Collector,
        part: Part,
        chunk: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(what));
        if self.format == Format::Protobuf {
            chunk.extend(prometheus_protobuf::encode_to_vec(&registry)?);
            return Ok(());
        }
        self.piece.clear();
        text::encode_registry(&mut self.piece, &registry)?;
        match (part, self.format) {
            (Part::First, Format::Classic) => classic::from_openmetrics(&self.piece, chunk),
            (Part::First, _) => chunk.extend(self.piece.as_bytes()),
            (Part::Later, _) => chunk.extend(without_head(&self.piece).as_bytes()),
        }
        self.piece.clear();
        Ok(())
    }
}

/// A family's pieces, of which only the first has its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    First,
    Later,
}

/// Without the lines of metadata.
fn without_head(mut text: &str) -> &str {
    while text.starts_with("# ") {
        text = text.split_once('\n').map_or("", |(_, rest)| rest);
    }
    text
}

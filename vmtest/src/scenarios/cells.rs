//! The cells of the matrix, for `cargo xtask test` to put side by side.

use std::sync::{Mutex, PoisonError};

/// A row that did not hold.
pub(super) const FAILED: &str = "FAIL";
/// A row that this kernel cannot play.
pub(super) const NOT_HELD: &str = "n/a";

static CELLS: Mutex<Vec<(&'static str, &'static str)>> = Mutex::new(Vec::new());

pub(super) fn note(row: &'static str, cell: &'static str) {
    CELLS.lock().unwrap_or_else(PoisonError::into_inner).push((row, cell));
}

/// Prints them, a line each: `cell <row> <exactness>`. At the end, because while tests
/// run their names are on unfinished lines.
pub fn print() {
    for (row, cell) in CELLS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("cell {row} {cell}");
    }
}

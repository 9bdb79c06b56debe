//! The cells of the matrix, for `cargo xtask test` to put side by side.

use std::sync::{Mutex, PoisonError};

use crate::daemon::Backend;

/// A row that did not hold.
pub(super) const FAILED: &str = "FAIL";
/// A row that this kernel cannot play.
pub(super) const NOT_HELD: &str = "n/a";

static CELLS: Mutex<Vec<Cell>> = Mutex::new(Vec::new());

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) row: &'static str,
    pub(super) backend: Backend,
    pub(super) figure: &'static str,
}

pub(super) fn note(cell: Cell) {
    CELLS.lock().unwrap_or_else(PoisonError::into_inner).push(cell);
}

/// Prints them, a line each: `cell <backend> <row> <figure>`. At the end, because while
/// tests run their names are on unfinished lines.
pub fn print() {
    for Cell { row, backend, figure } in CELLS.lock().unwrap_or_else(PoisonError::into_inner).iter()
    {
        println!("cell {} {row} {figure}", backend.flag());
    }
}

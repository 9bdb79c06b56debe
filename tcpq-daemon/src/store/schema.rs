//! The tables, and how older ones become newer ones. `user_version` says which they are.

use rusqlite::{Connection, Transaction};

/// Each makes the tables of the version that is its position plus one. What was released is
/// never changed, only added to.
const STEPS: [&str; 1] = ["
    CREATE TABLE incidents (
        id INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        netns TEXT NOT NULL,
        address TEXT NOT NULL,
        port TEXT NOT NULL,
        process TEXT,
        opened INTEGER NOT NULL,
        last INTEGER NOT NULL,
        cause TEXT NOT NULL,
        confidence TEXT,
        overflows INTEGER NOT NULL,
        drops INTEGER
    ) STRICT;
    CREATE INDEX incidents_by_last ON incidents (last);
    CREATE INDEX incidents_by_cause ON incidents (cause);
    CREATE INDEX incidents_by_port ON incidents (port);
    CREATE INDEX incidents_that_are_open ON incidents (state) WHERE state = 'open';
    CREATE TABLE bodies (
        id INTEGER PRIMARY KEY REFERENCES incidents (id) ON DELETE CASCADE,
        record TEXT NOT NULL
    ) STRICT;
"];

/// The version of the tables that this program makes.
pub(super) const VERSION: usize = STEPS.len();

/// The version that a file has.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

/// Makes the tables what they should be.
pub(super) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for (version, step) in (1_i64..).zip(STEPS).skip(version(transaction)?) {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    Ok(())
}

//! One database: in a file, or in memory.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Row, ToSql, params, params_from_iter,
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    model::incident::{
        filter::Filter,
        id::IncidentId,
        moment::Moment,
        record::{IncidentRecord, ListenerName, State, Summary},
        verdict::{Cause, Confidence},
    },
    store::{StoreError, schema},
};

/// Of the log that is written before the file. Unit: bytes.
const LOG_BYTES: i64 = 4 << 20;

/// Why a file is not used.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    /// The folder or the file cannot be made.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// SQLite says no.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It is no database, or not a sound one.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It must not be touched.
    #[error("a newer tcpq wrote it: its tables are version {0}, this one knows {known}", known = schema::VERSION)]
    Newer(usize),
}

pub(super) struct Database(Connection);

impl Database {
    /// Opens a file, makes it if it is not there, and makes of its tables what they should
    /// be. Another process that has it open keeps it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        if let Some(folder) = path.parent() {
            // Clients' addresses are in it.
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        let make = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        drop(make);
        let opened = Connection::open(path).map_err(OpenError::from).and_then(Self::set_up);
        match opened {
            Err(OpenError::Sqlite(error)) if is_damage(&error) => {
                Err(OpenError::Damaged(error.to_string()))
            }
            other => other,
        }
    }

    /// In memory, for what the file does not take.
    pub(super) fn memory() -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        let transaction = connection.transaction()?;
        schema::migrate(&transaction)?;
        transaction.commit()?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(Self(connection))
    }

    fn set_up(mut connection: Connection) -> Result<Self, OpenError> {
        connection.busy_timeout(Duration::from_millis(200))?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        // What is damaged is put aside as it was found: nothing is written before this.
        let version = schema::version(&connection)?;
        if version > schema::VERSION {
            return Err(OpenError::Newer(version));
        }
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(OpenError::Damaged(sound));
        }
        if version == 0 {
            // Before there is any table: room that is free goes back to the file system.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // A process that is killed loses nothing; a host that loses power may lose the last
        // seconds, and the file stays whole.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let transaction = connection.transaction()?;
        schema::migrate(&transaction)?;
        transaction.commit()?;
        Ok(Self(connection))
    }

    /// A daemon that ended left these open.
    pub(super) fn interrupt(&self) -> rusqlite::Result<usize> {
        self.0.execute(
            "UPDATE incidents SET state = ?1 WHERE state = ?2",
            params![State::Interrupted.name(), State::Open.name()],
        )
    }

    /// Writes one, in place of what is there under its name.
    pub(super) fn write(&mut self, record: &IncidentRecord) -> rusqlite::Result<()> {
        let Summary { id, state, listener, process, opened, last, cause, confidence, .. } =
            record.summary();
        let Summary { overflows, drops, .. } = record.summary();
        let body = serde_json::to_string(record)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let transaction = self.0.transaction()?;
        transaction
            .prepare(
                "INSERT OR REPLACE INTO incidents (id, state, netns, address, port, process, \
                 opened, last, cause, confidence, overflows, drops) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                id.number(),
                state.name(),
                listener.netns,
                listener.address,
                listener.port,
                process,
                signed(opened.0),
                signed(last.0),
                cause.name(),
                confidence.map(Confidence::name),
                signed(overflows),
                drops.map(signed),
            ])?;
        transaction
            .prepare("INSERT OR REPLACE INTO bodies (id, record) VALUES (?1, ?2)")?
            .execute(params![id.number(), body])?;
        transaction.commit()
    }

    /// The newest that are meant.
    pub(super) fn list(&self, filter: &Filter) -> Result<Vec<Summary>, StoreError> {
        let mut conditions = Vec::new();
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        let mut and = |condition: &str, value: Option<Box<dyn ToSql>>| {
            if let Some(value) = value {
                values.push(value);
                conditions.push(format!("{condition} ?{}", values.len()));
            }
        };
        let moment = |it: Option<Moment>| it.map(|it| Box::new(signed(it.0)) as Box<dyn ToSql>);
        let text = |it: &Option<String>| it.clone().map(|it| Box::new(it) as Box<dyn ToSql>);
        let name = |it: Option<&'static str>| it.map(|it| Box::new(it) as Box<dyn ToSql>);
        and("last >=", moment(filter.since));
        and("opened <", moment(filter.until));
        and("netns =", text(&filter.netns));
        and("address =", text(&filter.address));
        and("port =", text(&filter.port));
        and("process =", text(&filter.process));
        and("cause =", name(filter.verdict.map(Cause::name)));
        and("state =", name(filter.state.map(State::name)));
        let conditions = match conditions.as_slice() {
            [] => String::new(),
            some => format!("WHERE {}", some.join(" AND ")),
        };
        let query = format!(
            "SELECT id, state, netns, address, port, process, opened, last, cause, confidence, \
             overflows, drops FROM incidents {conditions} ORDER BY id DESC LIMIT {}",
            signed(filter.most())
        );
        let mut statement = self.0.prepare(&query)?;
        let rows = statement.query_map(params_from_iter(values), summary)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// All of one. Its state is the list's: a daemon that was killed could not write its own.
    pub(super) fn get(&self, id: IncidentId) -> Result<Option<IncidentRecord>, StoreError> {
        let mut statement = self
            .0
            .prepare("SELECT state, record FROM incidents JOIN bodies USING (id) WHERE id = ?1")?;
        let row = statement
            .query_row([id.number()], |row| {
                Ok((parsed::<State>(row, 0)?, row.get::<_, String>(1)?))
            })
            .optional()?;
        let Some((state, body)) = row else { return Ok(None) };
        let record: IncidentRecord =
            serde_json::from_str(&body).map_err(|source| StoreError::Record { id, source })?;
        Ok(Some(IncidentRecord { state, ..record }))
    }

    /// Every name, the oldest first.
    pub(super) fn ids(&self) -> rusqlite::Result<Vec<IncidentId>> {
        let mut statement = self.0.prepare("SELECT id FROM incidents ORDER BY id")?;
        let ids = statement.query_map([], |row| row.get(0))?;
        Ok(ids
            .collect::<rusqlite::Result<Vec<_>>>()?
            .into_iter()
            .filter_map(IncidentId::from_number)
            .collect())
    }

    /// Forgets one.
    pub(super) fn delete(&self, id: IncidentId) -> rusqlite::Result<()> {
        self.0.execute("DELETE FROM incidents WHERE id = ?1", [id.number()]).map(drop)
    }

    /// Lets go of what is older than `oldest`, then of the oldest until it is no larger than
    /// `size`. Open ones stay.
    pub(super) fn tidy(&self, oldest: Moment, size: u64) -> rusqlite::Result<()> {
        self.0.execute(
            "DELETE FROM incidents WHERE last < ?1 AND state <> ?2",
            params![signed(oldest.0), State::Open.name()],
        )?;
        while self.bytes()? > size {
            let gone = self.0.execute(
                "DELETE FROM incidents WHERE id IN (SELECT id FROM incidents WHERE state <> ?1 \
                 ORDER BY id LIMIT (SELECT 1 + count(*) / 16 FROM incidents))",
                params![State::Open.name()],
            )?;
            if gone == 0 {
                break;
            }
        }
        // A row for each page that is given back.
        let mut vacuum = self.0.prepare("PRAGMA incremental_vacuum")?;
        let mut pages = vacuum.query([])?;
        let mut given_back = false;
        while pages.next()?.is_some() {
            given_back = true;
        }
        if given_back {
            // All that was let go is in the log, too, which stays as large until then.
            self.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> rusqlite::Result<u64> {
        let of = |name: &str| self.0.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let used = of("page_count")? - of("freelist_count")?;
        Ok(u64::try_from(used * of("page_size")?).unwrap_or(0))
    }
}

/// Whether the file is not what it should be, as opposed to a disk that is full.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether there is no room for what was to be written.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let id = IncidentId::from_number(row.get(0)?)
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(0, -1))?;
    Ok(Summary {
        id,
        state: parsed(row, 1)?,
        listener: ListenerName { netns: row.get(2)?, address: row.get(3)?, port: row.get(4)? },
        process: row.get(5)?,
        opened: Moment(unsigned(row.get(6)?)),
        last: Moment(unsigned(row.get(7)?)),
        cause: parsed(row, 8)?,
        confidence: match row.get::<_, Option<String>>(9)? {
            Some(_) => Some(parsed(row, 9)?),
            None => None,
        },
        overflows: unsigned(row.get(10)?),
        drops: row.get::<_, Option<i64>>(11)?.map(unsigned),
    })
}

/// A word that is one of a set's names.
fn parsed<T: DeserializeOwned + Serialize>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(text)).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
impl Database {
    /// No page more than it has now: what a full disk looks like.
    pub(super) fn fill_up(&self) {
        let pages: i64 = self.0.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        self.limit(pages);
    }

    /// As many pages as it likes.
    pub(super) fn make_room(&self) {
        self.limit(i64::from(u32::MAX - 1));
    }

    fn limit(&self, pages: i64) {
        self.0.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    }

    /// Writes many at once.
    pub(super) fn fill(&mut self, many: u64, of: impl Fn(u64) -> IncidentRecord) {
        self.0.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -64000").unwrap();
        for at in 0..many {
            self.write(&of(at)).unwrap();
        }
    }
}

//! The file, and memory for what the file does not take.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use crate::{
    model::incident::{
        filter::Filter,
        id::IncidentId,
        moment::Moment,
        record::{IncidentRecord, Summary},
    },
    store::{
        Health, Settings, StoreError,
        database::{Database, OpenError, is_damage, is_full},
    },
};

/// The file's name.
const FILE: &str = "incidents.db";

/// What SQLite puts beside it.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Records that memory holds while the file is down.
const IN_MEMORY: usize = 256;

pub(super) struct Shelves {
    settings: Settings,
    pub(super) file: File,
    memory: Database,
    /// What the log was told last.
    said: Option<String>,
    lost: u64,
    quarantined: u64,
    /// A reading found the file damaged.
    is_damaged: bool,
}

/// What the file is good for.
pub(super) enum File {
    /// It takes what is written.
    Up(Database),
    /// Its disk is full: it tells what it has, and stays open until there is room again.
    Full(Database),
    /// It could not be opened, or not be read.
    Down,
}

impl File {
    /// To read from.
    pub(super) const fn readable(&self) -> Option<&Database> {
        match self {
            Self::Up(file) | Self::Full(file) => Some(file),
            Self::Down => None,
        }
    }

    /// To write to.
    pub(super) const fn writable(&mut self) -> Option<&mut Database> {
        match self {
            Self::Up(file) => Some(file),
            Self::Full(_) | Self::Down => None,
        }
    }

    /// It did not take something.
    fn refused(&mut self, error: &rusqlite::Error) {
        *self = match std::mem::replace(self, Self::Down) {
            Self::Up(file) | Self::Full(file) if is_full(error) => Self::Full(file),
            _ => Self::Down,
        };
    }
}

/// Opens the file without anybody waiting for it.
pub(super) struct Opener(PathBuf);

/// What became of it.
pub(super) struct Opened {
    result: Result<Database, OpenError>,
    quarantined: u64,
}

impl Opener {
    /// A file that is damaged is put aside, and a new one is made.
    pub(super) fn open(&self, now: Moment) -> Opened {
        match open(&self.0) {
            Err(OpenError::Damaged(why)) => match put_aside(&self.0, now) {
                Ok(aside) => {
                    warn!(file = %self.0.display(), aside = %aside.display(), why,
                        "the file of incidents is damaged: it was put aside, and a new one begins");
                    Opened { result: open(&self.0), quarantined: 1 }
                }
                Err(error) => Opened { result: Err(error.into()), quarantined: 0 },
            },
            result => Opened { result, quarantined: 0 },
        }
    }
}

fn open(path: &Path) -> Result<Database, OpenError> {
    let database = Database::open(path)?;
    database.interrupt()?;
    Ok(database)
}

/// Renames the file, and what SQLite put beside it.
fn put_aside(path: &Path, now: Moment) -> io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut mark = format!(".damaged-{}", now.0);
    while with(&mark).exists() {
        mark.push('x');
    }
    fs::rename(path, with(&mark))?;
    for suffix in BESIDE {
        match fs::rename(with(suffix), with(&format!("{mark}{suffix}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(with(&mark))
}

impl Shelves {
    pub(super) fn new(settings: Settings) -> rusqlite::Result<Self> {
        Ok(Self {
            settings,
            file: File::Down,
            memory: Database::memory()?,
            said: None,
            lost: 0,
            quarantined: 0,
            is_damaged: false,
        })
    }

    pub(super) fn opener(&self) -> Opener {
        Opener(self.settings.folder.join(FILE))
    }

    pub(super) fn install(&mut self, opened: Opened) {
        let Opened { result, quarantined } = opened;
        self.quarantined += quarantined;
        self.is_damaged = false;
        match result {
            Ok(database) => {
                self.file = File::Up(database);
                self.unload();
            }
            Err(error) => {
                self.file = File::Down;
                self.say(&error.to_string());
            }
        }
    }

    /// Says so once, not every ten seconds.
    fn say(&mut self, why: &str) {
        if self.said.as_deref() != Some(why) {
            warn!(folder = %self.settings.folder.display(), why,
                "incidents cannot be stored: the last {IN_MEMORY} are kept in memory only");
            self.said = Some(why.to_owned());
        }
    }

    /// Brings what is in memory to the file.
    fn unload(&mut self) {
        let Self { file, memory, .. } = self;
        let Some(file) = file.writable() else { return };
        let moved = memory.ids().map_err(StoreError::from).and_then(|ids| {
            for id in ids {
                if let Some(record) = memory.get(id)? {
                    file.write(&record)?;
                }
                memory.delete(id)?;
            }
            Ok(())
        });
        match moved {
            Ok(()) => {
                if self.said.take().is_some() {
                    info!("incidents can be stored again");
                }
            }
            Err(StoreError::Sqlite(error)) => self.refused(&error),
            Err(error) => self.unreadable(&error),
        }
    }

    /// The file did not take something.
    fn refused(&mut self, error: &rusqlite::Error) {
        self.is_damaged |= is_damage(error);
        self.file.refused(error);
        self.say(&error.to_string());
    }

    /// The file did not tell something.
    fn unreadable(&mut self, error: &StoreError) {
        self.is_damaged |= matches!(error, StoreError::Sqlite(error) if is_damage(error));
        self.file = File::Down;
        self.say(&error.to_string());
    }

    pub(super) fn write(&mut self, record: &IncidentRecord, now: Moment) {
        if let Some(file) = self.file.writable() {
            match file.write(record) {
                Ok(()) => return,
                Err(error) => self.refused(&error),
            }
        }
        if self.is_damaged {
            let opened = self.opener().open(now);
            self.install(opened);
            if self.file.writable().is_some_and(|file| file.write(record).is_ok()) {
                return;
            }
        }
        if let Err(error) = self.remember(record) {
            self.lost += 1;
            warn!(%error, incident = %record.id, "an incident is lost");
        }
    }

    fn remember(&mut self, record: &IncidentRecord) -> rusqlite::Result<()> {
        self.memory.write(record)?;
        let ids = self.memory.ids()?;
        for id in ids.iter().take(ids.len().saturating_sub(IN_MEMORY)) {
            self.memory.delete(*id)?;
            self.lost += 1;
        }
        Ok(())
    }

    /// What is due now and then.
    pub(super) fn tidy(&mut self, now: Moment) {
        match std::mem::replace(&mut self.file, File::Down) {
            File::Down => {
                let opened = self.opener().open(now);
                self.install(opened);
            }
            File::Full(file) => {
                self.file = File::Up(file);
                self.unload();
            }
            up @ File::Up(_) => self.file = up,
        }
        let Settings { age, size, .. } = self.settings;
        let tidied = self.file.writable().map(|file| file.tidy(now.less(age), size));
        if let Some(Err(error)) = tidied {
            self.refused(&error);
        }
    }

    /// Of both; what is in memory is newer.
    pub(super) fn list(&mut self, filter: &Filter) -> Result<Vec<Summary>, StoreError> {
        let mut all: BTreeMap<IncidentId, Summary> = BTreeMap::new();
        let mut add = |some: Vec<Summary>| all.extend(some.into_iter().map(|it| (it.id, it)));
        let stored = self.file.readable().map(|file| file.list(filter));
        match stored {
            Some(Ok(stored)) => add(stored),
            Some(Err(error)) => self.unreadable(&error),
            None => {}
        }
        add(self.memory.list(filter)?);
        let most = usize::try_from(filter.most()).unwrap_or(usize::MAX);
        Ok(all.into_values().rev().take(most).collect())
    }

    pub(super) fn get(&mut self, id: IncidentId) -> Result<Option<IncidentRecord>, StoreError> {
        if let Some(record) = self.memory.get(id)? {
            return Ok(Some(record));
        }
        match self.file.readable().map(|file| file.get(id)) {
            None => Ok(None),
            Some(Err(error @ StoreError::Sqlite(_))) => {
                self.unreadable(&error);
                Err(error)
            }
            Some(told) => told,
        }
    }

    pub(super) const fn health(&self) -> Health {
        let is_up = matches!(self.file, File::Up(_));
        Health { is_up, lost: self.lost, quarantined: self.quarantined }
    }
}

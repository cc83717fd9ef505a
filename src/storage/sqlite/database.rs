//! The database file: the lock on it, its connections, its version.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    str::FromStr as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use sqlx::{
    ConnectOptions as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::Options;
use crate::storage::{Result, StorageError};

/// What made each version of the schema from the one before. Never change one, only append.
const MIGRATIONS: [&str; 12] = [
    include_str!("migrations/0001_begin.sql"),
    include_str!("migrations/0002_groups.sql"),
    include_str!("migrations/0003_contacts.sql"),
    include_str!("migrations/0004_kinds.sql"),
    include_str!("migrations/0005_contacts_met.sql"),
    include_str!("migrations/0006_calls.sql"),
    include_str!("migrations/0007_media.sql"),
    include_str!("migrations/0008_marks.sql"),
    include_str!("migrations/0009_sends.sql"),
    include_str!("migrations/0010_queues.sql"),
    include_str!("migrations/0011_payments.sql"),
    include_str!("migrations/0012_send_person.sql"),
];

/// "wgat": tells our files from other programs'.
const APPLICATION_ID: i64 = 0x7767_6174;

/// How long a process that was killed may take to let go of the database.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(50);

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows that a reader's thread may be ahead of its reader: a page, so that the two seldom wait for
/// one another.
const ROWS_AHEAD: usize = 512;
/// Prepared statements of the writer: a few dozen texts, each in up to eight sizes.
const WRITER_STATEMENTS: usize = 256;

/// An open database: nobody else's as long as the lock is held.
pub(super) struct Database {
    pub(super) writer: SqliteConnection,
    pub(super) readers: SqlitePool,
    pub(super) lock: File,
}

/// Opens the file, or makes it, and brings it to this version.
pub(super) async fn open(path: &Path, options: &Options) -> Result<Database> {
    let lock = lock(path).await?;
    let mut writer = connect_options(path, options)?
        .statement_cache_capacity(WRITER_STATEMENTS)
        .connect()
        .await
        .map_err(|error| explained(error, path))?;
    migrate(&mut writer, path)
        .await
        .map_err(|error| told(error, path))?;
    check(&mut writer, path, options.check_up_to)
        .await
        .map_err(|error| told(error, path))?;
    let readers = SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .min_connections(1)
        .connect_with(
            connect_options(path, options)?
                .create_if_missing(false)
                .row_buffer_size(ROWS_AHEAD)
                .pragma("query_only", "ON"),
        )
        .await
        .map_err(|error| explained(error, path))?;
    Ok(Database {
        writer,
        readers,
        lock,
    })
}

fn connect_options(path: &Path, options: &Options) -> Result<SqliteConnectOptions> {
    let base = SqliteConnectOptions::from_str("sqlite:").map_err(StorageError::from)?;
    Ok(base
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(if options.survive_power_cut {
            SqliteSynchronous::Full
        } else {
            SqliteSynchronous::Off
        })
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging())
}

/// The counters of the log live in memory, so a second writer would break them.
async fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let unavailable = |error: std::io::Error| {
        StorageError::Unavailable(
            anyhow::Error::new(error).context(format!("can't lock {}", name.display())),
        )
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(unavailable)?;
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                tokio::time::sleep(LOCK_RETRY).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StorageError::Unavailable(anyhow!(
                    "another process uses {}; stop it or choose another database",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unavailable(error)),
        }
    }
}

async fn migrate(writer: &mut SqliteConnection, path: &Path) -> Result<()> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *writer)
        .await?;
    let application: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *writer)
        .await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *writer)
        .await?;
    if application != APPLICATION_ID && (tables > 0 || version > 0) {
        return Err(StorageError::Corrupt(anyhow!(
            "{} is another program's database; choose another file",
            path.display()
        )));
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StorageError::Corrupt(anyhow!(
            "{} was written by a newer wagate (version {version}, this one knows {}); \
             run that one, or restore a copy from before the update",
            path.display(),
            MIGRATIONS.len()
        )));
    }
    for (number, migration) in (1..).zip(MIGRATIONS).skip(done) {
        // One script, one transaction: a crash leaves the version before.
        let script = format!(
            "BEGIN IMMEDIATE;\n{migration}\nPRAGMA application_id = {APPLICATION_ID};\n\
             PRAGMA user_version = {number};\nCOMMIT;"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(script))
            .execute(&mut *writer)
            .await
            .with_context(|| format!("migration {number} of {}", path.display()))
            .map_err(StorageError::Unavailable)?;
    }
    sqlx::query(
        "INSERT INTO log_state (only_row, epoch) VALUES (1, ?) ON CONFLICT (only_row) DO NOTHING",
    )
    .bind(rand::random::<i64>())
    .execute(writer)
    .await?;
    Ok(())
}

/// Looks through the whole file, where that takes a moment only. A damaged page would otherwise be
/// found by whoever needs it, long after more was written around it.
async fn check(writer: &mut SqliteConnection, path: &Path, up_to: u64) -> Result<()> {
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    if bytes > up_to {
        tracing::debug!(bytes, "the database is too large to be looked through");
        return Ok(());
    }
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(writer)
        .await?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(StorageError::Corrupt(anyhow!(found).context(damage(path)))),
    }
}

/// An error of SQLite with what to do about it; our own refusals say that already.
fn told(error: StorageError, path: &Path) -> StorageError {
    match error {
        StorageError::Corrupt(cause) if cause.is::<sqlx::Error>() => {
            StorageError::Corrupt(cause.context(damage(path)))
        }
        other => other,
    }
}

fn explained(error: sqlx::Error, path: &Path) -> StorageError {
    match StorageError::from(error) {
        StorageError::Corrupt(cause) => StorageError::Corrupt(cause.context(damage(path))),
        StorageError::Unavailable(cause) => {
            StorageError::Unavailable(cause.context(format!("can't open {}", path.display())))
        }
    }
}

fn damage(path: &Path) -> String {
    format!(
        "{} is damaged or no database; restore a copy of it, or move it away to begin anew",
        path.display()
    )
}

//! What SQLite's errors mean to the rest of the program.

use anyhow::anyhow;

use crate::{domain::ids::InstanceNumber, storage::StorageError};

/// SQLite's primary result codes, <https://www.sqlite.org/rescode.html>.
mod code {
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const NO_MEMORY: i32 = 7;
    pub const READ_ONLY: i32 = 8;
    pub const IO: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANNOT_OPEN: i32 = 14;
    pub const NOT_A_DATABASE: i32 = 26;
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        let damaged = match &error {
            sqlx::Error::Database(_) => {
                matches!(
                    primary_code(&error),
                    Some(code::CORRUPT | code::NOT_A_DATABASE)
                )
            }
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. } => true,
            _ => false,
        };
        if damaged {
            Self::Corrupt(error.into())
        } else {
            Self::Unavailable(error.into())
        }
    }
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Whether the machine is to blame: then no other write would go through either.
pub(super) fn is_outage(error: &StorageError) -> bool {
    let StorageError::Unavailable(cause) = error else {
        return false;
    };
    match cause.downcast_ref::<sqlx::Error>() {
        Some(error @ sqlx::Error::Database(_)) => matches!(
            primary_code(error),
            Some(
                code::BUSY
                    | code::LOCKED
                    | code::NO_MEMORY
                    | code::READ_ONLY
                    | code::IO
                    | code::FULL
                    | code::CANNOT_OPEN
            )
        ),
        Some(sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed) => true,
        _ => false,
    }
}

/// The same error for one more of those whom it hit.
pub(super) fn again(error: &StorageError) -> StorageError {
    match error {
        StorageError::Unavailable(cause) => StorageError::Unavailable(anyhow!("{cause:#}")),
        StorageError::Corrupt(cause) => StorageError::Corrupt(anyhow!("{cause:#}")),
    }
}

/// The database is closing or closed.
pub(super) fn closed() -> StorageError {
    StorageError::Unavailable(anyhow!("it is closed"))
}

/// An earlier write of the same handle failed.
pub(super) fn fenced() -> StorageError {
    StorageError::Unavailable(anyhow!(
        "an earlier write failed, and this one builds on it"
    ))
}

/// A row holds what this program never wrote.
pub(super) fn strange(what: &str) -> StorageError {
    StorageError::Corrupt(anyhow!("{what} holds an unknown value"))
}

/// A write came after its instance was deleted.
pub(super) fn deleted(instance: InstanceNumber) -> StorageError {
    StorageError::Unavailable(anyhow!("instance {instance} was deleted"))
}

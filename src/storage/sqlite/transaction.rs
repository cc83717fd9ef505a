//! The writing connection and whether a transaction is open on it.
//!
//! A transaction begins together with its first statement, because each trip to the connection's
//! thread costs more than a small statement does.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::storage::Result;

const BEGIN: &str = "BEGIN IMMEDIATE";

/// See the module.
pub(super) struct Transaction {
    connection: SqliteConnection,
    begun: bool,
}

impl Transaction {
    pub(super) fn new(connection: SqliteConnection) -> Self {
        Self {
            connection,
            begun: false,
        }
    }

    /// For a statement; begins the transaction if that was not done yet.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection> {
        if !std::mem::replace(&mut self.begun, true) {
            sqlx::query(BEGIN).execute(&mut self.connection).await?;
        }
        Ok(&mut self.connection)
    }

    /// A statement that begins the transaction if that was not done yet, and where it is to be run.
    pub(super) fn statement(&mut self) -> (QueryBuilder<Sqlite>, &mut SqliteConnection) {
        let begins = !std::mem::replace(&mut self.begun, true);
        let mut statement = QueryBuilder::new("");
        if begins {
            statement.push(BEGIN).push("; ");
        }
        (statement, &mut self.connection)
    }

    /// Whether it has begun, or will with a statement that waits to be run.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Is told that a statement committed it; says whether there was anything to commit.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(&mut self.begun)
    }

    pub(super) async fn roll_back(&mut self) {
        if std::mem::take(&mut self.begun) {
            // SQLite has rolled back by itself after some errors; then this one says so, and that's fine.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        }
    }

    pub(super) async fn close(self) -> Result<()> {
        Ok(sqlx::Connection::close(self.connection).await?)
    }
}

//! Statements over many rows.

use sqlx::{QueryBuilder, Sqlite, query_builder::Separated, sqlite::SqliteRow};

use super::transaction::Transaction;
use crate::storage::Result;

/// Most rows of one statement: beyond it a row costs no less.
const MOST: usize = 128;
/// Most rows of statements that travel together.
const TOGETHER: usize = 12;

/// The values of one row, to be pushed in the order of the columns.
pub(super) type Values<'b> = Separated<'b, Sqlite, &'static str>;

/// Runs `head VALUES (…), (…) tail` over all rows and returns what it returns.
///
/// Every statement costs a hop to the connection's thread, so rows share them; their numbers are
/// powers of two, so that a handful of prepared statements serves every batch.
pub(super) async fn with_values<Row>(
    transaction: &mut Transaction,
    head: &'static str,
    rows: &[Row],
    tail: &'static str,
    mut push: impl FnMut(Values<'_>, &Row),
) -> Result<Vec<SqliteRow>> {
    let mut returned = Vec::new();
    let mut rest = rows;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(bite(rest.len()));
        let (mut statement, connection) = transaction.statement();
        statement.push(head).push(" ");
        statement.push_values(now, &mut push);
        statement.push(" ").push(tail);
        returned.extend(statement.build().fetch_all(connection).await?);
        rest = later;
    }
    Ok(returned)
}

/// Statements on their way to the connection. To it and back takes longer than a small statement,
/// so small ones travel together; large ones travel alone, so that not every mixture of sizes is a
/// text of its own that must be prepared.
pub(super) struct Script<'t> {
    transaction: &'t mut Transaction,
    statements: QueryBuilder<Sqlite>,
    rows: usize,
    is_empty: bool,
}

impl<'t> Script<'t> {
    /// An empty one.
    pub(super) fn new(transaction: &'t mut Transaction) -> Self {
        Self {
            transaction,
            statements: QueryBuilder::new(""),
            rows: 0,
            is_empty: true,
        }
    }

    /// Adds `head VALUES (…), (…) tail` over all rows.
    pub(super) async fn values<Row>(
        &mut self,
        head: &'static str,
        rows: &[Row],
        tail: &'static str,
        mut push: impl FnMut(Values<'_>, &Row),
    ) -> Result<()> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(bite(rest.len()));
            let statement = self.next(now.len()).await?;
            statement.push(head).push(" ");
            statement.push_values(now, &mut push);
            statement.push(" ").push(tail);
            rest = later;
        }
        Ok(())
    }

    /// Adds a deletion from a table where its key is one of these rows.
    pub(super) async fn delete_keys<Row>(
        &mut self,
        head: &'static str,
        rows: &[Row],
        mut push: impl FnMut(Values<'_>, &Row),
    ) -> Result<()> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(bite(rest.len()));
            let statement = self.next(now.len()).await?;
            statement.push(head).push(" IN (");
            statement.push_values(now, &mut push);
            statement.push(")");
            rest = later;
        }
        Ok(())
    }

    /// Where the next statement, over so many rows, is to be written.
    pub(super) async fn next(&mut self, rows: usize) -> Result<&mut QueryBuilder<Sqlite>> {
        if self.rows + rows > TOGETHER {
            self.send().await?;
        }
        if self.is_empty {
            (self.statements, _) = self.transaction.statement();
        } else {
            self.statements.push("; ");
        }
        self.rows += rows;
        self.is_empty = false;
        Ok(&mut self.statements)
    }

    /// Runs what is left.
    pub(super) async fn run(mut self) -> Result<()> {
        self.send().await
    }

    /// Runs what is left and commits, unless nothing was written at all.
    pub(super) async fn commit(mut self) -> Result<()> {
        if self.transaction.has_begun() {
            self.next(0).await?.push("COMMIT");
        }
        self.send().await
    }

    async fn send(&mut self) -> Result<()> {
        if self.is_empty {
            return Ok(());
        }
        let mut statements = std::mem::replace(&mut self.statements, QueryBuilder::new(""));
        (self.rows, self.is_empty) = (0, true);
        let connection = self.transaction.connection().await?;
        statements.build().execute(connection).await?;
        Ok(())
    }
}

/// Appends `(?, ?, …)` to a statement.
pub(super) fn push_list<T>(
    statement: &mut QueryBuilder<Sqlite>,
    values: impl IntoIterator<Item = T>,
) where
    T: for<'t> sqlx::Encode<'t, Sqlite> + sqlx::Type<Sqlite>,
{
    statement.push("(");
    let mut list = statement.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    statement.push(")");
}

/// A limit as SQL takes it.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The greatest power of two that is not more than the rows left.
fn bite(left: usize) -> usize {
    let most = left.min(MOST);
    1 << (usize::BITS - 1 - most.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::bite;

    #[test]
    fn bites_are_powers_of_two() {
        assert_eq!([1, 2, 3, 127, 128, 300].map(bite), [1, 2, 2, 64, 128, 128]);
    }
}

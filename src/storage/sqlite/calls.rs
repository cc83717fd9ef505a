//! Calls.

use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};

use super::{
    rows,
    time::{from_micros, micros},
    unit::Unit,
};
use crate::{
    domain::ids::InstanceNumber,
    storage::{CallQuery, CallRow, NewEvent, Result},
};

/// Calls of an instance that are kept.
const KEPT: i64 = 1_000;

/// A statement with the columns that `call_of` reads in between.
macro_rules! with_columns {
    ($after:literal) => {
        concat!(
            "SELECT instance, call_id, peer, creator, time, open, verdict, answer, body FROM call ",
            $after
        )
    };
}

fn call_of(row: &SqliteRow) -> Result<CallRow> {
    Ok(CallRow {
        instance: InstanceNumber(row.try_get(0)?),
        call_id: row.try_get(1)?,
        peer: row.try_get(2)?,
        creator: row.try_get(3)?,
        time: from_micros(row.try_get(4)?),
        open: row.try_get(5)?,
        verdict: row.try_get(6)?,
        answer: row.try_get(7)?,
        body: row.try_get::<Vec<u8>, _>(8)?.into(),
    })
}

/// Stores a call with the events of what is new, and forgets those that are older than enough others.
pub(super) async fn change(
    (call, events): &(CallRow, Vec<NewEvent>),
    unit: &mut Unit,
) -> Result<()> {
    if unit.is_deleted(call.instance)? {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO call (instance, call_id, peer, creator, time, open, verdict, answer, body) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (instance, call_id) DO UPDATE SET \
         peer = excluded.peer, creator = excluded.creator, open = excluded.open, \
         verdict = excluded.verdict, answer = excluded.answer, body = excluded.body",
    )
    .bind(call.instance.0)
    .bind(&call.call_id)
    .bind(&call.peer)
    .bind(&call.creator)
    .bind(micros(call.time))
    .bind(call.open)
    .bind(call.verdict)
    .bind(&call.answer)
    .bind(&call.body[..])
    .execute(unit.connection().await?)
    .await?;
    sqlx::query(
        "DELETE FROM call WHERE instance = ?1 AND time < (SELECT time FROM call \
         WHERE instance = ?1 ORDER BY time DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(call.instance.0)
    .bind(KEPT - 1)
    .execute(unit.connection().await?)
    .await?;
    unit.append(events.iter().cloned())
}

pub(super) async fn lookup(
    readers: &SqlitePool,
    instance: InstanceNumber,
    call_id: &str,
) -> Result<Option<CallRow>> {
    let row = sqlx::query(with_columns!("WHERE instance = ? AND call_id = ?"))
        .bind(instance.0)
        .bind(call_id)
        .fetch_optional(readers)
        .await?;
    row.as_ref().map(call_of).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    instance: InstanceNumber,
    query: CallQuery,
    limit: usize,
) -> Result<Vec<CallRow>> {
    let statement = match query {
        CallQuery::Open => {
            with_columns!("WHERE instance = ? AND open = 1 ORDER BY time LIMIT ?")
        }
        CallQuery::Unanswered => {
            with_columns!("WHERE instance = ? AND answer <> '' ORDER BY time LIMIT ?")
        }
    };
    sqlx::query(statement)
        .bind(instance.0)
        .bind(rows::limit(limit))
        .fetch_all(readers)
        .await?
        .iter()
        .map(call_of)
        .collect()
}

//! Sends that wait.

use std::time::SystemTime;

use async_trait::async_trait;
use sqlx::{Row as _, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::{
    contacts, error, messages, requests, rows,
    time::{from_micros, micros},
    unit::Unit,
    writer::Work,
};
use crate::{
    domain::ids::InstanceNumber,
    storage::{
        AcceptOutcome, MessageRow, NewEvent, RequestMark, Result,
        send::{NewSend, SendQuery, SendRow},
    },
};

/// A statement with the columns that `send_of` reads in between.
macro_rules! with_columns {
    ($after:literal) => {
        concat!(
            "SELECT instance, message_id, number, recipient, person, begin_time, due_time, \
             expire_time, create_time, body FROM send ",
            $after
        )
    };
}

fn send_of(row: &SqliteRow) -> Result<SendRow> {
    Ok(SendRow {
        instance: InstanceNumber(row.try_get(0)?),
        message_id: row.try_get(1)?,
        number: row.try_get(2)?,
        recipient: row.try_get(3)?,
        person: row.try_get(4)?,
        begin_time: from_micros(row.try_get(5)?),
        due_time: from_micros(row.try_get(6)?),
        expire_time: from_micros(row.try_get(7)?),
        create_time: from_micros(row.try_get(8)?),
        body: row.try_get::<Vec<u8>, _>(9)?.into(),
    })
}

/// Stores a send behind those of its recipient, with its events, unless its request was seen before.
pub(super) struct AcceptSend {
    pub(super) send: NewSend,
    pub(super) request: Option<RequestMark>,
    pub(super) events: Vec<NewEvent>,
}

#[async_trait]
impl Work for AcceptSend {
    type Output = AcceptOutcome;

    fn request(&self) -> Option<(&RequestMark, InstanceNumber, &str)> {
        let request = self.request.as_ref()?;
        Some((request, self.send.instance, &self.send.message_id))
    }

    async fn run(&self, unit: &mut Unit) -> Result<AcceptOutcome> {
        let send = &self.send;
        if unit.is_deleted(send.instance)? {
            return Err(error::deleted(send.instance));
        }
        if let Some(request) = &self.request
            && let Some(seen) = messages::seen_before(unit, send.instance, request).await?
        {
            return Ok(seen);
        }
        let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM send WHERE instance = ?")
            .bind(send.instance.0)
            .fetch_one(unit.connection().await?)
            .await?;
        if waiting >= rows::limit(send.most) {
            if let Some(request) = &self.request {
                requests::release(request, unit).await?;
            }
            return Ok(AcceptOutcome::Full);
        }
        let connection = unit.connection().await?;
        let person = contacts::person(connection, send.instance, &send.recipient).await?;
        let mut placed = send.clone();
        if !send.scheduled {
            placed.not_before = behind(connection, send, &person).await?;
        }
        let placed = placed.as_it_waits();
        sqlx::query(
            "INSERT INTO send (instance, message_id, recipient, person, scheduled, begin_time, \
             due_time, expire_time, create_time, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(send.instance.0)
        .bind(&*send.message_id)
        .bind(&*send.recipient)
        .bind(&*person)
        .bind(send.scheduled)
        .bind(micros(placed.begin_time))
        .bind(micros(placed.due_time))
        .bind(micros(send.expire_time))
        .bind(micros(send.create_time))
        .bind(&send.body[..])
        .execute(unit.connection().await?)
        .await?;
        unit.append(self.events.iter().cloned())?;
        Ok(AcceptOutcome::Accepted)
    }
}

/// When a send may begin that comes behind those of its person.
async fn behind(
    connection: &mut SqliteConnection,
    send: &NewSend,
    person: &str,
) -> Result<SystemTime> {
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT max(due_time) FROM send WHERE instance = ? AND person = ? \
         AND (scheduled = 0 OR due_time <= ?)",
    )
    .bind(send.instance.0)
    .bind(person)
    .bind(micros(send.create_time))
    .fetch_one(connection)
    .await?;
    let last = last.map(from_micros);
    Ok(last.map_or(send.not_before, |last| last.max(send.not_before)))
}

/// Stores the message of a send in its place, with its events; false if the send does not wait (any more).
pub(super) async fn finish(
    (message, events): &(MessageRow, Vec<NewEvent>),
    unit: &mut Unit,
) -> Result<bool> {
    let gone = sqlx::query("DELETE FROM send WHERE instance = ? AND message_id = ?")
        .bind(message.instance.0)
        .bind(&*message.message_id)
        .execute(unit.connection().await?)
        .await?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    unit.insert_outbound(message.clone());
    unit.append(events.iter().cloned())?;
    Ok(true)
}

/// Lets none of the sends to a person be due before a time.
pub(super) async fn postpone(
    (instance, person, until): &(InstanceNumber, String, SystemTime),
    unit: &mut Unit,
) -> Result<()> {
    sqlx::query(
        "UPDATE send SET begin_time = max(begin_time, ?1), due_time = max(due_time, ?1) \
         WHERE instance = ?2 AND person = ?3",
    )
    .bind(micros(*until))
    .bind(instance.0)
    .bind(&**person)
    .execute(unit.connection().await?)
    .await?;
    Ok(())
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    instance: InstanceNumber,
    message_id: &str,
) -> Result<Option<SendRow>> {
    let row = sqlx::query(with_columns!("WHERE instance = ? AND message_id = ?"))
        .bind(instance.0)
        .bind(message_id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(send_of).transpose()
}

pub(super) async fn lookup(
    readers: &SqlitePool,
    instance: InstanceNumber,
    message_id: &str,
) -> Result<Option<SendRow>> {
    let mut connection = readers.acquire().await?;
    find(&mut connection, instance, message_id).await
}

pub(super) async fn list(
    readers: &SqlitePool,
    instance: InstanceNumber,
    query: SendQuery,
    limit: usize,
) -> Result<Vec<SendRow>> {
    let (statement, bound) = match query {
        SendQuery::Begun(by) => (
            with_columns!(
                "AS one INDEXED BY send_due WHERE instance = ? AND begin_time <= ? AND NOT EXISTS (SELECT 1 FROM send \
                 AS other WHERE other.instance = one.instance AND other.person = one.person \
                 AND (other.due_time, other.number) < (one.due_time, one.number)) \
                 ORDER BY due_time, number LIMIT ?"
            ),
            micros(by),
        ),
        SendQuery::Expired(by) => (
            with_columns!("WHERE instance = ? AND expire_time <= ? ORDER BY number LIMIT ?"),
            micros(by),
        ),
        SendQuery::After(number) => (
            with_columns!("WHERE instance = ? AND number > ? ORDER BY number LIMIT ?"),
            number,
        ),
    };
    sqlx::query(statement)
        .bind(instance.0)
        .bind(bound)
        .bind(rows::limit(limit))
        .fetch_all(readers)
        .await?
        .iter()
        .map(send_of)
        .collect()
}

pub(super) async fn next_time(
    readers: &SqlitePool,
    instance: InstanceNumber,
    after: SystemTime,
) -> Result<Option<SystemTime>> {
    let next: Option<i64> = sqlx::query_scalar(
        "SELECT min(time) FROM (SELECT min(begin_time) AS time FROM send \
         WHERE instance = ?1 AND begin_time > ?2 UNION ALL \
         SELECT min(due_time) FROM send \
         WHERE instance = ?1 AND begin_time <= ?2 AND due_time > ?2 UNION ALL \
         SELECT min(expire_time) FROM send WHERE instance = ?1 AND expire_time > ?2)",
    )
    .bind(instance.0)
    .bind(micros(after))
    .fetch_one(readers)
    .await?;
    Ok(next.map(from_micros))
}

pub(super) async fn is_before(
    readers: &SqlitePool,
    instance: InstanceNumber,
    recipient: &str,
    now: SystemTime,
) -> Result<bool> {
    let mut connection = readers.acquire().await?;
    let person = contacts::person(&mut connection, instance, recipient).await?;
    let found = sqlx::query(
        "SELECT 1 FROM send WHERE instance = ? AND person = ? \
         AND (scheduled = 0 OR due_time <= ?) LIMIT 1",
    )
    .bind(instance.0)
    .bind(person)
    .bind(micros(now))
    .fetch_optional(&mut *connection)
    .await?;
    Ok(found.is_some())
}

//! Instances.

use std::time::SystemTime;

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    error::strange,
    log, requests, rows,
    time::{from_micros, micros, rounded},
    unit::Unit,
};
use crate::{
    domain::{
        ids::{InstanceId, InstanceName, InstanceNumber},
        session::SessionState,
    },
    storage::{
        EventsOf, InstanceChange, InstanceRow, NameOutcome, Network, NewInstance, RequestMark,
        Result,
    },
};

/// A statement with the columns that `instance_of` reads in between.
macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " number, id, name, network, state, state_reason, state_time, banned_until, \
             phone_number, lid, push_name, show_online, reject_calls, reject_calls_text, create_time, update_time ",
            $after
        )
    };
}

/// All that an instance has beside its own row and its events.
const PURGES: [&str; 12] = [
    "DELETE FROM send WHERE instance = ?",
    "DELETE FROM queue_item WHERE queue IN (SELECT number FROM queue WHERE instance = ?)",
    "DELETE FROM queue WHERE instance = ?",
    "DELETE FROM contact WHERE instance = ?",
    "DELETE FROM contact_pair WHERE instance = ?",
    "DELETE FROM contact_alias WHERE instance = ?",
    "DELETE FROM message_receipt WHERE instance = ?",
    "DELETE FROM message WHERE instance = ?",
    "DELETE FROM payment WHERE instance = ?",
    "DELETE FROM request WHERE instance = ?",
    "DELETE FROM media_shared WHERE instance = ?",
    // The rows stay until the bytes, which lie elsewhere, are removed.
    "UPDATE media SET state = 0, message_id = '', attempt_time = NULL, expire_time = 0 WHERE instance = ?",
];

/// All that its device has, and what is known of its account.
const DEVICE_PURGES: [&str; 9] = [
    "DELETE FROM cold_hold WHERE instance = ?",
    "DELETE FROM call WHERE instance = ?",
    "DELETE FROM group_chat WHERE instance = ?",
    "DELETE FROM group_sync WHERE instance = ?",
    "DELETE FROM device_record WHERE instance = ?",
    "DELETE FROM device_lid WHERE instance = ?",
    "DELETE FROM device_sender_key_holder WHERE instance = ?",
    "DELETE FROM device_trust_token WHERE instance = ?",
    "DELETE FROM device_message_secret WHERE instance = ?",
];

fn instance_of(row: &SqliteRow) -> Result<InstanceRow> {
    let unknown = || strange("an instance");
    let network = match row.try_get::<i32, _>(3)? {
        1 => Network::WhatsApp,
        2 => Network::Sandbox,
        _ => return Err(unknown()),
    };
    Ok(InstanceRow {
        number: InstanceNumber(row.try_get(0)?),
        id: InstanceId(Uuid::try_parse(row.try_get(1)?).map_err(|_| unknown())?),
        name: InstanceName::parse(row.try_get(2)?).map_err(|_| unknown())?,
        network,
        state: SessionState::from_number(row.try_get(4)?).ok_or_else(unknown)?,
        state_reason: row.try_get(5)?,
        state_time: from_micros(row.try_get(6)?),
        banned_until: row.try_get::<Option<i64>, _>(7)?.map(from_micros),
        phone_number: row.try_get(8)?,
        lid: row.try_get(9)?,
        push_name: row.try_get(10)?,
        show_online: row.try_get(11)?,
        reject_calls: row.try_get(12)?,
        reject_calls_text: row.try_get(13)?,
        create_time: from_micros(row.try_get(14)?),
        update_time: from_micros(row.try_get(15)?),
    })
}

async fn find(
    connection: &mut SqliteConnection,
    number: InstanceNumber,
) -> Result<Option<InstanceRow>> {
    let row = sqlx::query(with_columns!("SELECT", "FROM instance WHERE number = ?"))
        .bind(number.0)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(instance_of).transpose()
}

async fn is_taken(
    connection: &mut SqliteConnection,
    name: &InstanceName,
    but_for: InstanceNumber,
) -> Result<bool> {
    let other = sqlx::query("SELECT 1 FROM instance WHERE name = ? AND number <> ?")
        .bind(name.as_str())
        .bind(but_for.0)
        .fetch_optional(connection)
        .await?;
    Ok(other.is_some())
}

/// What `create` is given.
pub(super) struct Create {
    pub(super) new: NewInstance,
    pub(super) request: Option<RequestMark>,
    pub(super) events: EventsOf<InstanceRow>,
}

pub(super) async fn create(work: &Create, unit: &mut Unit) -> Result<NameOutcome> {
    if let Some(request) = &work.request
        && let Some(known) = requests::find(unit.connection().await?, request).await?
    {
        return Ok(match known.differing(request) {
            None => NameOutcome::Replayed(known.subject),
            Some(fields) => NameOutcome::Reused(fields),
        });
    }
    let number = InstanceNumber(unit.counters()?.last_instance + 1);
    let name = match &work.new.name {
        Some(name) if is_taken(unit.connection().await?, name, number).await? => {
            return Ok(NameOutcome::Taken(name.clone()));
        }
        Some(name) => name.clone(),
        None => free_name(unit.connection().await?, number).await?,
    };
    let now = rounded(work.new.create_time);
    let row = InstanceRow {
        number,
        id: work.new.id,
        name,
        network: work.new.network,
        state: SessionState::Unpaired,
        state_reason: String::new(),
        state_time: now,
        banned_until: None,
        phone_number: String::new(),
        lid: String::new(),
        push_name: String::new(),
        show_online: work.new.show_online,
        reject_calls: false,
        reject_calls_text: String::new(),
        create_time: now,
        update_time: now,
    };
    unit.forget_instances();
    write(unit.connection().await?, &row).await?;
    let counters = unit.counters_mut()?;
    counters.last_instance = number.0;
    counters.instances.insert(number);
    if let Some(request) = &work.request {
        let id = row.id.to_string();
        requests::store_new(unit, std::iter::once((request, number, &*id))).await?;
        // Claimed: an equal request in this transaction finds it in the table.
        unit.new_requests.remove(&requests::key_of(request));
    }
    unit.append((work.events)(&row))?;
    Ok(NameOutcome::Done(Box::new(row)))
}

async fn free_name(
    connection: &mut SqliteConnection,
    number: InstanceNumber,
) -> Result<InstanceName> {
    let mut text = format!("instance-{number}");
    let mut suffix = 1;
    loop {
        let name = InstanceName::parse(&text).map_err(|_| strange("an instance's number"))?;
        if !is_taken(connection, &name, number).await? {
            return Ok(name);
        }
        suffix += 1;
        text = format!("instance-{number}-{suffix}");
    }
}

async fn write(connection: &mut SqliteConnection, row: &InstanceRow) -> Result<()> {
    sqlx::query(
        "INSERT INTO instance (number, id, name, network, state, state_reason, state_time, \
         banned_until, phone_number, lid, push_name, show_online, reject_calls, \
         reject_calls_text, create_time, update_time) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (number) DO UPDATE SET name = excluded.name, state = excluded.state, \
         state_reason = excluded.state_reason, state_time = excluded.state_time, \
         banned_until = excluded.banned_until, phone_number = excluded.phone_number, \
         lid = excluded.lid, push_name = excluded.push_name, \
         show_online = excluded.show_online, reject_calls = excluded.reject_calls, \
         reject_calls_text = excluded.reject_calls_text, update_time = excluded.update_time",
    )
    .bind(row.number.0)
    .bind(row.id.to_string())
    .bind(row.name.as_str())
    .bind(row.network as i32)
    .bind(row.state as i32)
    .bind(&row.state_reason)
    .bind(micros(row.state_time))
    .bind(row.banned_until.map(micros))
    .bind(&row.phone_number)
    .bind(&row.lid)
    .bind(&row.push_name)
    .bind(row.show_online)
    .bind(row.reject_calls)
    .bind(&row.reject_calls_text)
    .bind(micros(row.create_time))
    .bind(micros(row.update_time))
    .execute(connection)
    .await?;
    Ok(())
}

/// What `change` is given.
pub(super) struct Change {
    pub(super) number: InstanceNumber,
    pub(super) change: InstanceChange,
    pub(super) events: EventsOf<InstanceRow>,
}

pub(super) async fn change(work: &Change, unit: &mut Unit) -> Result<NameOutcome> {
    let Some(old) = find(unit.connection().await?, work.number).await? else {
        return Ok(NameOutcome::Missing);
    };
    if let Some(name) = &work.change.name
        && is_taken(unit.connection().await?, name, work.number).await?
    {
        return Ok(NameOutcome::Taken(name.clone()));
    }
    let new = changed(old, work.change.clone());
    unit.forget_instances();
    write(unit.connection().await?, &new).await?;
    unit.append((work.events)(&new))?;
    Ok(NameOutcome::Done(Box::new(new)))
}

fn changed(old: InstanceRow, change: InstanceChange) -> InstanceRow {
    let mut new = InstanceRow {
        name: change.name.unwrap_or_else(|| old.name.clone()),
        show_online: change.show_online.unwrap_or(old.show_online),
        reject_calls: change.reject_calls.unwrap_or(old.reject_calls),
        reject_calls_text: change
            .reject_calls_text
            .unwrap_or_else(|| old.reject_calls_text.clone()),
        phone_number: change
            .phone_number
            .unwrap_or_else(|| old.phone_number.clone()),
        lid: change.lid.unwrap_or_else(|| old.lid.clone()),
        push_name: change.push_name.unwrap_or_else(|| old.push_name.clone()),
        ..old.clone()
    };
    if new != old {
        new.update_time = rounded(change.time.unwrap_or_else(SystemTime::now));
    }
    if let Some(state) = change.state {
        new.state = state.state;
        new.state_reason = state.reason;
        new.state_time = rounded(state.time);
        new.banned_until = state.banned_until.map(rounded);
    }
    new
}

/// What `delete` is given.
pub(super) struct Delete {
    pub(super) number: InstanceNumber,
    pub(super) events: EventsOf<InstanceRow>,
}

/// Removes all rows of an instance's device.
pub(super) async fn purge_device(number: &InstanceNumber, unit: &mut Unit) -> Result<()> {
    // What waits to be written comes first, or it would come after.
    unit.flush().await?;
    for statement in DEVICE_PURGES {
        sqlx::query(statement)
            .bind(number.0)
            .execute(unit.connection().await?)
            .await?;
    }
    Ok(())
}

pub(super) async fn delete(work: &Delete, unit: &mut Unit) -> Result<bool> {
    let Some(row) = find(unit.connection().await?, work.number).await? else {
        return Ok(false);
    };
    unit.forget_instances();
    log::purge(unit, work.number).await?;
    for statement in PURGES {
        sqlx::query(statement)
            .bind(work.number.0)
            .execute(unit.connection().await?)
            .await?;
    }
    purge_device(&work.number, unit).await?;
    sqlx::query("DELETE FROM instance WHERE number = ?")
        .bind(work.number.0)
        .execute(unit.connection().await?)
        .await?;
    unit.counters_mut()?.instances.remove(&work.number);
    for event in (work.events)(&row) {
        unit.append_last(event)?;
    }
    Ok(true)
}

pub(super) async fn lookup(readers: &SqlitePool, id_or_name: &str) -> Result<Option<InstanceRow>> {
    // A name never looks like an id, so one text can't mean two instances.
    let id = Uuid::try_parse(id_or_name).map(|id| InstanceId(id).to_string());
    let row = sqlx::query(with_columns!(
        "SELECT",
        "FROM instance WHERE id = ? OR name = ?"
    ))
    .bind(id.as_deref().unwrap_or_default())
    .bind(id_or_name)
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(instance_of).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    after: Option<InstanceNumber>,
    only: Option<Vec<InstanceNumber>>,
    limit: usize,
) -> Result<Vec<InstanceRow>> {
    let mut statement =
        QueryBuilder::<Sqlite>::new(with_columns!("SELECT", "FROM instance WHERE number > "));
    statement.push_bind(after.map_or(0, |after| after.0));
    if let Some(only) = only {
        statement.push(" AND number IN ");
        rows::push_list(&mut statement, only.into_iter().map(|one| one.0));
    }
    statement
        .push(" ORDER BY number LIMIT ")
        .push_bind(rows::limit(limit));
    statement
        .build()
        .fetch_all(readers)
        .await?
        .iter()
        .map(instance_of)
        .collect()
}

//! What is known of media.

use std::time::SystemTime;

use sqlx::{Row as _, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    error::strange,
    rows,
    time::{from_micros, micros},
    unit::Unit,
};
use crate::{
    domain::{
        ids::{InstanceNumber, MediaId},
        media::{MediaKind, MediaState},
    },
    storage::{
        MessageRow, NewEvent, Result,
        media::{MediaKeep, MediaRow},
    },
};

/// The values of a row.
macro_rules! insert {
    ($verb:literal) => {
        with_columns!(
            $verb,
            ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
    };
}

/// A statement with the columns that `media_of` reads in between.
macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " instance, id, kind, state, mime_type, file_name, size, sha256, width, height, duration, thumbnail, \
             source, chat, message_id, create_time, update_time, expire_time, attempts, attempt_time ",
            $after
        )
    };
}

fn media_of(row: &SqliteRow) -> Result<MediaRow> {
    let unknown = || strange("a media");
    let time =
        |column| -> Result<_> { Ok(row.try_get::<Option<i64>, _>(column)?.map(from_micros)) };
    Ok(MediaRow {
        instance: InstanceNumber(row.try_get(0)?),
        id: MediaId(Uuid::try_parse(row.try_get(1)?).map_err(|_| unknown())?),
        kind: MediaKind::from_number(row.try_get(2)?).ok_or_else(unknown)?,
        state: MediaState::from_number(row.try_get(3)?).ok_or_else(unknown)?,
        mime_type: row.try_get(4)?,
        file_name: row.try_get(5)?,
        size: row.try_get::<i64, _>(6)?.cast_unsigned(),
        sha256: row.try_get::<Vec<u8>, _>(7)?.into(),
        width: row.try_get(8)?,
        height: row.try_get(9)?,
        duration: row.try_get(10)?,
        thumbnail: row.try_get::<Vec<u8>, _>(11)?.into(),
        source: row.try_get::<Vec<u8>, _>(12)?.into(),
        chat: row.try_get(13)?,
        message_id: row.try_get(14)?,
        create_time: from_micros(row.try_get(15)?),
        update_time: from_micros(row.try_get(16)?),
        expire_time: time(17)?,
        attempts: row.try_get(18)?,
        attempt_time: time(19)?,
    })
}

pub(super) async fn create(media: &MediaRow, unit: &mut Unit) -> Result<bool> {
    if unit.is_deleted(media.instance)? {
        return Ok(false);
    }
    // What a message brings again may be further by now.
    write(
        media,
        insert!("INSERT OR IGNORE INTO media ("),
        unit.connection().await?,
    )
    .await?;
    Ok(true)
}

pub(super) async fn replace(
    work: &(MediaRow, MediaState, Vec<NewEvent>),
    unit: &mut Unit,
) -> Result<bool> {
    let (media, from, events) = work;
    if unit.is_deleted(media.instance)? {
        return Ok(false);
    }
    let known =
        sqlx::query_scalar::<_, i32>("SELECT state FROM media WHERE instance = ? AND id = ?")
            .bind(media.instance.0)
            .bind(media.id.to_string())
            .fetch_optional(unit.connection().await?)
            .await?;
    if known != Some(*from as i32) {
        return Ok(false);
    }
    write(
        media,
        insert!("INSERT OR REPLACE INTO media ("),
        unit.connection().await?,
    )
    .await?;
    unit.append(events.iter().cloned())?;
    Ok(true)
}

async fn write(
    media: &MediaRow,
    statement: &'static str,
    connection: &mut SqliteConnection,
) -> Result<()> {
    sqlx::query(statement)
        .bind(media.instance.0)
        .bind(media.id.to_string())
        .bind(media.kind as i32)
        .bind(media.state as i32)
        .bind(&media.mime_type)
        .bind(&media.file_name)
        .bind(media.size.cast_signed())
        .bind(&media.sha256[..])
        .bind(media.width)
        .bind(media.height)
        .bind(media.duration)
        .bind(&media.thumbnail[..])
        .bind(&media.source[..])
        .bind(&media.chat)
        .bind(&media.message_id)
        .bind(micros(media.create_time))
        .bind(micros(media.update_time))
        .bind(media.expire_time.map(micros))
        .bind(media.attempts)
        .bind(media.attempt_time.map(micros))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn lookup(
    readers: &SqlitePool,
    instance: InstanceNumber,
    id: MediaId,
) -> Result<Option<MediaRow>> {
    let row = sqlx::query(with_columns!(
        "SELECT",
        "FROM media WHERE instance = ? AND id = ?"
    ))
    .bind(instance.0)
    .bind(id.to_string())
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(media_of).transpose()
}

pub(super) async fn keep(
    work: &(InstanceNumber, MediaId, MediaKeep),
    unit: &mut Unit,
) -> Result<bool> {
    let (instance, id, keep) = work;
    sqlx::query(
        "INSERT OR IGNORE INTO media_shared (instance, id) SELECT instance, id FROM media \
         WHERE instance = ?1 AND id = ?2 AND message_id <> '' AND (message_id <> ?3 OR chat <> ?4)",
    )
    .bind(instance.0)
    .bind(id.to_string())
    .bind(&keep.message_id)
    .bind(&keep.chat)
    .execute(unit.connection().await?)
    .await?;
    // Several messages may have it: it belongs to the first, and stays for the one that keeps it longest.
    let done = sqlx::query(
        "UPDATE media SET chat = iif(message_id = '', ?1, chat), \
         message_id = iif(message_id = '', ?2, message_id), \
         expire_time = iif(message_id = '', ?3, max(expire_time, ?3)) \
         WHERE instance = ?4 AND id = ?5 AND state <> 0",
    )
    .bind(&keep.chat)
    .bind(&keep.message_id)
    .bind(keep.expire_time.map(micros))
    .bind(instance.0)
    .bind(id.to_string())
    .execute(unit.connection().await?)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Lets the bytes of a media go with the message that has it, if no other one has had it.
pub(super) async fn release(unit: &mut Unit, message: &MessageRow, id: MediaId) -> Result<()> {
    sqlx::query(
        "UPDATE media SET expire_time = 0, attempt_time = NULL \
         WHERE instance = ?1 AND id = ?2 AND message_id = ?3 AND chat = ?4 AND state <> 0 \
         AND NOT EXISTS (SELECT 1 FROM media_shared WHERE instance = ?1 AND id = ?2)",
    )
    .bind(message.instance.0)
    .bind(id.to_string())
    .bind(&message.message_id)
    .bind(&message.chat)
    .execute(unit.connection().await?)
    .await?;
    Ok(())
}

pub(super) async fn list_due(
    readers: &SqlitePool,
    now: SystemTime,
    limit: usize,
) -> Result<Vec<MediaRow>> {
    list(
        readers,
        with_columns!(
            "SELECT",
            "FROM media WHERE attempt_time <= ? ORDER BY attempt_time LIMIT ?"
        ),
        now,
        limit,
    )
    .await
}

pub(super) async fn list_expired(
    readers: &SqlitePool,
    now: SystemTime,
    limit: usize,
) -> Result<Vec<MediaRow>> {
    list(
        readers,
        with_columns!(
            "SELECT",
            "FROM media WHERE expire_time <= ? ORDER BY expire_time LIMIT ?"
        ),
        now,
        limit,
    )
    .await
}

async fn list(
    readers: &SqlitePool,
    statement: &'static str,
    now: SystemTime,
    limit: usize,
) -> Result<Vec<MediaRow>> {
    sqlx::query(statement)
        .bind(micros(now))
        .bind(rows::limit(limit))
        .fetch_all(readers)
        .await?
        .iter()
        .map(media_of)
        .collect()
}

pub(super) async fn remove(work: &(InstanceNumber, MediaId), unit: &mut Unit) -> Result<()> {
    let (instance, id) = work;
    for statement in [
        "DELETE FROM media WHERE instance = ? AND id = ?",
        "DELETE FROM media_shared WHERE instance = ? AND id = ?",
    ] {
        sqlx::query(statement)
            .bind(instance.0)
            .bind(id.to_string())
            .execute(unit.connection().await?)
            .await?;
    }
    Ok(())
}

//! Groups.

use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};

use super::{rows, unit::Unit};
use crate::{
    domain::ids::InstanceNumber,
    storage::{GroupChange, GroupRow, Result},
};

fn group_of(row: &SqliteRow) -> Result<GroupRow> {
    Ok(GroupRow {
        jid: row.try_get(0)?,
        member: row.try_get(1)?,
        body: row.try_get::<Vec<u8>, _>(2)?.into(),
    })
}

/// Stores groups as they are now, with the events of what changed.
pub(super) async fn change(
    (instance, change): &(InstanceNumber, GroupChange),
    unit: &mut Unit,
) -> Result<()> {
    if unit.is_deleted(*instance)? {
        return Ok(());
    }
    rows::with_values(
        &mut unit.transaction,
        "INSERT INTO group_chat (instance, jid, member, body)",
        &change.groups,
        "ON CONFLICT (instance, jid) DO UPDATE SET member = excluded.member, body = excluded.body",
        |mut row, group| {
            row.push_bind(instance.0)
                .push_bind(&*group.jid)
                .push_bind(group.member)
                .push_bind(&group.body[..]);
        },
    )
    .await?;
    if change.complete {
        sqlx::query("INSERT INTO group_sync (instance) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(instance.0)
            .execute(unit.connection().await?)
            .await?;
    }
    unit.append(change.events.iter().cloned())
}

pub(super) async fn lookup(
    readers: &SqlitePool,
    instance: InstanceNumber,
    jid: &str,
) -> Result<Option<GroupRow>> {
    let row =
        sqlx::query("SELECT jid, member, body FROM group_chat WHERE instance = ? AND jid = ?")
            .bind(instance.0)
            .bind(jid)
            .fetch_optional(readers)
            .await?;
    row.as_ref().map(group_of).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    instance: InstanceNumber,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<GroupRow>> {
    sqlx::query(
        "SELECT jid, member, body FROM group_chat \
         WHERE instance = ? AND member = 1 AND jid > ? ORDER BY jid LIMIT ?",
    )
    .bind(instance.0)
    .bind(after.unwrap_or_default())
    .bind(rows::limit(limit))
    .fetch_all(readers)
    .await?
    .iter()
    .map(group_of)
    .collect()
}

pub(super) async fn is_complete(readers: &SqlitePool, instance: InstanceNumber) -> Result<bool> {
    let row = sqlx::query("SELECT 1 FROM group_sync WHERE instance = ?")
        .bind(instance.0)
        .fetch_optional(readers)
        .await?;
    Ok(row.is_some())
}

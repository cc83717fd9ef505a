//! API keys.

use std::time::SystemTime;

use sqlx::{Row as _, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::{error::strange, rows, time, unit::Unit};
use crate::{
    domain::{
        ids::{ApiKeyId, InstanceNumber},
        permission::Permission,
    },
    storage::{ApiKeyRow, Result, RevokeOutcome},
};

/// A statement with the columns that `key_of` reads in between.
macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, secret_digest, display_name, permissions, instances, create_time, revoke_time ",
            $after
        )
    };
}

fn key_of(row: &SqliteRow) -> Result<ApiKeyRow> {
    let unknown = || strange("an API key");
    let words = |text: &'_ str| -> Vec<String> {
        text.split(',')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let instances = words(row.try_get(4)?)
        .iter()
        .map(|word| word.parse().map(InstanceNumber).map_err(|_| unknown()))
        .collect::<Result<_>>()?;
    Ok(ApiKeyRow {
        id: ApiKeyId::parse(row.try_get(0)?).ok_or_else(unknown)?,
        secret_digest: row
            .try_get::<&[u8], _>(1)?
            .try_into()
            .map_err(|_| unknown())?,
        display_name: row.try_get(2)?,
        // A permission of a later version is not known here, so it is not given.
        permissions: words(row.try_get(3)?)
            .iter()
            .filter_map(|word| Permission::parse(word))
            .collect(),
        instances,
        create_time: time::from_micros(row.try_get(5)?),
        revoke_time: row.try_get::<Option<i64>, _>(6)?.map(time::from_micros),
    })
}

pub(super) async fn create(key: &ApiKeyRow, unit: &mut Unit) -> Result<()> {
    let permissions: Vec<_> = key.permissions.iter().map(|one| one.as_str()).collect();
    let instances: Vec<_> = key.instances.iter().map(ToString::to_string).collect();
    sqlx::query(
        "INSERT INTO api_key \
         (id, secret_digest, display_name, permissions, instances, create_time, revoke_time) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(key.id.as_str())
    .bind(&key.secret_digest[..])
    .bind(&key.display_name)
    .bind(permissions.join(","))
    .bind(instances.join(","))
    .bind(time::micros(key.create_time))
    .bind(key.revoke_time.map(time::micros))
    .execute(unit.connection().await?)
    .await?;
    Ok(())
}

pub(super) async fn lookup(readers: &SqlitePool, id: &ApiKeyId) -> Result<Option<ApiKeyRow>> {
    find(&mut *readers.acquire().await?, id).await
}

async fn find(connection: &mut SqliteConnection, id: &ApiKeyId) -> Result<Option<ApiKeyRow>> {
    let row = sqlx::query(with_columns!("SELECT", "FROM api_key WHERE id = ?"))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(key_of).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    after: Option<ApiKeyId>,
    limit: usize,
) -> Result<Vec<ApiKeyRow>> {
    let after = after.as_ref().map(ApiKeyId::as_str);
    sqlx::query(with_columns!(
        "SELECT",
        "FROM api_key WHERE ? IS NULL \
         OR (create_time, id) > (SELECT create_time, id FROM api_key WHERE id = ?) \
         ORDER BY create_time, id LIMIT ?"
    ))
    .bind(after)
    .bind(after)
    .bind(rows::limit(limit))
    .fetch_all(readers)
    .await?
    .iter()
    .map(key_of)
    .collect()
}

/// Whether it manages all keys: one that is bound to instances does not.
fn is_admin(key: &ApiKeyRow) -> bool {
    let may = |one: &Permission| matches!(one, Permission::All | Permission::KeysWrite);
    key.revoke_time.is_none() && key.instances.is_empty() && key.permissions.iter().any(may)
}

pub(super) async fn revoke(
    work: &(ApiKeyId, SystemTime),
    unit: &mut Unit,
) -> Result<RevokeOutcome> {
    let (id, time) = work;
    let Some(mut key) = find(unit.connection().await?, id).await? else {
        return Ok(RevokeOutcome::Missing);
    };
    if key.revoke_time.is_some() {
        return Ok(RevokeOutcome::Revoked(key));
    }
    if is_admin(&key) {
        let good = sqlx::query(with_columns!(
            "SELECT",
            "FROM api_key WHERE revoke_time IS NULL"
        ))
        .fetch_all(unit.connection().await?)
        .await?;
        let mut admins = 0;
        for row in &good {
            admins += usize::from(is_admin(&key_of(row)?));
        }
        if admins < 2 {
            return Ok(RevokeOutcome::LastAdmin);
        }
    }
    sqlx::query("UPDATE api_key SET revoke_time = ? WHERE id = ?")
        .bind(time::micros(*time))
        .bind(id.as_str())
        .execute(unit.connection().await?)
        .await?;
    key.revoke_time = Some(time::rounded(*time));
    Ok(RevokeOutcome::Revoked(key))
}

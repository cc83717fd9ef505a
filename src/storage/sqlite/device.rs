//! One device's rows.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool, sqlite::SqliteRow};
use tokio_util::sync::CancellationToken;

use super::{
    error::{deleted, strange},
    instances,
    merging::{TokenWrite, expire_secrets, expire_tokens, put_secrets, write_token},
    rows,
    transaction::Transaction,
    unit::Unit,
    writer::{Steps, Writer},
};
use crate::{
    domain::ids::InstanceNumber,
    storage::{
        Result,
        device::{DeviceStorage, LidMapping, MessageSecret, RecordChange, RecordKind, TrustToken},
    },
};

/// Most keys of one statement.
const KEYS: usize = 500;

/// The device of one instance in the shared database.
pub(super) struct SqliteDevice {
    pub(super) instance: InstanceNumber,
    pub(super) readers: SqlitePool,
    pub(super) writer: Writer,
    pub(super) failed: CancellationToken,
}

/// A write of one device: refused once its instance is gone, so that a client that is still
/// closing leaves no row behind.
pub(super) fn own(unit: &mut Unit, instance: InstanceNumber) -> Result<&mut Transaction> {
    if unit.is_deleted(instance)? {
        return Err(deleted(instance));
    }
    Ok(&mut unit.transaction)
}

/// The least text that is greater than all that start with this prefix.
fn end_of(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            end.push(next);
            break;
        }
    }
    end
}

fn record_of(row: &SqliteRow) -> Result<(String, Bytes)> {
    Ok((row.try_get(0)?, row.try_get::<Vec<u8>, _>(1)?.into()))
}

fn mapping_of(row: &SqliteRow) -> Result<LidMapping> {
    Ok(LidMapping {
        lid: row.try_get(0)?,
        phone_number: row.try_get(1)?,
        created_at: row.try_get(2)?,
        updated_at: row.try_get(3)?,
        learning_source: row.try_get(4)?,
    })
}

async fn change(work: &(InstanceNumber, Vec<RecordChange>), unit: &mut Unit) -> Result<()> {
    let (instance, changes) = work;
    own(unit, *instance)?;
    for change in changes {
        unit.change_record(*instance, change.clone());
    }
    Ok(())
}

async fn delete_prefix(
    work: &(InstanceNumber, RecordKind, String),
    unit: &mut Unit,
) -> Result<u64> {
    let (instance, kind, prefix) = work;
    unit.flush().await?;
    let gone = sqlx::query(
        "DELETE FROM device_record WHERE instance = ? AND kind = ? AND key >= ? AND key < ?",
    )
    .bind(instance.0)
    .bind(*kind as i16)
    .bind(prefix)
    .bind(end_of(prefix))
    .execute(own(unit, *instance)?.connection().await?)
    .await?;
    Ok(gone.rows_affected())
}

async fn expire(work: &(InstanceNumber, RecordKind, i64), unit: &mut Unit) -> Result<u64> {
    let (instance, kind, before) = work;
    unit.flush().await?;
    let gone =
        sqlx::query("DELETE FROM device_record WHERE instance = ? AND kind = ? AND time < ?")
            .bind(instance.0)
            .bind(*kind as i16)
            .bind(before)
            .execute(own(unit, *instance)?.connection().await?)
            .await?;
    Ok(gone.rows_affected())
}

async fn put_mappings(work: &(InstanceNumber, Vec<LidMapping>), unit: &mut Unit) -> Result<()> {
    let (instance, mappings) = work;
    rows::with_values(
        own(unit, *instance)?,
        "INSERT INTO device_lid \
         (instance, lid, phone_number, created_at, updated_at, learning_source)",
        mappings,
        "ON CONFLICT (instance, lid) DO UPDATE SET phone_number = excluded.phone_number, \
         created_at = excluded.created_at, updated_at = excluded.updated_at, \
         learning_source = excluded.learning_source",
        |mut row, mapping| {
            row.push_bind(instance.0)
                .push_bind(&*mapping.lid)
                .push_bind(&*mapping.phone_number)
                .push_bind(mapping.created_at)
                .push_bind(mapping.updated_at)
                .push_bind(&*mapping.learning_source);
        },
    )
    .await?;
    Ok(())
}

async fn set_holders(
    work: &(InstanceNumber, String, Vec<(String, bool)>),
    unit: &mut Unit,
) -> Result<()> {
    let (instance, group, holders) = work;
    rows::with_values(
        own(unit, *instance)?,
        "INSERT INTO device_sender_key_holder (instance, group_jid, device_jid, has_key)",
        holders,
        "ON CONFLICT (instance, group_jid, device_jid) DO UPDATE SET has_key = excluded.has_key",
        |mut row, (device, has_key)| {
            row.push_bind(instance.0)
                .push_bind(&**group)
                .push_bind(&**device)
                .push_bind(*has_key);
        },
    )
    .await?;
    Ok(())
}

async fn clear_holders(work: &(InstanceNumber, Option<String>), unit: &mut Unit) -> Result<()> {
    let (instance, group) = work;
    let connection = own(unit, *instance)?.connection().await?;
    let statement = match group {
        Some(group) => {
            sqlx::query("DELETE FROM device_sender_key_holder WHERE instance = ? AND group_jid = ?")
                .bind(instance.0)
                .bind(group)
        }
        None => {
            sqlx::query("DELETE FROM device_sender_key_holder WHERE instance = ?").bind(instance.0)
        }
    };
    statement.execute(connection).await?;
    Ok(())
}

async fn delete_holders(work: &(InstanceNumber, Vec<String>), unit: &mut Unit) -> Result<()> {
    let (instance, devices) = work;
    let connection = own(unit, *instance)?.connection().await?;
    for some in devices.chunks(KEYS) {
        let mut statement =
            QueryBuilder::<Sqlite>::new("DELETE FROM device_sender_key_holder WHERE instance = ");
        statement.push_bind(instance.0).push(" AND device_jid IN ");
        rows::push_list(&mut statement, some.iter().cloned());
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

#[async_trait]
impl DeviceStorage for SqliteDevice {
    fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    async fn clear(&self) -> Result<()> {
        self.writer
            .steps(self.instance, |number, unit| {
                Box::pin(instances::purge_device(number, unit))
            })
            .await
    }

    async fn record(&self, kind: RecordKind, key: &str) -> Result<Option<Bytes>> {
        let value: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT value FROM device_record WHERE instance = ? AND kind = ? AND key = ?",
        )
        .bind(self.instance.0)
        .bind(kind as i16)
        .bind(key)
        .fetch_optional(&self.readers)
        .await?;
        Ok(value.map(Bytes::from))
    }

    async fn records(&self, kind: RecordKind, keys: &[String]) -> Result<Vec<(String, Bytes)>> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(KEYS) {
            let mut statement = QueryBuilder::<Sqlite>::new(
                "SELECT key, value FROM device_record WHERE instance = ",
            );
            statement
                .push_bind(self.instance.0)
                .push(" AND kind = ")
                .push_bind(kind as i16)
                .push(" AND key IN ");
            rows::push_list(&mut statement, some.iter().cloned());
            for row in statement.build().fetch_all(&self.readers).await? {
                found.push(record_of(&row)?);
            }
        }
        Ok(found)
    }

    async fn list_records(&self, kind: RecordKind) -> Result<Vec<(String, Bytes)>> {
        sqlx::query(
            "SELECT key, value FROM device_record WHERE instance = ? AND kind = ? ORDER BY key",
        )
        .bind(self.instance.0)
        .bind(kind as i16)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(record_of)
        .collect()
    }

    async fn last_record_key(&self, kind: RecordKind) -> Result<Option<String>> {
        Ok(
            sqlx::query_scalar(
                "SELECT max(key) FROM device_record WHERE instance = ? AND kind = ?",
            )
            .bind(self.instance.0)
            .bind(kind as i16)
            .fetch_one(&self.readers)
            .await?,
        )
    }

    async fn any_record(&self, kinds: &[RecordKind], prefixes: &[String]) -> Result<bool> {
        let mut statement = QueryBuilder::<Sqlite>::new("SELECT 1 WHERE 1 = 0");
        for kind in kinds {
            for prefix in prefixes {
                statement
                    .push(" OR EXISTS (SELECT 1 FROM device_record WHERE instance = ")
                    .push_bind(self.instance.0)
                    .push(" AND kind = ")
                    .push_bind(*kind as i16)
                    .push(" AND key >= ")
                    .push_bind(&**prefix)
                    .push(" AND key < ")
                    .push_bind(end_of(prefix))
                    .push(")");
            }
        }
        let found = statement.build().fetch_optional(&self.readers).await?;
        Ok(found.is_some())
    }

    async fn change_records(&self, changes: Vec<RecordChange>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.writer
            .steps((self.instance, changes), |work, unit| {
                Box::pin(change(work, unit))
            })
            .await
    }

    async fn change_records_soon(&self, changes: Vec<RecordChange>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.writer
            .write_soon(Steps::new((self.instance, changes), |work, unit| {
                Box::pin(change(work, unit))
            }))
            .await
    }

    async fn written(&self) -> Result<()> {
        self.writer
            .steps((), |_, _| Box::pin(std::future::ready(Ok(()))))
            .await
    }

    async fn delete_records(&self, kind: RecordKind, prefix: &str) -> Result<u64> {
        self.writer
            .steps((self.instance, kind, prefix.to_owned()), |work, unit| {
                Box::pin(delete_prefix(work, unit))
            })
            .await
    }

    async fn expire_records(&self, kind: RecordKind, before: i64) -> Result<u64> {
        self.writer
            .steps((self.instance, kind, before), |work, unit| {
                Box::pin(expire(work, unit))
            })
            .await
    }

    async fn mapping_of_lid(&self, lid: &str) -> Result<Option<LidMapping>> {
        let row = sqlx::query(
            "SELECT lid, phone_number, created_at, updated_at, learning_source \
             FROM device_lid WHERE instance = ? AND lid = ?",
        )
        .bind(self.instance.0)
        .bind(lid)
        .fetch_optional(&self.readers)
        .await?;
        row.as_ref().map(mapping_of).transpose()
    }

    async fn mapping_of_number(&self, phone_number: &str) -> Result<Option<LidMapping>> {
        let row = sqlx::query(
            "SELECT lid, phone_number, created_at, updated_at, learning_source \
             FROM device_lid WHERE instance = ? AND phone_number = ? \
             ORDER BY updated_at DESC LIMIT 1",
        )
        .bind(self.instance.0)
        .bind(phone_number)
        .fetch_optional(&self.readers)
        .await?;
        row.as_ref().map(mapping_of).transpose()
    }

    async fn list_mappings(&self) -> Result<Vec<LidMapping>> {
        sqlx::query(
            "SELECT lid, phone_number, created_at, updated_at, learning_source \
             FROM device_lid WHERE instance = ? ORDER BY lid",
        )
        .bind(self.instance.0)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(mapping_of)
        .collect()
    }

    async fn put_mappings(&self, mappings: Vec<LidMapping>) -> Result<()> {
        self.writer
            .steps((self.instance, mappings), |work, unit| {
                Box::pin(put_mappings(work, unit))
            })
            .await
    }

    async fn sender_key_holders(&self, group: &str) -> Result<Vec<(String, bool)>> {
        Ok(sqlx::query_as(
            "SELECT device_jid, has_key FROM device_sender_key_holder \
             WHERE instance = ? AND group_jid = ? ORDER BY device_jid",
        )
        .bind(self.instance.0)
        .bind(group)
        .fetch_all(&self.readers)
        .await?)
    }

    async fn set_sender_key_holders(
        &self,
        group: &str,
        holders: Vec<(String, bool)>,
    ) -> Result<()> {
        self.writer
            .steps((self.instance, group.to_owned(), holders), |work, unit| {
                Box::pin(set_holders(work, unit))
            })
            .await
    }

    async fn clear_sender_key_holders(&self, group: Option<&str>) -> Result<()> {
        self.writer
            .steps((self.instance, group.map(str::to_owned)), |work, unit| {
                Box::pin(clear_holders(work, unit))
            })
            .await
    }

    async fn delete_sender_key_holders(&self, devices: Vec<String>) -> Result<()> {
        self.writer
            .steps((self.instance, devices), |work, unit| {
                Box::pin(delete_holders(work, unit))
            })
            .await
    }

    async fn trust_token(&self, jid: &str) -> Result<Option<TrustToken>> {
        let row = sqlx::query(
            "SELECT token, token_time, sender_time FROM device_trust_token \
             WHERE instance = ? AND jid = ?",
        )
        .bind(self.instance.0)
        .bind(jid)
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(TrustToken {
            token: row.try_get(0)?,
            token_time: row.try_get(1)?,
            sender_time: row.try_get(2)?,
        }))
    }

    async fn list_trust_token_jids(&self) -> Result<Vec<String>> {
        Ok(
            sqlx::query_scalar(
                "SELECT jid FROM device_trust_token WHERE instance = ? ORDER BY jid",
            )
            .bind(self.instance.0)
            .fetch_all(&self.readers)
            .await?,
        )
    }

    async fn put_trust_token(&self, jid: &str, token: TrustToken) -> Result<()> {
        self.write_token(jid, TokenWrite::Whole(token)).await
    }

    async fn touch_trust_token(&self, jid: &str, sender_time: i64) -> Result<()> {
        self.write_token(jid, TokenWrite::Touched(sender_time))
            .await
    }

    async fn receive_trust_token(&self, jid: &str, token: &[u8], token_time: i64) -> Result<()> {
        self.write_token(jid, TokenWrite::Received(token.to_vec(), token_time))
            .await
    }

    async fn delete_trust_token(&self, jid: &str) -> Result<()> {
        self.write_token(jid, TokenWrite::Gone).await
    }

    async fn expire_trust_tokens(&self, token_before: i64, sender_before: i64) -> Result<u64> {
        self.writer
            .steps(
                (self.instance, token_before, sender_before),
                |work, unit| Box::pin(expire_tokens(work, unit)),
            )
            .await
    }

    async fn put_message_secrets(&self, secrets: Vec<MessageSecret>) -> Result<()> {
        self.writer
            .steps((self.instance, secrets), |work, unit| {
                Box::pin(put_secrets(work, unit))
            })
            .await
    }

    async fn message_secret(
        &self,
        chat: &str,
        sender: &str,
        message_id: &str,
    ) -> Result<Option<MessageSecret>> {
        let row = sqlx::query(
            "SELECT secret, expires_at, message_time FROM device_message_secret \
             WHERE instance = ? AND chat = ? AND sender = ? AND message_id = ?",
        )
        .bind(self.instance.0)
        .bind(chat)
        .bind(sender)
        .bind(message_id)
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let secret: &[u8] = row.try_get(0)?;
        Ok(Some(MessageSecret {
            chat: chat.into(),
            sender: sender.into(),
            message_id: message_id.into(),
            secret: secret.try_into().map_err(|_| strange("a message secret"))?,
            expires_at: row.try_get(1)?,
            message_time: row.try_get(2)?,
        }))
    }

    async fn expire_message_secrets(&self, now: i64) -> Result<u64> {
        self.writer
            .steps((self.instance, now), |work, unit| {
                Box::pin(expire_secrets(work, unit))
            })
            .await
    }
}

impl SqliteDevice {
    async fn write_token(&self, jid: &str, write: TokenWrite) -> Result<()> {
        self.writer
            .steps((self.instance, jid.to_owned(), write), |work, unit| {
                Box::pin(write_token(work, unit))
            })
            .await
    }
}

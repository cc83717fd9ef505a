//! Rows of a device that are merged with what is there, each in one statement.

use crate::{
    domain::ids::InstanceNumber,
    storage::{
        Result,
        device::{MessageSecret, TrustToken},
    },
};

use super::{device::own, rows, unit::Unit};

/// Which fields of a token a write owns.
pub(super) enum TokenWrite {
    Whole(TrustToken),
    Touched(i64),
    Received(Vec<u8>, i64),
    Gone,
}

pub(super) async fn write_token(
    work: &(InstanceNumber, String, TokenWrite),
    unit: &mut Unit,
) -> Result<()> {
    let (instance, jid, write) = work;
    let connection = own(unit, *instance)?.connection().await?;
    let statement = match write {
        TokenWrite::Whole(token) => sqlx::query(
            "INSERT INTO device_trust_token (instance, jid, token, token_time, sender_time) \
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (instance, jid) DO UPDATE SET \
             token = excluded.token, token_time = excluded.token_time, \
             sender_time = excluded.sender_time",
        )
        .bind(instance.0)
        .bind(jid)
        .bind(&token.token[..])
        .bind(token.token_time)
        .bind(token.sender_time),
        TokenWrite::Touched(sender_time) => sqlx::query(
            "INSERT INTO device_trust_token (instance, jid, token, token_time, sender_time) \
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (instance, jid) DO UPDATE SET \
             sender_time = excluded.sender_time \
             WHERE device_trust_token.sender_time IS NULL \
             OR device_trust_token.sender_time < excluded.sender_time",
        )
        .bind(instance.0)
        .bind(jid)
        .bind(&[][..])
        .bind(sender_time)
        .bind(sender_time),
        TokenWrite::Received(token, token_time) => sqlx::query(
            "INSERT INTO device_trust_token (instance, jid, token, token_time) \
             VALUES (?, ?, ?, ?) ON CONFLICT (instance, jid) DO UPDATE SET \
             token = excluded.token, token_time = excluded.token_time \
             WHERE length(device_trust_token.token) = 0 \
             OR device_trust_token.token_time <= excluded.token_time",
        )
        .bind(instance.0)
        .bind(jid)
        .bind(&token[..])
        .bind(token_time),
        TokenWrite::Gone => {
            sqlx::query("DELETE FROM device_trust_token WHERE instance = ? AND jid = ?")
                .bind(instance.0)
                .bind(jid)
        }
    };
    statement.execute(connection).await?;
    Ok(())
}

pub(super) async fn expire_tokens(
    work: &(InstanceNumber, i64, i64),
    unit: &mut Unit,
) -> Result<u64> {
    let (instance, token_before, sender_before) = work;
    let gone = sqlx::query(
        "DELETE FROM device_trust_token WHERE instance = ? \
         AND (length(token) = 0 OR token_time < ?) AND (sender_time IS NULL OR sender_time < ?)",
    )
    .bind(instance.0)
    .bind(token_before)
    .bind(sender_before)
    .execute(own(unit, *instance)?.connection().await?)
    .await?;
    Ok(gone.rows_affected())
}

pub(super) async fn put_secrets(
    work: &(InstanceNumber, Vec<MessageSecret>),
    unit: &mut Unit,
) -> Result<()> {
    let (instance, secrets) = work;
    rows::with_values(
        own(unit, *instance)?,
        "INSERT INTO device_message_secret \
         (instance, chat, sender, message_id, secret, expires_at, message_time)",
        secrets,
        "ON CONFLICT (instance, chat, sender, message_id) DO UPDATE SET \
         secret = excluded.secret, \
         expires_at = CASE WHEN device_message_secret.expires_at = 0 OR excluded.expires_at = 0 \
         THEN 0 WHEN device_message_secret.expires_at > excluded.expires_at \
         THEN device_message_secret.expires_at ELSE excluded.expires_at END, \
         message_time = CASE WHEN device_message_secret.message_time > excluded.message_time \
         THEN device_message_secret.message_time ELSE excluded.message_time END",
        |mut row, secret| {
            row.push_bind(instance.0)
                .push_bind(&*secret.chat)
                .push_bind(&*secret.sender)
                .push_bind(&*secret.message_id)
                .push_bind(&secret.secret[..])
                .push_bind(secret.expires_at)
                .push_bind(secret.message_time);
        },
    )
    .await?;
    Ok(())
}

pub(super) async fn expire_secrets(work: &(InstanceNumber, i64), unit: &mut Unit) -> Result<u64> {
    let (instance, now) = work;
    let gone = sqlx::query(
        "DELETE FROM device_message_secret \
         WHERE instance = ? AND expires_at <> 0 AND expires_at <= ?",
    )
    .bind(instance.0)
    .bind(now)
    .execute(own(unit, *instance)?.connection().await?)
    .await?;
    Ok(gone.rows_affected())
}

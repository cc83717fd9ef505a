//! Remembered requests.

use std::collections::HashSet;

use bytes::Bytes;
use sqlx::{Row as _, SqliteConnection};

use super::{error, rows, time, unit::Unit};
use crate::{
    domain::{ids::InstanceNumber, limits::REQUEST_MEMORY},
    storage::{ClaimOutcome, RequestMark, Result, request::FieldDigests},
};

// The statement below names it in microseconds.
const _: () = assert!(REQUEST_MEMORY.as_micros() == 86_400_000_000);

/// Most rows that one transaction forgets.
const BITE: i64 = 1_000;

/// A request's key: API key, method, id.
pub(super) type Key = (String, String, String);

pub(super) fn key_of(request: &RequestMark) -> Key {
    (
        request.api_key.as_str().to_owned(),
        request.method.to_owned(),
        request.request_id.clone(),
    )
}

/// A request that was seen before.
pub(super) struct Known {
    body_digest: Vec<u8>,
    pub(super) instance: InstanceNumber,
    pub(super) subject: String,
    time: i64,
    answer: Option<Vec<u8>>,
}

impl Known {
    /// The fields in which this request differs from the first; `None` where it is the same.
    pub(super) fn differing(&self, request: &RequestMark) -> Option<Vec<String>> {
        let (digest, fields) = self
            .body_digest
            .split_at_checked(request.body_digest.len())
            .unwrap_or_default();
        let differs = digest != request.body_digest;
        differs.then(|| FieldDigests::decode(fields).differing(&request.fields))
    }

    /// The same where the first was made for another instance than this one too.
    pub(super) fn differing_for(
        &self,
        instance: InstanceNumber,
        request: &RequestMark,
    ) -> Option<Vec<String>> {
        let elsewhere = self.instance != instance;
        self.differing(request)
            .or_else(|| elsewhere.then(|| vec!["instance".to_owned()]))
    }
}

/// As it is kept: the digest of the whole body, then those of its fields.
fn digests(request: &RequestMark) -> Vec<u8> {
    let mut bytes = request.body_digest.to_vec();
    bytes.extend(request.fields.encode());
    bytes
}

/// Remembers requests that are not there yet, or only from too long ago, and notes which these were.
pub(super) async fn store_new<'r>(
    unit: &mut Unit,
    requests: impl Iterator<Item = (&'r RequestMark, InstanceNumber, &'r str)>,
) -> Result<()> {
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    for request in requests {
        // The first of equals is the one that the others repeat.
        if !unit.is_deleted(request.1)? && seen.insert(key_of(request.0)) {
            wanted.push(request);
        }
    }
    let stored = rows::with_values(
        &mut unit.transaction,
        "INSERT INTO request (api_key, method, request_id, body_digest, time, instance, subject)",
        &wanted,
        "ON CONFLICT (api_key, method, request_id) DO UPDATE SET \
         body_digest = excluded.body_digest, time = excluded.time, \
         instance = excluded.instance, subject = excluded.subject, answer = NULL \
         WHERE request.time < excluded.time - 86400000000 \
         RETURNING api_key, method, request_id",
        |mut row, (request, instance, subject)| {
            row.push_bind(request.api_key.as_str())
                .push_bind(request.method)
                .push_bind(&*request.request_id)
                .push_bind(digests(request))
                .push_bind(time::micros(request.time))
                .push_bind(instance.0)
                .push_bind(*subject);
        },
    )
    .await?;
    for row in stored {
        unit.new_requests
            .insert((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    Ok(())
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    request: &RequestMark,
) -> Result<Option<Known>> {
    let oldest = time::micros(request.time).saturating_sub(REQUEST_MEMORY.as_micros() as i64);
    let row = sqlx::query(
        "SELECT body_digest, instance, subject, time, answer FROM request \
         WHERE api_key = ? AND method = ? AND request_id = ? AND time >= ?",
    )
    .bind(request.api_key.as_str())
    .bind(request.method)
    .bind(&request.request_id)
    .bind(oldest)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Known {
        body_digest: row.try_get(0)?,
        instance: InstanceNumber(row.try_get(1)?),
        subject: row.try_get(2)?,
        time: row.try_get(3)?,
        answer: row.try_get(4)?,
    }))
}

/// Remembers a request that is new, before anything is done for it.
pub(super) async fn claim(
    (instance, request): &(InstanceNumber, RequestMark),
    unit: &mut Unit,
) -> Result<ClaimOutcome> {
    if unit.is_deleted(*instance)? {
        return Err(error::deleted(*instance));
    }
    let Some(known) = find(unit.connection().await?, request).await? else {
        store_new(unit, std::iter::once((request, *instance, ""))).await?;
        unit.new_requests.remove(&key_of(request));
        return Ok(ClaimOutcome::New);
    };
    if let Some(fields) = known.differing_for(*instance, request) {
        return Ok(ClaimOutcome::Reused(fields));
    }
    Ok(match known.answer {
        Some(answer) => ClaimOutcome::Answered(answer.into()),
        None => ClaimOutcome::Unanswered(time::from_micros(known.time)),
    })
}

/// Keeps what a claimed request was answered.
pub(super) async fn answer(
    (request, answer): &(RequestMark, Bytes),
    unit: &mut Unit,
) -> Result<()> {
    sqlx::query(
        "UPDATE request SET answer = ? WHERE api_key = ? AND method = ? AND request_id = ?",
    )
    .bind(&answer[..])
    .bind(request.api_key.as_str())
    .bind(request.method)
    .bind(&request.request_id)
    .execute(unit.connection().await?)
    .await?;
    Ok(())
}

/// Forgets a claimed request that has no answer.
pub(super) async fn release(request: &RequestMark, unit: &mut Unit) -> Result<()> {
    sqlx::query(
        "DELETE FROM request \
         WHERE api_key = ? AND method = ? AND request_id = ? AND answer IS NULL",
    )
    .bind(request.api_key.as_str())
    .bind(request.method)
    .bind(&request.request_id)
    .execute(unit.connection().await?)
    .await?;
    Ok(())
}

/// Forgets some of the requests from before this time; zero when there are no more.
pub(super) async fn forget(before: &i64, unit: &mut Unit) -> Result<u64> {
    let gone = sqlx::query(
        "DELETE FROM request WHERE (api_key, method, request_id) IN \
         (SELECT api_key, method, request_id FROM request WHERE time < ? ORDER BY time LIMIT ?)",
    )
    .bind(before)
    .bind(BITE)
    .execute(unit.connection().await?)
    .await?;
    Ok(gone.rows_affected())
}

//! The log: reading, retention, rewriting. Appending is the unit's.

use std::time::SystemTime;

use futures::TryStreamExt as _;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::{rows, time, unit::Unit};
use crate::{
    domain::{
        cursor::Position,
        event_type::{EventType, Retention},
        ids::{EventId, InstanceNumber},
    },
    storage::{EventPage, EventQuery, LogBounds, Result, StoredEvent},
};

/// A statement with the columns that `event_of` reads in between.
macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " position, instance, instance_sequence, event_type, record_time, body ",
            $after
        )
    };
}

/// Most events that one transaction removes.
const BITE: i64 = 1_000;
/// Readers of no more instances than this seek by instance, others walk the log.
const SEEK_INSTANCES: usize = 16;

/// The event, or `None` for a type that this version does not know: such a row was written by
/// another version and is passed over rather than stopping every reader at it.
fn event_of(row: &SqliteRow) -> Result<Option<StoredEvent>> {
    let name: &str = row.try_get(3)?;
    let Some(event_type) = EventType::EVERY
        .into_iter()
        .find(|one| one.as_str() == name)
    else {
        tracing::warn!(
            event_type = name,
            "an event of an unknown type is passed over"
        );
        return Ok(None);
    };
    Ok(Some(StoredEvent {
        position: Position(row.try_get::<i64, _>(0)? as u64),
        instance: InstanceNumber(row.try_get(1)?),
        instance_sequence: row.try_get::<i64, _>(2)? as u64,
        event_type,
        record_time: time::from_micros(row.try_get(4)?),
        body: row.try_get::<Vec<u8>, _>(5)?.into(),
    }))
}

/// Reads a page. `head` was committed before the call, so the read sees all up to it.
pub(super) async fn read(
    readers: &SqlitePool,
    query: EventQuery,
    head: Position,
) -> Result<EventPage> {
    let end = query.up_to.map_or(head, |up_to| up_to.min(head));
    let nobody = |list: Option<usize>| list == Some(0);
    if query.after >= end
        || nobody(query.instances.as_ref().map(|list| list.len()))
        || nobody(query.event_types.as_ref().map(|list| list.len()))
    {
        return Ok(EventPage {
            events: Vec::new(),
            looked_at: end.max(query.after),
        });
    }
    let mut page = EventPage {
        events: Vec::new(),
        looked_at: query.after,
    };
    if query.limit == 0 {
        return Ok(page);
    }
    let mut statement = page_statement(&query, end);
    let mut connection = readers.acquire().await?;
    let mut found = statement.build().fetch(&mut *connection);
    let mut looked_at = 0;
    let mut bytes = 0;
    while let Some(row) = found.try_next().await? {
        let position = Position(row.try_get::<i64, _>(0)? as u64);
        if let Some(event) = event_of(&row)? {
            bytes += event.body.len();
            if bytes > query.max_bytes && !page.events.is_empty() {
                return Ok(page);
            }
            page.events.push(event);
        }
        looked_at += 1;
        page.looked_at = position;
    }
    if looked_at < query.limit {
        page.looked_at = end;
    }
    Ok(page)
}

fn page_statement(query: &EventQuery, end: Position) -> QueryBuilder<Sqlite> {
    let range = |statement: &mut QueryBuilder<Sqlite>| {
        statement
            .push(" AND position > ")
            .push_bind(query.after.0 as i64)
            .push(" AND position <= ")
            .push_bind(end.0 as i64);
        if let Some(types) = &query.event_types {
            statement.push(" AND event_type IN ");
            rows::push_list(statement, types.iter().map(|one| one.as_str()));
        }
        statement
            .push(" ORDER BY position LIMIT ")
            .push_bind(rows::limit(query.limit));
    };
    let mut statement = QueryBuilder::new(with_columns!("SELECT", "FROM event WHERE"));
    match query.instances.as_deref() {
        Some(instances) if instances.len() <= SEEK_INSTANCES => {
            // The first places of each instance by the index, then the first of those.
            statement.push(" position IN (");
            for (number, instance) in instances.iter().enumerate() {
                statement.push(if number == 0 { "" } else { " UNION ALL " });
                statement
                    .push("SELECT position FROM (SELECT position FROM event WHERE instance = ")
                    .push_bind(instance.0);
                range(&mut statement);
                statement.push(")");
            }
            statement
                .push(") ORDER BY position LIMIT ")
                .push_bind(rows::limit(query.limit));
        }
        Some(instances) => {
            // The plus keeps the planner from sorting all events of so many instances.
            statement.push(" +instance IN ");
            rows::push_list(&mut statement, instances.iter().map(|one| one.0));
            range(&mut statement);
        }
        None => {
            statement.push(" 1 = 1");
            range(&mut statement);
        }
    }
    statement
}

pub(super) async fn lookup(readers: &SqlitePool, id: EventId) -> Result<Option<StoredEvent>> {
    let row = sqlx::query(with_columns!("SELECT", "FROM event WHERE id = ?"))
        .bind(&id.0.as_bytes()[..])
        .fetch_optional(readers)
        .await?;
    Ok(row.as_ref().map(event_of).transpose()?.flatten())
}

/// Times never go back along the log, so halving finds the place without an index.
pub(super) async fn position_before(
    connection: &mut SqliteConnection,
    time: i64,
    head: Position,
) -> Result<Position> {
    // The first event at or after the time is after `low` and not after `high`.
    let (mut low, mut high) = (0, head.0);
    let mut is_there = false;
    while low < high {
        let middle = low + (high - low) / 2;
        let next = sqlx::query(
            "SELECT position, record_time FROM event WHERE position > ? AND position <= ? \
             ORDER BY position LIMIT 1",
        )
        .bind(middle as i64)
        .bind(high as i64)
        .fetch_optional(&mut *connection)
        .await?;
        match next {
            Some(row) if row.try_get::<i64, _>(1)? < time => low = row.try_get::<i64, _>(0)? as u64,
            next => {
                is_there |= next.is_some();
                high = middle;
            }
        }
    }
    Ok(if is_there { Position(low) } else { head })
}

pub(super) async fn bounds(readers: &SqlitePool) -> Result<LogBounds> {
    let row = sqlx::query(
        "SELECT compacted, head, event_count, event_bytes, \
         (SELECT record_time FROM event ORDER BY position LIMIT 1), \
         (SELECT record_time FROM event ORDER BY position DESC LIMIT 1) FROM log_state",
    )
    .fetch_one(readers)
    .await?;
    Ok(LogBounds {
        compacted: Position(row.try_get::<i64, _>(0)? as u64),
        head: Position(row.try_get::<i64, _>(1)? as u64),
        count: row.try_get::<i64, _>(2)? as u64,
        bytes: row.try_get::<i64, _>(3)? as u64,
        earliest_time: row.try_get::<Option<i64>, _>(4)?.map(time::from_micros),
        head_time: row.try_get::<Option<i64>, _>(5)?.map(time::from_micros),
    })
}

pub(super) async fn instance_heads(
    readers: &SqlitePool,
    instances: Option<Vec<InstanceNumber>>,
) -> Result<Vec<(InstanceNumber, u64)>> {
    let mut heads = Vec::new();
    let mut push = |row: &SqliteRow| -> Result<()> {
        heads.push((
            InstanceNumber(row.try_get(0)?),
            row.try_get::<i64, _>(1)? as u64,
        ));
        Ok(())
    };
    match instances {
        None => {
            let rows = sqlx::query("SELECT instance, last FROM event_sequence ORDER BY instance")
                .fetch_all(readers)
                .await?;
            rows.iter().try_for_each(&mut push)?;
        }
        Some(instances) => {
            for some in instances.chunks(500) {
                let mut statement = QueryBuilder::<Sqlite>::new(
                    "SELECT instance, last FROM event_sequence WHERE instance IN ",
                );
                rows::push_list(&mut statement, some.iter().map(|one| one.0));
                let rows = statement.build().fetch_all(readers).await?;
                rows.iter().try_for_each(&mut push)?;
            }
        }
    }
    Ok(heads)
}

/// Which events retention removes next.
#[derive(Clone, Copy)]
pub(super) enum Excess {
    /// Those of full or short retention from before a time.
    Old(Retention, SystemTime),
    /// The oldest, until the bodies take no more than this.
    Big(u64),
}

/// Removes some of them; zero when there are no more.
pub(super) async fn remove_some(excess: &Excess, unit: &mut Unit) -> Result<u64> {
    unit.flush().await?;
    match *excess {
        Excess::Old(retention, before) => {
            let head = Position(unit.counters()?.head);
            let last =
                position_before(unit.connection().await?, time::micros(before), head).await?;
            // Two statements, because an index with a condition serves only the same words.
            let statement = match retention {
                Retention::Full => {
                    "DELETE FROM event WHERE position IN (SELECT position FROM event \
                     WHERE short = 0 AND position <= ? ORDER BY position LIMIT ?) \
                     RETURNING position, length(body), short"
                }
                Retention::Short => {
                    "DELETE FROM event WHERE position IN (SELECT position FROM event \
                     WHERE short = 1 AND position <= ? ORDER BY position LIMIT ?) \
                     RETURNING position, length(body), short"
                }
            };
            remove(unit, statement, last.0 as i64, BITE).await
        }
        Excess::Big(max_bytes) => {
            let mut over = unit.counters()?.event_bytes.saturating_sub(max_bytes);
            if over == 0 {
                return Ok(0);
            }
            let oldest =
                sqlx::query("SELECT position, length(body) FROM event ORDER BY position LIMIT ?")
                    .bind(BITE)
                    .fetch_all(unit.connection().await?)
                    .await?;
            let mut last = 0;
            for row in oldest {
                if over == 0 {
                    break;
                }
                last = row.try_get(0)?;
                over = over.saturating_sub(row.try_get::<i64, _>(1)? as u64);
            }
            remove(
                unit,
                "DELETE FROM event WHERE position IN (SELECT position FROM event \
                 WHERE position <= ? ORDER BY position LIMIT ?) \
                 RETURNING position, length(body), short",
                last,
                BITE,
            )
            .await
        }
    }
}

async fn remove(unit: &mut Unit, statement: &'static str, last: i64, most: i64) -> Result<u64> {
    let gone = sqlx::query(statement)
        .bind(last)
        .bind(most)
        .fetch_all(unit.connection().await?)
        .await?;
    if gone.is_empty() {
        return Ok(0);
    }
    unit.rewrites_events();
    let counters = unit.counters_mut()?;
    for row in &gone {
        let position = row.try_get::<i64, _>(0)? as u64;
        let bytes = row.try_get::<i64, _>(1)? as u64;
        let short: bool = row.try_get(2)?;
        counters.event_count = counters.event_count.saturating_sub(1);
        counters.event_bytes = counters.event_bytes.saturating_sub(bytes);
        if !short {
            counters.compacted = counters.compacted.max(position);
        }
    }
    Ok(gone.len() as u64)
}

/// Removes all events of an instance. Not by age or size, so the log does not count as compacted.
pub(super) async fn purge(unit: &mut Unit, instance: InstanceNumber) -> Result<()> {
    unit.flush().await?;
    let row = sqlx::query(
        "SELECT count(*), coalesce(sum(length(body)), 0) FROM event WHERE instance = ?",
    )
    .bind(instance.0)
    .fetch_one(unit.connection().await?)
    .await?;
    unit.rewrites_events();
    sqlx::query("DELETE FROM event WHERE instance = ?")
        .bind(instance.0)
        .execute(unit.connection().await?)
        .await?;
    let counters = unit.counters_mut()?;
    let (count, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    counters.event_count = counters.event_count.saturating_sub(count as u64);
    counters.event_bytes = counters.event_bytes.saturating_sub(bytes as u64);
    Ok(())
}

/// What `rewrite_events` is given.
pub(super) struct Rewrite {
    pub(super) instance: InstanceNumber,
    pub(super) event_type: EventType,
    pub(super) rewrite: fn(&[u8]) -> Option<Vec<u8>>,
}

pub(super) async fn rewrite(work: &Rewrite, unit: &mut Unit) -> Result<()> {
    unit.flush().await?;
    // Events of short retention are few and have an index of their own.
    let statement = match work.event_type.retention() {
        Retention::Full => "SELECT position, body FROM event WHERE instance = ? AND event_type = ?",
        Retention::Short => {
            "SELECT position, body FROM event WHERE short = 1 AND +instance = ? AND event_type = ?"
        }
    };
    let events = sqlx::query(statement)
        .bind(work.instance.0)
        .bind(work.event_type.as_str())
        .fetch_all(unit.connection().await?)
        .await?;
    for row in events {
        let body: &[u8] = row.try_get(1)?;
        let Some(new) = (work.rewrite)(body) else {
            continue;
        };
        let counters = unit.counters_mut()?;
        counters.event_bytes =
            (counters.event_bytes + new.len() as u64).saturating_sub(body.len() as u64);
        unit.rewrites_events();
        sqlx::query("UPDATE event SET body = ? WHERE position = ?")
            .bind(new)
            .bind(row.try_get::<i64, _>(0)?)
            .execute(unit.connection().await?)
            .await?;
    }
    Ok(())
}

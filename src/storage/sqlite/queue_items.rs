//! Recipients of mailing lists.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::{
    error, queues, rows,
    time::{from_micros, micros, rounded},
    unit::Unit,
};
use crate::{
    domain::ids::{InstanceNumber, QueueId},
    storage::{
        AcceptOutcome, EventsOf, MessageRow, Result,
        queue::{
            ItemChange, ItemMark, ItemQuery, ItemRow, ItemState, NewItem, QueueRow, QueueState,
            QueueStep,
        },
    },
};

/// The columns that `item_of` reads.
const ITEM: &str =
    "position, recipient, variables, state, message_id, chat, reason, attempts, time";

fn item_of(row: &SqliteRow) -> Result<ItemRow> {
    let state = ItemState::from_number(row.try_get(3)?);
    Ok(ItemRow {
        position: row.try_get(0)?,
        recipient: row.try_get(1)?,
        variables: row.try_get::<Vec<u8>, _>(2)?.into(),
        state: state.ok_or_else(|| error::strange("a recipient of a mailing list"))?,
        message_id: row.try_get(4)?,
        chat: row.try_get(5)?,
        reason: row.try_get(6)?,
        attempts: row.try_get(7)?,
        time: from_micros(row.try_get(8)?),
    })
}

/// Stores the recipients of a new list, in their order.
pub(super) async fn insert(
    unit: &mut Unit,
    queue: i64,
    time: i64,
    items: &[NewItem],
) -> Result<()> {
    let placed: Vec<(i64, &NewItem)> = (0..).zip(items).collect();
    rows::with_values(
        &mut unit.transaction,
        "INSERT INTO queue_item (queue, position, recipient, variables, state, reason, time)",
        &placed,
        "",
        |mut row, (position, item)| {
            row.push_bind(queue)
                .push_bind(*position)
                .push_bind(&*item.recipient)
                .push_bind(&item.variables[..])
                .push_bind(item.state as i32)
                .push_bind(&*item.reason)
                .push_bind(time);
        },
    )
    .await?;
    Ok(())
}

/// Marks the recipient whose message this is; says why not, if it is not its turn.
pub(super) async fn mark(
    unit: &mut Unit,
    message: &MessageRow,
    mark: &ItemMark,
) -> Result<Option<AcceptOutcome>> {
    let found = queues::find(unit.connection().await?, message.instance, mark.queue).await?;
    let Some((number, mut row)) = found.filter(|(_, row)| row.state == QueueState::Running) else {
        return Ok(Some(AcceptOutcome::Withdrawn));
    };
    let twice: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM queue_item WHERE queue = ? AND person = ? AND person <> '' \
         AND position <> ? AND state IN (?, ?))",
    )
    .bind(number)
    .bind(&*mark.person)
    .bind(mark.position)
    .bind(ItemState::Sending as i32)
    .bind(ItemState::Sent as i32)
    .fetch_one(unit.connection().await?)
    .await?;
    if twice {
        return Ok(Some(AcceptOutcome::Twice));
    }
    let marked = sqlx::query(
        "UPDATE queue_item SET state = ?, message_id = ?, chat = ?, person = ?, reason = '', \
         time = ? WHERE queue = ? AND position = ? AND state = ?",
    )
    .bind(ItemState::Sending as i32)
    .bind(&*message.message_id)
    .bind(&*message.chat)
    .bind(&*mark.person)
    .bind(micros(message.time))
    .bind(number)
    .bind(mark.position)
    .bind(ItemState::Waiting as i32)
    .execute(unit.connection().await?)
    .await?;
    if marked.rows_affected() == 0 {
        return Ok(Some(AcceptOutcome::Withdrawn));
    }
    row.counts.shift(ItemState::Waiting, ItemState::Sending);
    row.sent_time = Some(message.time);
    row.update_time = message.time;
    queues::write(unit.connection().await?, number, &row).await?;
    Ok(None)
}

/// One recipient, and what it becomes.
pub(super) struct Step {
    pub(super) instance: InstanceNumber,
    pub(super) change: ItemChange,
    pub(super) events: EventsOf<QueueStep>,
}

pub(super) async fn change(work: &Step, unit: &mut Unit) -> Result<Option<QueueRow>> {
    let change = &work.change;
    let found = queues::find(unit.connection().await?, work.instance, change.queue).await?;
    let Some((number, before)) = found else {
        return Ok(None);
    };
    let mut statement = QueryBuilder::<Sqlite>::new("UPDATE queue_item SET state = ");
    statement.push_bind(change.to as i32);
    statement.push(", reason = ").push_bind(&*change.reason);
    statement.push(", time = ").push_bind(micros(change.time));
    if change.to == ItemState::Waiting {
        statement.push(", attempts = attempts + 1");
    }
    statement.push(" WHERE queue = ").push_bind(number);
    statement
        .push(" AND position = ")
        .push_bind(change.position);
    statement
        .push(" AND state = ")
        .push_bind(change.from as i32);
    statement.push(" RETURNING ").push(ITEM);
    let changed = statement
        .build()
        .fetch_optional(unit.connection().await?)
        .await?;
    let Some(item) = changed.as_ref().map(item_of).transpose()? else {
        return Ok(Some(before));
    };
    let mut after = before.clone();
    after.counts.shift(change.from, change.to);
    after.update_time = rounded(change.time);
    queues::complete(&mut after);
    queues::write(unit.connection().await?, number, &after).await?;
    let step = QueueStep {
        before,
        after,
        item,
    };
    unit.append((work.events)(&step))?;
    Ok(Some(step.after))
}

pub(super) async fn list(
    readers: &SqlitePool,
    instance: InstanceNumber,
    id: QueueId,
    query: ItemQuery,
) -> Result<Vec<ItemRow>> {
    let mut statement = QueryBuilder::<Sqlite>::new("SELECT ");
    statement.push(ITEM);
    statement
        .push(" FROM queue_item WHERE queue = (SELECT number FROM queue WHERE instance = ")
        .push_bind(instance.0);
    statement
        .push(" AND id = ")
        .push_bind(id.to_string())
        .push(")");
    if let Some(state) = query.state {
        statement.push(" AND state = ").push_bind(state as i32);
    }
    if let Some(after) = query.after {
        statement.push(" AND position > ").push_bind(after);
    }
    statement
        .push(" ORDER BY position LIMIT ")
        .push_bind(rows::limit(query.limit));
    let found = statement.build().fetch_all(readers).await?;
    found.iter().map(item_of).collect()
}

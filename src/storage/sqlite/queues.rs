//! Mailing lists.

use async_trait::async_trait;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    SqliteStorage, error, messages, queue_items, requests, rows,
    time::{from_micros, micros},
    unit::Unit,
    writer::Work,
};
use crate::{
    domain::ids::{InstanceNumber, QueueId},
    storage::{
        AcceptOutcome, EventsOf, MessageRow, NewEvent, RequestMark, Result,
        queue::{
            CreateQueueOutcome, HoldRow, ItemChange, ItemCounts, ItemMark, ItemQuery, ItemRow,
            NewQueue, QueueApply, QueueRow, QueueState, QueueStep, QueueStorage,
        },
    },
};

/// Most lists that are read to be run.
const RUNNING: i64 = 1_000;

/// A statement with the columns that `queue_of` reads before this.
macro_rules! select_queue {
    ($after:literal) => {
        concat!(
            "SELECT instance, id, name, state, state_reason, held_until, account, body, waiting, \
             sending, sent, failed, invalid, duplicate, create_time, update_time, sent_time, \
             complete_time, number FROM queue ",
            $after
        )
    };
}

fn queue_of(row: &SqliteRow) -> Result<(i64, QueueRow)> {
    let unknown = || error::strange("a mailing list");
    let state = match row.try_get::<i32, _>(3)? {
        1 => QueueState::Running,
        2 => QueueState::Paused,
        4 => QueueState::Completed,
        _ => return Err(unknown()),
    };
    let time =
        |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(from_micros));
    let queue = QueueRow {
        instance: InstanceNumber(row.try_get(0)?),
        id: QueueId(Uuid::try_parse(row.try_get(1)?).map_err(|_| unknown())?),
        name: row.try_get(2)?,
        state,
        state_reason: row.try_get(4)?,
        held_until: time(5)?,
        account: row.try_get(6)?,
        body: row.try_get::<Vec<u8>, _>(7)?.into(),
        counts: ItemCounts {
            waiting: row.try_get(8)?,
            sending: row.try_get(9)?,
            sent: row.try_get(10)?,
            failed: row.try_get(11)?,
            invalid: row.try_get(12)?,
            duplicate: row.try_get(13)?,
        },
        create_time: from_micros(row.try_get(14)?),
        update_time: from_micros(row.try_get(15)?),
        sent_time: time(16)?,
        complete_time: time(17)?,
    };
    Ok((row.try_get(18)?, queue))
}

/// Finds a list, with its number.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    instance: InstanceNumber,
    id: QueueId,
) -> Result<Option<(i64, QueueRow)>> {
    let row = sqlx::query(select_queue!("WHERE instance = ? AND id = ?"))
        .bind(instance.0)
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(queue_of).transpose()
}

/// What a row has that changes.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    number: i64,
    row: &QueueRow,
) -> Result<()> {
    sqlx::query(
        "UPDATE queue SET state = ?, state_reason = ?, held_until = ?, account = ?, waiting = ?, \
         sending = ?, sent = ?, failed = ?, invalid = ?, duplicate = ?, update_time = ?, \
         sent_time = ?, complete_time = ? WHERE number = ?",
    )
    .bind(row.state as i32)
    .bind(&*row.state_reason)
    .bind(row.held_until.map(micros))
    .bind(&*row.account)
    .bind(row.counts.waiting)
    .bind(row.counts.sending)
    .bind(row.counts.sent)
    .bind(row.counts.failed)
    .bind(row.counts.invalid)
    .bind(row.counts.duplicate)
    .bind(micros(row.update_time))
    .bind(row.sent_time.map(micros))
    .bind(row.complete_time.map(micros))
    .bind(number)
    .execute(connection)
    .await?;
    Ok(())
}

/// Completes a list whose last recipient is done.
pub(super) fn complete(row: &mut QueueRow) {
    if row.state != QueueState::Completed && row.counts.is_done() {
        row.state = QueueState::Completed;
        row.state_reason.clear();
        row.held_until = None;
        row.complete_time = Some(row.update_time);
    }
}

struct Create {
    new: NewQueue,
    /// Its id as text, which the request remembers.
    id: String,
    events: EventsOf<QueueRow>,
}

#[async_trait]
impl Work for Create {
    type Output = CreateQueueOutcome;

    fn request(&self) -> Option<(&RequestMark, InstanceNumber, &str)> {
        let request = self.new.request.as_ref()?;
        Some((request, self.new.row.instance, &self.id))
    }

    async fn run(&self, unit: &mut Unit) -> Result<CreateQueueOutcome> {
        let new = &self.new;
        let instance = new.row.instance;
        if unit.is_deleted(instance)? {
            return Err(error::deleted(instance));
        }
        if let Some(request) = &new.request
            && !unit.new_requests.remove(&requests::key_of(request))
        {
            return replayed(unit, instance, request).await;
        }
        let open: i64 =
            sqlx::query_scalar("SELECT count(*) FROM queue WHERE instance = ? AND state <> ?")
                .bind(instance.0)
                .bind(QueueState::Completed as i32)
                .fetch_one(unit.connection().await?)
                .await?;
        if open >= rows::limit(new.most_open) {
            if let Some(request) = &new.request {
                requests::release(request, unit).await?;
            }
            return Ok(CreateQueueOutcome::TooMany);
        }
        forget_done(unit, instance, new.keep_done).await?;
        let mut row = new.row.clone();
        row.counts = ItemCounts::default();
        for item in &new.items {
            *row.counts.of(item.state) += 1;
        }
        complete(&mut row);
        let number = insert(unit.connection().await?, &row).await?;
        queue_items::insert(unit, number, micros(row.create_time), &new.items).await?;
        unit.append((self.events)(&row))?;
        Ok(CreateQueueOutcome::Created(Box::new(row)))
    }
}

/// The list that a request made when it was seen first.
async fn replayed(
    unit: &mut Unit,
    instance: InstanceNumber,
    request: &RequestMark,
) -> Result<CreateQueueOutcome> {
    let connection = unit.connection().await?;
    let known = requests::find(connection, request).await?;
    let known = known.ok_or_else(|| error::strange("a request"))?;
    if let Some(fields) = known.differing_for(instance, request) {
        return Ok(CreateQueueOutcome::Reused(fields));
    }
    let id = QueueId::parse(&known.subject).ok_or_else(|| error::strange("a request"))?;
    Ok(match find(unit.connection().await?, instance, id).await? {
        Some((_, row)) => CreateQueueOutcome::Replayed(Box::new(row)),
        // It was deleted since: nothing to return is the same as a clash.
        None => CreateQueueOutcome::Reused(Vec::new()),
    })
}

/// Removes the lists that have been done longest, but for as many as are kept.
async fn forget_done(unit: &mut Unit, instance: InstanceNumber, keep: usize) -> Result<()> {
    let numbers: Vec<i64> = sqlx::query_scalar(
        "SELECT number FROM queue WHERE instance = ? AND state = ? \
         ORDER BY complete_time DESC, number DESC LIMIT -1 OFFSET ?",
    )
    .bind(instance.0)
    .bind(QueueState::Completed as i32)
    .bind(rows::limit(keep))
    .fetch_all(unit.connection().await?)
    .await?;
    for number in numbers {
        remove(unit.connection().await?, number).await?;
    }
    Ok(())
}

async fn remove(connection: &mut SqliteConnection, number: i64) -> Result<()> {
    for statement in [
        "DELETE FROM queue_item WHERE queue = ?",
        "DELETE FROM queue WHERE number = ?",
    ] {
        sqlx::query(statement)
            .bind(number)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, row: &QueueRow) -> Result<i64> {
    let done = sqlx::query(
        "INSERT INTO queue (instance, id, name, state, state_reason, held_until, account, body, \
         waiting, sending, sent, failed, invalid, duplicate, create_time, update_time, sent_time, \
         complete_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row.instance.0)
    .bind(row.id.to_string())
    .bind(&*row.name)
    .bind(row.state as i32)
    .bind(&*row.state_reason)
    .bind(row.held_until.map(micros))
    .bind(&*row.account)
    .bind(&row.body[..])
    .bind(row.counts.waiting)
    .bind(row.counts.sending)
    .bind(row.counts.sent)
    .bind(row.counts.failed)
    .bind(row.counts.invalid)
    .bind(row.counts.duplicate)
    .bind(micros(row.create_time))
    .bind(micros(row.update_time))
    .bind(row.sent_time.map(micros))
    .bind(row.complete_time.map(micros))
    .execute(connection)
    .await?;
    Ok(done.last_insert_rowid())
}

/// One list, and what is done to it.
struct Change {
    instance: InstanceNumber,
    id: QueueId,
    apply: QueueApply,
}

async fn change(work: &Change, unit: &mut Unit) -> Result<Option<QueueRow>> {
    let found = find(unit.connection().await?, work.instance, work.id).await?;
    let Some((number, row)) = found else {
        return Ok(None);
    };
    let Some((row, events)) = (work.apply)(&row) else {
        return Ok(Some(row));
    };
    write(unit.connection().await?, number, &row).await?;
    unit.append(events)?;
    Ok(Some(row))
}

/// One list that goes.
struct Delete {
    instance: InstanceNumber,
    id: QueueId,
    events: EventsOf<QueueRow>,
}

async fn delete(work: &Delete, unit: &mut Unit) -> Result<bool> {
    let found = find(unit.connection().await?, work.instance, work.id).await?;
    let Some((number, row)) = found else {
        return Ok(false);
    };
    remove(unit.connection().await?, number).await?;
    unit.append((work.events)(&row))?;
    Ok(true)
}

async fn store_hold((instance, hold): &(InstanceNumber, HoldRow), unit: &mut Unit) -> Result<()> {
    if unit.is_deleted(*instance)? {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO cold_hold (instance, until, reason, strikes) VALUES (?, ?, ?, ?) \
         ON CONFLICT (instance) DO UPDATE SET until = excluded.until, reason = excluded.reason, \
         strikes = excluded.strikes",
    )
    .bind(instance.0)
    .bind(micros(hold.until))
    .bind(&*hold.reason)
    .bind(hold.strikes)
    .execute(unit.connection().await?)
    .await?;
    Ok(())
}

async fn list(
    readers: &SqlitePool,
    instance: InstanceNumber,
    after: Option<QueueId>,
    limit: usize,
) -> Result<Vec<QueueRow>> {
    let after = after.map(|id| id.to_string());
    let found = sqlx::query(select_queue!(
        "WHERE instance = ? AND (? IS NULL OR id < ?) ORDER BY id DESC LIMIT ?"
    ))
    .bind(instance.0)
    .bind(after.as_deref())
    .bind(after.as_deref())
    .bind(rows::limit(limit))
    .fetch_all(readers)
    .await?;
    found.iter().map(|row| Ok(queue_of(row)?.1)).collect()
}

#[async_trait]
impl QueueStorage for SqliteStorage {
    async fn create_queue(
        &self,
        new: NewQueue,
        events: EventsOf<QueueRow>,
    ) -> Result<CreateQueueOutcome> {
        let id = new.row.id.to_string();
        self.writer.write(Create { new, id, events }).await
    }

    async fn lookup_queue(
        &self,
        instance: InstanceNumber,
        id: QueueId,
    ) -> Result<Option<QueueRow>> {
        let mut connection = self.readers.acquire().await?;
        let found = find(&mut connection, instance, id).await?;
        Ok(found.map(|(_, row)| row))
    }

    async fn list_queues(
        &self,
        instance: InstanceNumber,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<QueueRow>> {
        list(&self.readers, instance, after, limit).await
    }

    async fn list_running_queues(&self, instance: InstanceNumber) -> Result<Vec<QueueId>> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM queue WHERE instance = ? \
             AND (state = ? OR (state = ? AND sending > 0)) ORDER BY id LIMIT ?",
        )
        .bind(instance.0)
        .bind(QueueState::Running as i32)
        .bind(QueueState::Paused as i32)
        .bind(RUNNING)
        .fetch_all(&self.readers)
        .await?;
        let id = |text: &String| QueueId::parse(text);
        Ok(ids.iter().filter_map(id).collect())
    }

    async fn change_queue(
        &self,
        instance: InstanceNumber,
        id: QueueId,
        apply: QueueApply,
    ) -> Result<Option<QueueRow>> {
        self.writer
            .steps(
                Change {
                    instance,
                    id,
                    apply,
                },
                |work, unit| Box::pin(change(work, unit)),
            )
            .await
    }

    async fn delete_queue(
        &self,
        instance: InstanceNumber,
        id: QueueId,
        events: EventsOf<QueueRow>,
    ) -> Result<bool> {
        self.writer
            .steps(
                Delete {
                    instance,
                    id,
                    events,
                },
                |work, unit| Box::pin(delete(work, unit)),
            )
            .await
    }

    async fn list_items(
        &self,
        instance: InstanceNumber,
        id: QueueId,
        query: ItemQuery,
    ) -> Result<Vec<ItemRow>> {
        queue_items::list(&self.readers, instance, id, query).await
    }

    async fn accept_item(
        &self,
        message: MessageRow,
        item: ItemMark,
        events: Vec<NewEvent>,
    ) -> Result<AcceptOutcome> {
        let work = messages::AcceptMessage {
            message,
            request: None,
            item: Some(item),
            events,
        };
        self.writer.write(work).await
    }

    async fn change_item(
        &self,
        instance: InstanceNumber,
        change: ItemChange,
        events: EventsOf<QueueStep>,
    ) -> Result<Option<QueueRow>> {
        self.writer
            .steps(
                queue_items::Step {
                    instance,
                    change,
                    events,
                },
                |work, unit| Box::pin(queue_items::change(work, unit)),
            )
            .await
    }

    async fn has_received(&self, instance: InstanceNumber, chats: Vec<String>) -> Result<bool> {
        let mut statement =
            QueryBuilder::<Sqlite>::new("SELECT EXISTS (SELECT 1 FROM message WHERE instance = ");
        statement.push_bind(instance.0);
        statement.push(" AND from_me = 0 AND chat IN ");
        rows::push_list(&mut statement, chats);
        statement.push(")");
        Ok(statement
            .build_query_scalar()
            .fetch_one(&self.readers)
            .await?)
    }

    async fn lookup_hold(&self, instance: InstanceNumber) -> Result<Option<HoldRow>> {
        let row = sqlx::query("SELECT until, reason, strikes FROM cold_hold WHERE instance = ?")
            .bind(instance.0)
            .fetch_optional(&self.readers)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(HoldRow {
            until: from_micros(row.try_get(0)?),
            reason: row.try_get(1)?,
            strikes: row.try_get(2)?,
        }))
    }

    async fn store_hold(&self, instance: InstanceNumber, hold: HoldRow) -> Result<()> {
        self.writer
            .steps((instance, hold), |work, unit| {
                Box::pin(store_hold(work, unit))
            })
            .await
    }
}

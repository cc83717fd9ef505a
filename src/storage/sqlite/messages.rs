//! Messages.

use std::{
    collections::{HashSet, hash_map::Entry},
    time::SystemTime,
};

use async_trait::async_trait;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::{
    error, media, payments, queue_items, requests, rows, sends, time, transaction::Transaction,
    unit::Unit, writer::Work,
};
use crate::{
    domain::ids::InstanceNumber,
    storage::{
        AcceptOutcome, Effects, EffectsOf, Late, MessageChange, MessageRecord, MessageRow,
        NewEvent, RequestMark, Result, StatusRise, queue::ItemMark,
    },
};

/// A statement with the columns that `message_of` reads in between; without what the message says,
/// where nobody looks at it.
macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        with_columns!($before, "body, raw", $after)
    };
    ($before:literal, $says:literal, $after:literal) => {
        concat!(
            $before,
            " instance, message_id, chat, sender, from_me, outbound, time, status, \
             previous_status, status_reason, ",
            $says,
            ", target, listed, words, starred, hidden ",
            $after
        )
    };
}

/// The same columns alone.
pub(super) const COLUMNS: &str = with_columns!("", "");

/// Most ids of one statement.
const IDS: usize = 500;

/// A message's key: instance, id, chat, sender; and whether it only stands in for one.
pub(super) type Key = (InstanceNumber, String, String, String, bool);

/// Status of what stands in for a message that can't be read yet.
const STANDS_IN: i32 = 0;

/// An instance and the id of a message whose status it raised.
pub(super) type RaisedKey = (InstanceNumber, String);

fn key_of(message: &MessageRow) -> Key {
    (
        message.instance,
        message.message_id.clone(),
        message.chat.clone(),
        message.sender.clone(),
        message.status == STANDS_IN,
    )
}

pub(super) fn message_of(row: &SqliteRow) -> Result<MessageRow> {
    Ok(MessageRow {
        instance: InstanceNumber(row.try_get(0)?),
        message_id: row.try_get(1)?,
        chat: row.try_get(2)?,
        sender: row.try_get(3)?,
        from_me: row.try_get(4)?,
        outbound: row.try_get(5)?,
        time: time::from_micros(row.try_get(6)?),
        status: row.try_get(7)?,
        previous_status: row.try_get(8)?,
        status_reason: row.try_get(9)?,
        body: row.try_get::<Vec<u8>, _>(10)?.into(),
        raw: row.try_get::<Vec<u8>, _>(11)?.into(),
        target: row.try_get(12)?,
        listed: row.try_get(13)?,
        words: row.try_get(14)?,
        starred: row.try_get(15)?,
        hidden: row.try_get(16)?,
    })
}

/// Begins the statement that inserts messages.
pub(super) const INSERT: &str = "INSERT INTO message (instance, message_id, chat, sender, from_me, \
     outbound, time, status, previous_status, status_reason, body, raw, target, listed, words, \
     starred, hidden)";

/// A message's values for it.
pub(super) fn push_values(mut row: rows::Values<'_>, message: &MessageRow) {
    row.push_bind(message.instance.0)
        .push_bind(&*message.message_id)
        .push_bind(&*message.chat)
        .push_bind(&*message.sender)
        .push_bind(message.from_me)
        .push_bind(message.outbound)
        .push_bind(time::micros(message.time))
        .push_bind(message.status)
        .push_bind(message.previous_status)
        .push_bind(&*message.status_reason)
        .push_bind(&message.body[..])
        .push_bind(&message.raw[..])
        .push_bind(&*message.target)
        .push_bind(message.listed)
        .push_bind(&*message.words)
        .push_bind(message.starred)
        .push_bind(message.hidden);
}

/// What stands in for a message gives way to it; all else stays.
const NEW: &str = "ON CONFLICT (instance, message_id, chat, sender) DO UPDATE SET \
     from_me = excluded.from_me, time = excluded.time, status = excluded.status, \
     previous_status = excluded.previous_status, body = excluded.body, raw = excluded.raw, \
     target = excluded.target, listed = excluded.listed, words = excluded.words \
     WHERE message.status = 0 AND excluded.status <> 0 AND message.hidden = 0 \
     RETURNING instance, message_id, chat, sender, status = 0";

/// Most messages that are looked at for what they do to one that comes after them.
const LATE: i64 = 10_240;

/// Stores the messages of all jobs that are not there yet and notes which these were.
pub(super) async fn store_new(
    unit: &mut Unit,
    messages: impl Iterator<Item = &MessageRecord>,
) -> Result<()> {
    let (mut wanted, mut targets) = (Vec::new(), Vec::new());
    for record in messages {
        if !unit.is_deleted(record.row.instance)? {
            wanted.push(&record.row);
            targets.extend(record.late.is_some().then_some(&record.row));
        }
    }
    let stored = rows::with_values(
        &mut unit.transaction,
        INSERT,
        &wanted,
        NEW,
        |row, message| push_values(row, message),
    )
    .await?;
    for row in stored {
        unit.new_messages.insert((
            InstanceNumber(row.try_get(0)?),
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
            row.try_get(4)?,
        ));
    }
    targets.retain(|row| unit.new_messages.contains(&key_of(row)));
    find_targets(unit, &targets).await
}

/// Notes which of these messages others do something to that are stored already.
async fn find_targets(unit: &mut Unit, messages: &[&MessageRow]) -> Result<()> {
    let found = rows::with_values(
        &mut unit.transaction,
        "WITH wanted (instance, id) AS (",
        messages,
        ") SELECT DISTINCT message.instance, message.target FROM wanted CROSS JOIN message \
         ON message.instance = wanted.instance AND message.target = wanted.id \
         WHERE message.target <> ''",
        |mut row, message| {
            row.push_bind(message.instance.0)
                .push_bind(&*message.message_id);
        },
    );
    for row in found.await? {
        let target = (InstanceNumber(row.try_get(0)?), row.try_get(1)?);
        unit.targets.insert(target);
    }
    Ok(())
}

/// What messages that were stored before this one do to it, in the order in which they came.
async fn take_late(unit: &mut Unit, message: &MessageRow, late: &Late) -> Result<()> {
    let found = sqlx::query(with_columns!(
        "SELECT",
        "FROM message WHERE instance = ? AND target = ? AND target <> '' ORDER BY number LIMIT ?"
    ))
    .bind(message.instance.0)
    .bind(&*message.message_id)
    .bind(LATE)
    .fetch_all(unit.connection().await?)
    .await?;
    for row in &found {
        if let Some(change) = (late.0)(&message_of(row)?) {
            apply(unit, message.instance, &change).await?;
        }
    }
    Ok(())
}

/// Stores what is new of these with its events.
pub(super) struct RecordMessages(pub(super) Vec<MessageRecord>);

#[async_trait]
impl Work for RecordMessages {
    type Output = Vec<bool>;

    fn messages(&self) -> &[MessageRecord] {
        &self.0
    }

    async fn run(&self, unit: &mut Unit) -> Result<Vec<bool>> {
        let mut new = Vec::with_capacity(self.0.len());
        for record in &self.0 {
            // Claimed once: the same message in another job of this transaction is not new.
            let is_new = unit.new_messages.remove(&key_of(&record.row));
            if is_new {
                take_effect(unit, record.row.instance, &record.effects).await?;
                let target = (record.row.instance, record.row.message_id.clone());
                if let Some(late) = &record.late
                    && unit.targets.contains(&target)
                {
                    take_late(unit, &record.row, late).await?;
                }
            }
            new.push(is_new);
        }
        Ok(new)
    }
}

/// Logs what there is to say and makes the changes.
async fn take_effect(unit: &mut Unit, instance: InstanceNumber, effects: &Effects) -> Result<()> {
    unit.append(effects.events.iter().cloned())?;
    for change in &effects.changes {
        apply(unit, instance, change).await?;
    }
    for step in &effects.payments {
        payments::step(unit, instance, step).await?;
    }
    Ok(())
}

/// Changes the first of the messages with this id that can be changed so. False where none can.
async fn apply(unit: &mut Unit, instance: InstanceNumber, change: &MessageChange) -> Result<bool> {
    if unit.holds_outbound(instance, std::slice::from_ref(&change.message_id)) {
        unit.flush().await?;
    }
    let mut statement = QueryBuilder::<Sqlite>::new("SELECT ");
    statement.push(COLUMNS);
    statement
        .push(" FROM message WHERE instance = ")
        .push_bind(instance.0);
    statement
        .push(" AND message_id = ")
        .push_bind(&*change.message_id);
    statement.push(" AND chat IN ");
    rows::push_list(&mut statement, change.chats.iter().cloned());
    let found = statement
        .build()
        .fetch_all(unit.connection().await?)
        .await?;
    if found.is_empty() {
        unit.append((change.apply)(None).events)?;
        return Ok(false);
    }
    for row in &found {
        let changed = (change.apply)(Some(&message_of(row)?));
        if let Some(row) = &changed.row {
            rewrite(unit.connection().await?, row).await?;
            if let Some(id) = changed.released {
                media::release(unit, row, id).await?;
            }
            unit.append(changed.events)?;
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) async fn change(
    work: &(InstanceNumber, MessageChange),
    unit: &mut Unit,
) -> Result<bool> {
    let (instance, change) = work;
    if unit.is_deleted(*instance)? {
        return Ok(false);
    }
    apply(unit, *instance, change).await
}

async fn rewrite(connection: &mut SqliteConnection, row: &MessageRow) -> Result<()> {
    sqlx::query(
        "UPDATE message SET body = ?, raw = ?, words = ?, starred = ?, hidden = ? \
         WHERE instance = ? AND message_id = ? AND chat = ? AND sender = ?",
    )
    .bind(&row.body[..])
    .bind(&row.raw[..])
    .bind(&*row.words)
    .bind(row.starred)
    .bind(row.hidden)
    .bind(row.instance.0)
    .bind(&*row.message_id)
    .bind(&*row.chat)
    .bind(&*row.sender)
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores a message to send with its events, unless its request was seen before.
pub(super) struct AcceptMessage {
    pub(super) message: MessageRow,
    pub(super) request: Option<RequestMark>,
    /// The recipient of a mailing list whose message it is.
    pub(super) item: Option<ItemMark>,
    pub(super) events: Vec<NewEvent>,
}

#[async_trait]
impl Work for AcceptMessage {
    type Output = AcceptOutcome;

    fn request(&self) -> Option<(&RequestMark, InstanceNumber, &str)> {
        let request = self.request.as_ref()?;
        Some((request, self.message.instance, &self.message.message_id))
    }

    async fn run(&self, unit: &mut Unit) -> Result<AcceptOutcome> {
        if unit.is_deleted(self.message.instance)? {
            return Err(error::deleted(self.message.instance));
        }
        if let Some(request) = &self.request
            && let Some(seen) = seen_before(unit, self.message.instance, request).await?
        {
            return Ok(seen);
        }
        if let Some(item) = &self.item
            && let Some(not_so) = queue_items::mark(unit, &self.message, item).await?
        {
            return Ok(not_so);
        }
        unit.insert_outbound(self.message.clone());
        unit.append(self.events.iter().cloned())?;
        Ok(AcceptOutcome::Accepted)
    }
}

/// What the first request with this id came to; `None` where this is the first.
pub(super) async fn seen_before(
    unit: &mut Unit,
    instance: InstanceNumber,
    request: &RequestMark,
) -> Result<Option<AcceptOutcome>> {
    if unit.new_requests.remove(&requests::key_of(request)) {
        return Ok(None);
    }
    unit.flush().await?;
    let first = match requests::find(unit.connection().await?, request).await? {
        Some(known) => outcome_of(unit.connection().await?, instance, request, &known).await?,
        None => None,
    };
    first.map(Some).ok_or_else(|| error::strange("a request"))
}

/// What a request that is known answers; `None` where its message is gone.
async fn outcome_of(
    connection: &mut SqliteConnection,
    instance: InstanceNumber,
    request: &RequestMark,
    known: &requests::Known,
) -> Result<Option<AcceptOutcome>> {
    if let Some(fields) = known.differing_for(instance, request) {
        return Ok(Some(AcceptOutcome::Reused(fields)));
    }
    let row = sqlx::query(with_columns!(
        "SELECT",
        "FROM message WHERE instance = ? AND message_id = ? AND outbound = 1"
    ))
    .bind(instance.0)
    .bind(&known.subject)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = row {
        let message = message_of(&row)?;
        return Ok(Some(AcceptOutcome::Replayed(Box::new(message))));
    }
    let waits = sends::find(connection, instance, &known.subject).await?;
    Ok(waits.map(|send| AcceptOutcome::Waits(Box::new(send))))
}

pub(super) async fn lookup_request(
    readers: &SqlitePool,
    instance: InstanceNumber,
    request: &RequestMark,
) -> Result<Option<AcceptOutcome>> {
    let mut connection = readers.acquire().await?;
    match requests::find(&mut connection, request).await? {
        Some(known) => outcome_of(&mut connection, instance, request, &known).await,
        None => Ok(None),
    }
}

/// Raises the status of some messages of an instance.
pub(super) struct Raise {
    pub(super) instance: InstanceNumber,
    pub(super) rise: StatusRise,
    pub(super) effects: EffectsOf,
}

/// The statement that raises statuses, before and after the values.
const RAISE: [&str; 2] = [
    "UPDATE message SET previous_status = status, status = rise.column3, \
     status_reason = rise.column4 FROM (",
    with_columns!(
        ") AS rise WHERE instance = rise.column1 AND message_id = rise.column2 \
         AND from_me = 1 AND status > 0 AND status < rise.column3 RETURNING",
        ""
    ),
];

/// Raises the statuses of all jobs and notes what rose. Of several rises of one message only the
/// first is done here, so that its job sees it before the next.
pub(super) async fn raise_all(unit: &mut Unit, raises: impl Iterator<Item = &Raise>) -> Result<()> {
    let mut wanted = Vec::new();
    for raise in raises {
        for id in &raise.rise.message_ids {
            if let Entry::Vacant(place) = unit.raised.entry((raise.instance, id.clone())) {
                place.insert(Vec::new());
                wanted.push((raise, id));
            }
        }
    }
    for message in raise_these(unit, &wanted).await? {
        let key = (message.instance, message.message_id.clone());
        unit.raised.entry(key).or_default().push(message);
    }
    Ok(())
}

async fn raise_these(unit: &mut Unit, wanted: &[(&Raise, &String)]) -> Result<Vec<MessageRow>> {
    let [before, after] = RAISE;
    let raised = rows::with_values(
        &mut unit.transaction,
        before,
        wanted,
        after,
        |mut row, (raise, id)| {
            row.push_bind(raise.instance.0)
                .push_bind(&***id)
                .push_bind(raise.rise.status)
                .push_bind(&*raise.rise.reason);
        },
    )
    .await?;
    raised.iter().map(message_of).collect()
}

#[async_trait]
impl Work for Raise {
    type Output = Vec<MessageRow>;

    fn rise(&self) -> Option<&Raise> {
        Some(self)
    }

    async fn run(&self, unit: &mut Unit) -> Result<Vec<MessageRow>> {
        let ids = &self.rise.message_ids;
        // Those that another job has written since `raise_all`.
        let held = unit.holds_outbound(self.instance, ids);
        if held {
            unit.flush().await?;
        }
        let (mut raised, mut left) = (Vec::new(), Vec::new());
        for id in ids {
            let rows = unit.raised.remove(&(self.instance, id.clone()));
            if held || rows.is_none() {
                left.push((self, id));
            }
            raised.extend(rows.into_iter().flatten());
        }
        raised.extend(raise_these(unit, &left).await?);
        let mut heard = Vec::new();
        if let Some(party) = &self.rise.party {
            for ids in ids.chunks(IDS) {
                heard.extend(hear(&mut unit.transaction, self, party, ids).await?);
            }
        }
        let known: HashSet<Key> = raised.iter().map(key_of).collect();
        let by_time =
            |a: &MessageRow, b: &MessageRow| (a.time, &a.message_id).cmp(&(b.time, &b.message_id));
        raised.sort_by(by_time);
        heard.retain(|message| !known.contains(&key_of(message)));
        heard.sort_by(by_time);
        for message in raised.iter().chain(&heard) {
            take_effect(unit, self.instance, &(self.effects)(message)).await?;
        }
        Ok(raised)
    }
}

/// Notes how far a participant has come with messages to groups. Returns those with which they have
/// come further, as messages whose own status has not risen, without what they say: that may name
/// every participant, and each of them comes by here.
async fn hear(
    transaction: &mut Transaction,
    raise: &Raise,
    party: &str,
    ids: &[String],
) -> Result<Vec<MessageRow>> {
    let mut statement = QueryBuilder::<Sqlite>::new(with_columns!(
        "SELECT",
        "x'' AS body, x'' AS raw",
        "FROM message WHERE from_me = 1 AND chat LIKE '%@g.us' AND instance = "
    ));
    statement
        .push_bind(raise.instance.0)
        .push(" AND message_id IN ");
    rows::push_list(&mut statement, ids.iter().cloned());
    let mut messages = Vec::new();
    for row in statement
        .build()
        .fetch_all(transaction.connection().await?)
        .await?
    {
        let message = message_of(&row)?;
        messages.push(MessageRow {
            previous_status: message.status,
            ..message
        });
    }
    let further = rows::with_values(
        transaction,
        "INSERT INTO message_receipt (instance, message_id, chat, party, status)",
        &messages,
        "ON CONFLICT (instance, message_id, chat, party) DO UPDATE SET status = excluded.status \
         WHERE status < excluded.status RETURNING message_id, chat",
        |mut row, message| {
            row.push_bind(message.instance.0)
                .push_bind(&*message.message_id)
                .push_bind(&*message.chat)
                .push_bind(party)
                .push_bind(raise.rise.status);
        },
    )
    .await?;
    let mut keys = HashSet::new();
    for row in further {
        keys.insert((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?));
    }
    messages.retain(|one| keys.contains(&(one.message_id.clone(), one.chat.clone())));
    Ok(messages)
}

pub(super) async fn lookup(
    readers: &SqlitePool,
    instance: InstanceNumber,
    message_id: &str,
    chat: Option<&str>,
) -> Result<Option<MessageRow>> {
    let row = sqlx::query(with_columns!(
        "SELECT",
        "FROM message WHERE instance = ? AND message_id = ? AND (? IS NULL OR chat = ?) \
             AND hidden = 0 ORDER BY time DESC LIMIT 1"
    ))
    .bind(instance.0)
    .bind(message_id)
    .bind(chat)
    .bind(chat)
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(message_of).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    instance: InstanceNumber,
    message_id: &str,
    limit: usize,
) -> Result<Vec<MessageRow>> {
    sqlx::query(with_columns!(
        "SELECT",
        "FROM message WHERE instance = ? AND message_id = ? AND hidden = 0 ORDER BY time DESC LIMIT ?"
    ))
    .bind(instance.0)
    .bind(message_id)
    .bind(rows::limit(limit))
    .fetch_all(readers)
    .await?
    .iter()
    .map(message_of)
    .collect()
}

pub(super) async fn list_outbound(
    readers: &SqlitePool,
    instance: InstanceNumber,
    status: i32,
    after: Option<(SystemTime, String)>,
    limit: usize,
) -> Result<Vec<MessageRow>> {
    let (after, id) = after.map_or((i64::MIN, String::new()), |(time, id)| {
        (time::micros(time), id)
    });
    sqlx::query(with_columns!(
        "SELECT",
        "FROM message WHERE instance = ? AND status = ? AND outbound = 1 \
             AND (time, message_id) > (?, ?) ORDER BY time, message_id LIMIT ?"
    ))
    .bind(instance.0)
    .bind(status)
    .bind(after)
    .bind(id)
    .bind(rows::limit(limit))
    .fetch_all(readers)
    .await?
    .iter()
    .map(message_of)
    .collect()
}

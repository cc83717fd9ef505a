//! Requests for money.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::{
    messages::{COLUMNS, message_of},
    rows,
    time::{from_micros, micros},
    unit::Unit,
};
use crate::{
    domain::ids::InstanceNumber,
    storage::{
        MessagePlace, Result,
        payment::{Earlier, PaymentAnswer, PaymentQuery, PaymentRow, PaymentStep},
    },
};

/// Begins a statement with the columns that `payment_of` reads.
const SELECT: &str = "SELECT instance, message_id, chat, sender, time, state, expire_time, body, number \
     FROM payment WHERE instance = ";

/// Most messages that are looked at for what they do to a request that comes after them.
const EARLIER: i64 = 100;

fn payment_of(row: &SqliteRow) -> Result<PaymentRow> {
    Ok(PaymentRow {
        instance: InstanceNumber(row.try_get(0)?),
        message_id: row.try_get(1)?,
        chat: row.try_get(2)?,
        sender: row.try_get(3)?,
        time: from_micros(row.try_get(4)?),
        state: row.try_get(5)?,
        expire_time: row.try_get::<Option<i64>, _>(6)?.map(from_micros),
        body: row.try_get::<Vec<u8>, _>(7)?.into(),
    })
}

/// Does what a message does to requests.
pub(super) async fn step(
    unit: &mut Unit,
    instance: InstanceNumber,
    step: &PaymentStep,
) -> Result<()> {
    match step {
        PaymentStep::Begin(payment, earlier) => {
            if begin(unit, payment).await? {
                take_earlier(unit, payment, earlier).await?;
            }
            Ok(())
        }
        PaymentStep::Answer(answer) => take_answer(unit, instance, answer).await,
    }
}

/// Stores a request; false if it is there.
async fn begin(unit: &mut Unit, payment: &PaymentRow) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO payment (instance, message_id, chat, sender, time, state, expire_time, body) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (instance, message_id, chat, sender) DO NOTHING",
    )
    .bind(payment.instance.0)
    .bind(&*payment.message_id)
    .bind(&*payment.chat)
    .bind(&*payment.sender)
    .bind(micros(payment.time))
    .bind(payment.state)
    .bind(payment.expire_time.map(micros))
    .bind(&payment.body[..])
    .execute(unit.connection().await?)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// What messages that were stored before this request do to it, in the order in which they came.
async fn take_earlier(unit: &mut Unit, payment: &PaymentRow, earlier: &Earlier) -> Result<()> {
    let mut statement = QueryBuilder::<Sqlite>::new("SELECT ");
    statement.push(COLUMNS);
    statement.push(" FROM message WHERE target <> '' AND instance = ");
    statement.push_bind(payment.instance.0);
    statement
        .push(" AND target = ")
        .push_bind(&*payment.message_id);
    statement.push(" ORDER BY number LIMIT ").push_bind(EARLIER);
    let found = statement
        .build()
        .fetch_all(unit.connection().await?)
        .await?;
    for row in &found {
        if let Some(answer) = (earlier.0)(&message_of(row)?) {
            take_answer(unit, payment.instance, &answer).await?;
        }
    }
    Ok(())
}

/// Changes the first of the requests with this id that the answer changes.
async fn take_answer(
    unit: &mut Unit,
    instance: InstanceNumber,
    answer: &PaymentAnswer,
) -> Result<()> {
    let mut statement = QueryBuilder::<Sqlite>::new(SELECT);
    statement.push_bind(instance.0);
    statement
        .push(" AND message_id = ")
        .push_bind(&*answer.message_id);
    statement.push(" AND chat IN ");
    rows::push_list(&mut statement, answer.chats.iter().cloned());
    statement.push(" ORDER BY number");
    let found = statement
        .build()
        .fetch_all(unit.connection().await?)
        .await?;
    let mut unchanged = None;
    for row in &found {
        let answered = (answer.apply)(Some(&payment_of(row)?));
        if let Some(row) = &answered.row {
            rewrite(unit, row).await?;
            return unit.append(answered.events);
        }
        unchanged.get_or_insert(answered);
    }
    let told = unchanged.unwrap_or_else(|| (answer.apply)(None));
    unit.append(told.events)
}

async fn rewrite(unit: &mut Unit, payment: &PaymentRow) -> Result<()> {
    sqlx::query(
        "UPDATE payment SET state = ?, body = ? \
         WHERE instance = ? AND message_id = ? AND chat = ? AND sender = ?",
    )
    .bind(payment.state)
    .bind(&payment.body[..])
    .bind(payment.instance.0)
    .bind(&*payment.message_id)
    .bind(&*payment.chat)
    .bind(&*payment.sender)
    .execute(unit.connection().await?)
    .await?;
    Ok(())
}

/// All with WhatsApp's id, whatever their chat, newest first.
pub(super) async fn find(
    readers: &SqlitePool,
    instance: InstanceNumber,
    message_id: &str,
    limit: usize,
) -> Result<Vec<PaymentRow>> {
    let mut statement = QueryBuilder::<Sqlite>::new(SELECT);
    statement.push_bind(instance.0);
    statement.push(" AND message_id = ").push_bind(message_id);
    statement.push(" ORDER BY time DESC, number DESC LIMIT ");
    statement.push_bind(rows::limit(limit));
    let found = statement.build().fetch_all(readers).await?;
    found.iter().map(payment_of).collect()
}

/// The newest that a caller wants, newest first.
pub(super) async fn list(
    readers: &SqlitePool,
    query: PaymentQuery,
) -> Result<Vec<(MessagePlace, PaymentRow)>> {
    let mut statement = QueryBuilder::<Sqlite>::new(SELECT);
    statement.push_bind(query.instance.0);
    if let Some(chats) = query.chats {
        statement.push(" AND chat IN ");
        rows::push_list(&mut statement, chats);
    }
    if let Some(state) = query.state {
        statement.push(" AND state = ").push_bind(state);
    }
    if let Some((is_over, now)) = query.is_over {
        statement.push(if is_over {
            " AND expire_time <= "
        } else {
            " AND coalesce(expire_time, 9223372036854775807) > "
        });
        statement.push_bind(micros(now));
    }
    if let Some(before) = query.before {
        statement.push(" AND (time, number) < (");
        statement.push_bind(micros(before.time)).push(", ");
        statement.push_bind(before.number).push(")");
    }
    statement.push(" ORDER BY time DESC, number DESC LIMIT ");
    statement.push_bind(rows::limit(query.limit));
    let found = statement.build().fetch_all(readers).await?;
    found
        .iter()
        .map(|row| {
            let payment = payment_of(row)?;
            let place = MessagePlace {
                time: payment.time,
                number: row.try_get(8)?,
            };
            Ok((place, payment))
        })
        .collect()
}

//! Messages by chat, by their words, and by what they do something to.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool};

use super::{
    messages::{COLUMNS, message_of},
    rows, time,
};
use crate::{
    domain::ids::InstanceNumber,
    storage::{MessagePlace, MessageQuery, MessageRow, Result},
};

/// The newest messages that a caller wants, newest first.
pub(super) async fn list(
    readers: &SqlitePool,
    query: MessageQuery,
) -> Result<Vec<(MessagePlace, MessageRow)>> {
    let mut statement = QueryBuilder::<Sqlite>::new("SELECT ");
    statement.push(COLUMNS);
    statement.push(", number FROM message WHERE hidden = 0 AND instance = ");
    statement.push_bind(query.instance.0);
    if let Some(chats) = query.chats {
        statement.push(" AND chat IN ");
        rows::push_list(&mut statement, chats);
    }
    if !query.actions {
        statement.push(" AND listed = 1");
    }
    if query.starred {
        statement.push(" AND starred = 1");
    }
    if let Some(words) = query.words.as_deref().map(expression) {
        statement
            .push(" AND number IN (SELECT rowid FROM message_words WHERE message_words MATCH ");
        statement.push_bind(words).push(")");
    }
    if let Some(before) = query.before {
        statement.push(" AND (time, number) < (");
        statement.push_bind(time::micros(before.time)).push(", ");
        statement.push_bind(before.number).push(")");
    }
    statement.push(" ORDER BY time DESC, number DESC LIMIT ");
    statement.push_bind(rows::limit(query.limit));
    let found = statement.build().fetch_all(readers).await?;
    found
        .iter()
        .map(|row| {
            let message = message_of(row)?;
            let place = MessagePlace {
                time: message.time,
                number: row.try_get("number")?,
            };
            Ok((place, message))
        })
        .collect()
}

/// The messages that do something to this one, in the order in which they were stored, after one of them.
pub(super) async fn targeting(
    readers: &SqlitePool,
    instance: InstanceNumber,
    target: &str,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, MessageRow)>> {
    let mut statement = QueryBuilder::<Sqlite>::new("SELECT ");
    statement.push(COLUMNS);
    statement.push(", number FROM message WHERE target <> '' AND hidden = 0 AND instance = ");
    statement.push_bind(instance.0);
    statement.push(" AND target = ").push_bind(target);
    statement.push(" AND number > ").push_bind(after);
    statement.push(" ORDER BY number LIMIT ");
    statement.push_bind(rows::limit(limit));
    let found = statement.build().fetch_all(readers).await?;
    found
        .iter()
        .map(|row| Ok((row.try_get("number")?, message_of(row)?)))
        .collect()
}

/// All of these words, each as it begins, in the words of the index.
fn expression(words: &str) -> String {
    let quoted = words
        .split_whitespace()
        .map(|word| format!("\"{}\"*", word.replace('"', "\"\"")));
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::expression;

    #[test]
    fn words_are_words_whatever_they_are() {
        assert_eq!(expression("two  words"), "\"two\"* \"words\"*");
        assert_eq!(expression("a\"b OR c*"), "\"a\"\"b\"* \"OR\"* \"c*\"*");
    }
}

//! Messages and remembered requests.

use super::*;
use crate::{
    domain::limits::REQUEST_MEMORY,
    storage::{
        AcceptOutcome, Changed, Effects, EffectsOf, Late, MessageChange, MessageQuery,
        MessageRecord, StatusRise,
    },
};

const ONE: InstanceNumber = InstanceNumber(1);

#[tokio::test]
async fn a_message_redelivered_is_logged_once() {
    let place = Place::new();
    let storage = place.open().await;
    let arrival = |id: &str| MessageRecord::new(message(ONE, "chat", id), vec![received(1, id)]);
    let new = storage
        .record_messages(vec![arrival("A"), arrival("B"), arrival("A")])
        .await
        .unwrap();
    assert_eq!(new, [true, true, false]);
    let new = storage
        .record_messages(vec![arrival("B"), arrival("C")])
        .await
        .unwrap();
    assert_eq!(new, [false, true]);
    let elsewhere = MessageRecord::new(message(ONE, "other chat", "A"), Vec::new());
    let new = storage.record_messages(vec![elsewhere]).await.unwrap();
    assert_eq!(new, [true]);
    assert_eq!(bodies(&all(&storage).await), ["A", "B", "C"]);
}

#[tokio::test]
async fn of_equal_arrivals_at_once_one_is_new() {
    let place = Place::new();
    let storage = place.open().await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let arrival = MessageRecord::new(message(ONE, "chat", "A"), vec![received(1, "A")]);
                storage.record_messages(vec![arrival]).await.unwrap()[0]
            })
        })
        .collect();
    let mut new = 0;
    for task in tasks {
        new += usize::from(task.await.unwrap());
    }
    assert_eq!(new, 1);
    assert_eq!(all(&storage).await.len(), 1);
}

#[tokio::test]
async fn a_repeated_request_answers_the_first_message() {
    let place = Place::new();
    let storage = place.open().await;
    let send = async |id: &str, request| {
        storage
            .accept_message(message(ONE, "chat", id), request, vec![received(1, id)])
            .await
            .unwrap()
    };
    let mark = request("r1", 1);
    assert!(storage.lookup_request(ONE, &mark).await.unwrap().is_none());
    let first = send("A", Some(mark.clone())).await;
    assert!(matches!(first, AcceptOutcome::Accepted));
    let again = send("B", Some(mark.clone())).await;
    assert!(matches!(again, AcceptOutcome::Replayed(row) if *row == message(ONE, "chat", "A")));
    let other_body = send("C", Some(request("r1", 2))).await;
    assert!(matches!(other_body, AcceptOutcome::Reused));
    assert!(matches!(send("D", None).await, AcceptOutcome::Accepted));
    assert_eq!(bodies(&all(&storage).await), ["A", "D"]);

    let seen = storage.lookup_request(ONE, &mark).await.unwrap();
    assert!(matches!(seen, Some(AcceptOutcome::Replayed(row)) if row.message_id == "A"));
    let seen = storage.lookup_request(InstanceNumber(2), &mark).await;
    assert!(matches!(seen.unwrap(), Some(AcceptOutcome::Reused)));

    // After its day an id is as good as new, whether it was swept or not.
    let late = RequestMark {
        time: mark.time + REQUEST_MEMORY + Duration::from_secs(1),
        ..request("r1", 2)
    };
    assert!(storage.lookup_request(ONE, &late).await.unwrap().is_none());
    let accepted = send("E", Some(late.clone())).await;
    assert!(matches!(accepted, AcceptOutcome::Accepted));
    assert_eq!(storage.forget_requests(late.time).await.unwrap(), 0);
    let after = late.time + Duration::from_secs(1);
    assert_eq!(storage.forget_requests(after).await.unwrap(), 1);
    assert!(storage.lookup_request(ONE, &late).await.unwrap().is_none());
}

#[tokio::test]
async fn of_equal_requests_at_once_one_is_accepted() {
    let place = Place::new();
    let storage = place.open().await;
    let mark = request("r1", 1);
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (storage, mark) = (storage.clone(), mark.clone());
            tokio::spawn(async move {
                let row = message(ONE, "chat", &format!("M{number}"));
                storage.accept_message(row, Some(mark), Vec::new()).await
            })
        })
        .collect();
    let mut accepted = 0;
    let mut answered = Vec::new();
    for task in tasks {
        match task.await.unwrap().unwrap() {
            AcceptOutcome::Accepted => accepted += 1,
            AcceptOutcome::Replayed(row) => answered.push(row.message_id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((accepted, answered.len()), (1, 19));
    assert!(answered.iter().all(|id| *id == answered[0]));
    let waiting = storage.list_outbound(ONE, 1, 100).await.unwrap();
    assert_eq!(waiting.len(), 1);
}

#[tokio::test]
async fn a_status_only_rises() {
    let place = Place::new();
    let storage = place.open().await;
    for chat in ["chat", "same as lid"] {
        storage
            .accept_message(message(ONE, chat, "A"), None, Vec::new())
            .await
            .unwrap();
    }
    let theirs = MessageRow {
        from_me: false,
        outbound: false,
        sender: "15550002222@s.whatsapp.net".to_owned(),
        ..message(ONE, "chat", "A")
    };
    storage
        .record_messages(vec![MessageRecord::new(theirs, Vec::new())])
        .await
        .unwrap();
    let raise = async |status| {
        let rise = StatusRise {
            message_ids: vec!["A".to_owned(), "unknown".to_owned()],
            status,
            reason: "why".to_owned(),
            party: None,
        };
        let events: EffectsOf = Box::new(|row| Effects {
            events: vec![event(1, EventType::MessageStatus, &row.chat)],
            changes: Vec::new(),
        });
        storage.raise_status(ONE, rise, events).await.unwrap()
    };
    let raised = raise(3).await;
    assert_eq!(raised.len(), 2);
    assert!(raised.iter().all(|row| row.from_me && row.status == 3));
    assert!(raise(3).await.is_empty());
    assert!(raise(2).await.is_empty());
    assert_eq!(raise(5).await.len(), 2);
    assert_eq!(all(&storage).await.len(), 4);
    let row = storage.lookup_message(ONE, "A", Some("same as lid")).await;
    let row = row.unwrap().unwrap();
    assert_eq!((row.status, &*row.status_reason), (5, "why"));
}

#[tokio::test]
async fn in_a_group_everybody_rises_for_themselves() {
    let place = Place::new();
    let storage = place.open().await;
    for chat in ["1@g.us", "15550001111@s.whatsapp.net"] {
        storage
            .accept_message(message(ONE, chat, "A"), None, Vec::new())
            .await
            .unwrap();
    }
    let raise = async |party: &str, status| {
        let rise = StatusRise {
            message_ids: vec!["A".to_owned()],
            status,
            reason: String::new(),
            party: Some(party.to_owned()),
        };
        let events: EffectsOf = Box::new(move |row| {
            let rose = row.previous_status < row.status;
            // What it says is read where it has risen only: every member of a group comes by here.
            assert_eq!(row.body.is_empty(), !rose);
            let said = format!("{} {status} {} {rose}", row.chat, row.status);
            Effects {
                events: vec![event(1, EventType::MessageStatus, &said)],
                changes: Vec::new(),
            }
        });
        let raised = storage.raise_status(ONE, rise, events).await.unwrap();
        raised.len()
    };
    assert_eq!(raise("ann", 4).await, 2);
    assert_eq!(raise("ben", 4).await, 0);
    assert_eq!(raise("ben", 4).await, 0);
    assert_eq!(raise("ann", 5).await, 2);
    assert_eq!(raise("ben", 5).await, 0);
    assert_eq!(raise("ann", 4).await, 0);
    let told = all(&storage).await;
    let mut told = bodies(&told);
    told.retain(|said| said.starts_with("1@g.us"));
    assert_eq!(
        told,
        [
            "1@g.us 4 4 true",
            "1@g.us 4 4 false",
            "1@g.us 5 5 true",
            "1@g.us 5 5 false",
        ]
    );
    assert_eq!(all(&storage).await.len(), 6);
}

#[tokio::test]
async fn messages_are_found_newest_first_and_sent_oldest_first() {
    let place = Place::new();
    let storage = place.open().await;
    let time = message(ONE, "", "").time;
    for (chat, id, age) in [("a", "X", 3), ("b", "X", 1), ("c", "Y", 2)] {
        let row = MessageRow {
            time: time - Duration::from_secs(age),
            ..message(ONE, chat, id)
        };
        storage.accept_message(row, None, Vec::new()).await.unwrap();
    }
    let newest = storage.lookup_message(ONE, "X", None).await.unwrap();
    assert_eq!(newest.unwrap().chat, "b");
    let same_id = storage.list_messages(ONE, "X", 9).await.unwrap();
    let chats: Vec<_> = same_id.iter().map(|row| &*row.chat).collect();
    assert_eq!(chats, ["b", "a"]);
    let missing = storage.lookup_message(InstanceNumber(2), "X", None).await;
    assert_eq!(missing.unwrap(), None);
    let waiting = storage.list_outbound(ONE, 1, 2).await.unwrap();
    let chats: Vec<_> = waiting.iter().map(|row| &*row.chat).collect();
    assert_eq!(chats, ["a", "c"]);
    assert!(storage.list_outbound(ONE, 2, 9).await.unwrap().is_empty());
}

/// A change that gives a message these words, and says so.
fn rewording(id: &str, words: &str) -> MessageChange {
    let words = words.to_owned();
    MessageChange {
        message_id: id.to_owned(),
        chats: vec!["chat".to_owned(), "same as lid".to_owned()],
        apply: Arc::new(move |row| Changed {
            row: row.map(|row| MessageRow {
                words: words.clone(),
                ..row.clone()
            }),
            events: vec![event(
                1,
                EventType::MessageUpdated,
                if row.is_some() { &words } else { "unknown" },
            )],
        }),
    }
}

fn query(words: Option<&str>) -> MessageQuery {
    MessageQuery {
        instance: ONE,
        chats: None,
        words: words.map(str::to_owned),
        actions: false,
        before: None,
        limit: 9,
    }
}

async fn found(storage: &SqliteStorage, query: MessageQuery) -> Vec<String> {
    let rows = storage.query_messages(query).await.unwrap();
    rows.into_iter().map(|(_, row)| row.message_id).collect()
}

#[tokio::test]
async fn a_change_comes_with_what_causes_it_and_only_once() {
    let place = Place::new();
    let storage = place.open().await;
    let original = MessageRow {
        words: "tea at noon".to_owned(),
        ..message(ONE, "chat", "A")
    };
    let edit = |id: &str, target: &str| MessageRecord {
        row: MessageRow {
            target: target.to_owned(),
            listed: false,
            ..message(ONE, "chat", id)
        },
        effects: Effects {
            events: Vec::new(),
            changes: vec![rewording(target, "coffee")],
        },
        late: None,
    };
    // In one batch, and once more.
    let batch = vec![
        MessageRecord::new(original, Vec::new()),
        edit("E", "A"),
        edit("E", "A"),
        edit("F", "nothing"),
    ];
    storage.record_messages(batch.clone()).await.unwrap();
    storage.record_messages(batch).await.unwrap();
    assert_eq!(bodies(&all(&storage).await), ["coffee", "unknown"]);
    assert_eq!(found(&storage, query(Some("coffee"))).await, ["A"]);
    assert!(found(&storage, query(Some("tea"))).await.is_empty());
    let about = storage.list_targeting(ONE, "A", 0, 9).await.unwrap();
    assert_eq!(about.len(), 1);
    let (number, row) = &about[0];
    assert_eq!(row.message_id, "E");
    let later = storage.list_targeting(ONE, "A", *number, 9).await.unwrap();
    assert!(later.is_empty());
}

#[tokio::test]
async fn messages_are_listed_by_chat_and_by_words() {
    let place = Place::new();
    let storage = place.open().await;
    let time = message(ONE, "", "").time;
    for (chat, id, age, words) in [
        ("a", "X", 3, "Tea at Noon"),
        ("b", "Y", 2, "tea"),
        ("a", "Z", 2, "noon"),
        ("a", "W", 1, ""),
    ] {
        let row = MessageRow {
            time: time - Duration::from_secs(age),
            words: words.to_owned(),
            listed: id != "W",
            ..message(ONE, chat, id)
        };
        storage.accept_message(row, None, Vec::new()).await.unwrap();
    }
    let of_a = |limit, before| MessageQuery {
        chats: Some(vec!["a".to_owned()]),
        limit,
        before,
        ..query(None)
    };
    assert_eq!(found(&storage, of_a(9, None)).await, ["Z", "X"]);
    let first = storage.query_messages(of_a(1, None)).await.unwrap();
    assert_eq!(found(&storage, of_a(9, Some(first[0].0))).await, ["X"]);
    let actions = MessageQuery {
        actions: true,
        ..of_a(9, None)
    };
    assert_eq!(found(&storage, actions).await, ["W", "Z", "X"]);
    assert_eq!(found(&storage, query(Some("TEA"))).await, ["Y", "X"]);
    assert_eq!(found(&storage, query(Some("noo te"))).await, ["X"]);
    assert!(found(&storage, query(Some("\"*"))).await.is_empty());
}

/// A message that can't be read yet.
fn stand_in(id: &str) -> MessageRecord {
    let row = MessageRow {
        status: 0,
        raw: Bytes::new(),
        ..message(ONE, "chat", id)
    };
    let events = vec![event(1, EventType::Unmapped, &format!("{id} is coming"))];
    MessageRecord::new(row, events)
}

#[tokio::test]
async fn what_stands_in_for_a_message_gives_way_to_it_once() {
    let place = Place::new();
    let storage = place.open().await;
    let real = |id: &str| MessageRecord::new(message(ONE, "chat", id), vec![received(1, id)]);
    // In one transaction, in several, and too late.
    let together = vec![
        stand_in("A"),
        stand_in("A"),
        real("A"),
        real("A"),
        stand_in("A"),
    ];
    let new = storage.record_messages(together).await.unwrap();
    assert_eq!(new, [true, false, true, false, false]);
    for (record, is_new) in [
        (stand_in("B"), true),
        (stand_in("B"), false),
        (real("B"), true),
        (real("B"), false),
        (stand_in("B"), false),
    ] {
        let new = storage.record_messages(vec![record]).await.unwrap();
        assert_eq!(new, [is_new]);
    }
    let told = all(&storage).await;
    assert_eq!(bodies(&told), ["A is coming", "A", "B is coming", "B"]);
    let kept = storage
        .lookup_message(ONE, "A", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.status, message(ONE, "chat", "A").status);
}

#[tokio::test]
async fn what_came_before_its_message_changes_it_when_it_comes() {
    let place = Place::new();
    let storage = place.open().await;
    let edit = MessageRow {
        target: "A".to_owned(),
        listed: false,
        ..message(ONE, "chat", "E")
    };
    let late = Late(Arc::new(|early| {
        let said = early.message_id.clone();
        Some(rewording("A", &format!("as {said} says")))
    }));
    let original = MessageRecord {
        late: Some(late),
        ..MessageRecord::new(message(ONE, "chat", "A"), vec![received(1, "A")])
    };
    let edit = MessageRecord::new(edit, vec![event(1, EventType::MessageUpdated, "early")]);
    storage.record_messages(vec![edit]).await.unwrap();
    for _ in 0..2 {
        let original = vec![original.clone()];
        storage.record_messages(original).await.unwrap();
    }
    let told = all(&storage).await;
    assert_eq!(bodies(&told), ["early", "A", "as E says"]);
}

//! Sends that wait.

use super::*;
use crate::storage::{
    AcceptOutcome,
    contact::{ContactNews, Sighting},
    send::{NewSend, SendQuery, SendRow},
};

const ONE: InstanceNumber = InstanceNumber(1);
const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn at(seconds: u64) -> SystemTime {
    NOW + Duration::from_secs(1_000 + seconds)
}

pub(super) fn send(recipient: &str, id: &str) -> NewSend {
    NewSend {
        instance: ONE,
        message_id: id.to_owned(),
        recipient: recipient.to_owned(),
        not_before: at(0),
        delay: Duration::ZERO,
        shown: Duration::ZERO,
        scheduled: false,
        expire_time: at(1_000),
        create_time: at(0),
        body: Bytes::from_static(b"body"),
        most: 100,
    }
}

async fn accept(storage: &SqliteStorage, send: NewSend) -> AcceptOutcome {
    let told = received(1, &send.message_id);
    let accepted = storage.accept_send(send, None, vec![told]);
    accepted.await.unwrap()
}

async fn list(storage: &SqliteStorage, query: SendQuery) -> Vec<String> {
    let rows = storage.list_sends(ONE, query, 100).await.unwrap();
    rows.into_iter().map(|row| row.message_id).collect()
}

async fn find(storage: &SqliteStorage, id: &str) -> SendRow {
    storage.lookup_send(ONE, id).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_send_becomes_one_message_whoever_ends_it_first() {
    let place = Place::new();
    let storage = place.open().await;
    let accepted = accept(&storage, send("peer", "A")).await;
    assert!(matches!(accepted, AcceptOutcome::Accepted));
    let row = find(&storage, "A").await;
    assert_eq!(row.body, Bytes::from_static(b"body"));
    assert_eq!((row.begin_time, row.due_time), (at(0), at(0)));
    let finish = async |event: &str| {
        let message = message(ONE, "chat", "A");
        storage
            .finish_send(message, vec![received(1, event)])
            .await
            .unwrap()
    };
    assert!(finish("left").await);
    assert!(!finish("cancelled").await);
    assert!(storage.lookup_send(ONE, "A").await.unwrap().is_none());
    let stored = storage.lookup_message(ONE, "A", None).await.unwrap();
    assert_eq!(stored, Some(message(ONE, "chat", "A")));
    assert_eq!(bodies(&all(&storage).await), ["A", "left"]);

    storage.close().await;
    let storage = place.open().await;
    assert!(list(&storage, SendQuery::After(0)).await.is_empty());
}

#[tokio::test]
async fn a_repeated_request_finds_its_send_and_later_its_message() {
    let place = Place::new();
    let storage = place.open().await;
    let mark = request("r1", 1);
    let accept = async |id: &str, mark: RequestMark| {
        let accepted = storage.accept_send(send("peer", id), Some(mark), Vec::new());
        accepted.await.unwrap()
    };
    assert!(matches!(
        accept("A", mark.clone()).await,
        AcceptOutcome::Accepted
    ));
    let again = accept("B", mark.clone()).await;
    assert!(matches!(again, AcceptOutcome::Waits(row) if row.message_id == "A"));
    let seen = storage.lookup_request(ONE, &mark).await.unwrap();
    assert!(matches!(seen, Some(AcceptOutcome::Waits(row)) if row.message_id == "A"));
    let other = accept("C", request("r1", 2)).await;
    assert!(matches!(other, AcceptOutcome::Reused(_)));
    let direct = storage.accept_message(message(ONE, "chat", "D"), Some(mark.clone()), Vec::new());
    assert!(matches!(direct.await.unwrap(), AcceptOutcome::Waits(_)));

    let left = storage.finish_send(message(ONE, "chat", "A"), Vec::new());
    assert!(left.await.unwrap());
    let again = accept("E", mark.clone()).await;
    assert!(matches!(again, AcceptOutcome::Replayed(row) if row.message_id == "A"));
    assert!(list(&storage, SendQuery::After(0)).await.is_empty());
}

#[tokio::test]
async fn what_differs_in_a_repeated_request_is_named() {
    let place = Place::new();
    let storage = place.open().await;
    let marked = |digest: u8, fields: &[(&str, u8)]| {
        let mut mark = request("r1", digest);
        for (name, digest) in fields {
            mark.fields.push(name, &[*digest; 32]);
        }
        mark
    };
    let first = marked(1, &[("recipient", 1), ("text", 2)]);
    let accepted = storage.accept_send(send("peer", "A"), Some(first), Vec::new());
    assert!(matches!(accepted.await.unwrap(), AcceptOutcome::Accepted));
    let other = marked(2, &[("recipient", 1), ("text", 3)]);
    let refused = storage.lookup_request(ONE, &other).await.unwrap();
    assert!(matches!(refused, Some(AcceptOutcome::Reused(fields)) if fields == ["text"]));
}

#[tokio::test]
async fn the_first_of_each_recipient_leaves_first() {
    let place = Place::new();
    let storage = place.open().await;
    for (recipient, id) in [("one", "A"), ("two", "B"), ("one", "C"), ("two", "D")] {
        accept(&storage, send(recipient, id)).await;
    }
    assert_eq!(list(&storage, SendQuery::Begun(at(0))).await, ["A", "B"]);
    let left = storage.finish_send(message(ONE, "chat", "A"), Vec::new());
    assert!(left.await.unwrap());
    assert_eq!(list(&storage, SendQuery::Begun(at(0))).await, ["B", "C"]);
    assert_eq!(list(&storage, SendQuery::After(0)).await, ["B", "C", "D"]);
    let before = async |recipient: &str| {
        let before = storage.is_send_before(ONE, recipient, at(0));
        before.await.unwrap()
    };
    assert!(before("one").await && !before("three").await);
}

#[tokio::test]
async fn the_names_of_one_person_wait_in_one_line() {
    let place = Place::new();
    let storage = place.open().await;
    let learn = async |lid: &str, number: &str, second: u64| {
        let seen = Sighting {
            lid: lid.to_owned(),
            phone_number: number.to_owned(),
            name: String::new(),
            source: "test".to_owned(),
            time: at(second),
            met: false,
        };
        let quiet = Box::new(|_: &ContactNews| Vec::new());
        let learnt = storage.learn_contacts(ONE, vec![seen], quiet);
        learnt.await.unwrap();
    };
    let begun = async || list(&storage, SendQuery::Begun(at(50))).await;
    learn("900001", "15550000001", 1).await;
    let first = NewSend {
        delay: Duration::from_secs(5),
        ..send("15550000001", "A")
    };
    accept(&storage, first).await;
    accept(&storage, send("900001@lid", "B")).await;
    assert_eq!(find(&storage, "B").await.due_time, at(5));
    assert_eq!(begun().await, ["A"]);
    let before = storage.is_send_before(ONE, "900001@lid", at(0));
    assert!(before.await.unwrap());

    // Two who turn out to be one, with and without a contact of the number alone.
    accept(&storage, send("15550000002", "C")).await;
    accept(&storage, send("900002@lid", "D")).await;
    accept(&storage, send("15550000003", "E")).await;
    accept(&storage, send("900003@lid", "F")).await;
    learn("", "15550000003", 1).await;
    assert_eq!(begun().await, ["C", "D", "E", "F", "A"]);
    learn("900002", "15550000002", 2).await;
    learn("900003", "15550000003", 2).await;
    assert_eq!(begun().await, ["C", "E", "A"]);
    assert_eq!(find(&storage, "D").await.recipient, "900002@lid");
    let postponed = storage.postpone_sends(ONE, "15550000002", at(60));
    postponed.await.unwrap();
    assert_eq!(find(&storage, "D").await.due_time, at(60));

    // The number has gone to somebody else.
    learn("900004", "15550000003", 3).await;
    assert_eq!(begun().await, ["E", "F", "A"]);
    accept(&storage, send("900004@lid", "G")).await;
    assert_eq!(find(&storage, "G").await.person, "15550000003");
}

#[tokio::test]
async fn a_delay_counts_from_the_one_before_and_a_time_of_its_own_stands_in_no_way() {
    let place = Place::new();
    let storage = place.open().await;
    let delayed = |id: &str, seconds| NewSend {
        delay: Duration::from_secs(seconds),
        shown: Duration::from_secs(seconds),
        ..send("peer", id)
    };
    accept(&storage, delayed("A", 5)).await;
    accept(&storage, delayed("B", 7)).await;
    accept(&storage, send("peer", "C")).await;
    let times = async |id: &str| {
        let row = find(&storage, id).await;
        (row.begin_time, row.due_time)
    };
    assert_eq!(times("A").await, (at(0), at(5)));
    assert_eq!(times("B").await, (at(5), at(12)));
    assert_eq!(times("C").await, (at(12), at(12)));

    let planned = NewSend {
        not_before: at(500),
        scheduled: true,
        ..send("planned", "D")
    };
    accept(&storage, planned).await;
    accept(&storage, send("planned", "E")).await;
    assert_eq!(times("D").await, (at(500), at(500)));
    assert_eq!(times("E").await, (at(0), at(0)));
    let is_before = |now| storage.is_send_before(ONE, "other", now);
    assert!(!is_before(at(0)).await.unwrap());
    let later = NewSend {
        create_time: at(600),
        not_before: at(600),
        ..send("planned", "F")
    };
    accept(&storage, later).await;
    assert_eq!(list(&storage, SendQuery::Begun(at(600))).await, ["E", "A"]);
    let next = storage.next_send_time(ONE, at(0)).await.unwrap();
    assert_eq!(next, Some(at(5)));
}

#[tokio::test]
async fn what_has_expired_is_found() {
    let place = Place::new();
    let storage = place.open().await;
    for (id, end) in [("A", 20), ("B", 10), ("C", 30)] {
        let send = NewSend {
            expire_time: at(end),
            ..send("peer", id)
        };
        accept(&storage, send).await;
    }
    assert_eq!(list(&storage, SendQuery::Expired(at(20))).await, ["A", "B"]);
    let next = storage.next_send_time(ONE, at(20)).await.unwrap();
    assert_eq!(next, Some(at(30)));
    assert_eq!(storage.next_send_time(ONE, at(30)).await.unwrap(), None);
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let place = Place::new();
    let storage = place.open().await;
    let mark = request("r1", 1);
    let accept = async |id: &str| {
        let send = NewSend {
            most: 1,
            ..send("peer", id)
        };
        let accepted = storage.accept_send(send, Some(request(id, 1)), Vec::new());
        accepted.await.unwrap()
    };
    assert!(matches!(accept("A").await, AcceptOutcome::Accepted));
    assert!(matches!(accept("r1").await, AcceptOutcome::Full));
    // What was refused so may be tried again under its id.
    assert!(storage.lookup_request(ONE, &mark).await.unwrap().is_none());
    let left = storage.finish_send(message(ONE, "chat", "A"), Vec::new());
    assert!(left.await.unwrap());
    assert!(matches!(accept("r1").await, AcceptOutcome::Accepted));
}

#[tokio::test]
async fn they_go_with_their_instance() {
    let place = Place::new();
    let storage = place.open().await;
    let row = created(&storage, "one").await;
    accept(&storage, send("peer", "A")).await;
    assert!(storage.delete_instance(row.number, quiet()).await.unwrap());
    assert!(list(&storage, SendQuery::After(0)).await.is_empty());
    let late = storage.finish_send(message(ONE, "chat", "A"), Vec::new());
    assert!(!late.await.unwrap_or(false));
}

#[tokio::test]
async fn postponed_sends_keep_their_order_and_are_in_nobodys_way() {
    let place = Place::new();
    let storage = place.open().await;
    let late = NewSend {
        scheduled: true,
        not_before: at(500),
        ..send("held", "late")
    };
    for send in [
        late,
        send("held", "A"),
        send("held", "B"),
        send("peer", "C"),
    ] {
        accept(&storage, send).await;
    }
    let postponed = storage.postpone_sends(ONE, "held", at(100));
    postponed.await.unwrap();
    assert_eq!(list(&storage, SendQuery::Begun(at(99))).await, ["C"]);
    assert_eq!(list(&storage, SendQuery::Begun(at(100))).await, ["C", "A"]);
    let due = async |id| find(&storage, id).await.due_time;
    assert_eq!(due("A").await, at(100));
    assert_eq!(due("B").await, at(100));
    assert_eq!(due("late").await, at(500));
    assert_eq!(due("C").await, at(0));
}

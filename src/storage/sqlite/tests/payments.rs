//! Requests for money.

use super::*;
use crate::storage::{
    Effects, MessageRecord,
    payment::{Answered, Earlier, PaymentAnswer, PaymentQuery, PaymentRow, PaymentStep},
};

const ONE: InstanceNumber = InstanceNumber(1);

/// A request that is open.
fn payment(instance: InstanceNumber, id: &str, seconds: u64) -> PaymentRow {
    PaymentRow {
        instance,
        message_id: id.to_owned(),
        chat: "chat".to_owned(),
        sender: "15550001111@s.whatsapp.net".to_owned(),
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        state: 1,
        expire_time: None,
        body: Bytes::from_static(b"open"),
    }
}

/// A message that is a request, on which answers that came before it have this effect.
pub(super) fn begins(payment: PaymentRow) -> MessageRecord {
    let row = MessageRow {
        outbound: false,
        status: 4,
        ..message(payment.instance, &payment.chat, &payment.message_id)
    };
    let earlier = Earlier(Arc::new(|early| Some(answer(&early.target, "earlier"))));
    MessageRecord {
        effects: Effects {
            events: vec![received(payment.instance.0, "request")],
            payments: vec![PaymentStep::Begin(Box::new(payment), earlier)],
            ..Effects::default()
        },
        ..MessageRecord::new(row, Vec::new())
    }
}

pub(super) fn open(instance: InstanceNumber, id: &str) -> MessageRecord {
    begins(payment(instance, id, 1))
}

/// Settles an open request; of others it says that it found them, or nothing.
fn answer(id: &str, word: &'static str) -> PaymentAnswer {
    PaymentAnswer {
        message_id: id.to_owned(),
        chats: vec!["other".to_owned(), "chat".to_owned()],
        apply: Arc::new(move |found| match found {
            Some(row) if row.state == 1 => Answered {
                row: Some(PaymentRow {
                    state: 2,
                    body: Bytes::from_static(b"settled"),
                    ..row.clone()
                }),
                events: vec![received(1, word)],
            },
            Some(_) => Answered {
                row: None,
                events: vec![received(1, "settled already")],
            },
            None => Answered {
                row: None,
                events: vec![received(1, "nothing there")],
            },
        }),
    }
}

/// A message that answers a request.
fn answers(id: &str, of: &str, word: &'static str) -> MessageRecord {
    let row = MessageRow {
        outbound: false,
        status: 4,
        target: of.to_owned(),
        listed: false,
        ..message(ONE, "chat", id)
    };
    let effects = Effects {
        payments: vec![PaymentStep::Answer(answer(of, word))],
        ..Effects::default()
    };
    MessageRecord {
        row,
        effects,
        late: None,
    }
}

fn wanted() -> PaymentQuery {
    PaymentQuery {
        instance: ONE,
        chats: None,
        state: None,
        is_over: None,
        before: None,
        limit: 10,
    }
}

async fn ids(storage: &SqliteStorage, query: PaymentQuery) -> Vec<String> {
    let found = storage.query_payments(query).await.unwrap();
    found.into_iter().map(|(_, row)| row.message_id).collect()
}

#[tokio::test]
async fn a_request_is_settled_once_whichever_comes_first() {
    let place = Place::new();
    let storage = place.open().await;
    created(&storage, "one").await;
    storage.record_messages(vec![open(ONE, "a")]).await.unwrap();
    for again in 0..2 {
        let record = vec![answers("a1", "a", "declined")];
        assert_eq!(storage.record_messages(record).await.unwrap(), [again == 0]);
    }
    storage
        .record_messages(vec![answers("a2", "a", "cancelled")])
        .await
        .unwrap();
    // This one comes before its request.
    storage
        .record_messages(vec![answers("b1", "b", "declined")])
        .await
        .unwrap();
    storage.record_messages(vec![open(ONE, "b")]).await.unwrap();
    // The same request again is nothing new.
    storage.record_messages(vec![open(ONE, "b")]).await.unwrap();
    let events = all(&storage).await;
    let told: Vec<_> = bodies(&events).into_iter().skip(1).collect();
    let wanted_events = [
        "request",
        "declined",
        "settled already",
        "nothing there",
        "request",
        "earlier",
    ];
    assert_eq!(told, wanted_events);
    for id in ["a", "b"] {
        let found = storage.find_payments(ONE, id, 10).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].state, &found[0].body[..]), (2, &b"settled"[..]));
    }
    assert_eq!(storage.find_payments(ONE, "c", 10).await.unwrap(), []);
    let other = storage.find_payments(InstanceNumber(2), "a", 10).await;
    assert_eq!(other.unwrap(), []);
}

#[tokio::test]
async fn requests_are_found_by_state_end_and_chat() {
    let place = Place::new();
    let storage = place.open().await;
    created(&storage, "one").await;
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let ending = PaymentRow {
        expire_time: Some(at(100)),
        ..payment(ONE, "ending", 2)
    };
    let elsewhere = PaymentRow {
        chat: "elsewhere".to_owned(),
        ..payment(ONE, "elsewhere", 3)
    };
    let settled = PaymentRow {
        state: 3,
        ..payment(ONE, "settled", 1)
    };
    for row in [ending.clone(), elsewhere, settled, payment(ONE, "open", 2)] {
        storage.record_messages(vec![begins(row)]).await.unwrap();
    }
    let all = ["elsewhere", "open", "ending", "settled"];
    assert_eq!(ids(&storage, wanted()).await, all);
    let in_state = |state, is_over| PaymentQuery {
        state: Some(state),
        is_over,
        ..wanted()
    };
    assert_eq!(ids(&storage, in_state(3, None)).await, ["settled"]);
    let open = in_state(1, Some((false, at(100))));
    assert_eq!(ids(&storage, open).await, ["elsewhere", "open"]);
    let open = in_state(1, Some((false, at(99))));
    assert_eq!(ids(&storage, open).await, ["elsewhere", "open", "ending"]);
    let over = in_state(1, Some((true, at(100))));
    assert_eq!(ids(&storage, over).await, ["ending"]);
    let here = PaymentQuery {
        chats: Some(vec!["elsewhere".to_owned()]),
        ..wanted()
    };
    assert_eq!(ids(&storage, here).await, ["elsewhere"]);
    let mut before = None;
    for id in all {
        let page = PaymentQuery {
            before,
            limit: 1,
            ..wanted()
        };
        let page = storage.query_payments(page).await.unwrap();
        assert_eq!(page[0].1.message_id, id);
        before = Some(page[0].0);
    }
    let found = storage.find_payments(ONE, "ending", 10).await.unwrap();
    assert_eq!(found, [ending]);
}

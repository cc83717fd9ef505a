//! Calls.

use super::*;
use crate::storage::{CallQuery, CallRow};

const ONE: InstanceNumber = InstanceNumber(1);

/// A call that is not over.
pub(super) fn call(instance: InstanceNumber, id: &str, seconds: u64) -> CallRow {
    CallRow {
        instance,
        call_id: id.to_owned(),
        peer: "15550001111@s.whatsapp.net".to_owned(),
        creator: "15550001111:2@s.whatsapp.net".to_owned(),
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        open: true,
        verdict: 0,
        answer: String::new(),
        body: Bytes::from_static(b"call"),
    }
}

async fn ids(storage: &SqliteStorage, query: CallQuery) -> Vec<String> {
    let rows = storage.list_calls(ONE, query, 10).await.unwrap();
    rows.into_iter().map(|row| row.call_id).collect()
}

#[tokio::test]
async fn calls_are_kept_as_they_were_last() {
    let place = Place::new();
    let storage = place.open().await;
    for (id, seconds) in [("b", 2), ("a", 1), ("c", 3)] {
        storage
            .change_call(call(ONE, id, seconds), Vec::new())
            .await
            .unwrap();
    }
    assert_eq!(ids(&storage, CallQuery::Open).await, ["a", "b", "c"]);
    let over = CallRow {
        open: false,
        verdict: 6,
        answer: "later".to_owned(),
        body: Bytes::from_static(b"over"),
        ..call(ONE, "b", 2)
    };
    storage.change_call(over.clone(), Vec::new()).await.unwrap();
    assert_eq!(ids(&storage, CallQuery::Open).await, ["a", "c"]);
    assert_eq!(ids(&storage, CallQuery::Unanswered).await, ["b"]);
    assert_eq!(storage.lookup_call(ONE, "b").await.unwrap(), Some(over));
    assert_eq!(storage.lookup_call(ONE, "d").await.unwrap(), None);
    let other = InstanceNumber(2);
    assert_eq!(storage.lookup_call(other, "b").await.unwrap(), None);

    // What is known of an account goes with its device.
    storage.device(ONE).clear().await.unwrap();
    assert_eq!(storage.lookup_call(ONE, "b").await.unwrap(), None);
}

#[tokio::test]
async fn only_the_latest_calls_are_kept() {
    let place = Place::new();
    let storage = place.open().await;
    for at in 0..1_003 {
        let row = call(ONE, &at.to_string(), at);
        storage.change_call(row, Vec::new()).await.unwrap();
    }
    let kept = storage
        .list_calls(ONE, CallQuery::Open, 9_999)
        .await
        .unwrap();
    assert_eq!(kept.len(), 1_000);
    assert_eq!(kept[0].call_id, "3");
}

//! What the conformance test of the library's storage does not reach.

use super::*;
use crate::storage::device::{LidMapping, RecordChange, RecordKind};

fn put(key: &str, value: &'static [u8]) -> RecordChange {
    RecordChange::Put {
        kind: RecordKind::SentMessage,
        key: key.into(),
        value: Bytes::from_static(value),
    }
}

#[tokio::test]
async fn the_last_change_of_a_record_counts() {
    let place = Place::new();
    let storage = place.open().await;
    let device = storage.device(InstanceNumber(1));
    let kind = RecordKind::SentMessage;
    let gone = |key: &str| RecordChange::Delete {
        kind,
        key: key.into(),
    };
    device
        .change_records(vec![
            put("a", b"1"),
            put("b", b"1"),
            gone("a"),
            put("b", b"2"),
        ])
        .await
        .unwrap();
    device
        .change_records(vec![gone("c"), put("c", b"3")])
        .await
        .unwrap();
    assert_eq!(device.record(kind, "a").await.unwrap(), None);
    let records = device.list_records(kind).await.unwrap();
    let values: Vec<_> = records
        .iter()
        .map(|(key, value)| (&**key, &value[..]))
        .collect();
    assert_eq!(values, [("b", &b"2"[..]), ("c", &b"3"[..])]);
}

#[tokio::test]
async fn a_number_that_moved_is_found_where_it_was_told_last() {
    let place = Place::new();
    let storage = place.open().await;
    let device = storage.device(InstanceNumber(1));
    let mapping = |lid: &str, number: &str, updated_at| LidMapping {
        lid: lid.to_owned(),
        phone_number: number.to_owned(),
        created_at: 1,
        updated_at,
        learning_source: "test".to_owned(),
    };
    for (lid, number, time) in [("1", "10", 1), ("2", "10", 2), ("1", "11", 3)] {
        device
            .put_mappings(vec![mapping(lid, number, time)])
            .await
            .unwrap();
    }
    let of = async |number| {
        let found = device.mapping_of_number(number).await.unwrap();
        found.map(|mapping| mapping.lid)
    };
    assert_eq!(of("10").await.as_deref(), Some("2"));
    assert_eq!(of("11").await.as_deref(), Some("1"));
    assert_eq!(of("12").await, None);
}

#[tokio::test]
async fn deletes_and_expiry_use_the_key() {
    let place = Place::new();
    let storage = place.open().await;
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(
        "EXPLAIN QUERY PLAN DELETE FROM device_record \
         WHERE (instance, kind, key) IN (VALUES (1, 2, 'a'), (1, 2, 'b'))",
    )
    .fetch_all(&storage.readers)
    .await
    .unwrap();
    let searched = |line: &(i64, i64, i64, String)| line.3.starts_with("SEARCH device_record");
    assert!(plan.iter().any(searched), "{plan:?}");
}

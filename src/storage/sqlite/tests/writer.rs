//! Group commit, failing jobs, opening and closing.

use super::*;
use crate::storage::StorageError;
use crate::storage::device::{RecordChange, RecordKind};

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_share_commits_and_see_what_they_wrote() {
    const PRODUCERS: u32 = 64;
    const EACH: u32 = 20;
    let place = Place::new();
    let storage = place.open().await;
    let tasks: Vec<_> = (0..PRODUCERS)
        .map(|instance| {
            let storage = storage.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let new = received(instance, "x");
                    let id = new.id;
                    storage.append_events(vec![new]).await.unwrap();
                    let stored = storage.lookup_event(id).await.unwrap().unwrap();
                    assert!(*storage.log_head().borrow() >= stored.position);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let writes = u64::from(PRODUCERS * EACH);
    let commits = *storage.commits.borrow();
    assert!(commits < writes, "{commits} commits for {writes} writes");
    assert_gapless(&all(&storage).await, writes);
}

#[track_caller]
fn assert_gapless(events: &[StoredEvent], count: u64) {
    let positions: Vec<_> = events.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, (1..=count).collect::<Vec<_>>());
    let mut sequences = std::collections::HashMap::new();
    for event in events {
        let last = sequences.entry(event.instance).or_insert(0);
        *last += 1;
        assert_eq!(event.instance_sequence, *last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_fails_alone_and_leaves_no_gap() {
    let place = Place::new();
    let storage = place.open().await;
    let twice = received(1, "first");
    storage.append_events(vec![twice.clone()]).await.unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let (storage, twice) = (storage.clone(), twice.clone());
            tokio::spawn(async move {
                // The same id twice: refused by the database only when the batch is written.
                let bad = number % 10 == 0;
                let last = if bad { twice } else { received(2, "y") };
                let result = storage.append_events(vec![received(1, "x"), last]).await;
                assert_eq!(result.is_err(), bad);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(*storage.writable().borrow());
    assert_gapless(&all(&storage).await, 1 + 180 * 2);
    let bounds = storage.log_bounds().await.unwrap();
    assert_eq!((bounds.head.0, bounds.count), (361, 361));
}

#[tokio::test]
async fn closing_waits_and_then_refuses() {
    let place = Place::new();
    let storage = place.open().await;
    let waiting = {
        let storage = storage.clone();
        tokio::spawn(async move { storage.append_events(vec![received(1, "a")]).await })
    };
    tokio::task::yield_now().await;
    storage.close().await;
    storage.close().await;
    waiting.await.unwrap().unwrap();
    let late = storage.append_events(vec![received(1, "b")]).await;
    assert!(matches!(late, Err(StorageError::Unavailable(_))));
    let late = storage.log_bounds().await;
    assert!(matches!(late, Err(StorageError::Unavailable(_))));
    assert!(!*storage.writable().borrow());
    assert_eq!(bodies(&all(&*place.open().await).await), ["a"]);
}

#[tokio::test]
async fn one_database_serves_one_process() {
    let place = Place::new();
    let storage = place.open().await;
    let second = SqliteStorage::open(place.file(), Options::default()).await;
    assert!(matches!(second, Err(StorageError::Unavailable(_))));
    storage.close().await;
    place.open().await;
}

#[tokio::test]
async fn what_is_not_ours_is_refused_with_advice() {
    let refusal = async |place: &Place| {
        let refused = SqliteStorage::open(place.file(), Options::default()).await;
        match refused {
            Err(error @ StorageError::Corrupt(_)) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("opened"),
        }
    };
    let garbage = Place::new();
    std::fs::write(garbage.file(), [b'x'; 8_192]).unwrap();
    assert!(refusal(&garbage).await.contains("restore a copy"));

    let newer = Place::new();
    let storage = newer.open().await;
    set_version(&storage, "PRAGMA user_version = 999").await;
    storage.close().await;
    assert!(refusal(&newer).await.contains("newer wagate"));

    let foreign = Place::new();
    let storage = foreign.open().await;
    set_version(&storage, "PRAGMA application_id = 1").await;
    storage.close().await;
    assert!(refusal(&foreign).await.contains("another program's"));
}

/// Pragmas of the file are written by the next commit.
async fn set_version(storage: &SqliteStorage, pragma: &'static str) {
    storage
        .writer
        .steps(pragma, |pragma, unit| {
            Box::pin(async move {
                sqlx::query(*pragma)
                    .execute(unit.connection().await?)
                    .await?;
                Ok(())
            })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_and_noticed_when_it_is_over() {
    let place = Place::new();
    let options = Options {
        probe_interval: Duration::from_millis(20),
        ..Options::default()
    };
    let storage = SqliteStorage::open(place.file(), options).await.unwrap();
    storage.append_events(vec![received(1, "a")]).await.unwrap();
    // SQLite refuses to grow beyond this as it does on a full disk.
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&storage.readers)
        .await
        .unwrap();
    limit_pages(&storage, pages).await;
    let mut writable = storage.writable();
    assert!(*writable.borrow_and_update());
    let big = "x".repeat(100_000);
    let refused = storage.append_events(vec![received(1, &big)]).await;
    assert!(matches!(refused, Err(StorageError::Unavailable(_))));
    writable.changed().await.unwrap();
    // A small write still fits, and the probe finds out by itself.
    writable.wait_for(|writable| *writable).await.unwrap();
    limit_pages(&storage, 1_000_000).await;
    storage
        .append_events(vec![received(1, &big)])
        .await
        .unwrap();
    assert_gapless(&all(&storage).await, 2);
}

#[tokio::test]
async fn a_device_whose_write_failed_writes_no_more() {
    let place = Place::new();
    let storage = place.open().await;
    storage.append_events(vec![received(1, "a")]).await.unwrap();
    let put = |key: &str, bytes: usize| {
        vec![RecordChange::Put {
            kind: RecordKind::Session,
            key: key.into(),
            value: vec![7; bytes].into(),
        }]
    };
    let device = storage.device(InstanceNumber(1));
    device.change_records(put("first", 10)).await.unwrap();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&storage.readers)
        .await
        .unwrap();
    limit_pages(&storage, pages).await;
    assert!(!device.failed().is_cancelled());
    let refused = device.change_records(put("large", 100_000)).await;
    assert!(refused.is_err());
    assert!(device.failed().is_cancelled());

    // This one has room, but what it builds on is not there.
    assert!(device.change_records(put("later", 10)).await.is_err());
    limit_pages(&storage, 1_000_000).await;
    assert!(device.change_records(put("later", 10)).await.is_err());
    let keys = |records: Vec<(String, Bytes)>| -> Vec<String> {
        records.into_iter().map(|(key, _)| key).collect()
    };
    let records = device.list_records(RecordKind::Session).await.unwrap();
    assert_eq!(keys(records), ["first"], "reads go on");

    // Who begins anew from what is kept goes on.
    let device = storage.device(InstanceNumber(1));
    device.change_records(put("later", 10)).await.unwrap();
    let records = device.list_records(RecordKind::Session).await.unwrap();
    assert_eq!(keys(records), ["first", "later"]);
}

async fn limit_pages(storage: &SqliteStorage, pages: i64) {
    storage
        .writer
        .steps(pages, |pages, unit| {
            Box::pin(async move {
                let sql = format!("PRAGMA max_page_count = {pages}");
                sqlx::query(sqlx::AssertSqlSafe(sql))
                    .execute(unit.connection().await?)
                    .await?;
                Ok(())
            })
        })
        .await
        .unwrap();
}

/// Not a test: `cargo test --lib throughput -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn throughput_of_128_producers() {
    const PRODUCERS: u32 = 128;
    const EACH: u32 = 400;
    let place = Place::new();
    let storage = place.open().await;
    let body = "x".repeat(600);
    let begin = std::time::Instant::now();
    let tasks: Vec<_> = (0..PRODUCERS)
        .map(|instance| {
            let (storage, body) = (storage.clone(), body.clone());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let new = received(instance, &body);
                    storage.append_events(vec![new]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = f64::from(PRODUCERS * EACH) / begin.elapsed().as_secs_f64();
    let commits = *storage.commits.borrow();
    println!("{rate:.0} events/s in {commits} commits");
}

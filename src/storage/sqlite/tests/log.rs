//! The log.

use super::*;
use crate::storage::RetentionPolicy;

#[tokio::test]
async fn events_are_read_in_the_order_of_their_commit() {
    let place = Place::new();
    let storage = place.open().await;
    let before = SystemTime::now() - Duration::from_millis(1);
    let first = received(1, "a");
    let id = first.id;
    storage
        .append_events(vec![first, received(2, "b"), received(1, "c")])
        .await
        .unwrap();
    storage.append_events(vec![received(2, "d")]).await.unwrap();

    let events = all(&storage).await;
    assert_eq!(bodies(&events), ["a", "b", "c", "d"]);
    let positions: Vec<_> = events.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, [1, 2, 3, 4]);
    let sequences: Vec<_> = events.iter().map(|event| event.instance_sequence).collect();
    assert_eq!(sequences, [1, 1, 2, 2]);
    assert!(events.is_sorted_by_key(|event| event.record_time));
    assert!(events[0].record_time >= before);
    assert_eq!(*storage.log_head().borrow(), Position(4));
    assert_eq!(
        storage.lookup_event(id).await.unwrap().as_ref(),
        Some(&events[0])
    );
    assert_eq!(
        storage.lookup_event(EventId::generate()).await.unwrap(),
        None
    );
    let heads = storage.instance_heads(None).await.unwrap();
    assert_eq!(heads, [(InstanceNumber(1), 2), (InstanceNumber(2), 2)]);
    let asked = Some(vec![InstanceNumber(2), InstanceNumber(9)]);
    let heads = storage.instance_heads(asked).await.unwrap();
    assert_eq!(heads, [(InstanceNumber(2), 2)]);
}

#[tokio::test]
async fn a_page_says_how_far_it_looked() {
    let place = Place::new();
    let storage = place.open().await;
    let mut events: Vec<_> = (0..20)
        .map(|number| received(number % 2, "12345"))
        .collect();
    events.push(event(7, EventType::MessageSent, "rare"));
    events.push(received(1, "last"));
    storage.append_events(events).await.unwrap();
    let read = async |query: EventQuery| {
        let page = storage.read_events(query).await.unwrap();
        (page.events.len(), page.looked_at.0)
    };

    assert_eq!(read(everything()).await, (22, 22));
    let limit = |limit| EventQuery {
        limit,
        ..everything()
    };
    assert_eq!(read(limit(5)).await, (5, 5));
    assert_eq!(read(limit(22)).await, (22, 22));
    assert_eq!(read(limit(0)).await, (0, 0));

    let bytes = |max_bytes| EventQuery {
        max_bytes,
        ..everything()
    };
    assert_eq!(read(bytes(0)).await, (1, 1));
    assert_eq!(read(bytes(10)).await, (2, 2));
    assert_eq!(read(bytes(14)).await, (2, 2));

    let types = |types: &[EventType]| EventQuery {
        event_types: Some(types.into()),
        ..everything()
    };
    assert_eq!(read(types(&[EventType::MessageSent])).await, (1, 22));
    assert_eq!(read(types(&[EventType::Unmapped])).await, (0, 22));
    assert_eq!(read(types(&[])).await, (0, 22));

    let many: Vec<_> = (0..1_000).map(InstanceNumber).collect();
    let instances = |list: &[InstanceNumber]| EventQuery {
        instances: Some(list.into()),
        ..everything()
    };
    assert_eq!(read(instances(&[InstanceNumber(7)])).await, (1, 22));
    assert_eq!(
        read(instances(&[InstanceNumber(7), InstanceNumber(0)])).await,
        (11, 22)
    );
    assert_eq!(read(instances(&many)).await, (22, 22));
    assert_eq!(read(instances(&[])).await, (0, 22));
    let first_of_two = EventQuery {
        limit: 3,
        ..instances(&[InstanceNumber(1), InstanceNumber(7)])
    };
    assert_eq!(read(first_of_two).await, (3, 6));

    let within = |after, up_to| EventQuery {
        after: Position(after),
        up_to: Some(Position(up_to)),
        ..everything()
    };
    assert_eq!(read(within(3, 5)).await, (2, 5));
    assert_eq!(read(within(20, 99)).await, (2, 22));
    assert_eq!(read(within(9, 4)).await, (0, 9));
    let beyond = EventQuery {
        after: AFTER_ALL,
        ..everything()
    };
    assert_eq!(read(beyond).await, (0, u64::MAX));
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let place = Place::new();
    let storage = place.open().await;
    storage
        .append_events(vec![received(1, "a"), received(1, "b")])
        .await
        .unwrap();
    let before = (all(&storage).await, storage.log_epoch());
    storage.close().await;

    let storage = place.open().await;
    assert_eq!((all(&storage).await, storage.log_epoch()), before);
    assert_eq!(*storage.log_head().borrow(), Position(2));
    storage.append_events(vec![received(1, "c")]).await.unwrap();
    let last = all(&storage).await.pop().unwrap();
    assert_eq!((last.position, last.instance_sequence), (Position(3), 3));
}

#[tokio::test]
async fn retention_moves_the_beginning_but_never_the_numbers() {
    let place = Place::new();
    let storage = place.open().await;
    let pairing = || event(1, EventType::ConnectionPairing, "secret");
    storage
        .append_events(vec![received(1, "a"), pairing(), received(1, "b")])
        .await
        .unwrap();
    let middle = all(&storage).await[2].record_time + Duration::from_micros(1);
    while SystemTime::now() <= middle {
        tokio::task::yield_now().await;
    }
    storage
        .append_events(vec![received(1, "c"), pairing()])
        .await
        .unwrap();
    assert_eq!(storage.position_before(middle).await.unwrap(), Position(3));
    assert_eq!(
        storage
            .position_before(SystemTime::UNIX_EPOCH)
            .await
            .unwrap(),
        Position(0)
    );
    let future = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(storage.position_before(future).await.unwrap(), Position(5));

    // Short events go alone and leave no gap to speak of.
    let policy = RetentionPolicy {
        full_before: SystemTime::UNIX_EPOCH,
        short_before: middle,
        max_bytes: u64::MAX,
    };
    assert_eq!(storage.apply_retention(policy).await.unwrap(), 1);
    let bounds = storage.log_bounds().await.unwrap();
    assert_eq!((bounds.compacted.0, bounds.head.0, bounds.count), (0, 5, 4));
    assert_eq!(bounds.bytes, 9);

    let policy = RetentionPolicy {
        full_before: middle,
        ..policy
    };
    assert_eq!(storage.apply_retention(policy).await.unwrap(), 2);
    let bounds = storage.log_bounds().await.unwrap();
    assert_eq!((bounds.compacted.0, bounds.count), (3, 2));
    assert_eq!(bodies(&all(&storage).await), ["c", "secret"]);
    assert!(bounds.earliest_time.unwrap() >= middle);

    let policy = RetentionPolicy {
        max_bytes: 6,
        ..policy
    };
    assert_eq!(storage.apply_retention(policy).await.unwrap(), 1);
    assert_eq!(bodies(&all(&storage).await), ["secret"]);
    let policy = RetentionPolicy {
        max_bytes: 0,
        ..policy
    };
    assert_eq!(storage.apply_retention(policy).await.unwrap(), 1);
    let bounds = storage.log_bounds().await.unwrap();
    assert_eq!((bounds.compacted.0, bounds.head.0), (4, 5));
    assert_eq!((bounds.count, bounds.bytes), (0, 0));
    assert_eq!((bounds.earliest_time, bounds.head_time), (None, None));
    storage.close().await;

    let storage = place.open().await;
    assert_eq!(storage.log_bounds().await.unwrap(), bounds);
    assert_eq!(storage.position_before(middle).await.unwrap(), Position(5));
    storage.append_events(vec![received(1, "d")]).await.unwrap();
    let last = all(&storage).await.pop().unwrap();
    assert_eq!((last.position, last.instance_sequence), (Position(6), 6));
}

#[tokio::test]
async fn retention_removes_more_than_one_bite() {
    let place = Place::new();
    let storage = place.open().await;
    let many: Vec<_> = (0..2_500).map(|_| received(1, "1234567890")).collect();
    storage.append_events(many).await.unwrap();
    let policy = RetentionPolicy {
        full_before: SystemTime::UNIX_EPOCH,
        short_before: SystemTime::UNIX_EPOCH,
        max_bytes: 105,
    };
    assert_eq!(storage.apply_retention(policy).await.unwrap(), 2_490);
    let bounds = storage.log_bounds().await.unwrap();
    assert_eq!(
        (bounds.count, bounds.bytes, bounds.compacted.0),
        (10, 100, 2_490)
    );
}

#[tokio::test]
async fn a_rewrite_reaches_only_its_instance_and_type() {
    let place = Place::new();
    let storage = place.open().await;
    storage
        .append_events(vec![
            event(1, EventType::ConnectionPairing, "secret"),
            event(1, EventType::ConnectionPairing, "keep"),
            event(2, EventType::ConnectionPairing, "secret"),
            received(1, "secret"),
        ])
        .await
        .unwrap();
    let blank = |body: &[u8]| (body == b"secret").then(|| b"-".to_vec());
    storage
        .rewrite_events(InstanceNumber(1), EventType::ConnectionPairing, blank)
        .await
        .unwrap();
    assert_eq!(
        bodies(&all(&storage).await),
        ["-", "keep", "secret", "secret"]
    );
    assert_eq!(storage.log_bounds().await.unwrap().bytes, 17);
    storage
        .rewrite_events(InstanceNumber(1), EventType::MessageReceived, blank)
        .await
        .unwrap();
    assert_eq!(bodies(&all(&storage).await), ["-", "keep", "secret", "-"]);
}

#[tokio::test]
async fn an_event_of_an_unknown_type_is_passed_over() {
    let place = Place::new();
    let storage = place.open().await;
    let strange = received(1, "strange");
    let id = strange.id;
    storage
        .append_events(vec![received(1, "a"), strange, received(1, "b")])
        .await
        .unwrap();
    storage
        .writer
        .steps((), |(), unit| {
            Box::pin(async move {
                sqlx::query("UPDATE event SET event_type = 'from.tomorrow' WHERE position = 2")
                    .execute(unit.connection().await?)
                    .await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    assert_eq!(bodies(&all(&storage).await), ["a", "b"]);
    let page = storage
        .read_events(EventQuery {
            limit: 2,
            ..everything()
        })
        .await
        .unwrap();
    assert_eq!((page.events.len(), page.looked_at), (1, Position(2)));
    assert_eq!(storage.lookup_event(id).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_recent_needs_no_statement() {
    let place = Place::new();
    let storage = place.open().await;
    let instance = created(&storage, "one").await;
    let other = created(&storage, "two").await;
    let recent = |storage: &SqliteStorage, after| {
        let found = storage.recent_events(Position(after), 1_000);
        found.map(|found| (found.events, found.rewrites))
    };
    storage
        .append_events(vec![
            received(instance.number.0, "a"),
            event(other.number.0, EventType::ConnectionPairing, "code"),
        ])
        .await
        .unwrap();
    let stored = all(&storage).await;
    assert_eq!(recent(&storage, 0), Some((stored.clone(), 0)));
    assert_eq!(recent(&storage, 2), Some((stored[2..].to_vec(), 0)));
    assert_eq!(recent(&storage, 4), Some((Vec::new(), 0)));
    assert_eq!(
        storage.recent_events(Position(0), 1).unwrap().events.len(),
        1
    );

    // Nothing that was blanked, deleted or removed by age is read from memory.
    let blank: fn(&[u8]) -> Option<Vec<u8>> = |_| Some(b"blank".to_vec());
    storage
        .rewrite_events(other.number, EventType::ConnectionPairing, blank)
        .await
        .unwrap();
    assert_eq!(storage.log_rewrites(), 1);
    assert_eq!(recent(&storage, 3), None);
    assert_eq!(recent(&storage, 4), Some((Vec::new(), 1)));
    storage
        .append_events(vec![received(instance.number.0, "b")])
        .await
        .unwrap();
    assert_eq!(bodies(&recent(&storage, 4).unwrap().0), ["b"]);
    storage
        .delete_instance(instance.number, telling(EventType::InstanceDeleted))
        .await
        .unwrap();
    assert_eq!(storage.log_rewrites(), 2);
    assert_eq!(recent(&storage, 4), None);
    assert_eq!(recent(&storage, 5), None);
    assert_eq!(bodies(&all(&storage).await).last(), Some(&"one"));
    let removed = storage.apply_retention(RetentionPolicy {
        full_before: SystemTime::now() + Duration::from_secs(1),
        short_before: SystemTime::now() + Duration::from_secs(1),
        max_bytes: u64::MAX,
    });
    assert!(removed.await.unwrap() > 0);
    assert!(storage.log_rewrites() > 2);
    assert_eq!(recent(&storage, 5), None);

    // A database that is opened has nothing in memory yet.
    storage.close().await;
    let storage = place.open().await;
    assert_eq!(recent(&storage, 5), None);
    assert_eq!(recent(&storage, 6), Some((Vec::new(), 0)));
}

//! Mailing lists.

use super::*;
use crate::{
    domain::ids::QueueId,
    storage::{
        AcceptOutcome,
        queue::{
            CreateQueueOutcome, HoldRow, ItemChange, ItemCounts, ItemMark, ItemQuery, ItemRow,
            ItemState, NewItem, NewQueue, QueueRow, QueueState, QueueStorage as _,
        },
    },
};

const ONE: InstanceNumber = InstanceNumber(1);

fn queue(instance: InstanceNumber) -> QueueRow {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    QueueRow {
        instance,
        id: QueueId::generate(),
        name: "news".to_owned(),
        state: QueueState::Running,
        state_reason: String::new(),
        held_until: None,
        account: "15550001111".to_owned(),
        body: Bytes::from_static(b"body"),
        counts: ItemCounts::default(),
        create_time: time,
        update_time: time,
        sent_time: None,
        complete_time: None,
    }
}

fn items(states: &[ItemState]) -> Vec<NewItem> {
    let named = states.iter().enumerate();
    named
        .map(|(at, state)| NewItem {
            recipient: format!("1555000{at:04}"),
            variables: Bytes::from_static(b"variables"),
            state: *state,
            reason: String::new(),
        })
        .collect()
}

fn new(row: QueueRow, items: Vec<NewItem>) -> NewQueue {
    NewQueue {
        row,
        items,
        request: None,
        most_open: 3,
        keep_done: 2,
    }
}

/// A list with a recipient, and a hold.
pub(super) async fn fill(storage: &SqliteStorage, instance: InstanceNumber) {
    let new = new(queue(instance), items(&[ItemState::Waiting]));
    storage.create_queue(new, quiet()).await.unwrap();
    let hold = HoldRow {
        until: SystemTime::UNIX_EPOCH,
        reason: "(463)".to_owned(),
        strikes: 1,
    };
    storage.store_hold(instance, hold).await.unwrap();
}

async fn create(storage: &SqliteStorage, states: &[ItemState]) -> QueueRow {
    let new = new(queue(ONE), items(states));
    match storage.create_queue(new, quiet()).await.unwrap() {
        CreateQueueOutcome::Created(row) => *row,
        other => panic!("{other:?}"),
    }
}

async fn accept(
    storage: &SqliteStorage,
    queue: QueueId,
    position: u32,
    person: &str,
) -> AcceptOutcome {
    let row = message(ONE, person, &format!("M{position}{person}"));
    let mark = ItemMark {
        queue,
        position,
        person: person.to_owned(),
    };
    storage
        .accept_item(row, mark, vec![received(1, "accepted")])
        .await
        .unwrap()
}

fn becomes(queue: QueueId, position: u32, to: ItemState) -> ItemChange {
    ItemChange {
        queue,
        position,
        from: ItemState::Sending,
        to,
        reason: "why".to_owned(),
        time: SystemTime::now(),
    }
}

async fn states(storage: &SqliteStorage, queue: QueueId) -> Vec<ItemState> {
    let query = ItemQuery {
        limit: 100,
        ..Default::default()
    };
    let rows = storage.list_items(ONE, queue, query).await.unwrap();
    rows.iter().map(|row| row.state).collect()
}

#[tokio::test]
async fn a_turn_is_taken_once_and_the_last_completes_the_list() {
    use ItemState::*;
    let place = Place::new();
    let storage = place.open().await;
    let row = create(&storage, &[Waiting, Invalid, Waiting, Waiting]).await;
    assert_eq!((row.counts.waiting, row.counts.invalid), (3, 1));
    assert!(matches!(
        accept(&storage, row.id, 0, "a").await,
        AcceptOutcome::Accepted
    ));
    // Its turn is over, whoever it is; and nobody has two.
    for (position, person) in [(0, "b"), (1, "c"), (9, "d")] {
        let outcome = accept(&storage, row.id, position, person).await;
        assert!(matches!(outcome, AcceptOutcome::Withdrawn), "{outcome:?}");
    }
    let outcome = accept(&storage, row.id, 2, "a").await;
    assert!(matches!(outcome, AcceptOutcome::Twice), "{outcome:?}");
    let change = ItemChange {
        from: Waiting,
        ..becomes(row.id, 2, Duplicate)
    };
    storage.change_item(ONE, change, quiet()).await.unwrap();
    let waiting = storage.list_outbound(ONE, 1, None, 100).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(bodies(&all(&storage).await), ["accepted"]);

    // Done once, put off, and taken again.
    let told = |step: &crate::storage::queue::QueueStep| {
        vec![received(1, &format!("{:?}", step.item.state))]
    };
    for _ in 0..2 {
        let change = becomes(row.id, 0, Sent);
        let events = Box::new(told);
        let now = storage.change_item(ONE, change, events).await.unwrap();
        assert_eq!(now.unwrap().counts.sent, 1);
    }
    accept(&storage, row.id, 3, "e").await;
    let change = becomes(row.id, 3, Waiting);
    storage.change_item(ONE, change, quiet()).await.unwrap();
    let query = ItemQuery {
        state: Some(Waiting),
        after: Some(1),
        limit: 9,
    };
    let waiting: Vec<ItemRow> = storage.list_items(ONE, row.id, query).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].position, waiting[0].attempts), (3, 1));
    assert_eq!(waiting[0].reason, "why");
    let row_3 = message(ONE, "e", "M3 again");
    let mark = ItemMark {
        queue: row.id,
        position: 3,
        person: "e".to_owned(),
    };
    let again = storage.accept_item(row_3, mark, Vec::new()).await.unwrap();
    assert!(matches!(again, AcceptOutcome::Accepted));
    let change = becomes(row.id, 3, Failed);
    let done = storage.change_item(ONE, change, quiet()).await.unwrap();
    let done = done.unwrap();
    assert_eq!(done.state, QueueState::Completed);
    assert!(done.complete_time.is_some() && done.counts.progress() == 100);
    let becoming = states(&storage, row.id).await;
    assert_eq!(becoming, [Sent, Invalid, Duplicate, Failed]);
    let logged = all(&storage).await;
    assert_eq!(bodies(&logged), ["accepted", "Sent", "accepted"]);

    // All of it is as it was after a restart.
    storage.close().await;
    let storage = place.open().await;
    let found = storage.lookup_queue(ONE, row.id).await.unwrap().unwrap();
    assert_eq!(found.counts, done.counts);
}

#[tokio::test]
async fn nothing_leaves_a_list_that_is_paused_or_gone() {
    let place = Place::new();
    let storage = place.open().await;
    let row = create(&storage, &[ItemState::Waiting, ItemState::Waiting]).await;
    let becomes = |state| {
        storage.change_queue(
            ONE,
            row.id,
            Box::new(move |row| {
                let changed = QueueRow {
                    state,
                    ..row.clone()
                };
                (row.state != state).then(|| (changed, vec![received(1, "changed")]))
            }),
        )
    };
    for _ in 0..2 {
        let paused = becomes(QueueState::Paused).await.unwrap().unwrap();
        assert_eq!(paused.state, QueueState::Paused);
    }
    let outcome = accept(&storage, row.id, 0, "a").await;
    assert!(matches!(outcome, AcceptOutcome::Withdrawn));
    assert!(storage.list_running_queues(ONE).await.unwrap().is_empty());
    becomes(QueueState::Running).await.unwrap();
    assert_eq!(storage.list_running_queues(ONE).await.unwrap(), [row.id]);
    let outcome = accept(&storage, row.id, 0, "a").await;
    assert!(matches!(outcome, AcceptOutcome::Accepted));

    for there in [true, false] {
        let deleted = storage.delete_queue(ONE, row.id, quiet()).await.unwrap();
        assert_eq!(deleted, there);
    }
    let outcome = accept(&storage, row.id, 1, "b").await;
    assert!(matches!(outcome, AcceptOutcome::Withdrawn));
    assert!(states(&storage, row.id).await.is_empty());
    let logged = all(&storage).await;
    assert_eq!(bodies(&logged), ["changed", "changed", "accepted"]);
}

#[tokio::test]
async fn a_repeated_request_answers_the_first_list() {
    let place = Place::new();
    let storage = place.open().await;
    let with = |id: &str, digest| NewQueue {
        request: Some(request(id, digest)),
        ..new(queue(ONE), items(&[ItemState::Waiting]))
    };
    let create = async |id, digest| {
        let created = storage.create_queue(with(id, digest), quiet());
        created.await.unwrap()
    };
    let CreateQueueOutcome::Created(first) = create("r", 1).await else {
        panic!()
    };
    let CreateQueueOutcome::Replayed(again) = create("r", 1).await else {
        panic!()
    };
    assert_eq!(again, first);
    assert!(matches!(
        create("r", 2).await,
        CreateQueueOutcome::Reused(_)
    ));
    create("s", 1).await;
    create("t", 1).await;
    // What was refused may be asked for again.
    for _ in 0..2 {
        assert!(matches!(create("u", 1).await, CreateQueueOutcome::TooMany));
    }
    storage.delete_queue(ONE, first.id, quiet()).await.unwrap();
    assert!(matches!(
        create("u", 1).await,
        CreateQueueOutcome::Created(_)
    ));
}

#[tokio::test]
async fn lists_that_are_done_go_after_a_while() {
    let place = Place::new();
    let storage = place.open().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(create(&storage, &[ItemState::Invalid]).await.id);
    }
    let kept = storage.list_queues(ONE, None, 10).await.unwrap();
    let kept: Vec<QueueId> = kept.iter().map(|row| row.id).collect();
    assert_eq!(kept, [made[4], made[3], made[2]]);
    let after = storage.list_queues(ONE, Some(made[4]), 1).await.unwrap();
    assert_eq!(after[0].id, made[3]);
    assert!(states(&storage, made[0]).await.is_empty());
}

#[tokio::test]
async fn what_is_known_of_limits_and_chats_is_the_instances() {
    let place = Place::new();
    let storage = place.open().await;
    let row = created(&storage, "one").await;
    let hold = HoldRow {
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(9),
        reason: "why (463)".to_owned(),
        strikes: 2,
    };
    storage.store_hold(row.number, hold.clone()).await.unwrap();
    let found = storage.lookup_hold(row.number).await.unwrap();
    assert_eq!(found, Some(hold.clone()));
    let mut arrival = message(row.number, "a@lid", "A");
    arrival.from_me = false;
    let arrival = crate::storage::MessageRecord::new(arrival, Vec::new());
    storage.record_messages(vec![arrival]).await.unwrap();
    let knows = async |chats: &[&str]| {
        let chats = chats.iter().map(|chat| (*chat).to_owned()).collect();
        storage.has_received(row.number, chats).await.unwrap()
    };
    assert!(knows(&["b@lid", "a@lid"]).await && !knows(&["b@lid"]).await);

    let list = new(queue(row.number), items(&[ItemState::Waiting]));
    storage.create_queue(list, quiet()).await.unwrap();
    storage.device(row.number).clear().await.unwrap();
    assert_eq!(storage.lookup_hold(row.number).await.unwrap(), None);
    storage.store_hold(row.number, hold).await.unwrap();
    storage.delete_instance(row.number, quiet()).await.unwrap();
    assert_eq!(storage.lookup_hold(row.number).await.unwrap(), None);
    let left = storage.list_queues(row.number, None, 9).await.unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn the_largest_list_is_stored_in_seconds() {
    let place = Place::new();
    let storage = place.open().await;
    let begun = std::time::Instant::now();
    let row = create(&storage, &[ItemState::Waiting; 50_000]).await;
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(row.counts.waiting, 50_000);
    let query = ItemQuery {
        after: Some(49_998),
        limit: 2,
        ..Default::default()
    };
    let last = storage.list_items(ONE, row.id, query).await.unwrap();
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].recipient, "155500049999");
}

//! Media.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::{
    domain::{
        ids::MediaId,
        media::{MediaKind, MediaState},
    },
    storage::media::{MediaKeep, MediaRow},
};

const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn media(instance: InstanceNumber, state: MediaState) -> MediaRow {
    MediaRow {
        instance,
        id: MediaId::generate(),
        kind: MediaKind::Image,
        state,
        mime_type: "image/png".to_owned(),
        file_name: "a.png".to_owned(),
        size: 1 << 40,
        sha256: Bytes::from_static(&[7; 32]),
        width: 3,
        height: 4,
        duration: 5,
        thumbnail: Bytes::from_static(b"jpeg"),
        source: Bytes::new(),
        chat: String::new(),
        message_id: String::new(),
        create_time: UNIX_EPOCH + HOUR,
        update_time: UNIX_EPOCH + HOUR,
        expire_time: Some(UNIX_EPOCH + 2 * HOUR),
        attempts: 0,
        attempt_time: None,
    }
}

#[tokio::test]
async fn a_media_moves_from_the_state_that_was_seen() {
    let place = Place::new();
    let storage = place.open().await;
    let instance = create_instance(&storage).await;
    let mut row = media(instance, MediaState::Writing);
    assert!(storage.create_media(row.clone()).await.unwrap());
    assert_eq!(
        storage.lookup_media(instance, row.id).await.unwrap(),
        Some(row.clone())
    );
    row.state = MediaState::Ready;
    let told = vec![event(instance.0, EventType::MessageSent, "ready")];
    let move_it = async |from, events| storage.replace_media(row.clone(), from, events).await;
    assert!(!move_it(MediaState::Pending, told.clone()).await.unwrap());
    assert!(move_it(MediaState::Writing, told.clone()).await.unwrap());
    assert!(!move_it(MediaState::Writing, told).await.unwrap());
    let page = storage.read_events(EventQuery {
        limit: 10,
        max_bytes: 1 << 20,
        ..Default::default()
    });
    let told = page.await.unwrap().events;
    assert_eq!(
        told.iter()
            .filter(|event| &event.body[..] == b"ready")
            .count(),
        1
    );
    storage.remove_media(instance, row.id).await.unwrap();
    assert_eq!(storage.lookup_media(instance, row.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_media_is_kept_for_the_message_that_keeps_it_longest() {
    let place = Place::new();
    let storage = place.open().await;
    let instance = create_instance(&storage).await;
    let row = media(instance, MediaState::Ready);
    storage.create_media(row.clone()).await.unwrap();
    let keep = async |hours: u32| {
        let keep = MediaKeep {
            chat: "15550001111@s.whatsapp.net".to_owned(),
            message_id: format!("M{hours}"),
            expire_time: Some(UNIX_EPOCH + hours * HOUR),
        };
        assert!(storage.keep_media(instance, row.id, keep).await.unwrap());
        let known = storage.lookup_media(instance, row.id).await.unwrap();
        let known = known.unwrap();
        assert_eq!(known.message_id, "M1");
        known.expire_time.unwrap()
    };
    // The first message decides, even if it keeps it shorter than an upload that nobody sends.
    assert_eq!(keep(1).await, UNIX_EPOCH + HOUR);
    assert_eq!(keep(9).await, UNIX_EPOCH + 9 * HOUR);
    assert_eq!(keep(5).await, UNIX_EPOCH + 9 * HOUR);
    let late = async |hours| {
        let listed = storage.list_expired_media(UNIX_EPOCH + hours * HOUR, 10);
        listed.await.unwrap().len()
    };
    assert_eq!((late(8).await, late(9).await), (0, 1));
}

#[tokio::test]
async fn what_is_due_comes_in_order() {
    let place = Place::new();
    let storage = place.open().await;
    let instance = create_instance(&storage).await;
    for hours in [3, 1, 2, 9] {
        let mut row = media(instance, MediaState::Pending);
        row.attempt_time = Some(UNIX_EPOCH + hours * HOUR);
        storage.create_media(row).await.unwrap();
    }
    storage
        .create_media(media(instance, MediaState::Ready))
        .await
        .unwrap();
    let due = storage
        .list_due_media(UNIX_EPOCH + 3 * HOUR, 2)
        .await
        .unwrap();
    let due: Vec<_> = due.iter().map(|row| row.attempt_time.unwrap()).collect();
    assert_eq!(due, [UNIX_EPOCH + HOUR, UNIX_EPOCH + 2 * HOUR]);
}

#[tokio::test]
async fn a_deleted_instance_leaves_only_what_is_to_be_removed() {
    let place = Place::new();
    let storage = place.open().await;
    let instance = create_instance(&storage).await;
    let row = media(instance, MediaState::Ready);
    storage.create_media(row.clone()).await.unwrap();
    storage
        .delete_instance(instance, Box::new(|_| Vec::new()))
        .await
        .unwrap();
    let left = storage.list_expired_media(UNIX_EPOCH, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].id, left[0].state), (row.id, MediaState::Writing));
    assert!(!storage.create_media(row.clone()).await.unwrap());
    let put = storage.replace_media(row, MediaState::Writing, Vec::new());
    assert!(!put.await.unwrap());
}

async fn create_instance(storage: &SqliteStorage) -> InstanceNumber {
    let new = NewInstance {
        id: InstanceId::generate(),
        name: None,
        network: Network::Sandbox,
        show_online: false,
        create_time: SystemTime::now(),
    };
    let created = storage.create_instance(new, None, Box::new(|_| Vec::new()));
    match created.await.unwrap() {
        NameOutcome::Done(row) => row.number,
        other => panic!("{other:?}"),
    }
}

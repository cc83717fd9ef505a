//! Stars, and messages that the account has deleted for itself.

use std::time::UNIX_EPOCH;

use super::{media::media, *};
use crate::{
    domain::media::MediaState,
    storage::{
        Changed, Effects, Late, MessageChange, MessageQuery, MessageRecord,
        media::{MediaKeep, MediaRow},
    },
};

fn changing(
    id: &str,
    change: impl Fn(&MessageRow) -> Changed + Send + Sync + 'static,
) -> MessageChange {
    MessageChange {
        message_id: id.to_owned(),
        chats: vec!["chat".to_owned()],
        apply: Arc::new(move |row| row.map(&change).unwrap_or_default()),
    }
}

fn starring(id: &str, starred: bool) -> MessageChange {
    changing(id, move |row| {
        let row = MessageRow {
            starred,
            ..row.clone()
        };
        Changed {
            row: Some(row),
            ..Default::default()
        }
    })
}

fn hiding(id: &str, file: Option<&MediaRow>) -> MessageChange {
    let file = file.map(|file| file.id);
    changing(id, move |row| {
        let row = MessageRow {
            hidden: true,
            starred: false,
            words: String::new(),
            raw: Bytes::new(),
            ..row.clone()
        };
        Changed {
            row: Some(row),
            released: file,
            ..Default::default()
        }
    })
}

fn said(id: &str) -> MessageRow {
    MessageRow {
        from_me: false,
        outbound: false,
        status: 4,
        previous_status: 4,
        words: "tea".to_owned(),
        ..message(InstanceNumber(1), "chat", id)
    }
}

async fn listed(storage: &SqliteStorage, starred: bool, words: Option<&str>) -> Vec<String> {
    let query = MessageQuery {
        instance: InstanceNumber(1),
        chats: None,
        words: words.map(str::to_owned),
        actions: true,
        starred,
        before: None,
        limit: 9,
    };
    let rows = storage.query_messages(query).await.unwrap();
    rows.into_iter().map(|(_, row)| row.message_id).collect()
}

#[tokio::test]
async fn what_is_hidden_does_not_come_back() {
    let place = Place::new();
    let storage = place.open().await;
    let one = InstanceNumber(1);
    // One that can't be read yet is among them.
    let unread = MessageRow {
        status: 0,
        previous_status: 0,
        ..said("U")
    };
    let batch: Vec<_> = [said("A"), said("B"), unread]
        .into_iter()
        .map(|row| MessageRecord::new(row, Vec::new()))
        .collect();
    storage.record_messages(batch).await.unwrap();
    for id in ["A", "B"] {
        assert!(
            storage
                .change_message(one, starring(id, true))
                .await
                .unwrap()
        );
    }
    assert_eq!(listed(&storage, true, None).await, ["B", "A"]);
    for id in ["A", "U"] {
        assert!(storage.change_message(one, hiding(id, None)).await.unwrap());
    }
    assert_eq!(listed(&storage, true, None).await, ["B"]);
    assert_eq!(listed(&storage, false, None).await, ["B"]);
    assert_eq!(listed(&storage, false, Some("tea")).await, ["B"]);
    let again = [said("A"), said("U")].map(|row| MessageRecord::new(row, Vec::new()));
    let new = storage.record_messages(again.to_vec()).await.unwrap();
    assert_eq!(new, [false, false]);
    for id in ["A", "U"] {
        let found = storage.lookup_message(one, id, Some("chat")).await;
        assert_eq!(found.unwrap(), None);
        assert!(storage.list_messages(one, id, 9).await.unwrap().is_empty());
    }
    let nobody = storage.change_message(one, starring("NONE", true)).await;
    assert!(!nobody.unwrap());
}

#[tokio::test]
async fn a_note_is_kept_out_of_sight_until_its_message_comes() {
    let place = Place::new();
    let storage = place.open().await;
    let one = InstanceNumber(1);
    let note = MessageRow {
        target: "A".to_owned(),
        listed: false,
        hidden: true,
        words: String::new(),
        ..said("star/A/1")
    };
    let record = MessageRecord {
        row: note,
        effects: Effects {
            events: Vec::new(),
            changes: vec![starring("A", true)],
            payments: Vec::new(),
        },
        late: None,
    };
    for new in [true, false] {
        let stored = storage.record_messages(vec![record.clone()]).await;
        assert_eq!(stored.unwrap(), [new]);
    }
    assert!(listed(&storage, false, None).await.is_empty());
    let targeting = storage.list_targeting(one, "A", 0, 9).await.unwrap();
    assert!(targeting.is_empty());
    let late = Late(Arc::new(|early| {
        early.hidden.then(|| starring(&early.target, true))
    }));
    let message = MessageRecord {
        late: Some(late),
        ..MessageRecord::new(said("A"), Vec::new())
    };
    storage.record_messages(vec![message]).await.unwrap();
    assert_eq!(listed(&storage, true, None).await, ["A"]);
}

#[tokio::test]
async fn a_file_goes_with_its_message_unless_another_has_had_it() {
    let place = Place::new();
    let storage = place.open().await;
    let one = created(&storage, "one").await.number;
    let now = SystemTime::now();
    let (own, shared, kept) = (
        media(one, MediaState::Ready),
        media(one, MediaState::Ready),
        media(one, MediaState::Ready),
    );
    let keep = async |file: &MediaRow, id: &str| {
        let keep = MediaKeep {
            chat: "chat".to_owned(),
            message_id: id.to_owned(),
            expire_time: now.checked_add(Duration::from_secs(3_600)),
        };
        assert!(storage.keep_media(one, file.id, keep).await.unwrap());
    };
    for (file, id) in [(&own, "A"), (&shared, "B"), (&kept, "C")] {
        assert!(storage.create_media(file.clone()).await.unwrap());
        // A try that is repeated is no other message.
        keep(file, id).await;
        keep(file, id).await;
        let row = MessageRecord::new(said(id), Vec::new());
        storage.record_messages(vec![row]).await.unwrap();
    }
    keep(&shared, "D").await;
    for change in [
        hiding("A", Some(&own)),
        hiding("B", Some(&shared)),
        hiding("C", None),
    ] {
        assert!(storage.change_message(one, change).await.unwrap());
    }
    let over = storage.list_expired_media(now, 9).await.unwrap();
    let over: Vec<_> = over.iter().map(|file| file.id).collect();
    assert_eq!(over, [own.id]);
    let left = storage.lookup_media(one, own.id).await.unwrap().unwrap();
    assert_eq!(left.expire_time, Some(UNIX_EPOCH));
}

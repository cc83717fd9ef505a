//! Instances and API keys.

use super::*;
use crate::{
    domain::{media::MediaState, permission::Permission, session::SessionState},
    storage::{
        AcceptOutcome, ApiKeyRow, Effects, GroupChange, GroupRow, InstanceChange, RevokeOutcome,
        StateChange, StatusRise,
        contact::Sighting,
        device::{LidMapping, MessageSecret, RecordChange, RecordKind, TrustToken},
        media::MediaKeep,
        send::NewSend,
    },
};

#[tokio::test]
async fn an_instance_is_found_by_id_and_name() {
    let place = Place::new();
    let storage = place.open().await;
    let shop = created(&storage, "shop").await;
    assert_eq!(shop.number, InstanceNumber(1));
    assert_eq!(shop.state, SessionState::Unpaired);
    let id = shop.id.to_string();
    for text in [&*id, &id.to_uppercase(), "shop"] {
        let found = storage.lookup_instance(text).await.unwrap();
        assert_eq!(found.as_ref(), Some(&shop), "{text}");
    }
    assert_eq!(storage.lookup_instance("other").await.unwrap(), None);
    assert_eq!(bodies(&all(&storage).await), ["shop"]);
}

#[tokio::test]
async fn a_name_belongs_to_one() {
    let place = Place::new();
    let storage = place.open().await;
    let first = created(&storage, "instance-2").await;
    let clash = storage
        .create_instance(new_instance(Some("instance-2")), None, quiet())
        .await
        .unwrap();
    assert!(matches!(clash, NameOutcome::Taken(name) if name == first.name));
    let unnamed = storage
        .create_instance(new_instance(None), None, quiet())
        .await
        .unwrap();
    let NameOutcome::Done(unnamed) = unnamed else {
        panic!("{unnamed:?}")
    };
    let unnamed = *unnamed;
    assert_eq!(unnamed.name.as_str(), "instance-2-2");
    assert_eq!(unnamed.number, InstanceNumber(2));

    let rename = |name: &str| InstanceChange {
        name: Some(InstanceName::parse(name).unwrap()),
        ..InstanceChange::default()
    };
    let clash = storage
        .change_instance(unnamed.number, rename("instance-2"), quiet())
        .await
        .unwrap();
    assert!(matches!(clash, NameOutcome::Taken(_)));
    let own = storage
        .change_instance(unnamed.number, rename("instance-2-2"), quiet())
        .await
        .unwrap();
    assert!(matches!(own, NameOutcome::Done(row) if *row == unnamed));
    let missing = storage
        .change_instance(InstanceNumber(9), rename("nobody"), quiet())
        .await
        .unwrap();
    assert!(matches!(missing, NameOutcome::Missing));
    let listed = storage.list_instances(None, None, 10).await.unwrap();
    assert_eq!(listed, [first.clone(), unnamed.clone()]);
    let listed = storage
        .list_instances(Some(first.number), None, 10)
        .await
        .unwrap();
    assert_eq!(listed, std::slice::from_ref(&unnamed));
    let listed = storage
        .list_instances(None, Some(vec![InstanceNumber(2)]), 10)
        .await
        .unwrap();
    assert_eq!(listed, [unnamed]);
    let nobody = storage.list_instances(None, Some(Vec::new()), 10).await;
    assert_eq!(nobody.unwrap(), []);
}

#[tokio::test]
async fn a_change_writes_what_it_names() {
    let place = Place::new();
    let storage = place.open().await;
    let old = created(&storage, "shop").await;
    let time = old.create_time + Duration::from_secs(5);
    let until = Some(old.create_time + Duration::from_secs(60));
    let change = InstanceChange {
        state: Some(StateChange {
            state: SessionState::Banned,
            reason: "too fast".to_owned(),
            time,
            banned_until: until,
        }),
        time: Some(time),
        ..InstanceChange::default()
    };
    storage
        .change_instance(old.number, change, telling(EventType::ConnectionUpdated))
        .await
        .unwrap();
    let row = storage.lookup_instance("shop").await.unwrap().unwrap();
    assert_eq!((row.state, row.banned_until), (SessionState::Banned, until));
    assert_eq!((row.state_time, row.update_time), (time, old.update_time));

    let change = InstanceChange {
        phone_number: Some("15550001111".to_owned()),
        reject_calls: Some(true),
        reject_calls_text: Some("write to me".to_owned()),
        time: Some(time),
        ..InstanceChange::default()
    };
    let outcome = storage.change_instance(old.number, change, quiet()).await;
    let NameOutcome::Done(row) = outcome.unwrap() else {
        panic!()
    };
    assert_eq!(row.phone_number, "15550001111");
    assert!(row.reject_calls && !row.show_online);
    assert_eq!(row.reject_calls_text, "write to me");
    let kept = storage.lookup_instance("shop").await.unwrap();
    assert_eq!(kept.as_ref(), Some(&*row));
    assert_eq!((row.banned_until, row.update_time), (until, time));
    assert_eq!(all(&storage).await.len(), 2);
}

#[tokio::test]
async fn a_repeated_creation_answers_the_first() {
    let place = Place::new();
    let storage = place.open().await;
    let create = async |digest| {
        storage
            .create_instance(
                new_instance(Some("shop")),
                Some(request("r1", digest)),
                telling(EventType::InstanceCreated),
            )
            .await
            .unwrap()
    };
    let NameOutcome::Done(row) = create(1).await else {
        panic!()
    };
    let again = create(1).await;
    assert!(matches!(again, NameOutcome::Replayed(id) if id == row.id.to_string()));
    assert!(matches!(create(2).await, NameOutcome::Reused(_)));
    // A creation that failed is not remembered.
    let taken = storage
        .create_instance(new_instance(Some("shop")), Some(request("r2", 1)), quiet())
        .await
        .unwrap();
    assert!(matches!(taken, NameOutcome::Taken(_)));
    let later = storage
        .create_instance(new_instance(Some("other")), Some(request("r2", 1)), quiet())
        .await
        .unwrap();
    assert!(matches!(later, NameOutcome::Done(_)));
}

/// Fills every table that has an instance.
async fn fill(storage: &SqliteStorage, instance: InstanceNumber) {
    let file = media::media(instance, MediaState::Ready);
    assert!(storage.create_media(file.clone()).await.unwrap());
    for message_id in ["M1", "M2"] {
        let keep = MediaKeep {
            chat: "chat".to_owned(),
            message_id: message_id.to_owned(),
            expire_time: None,
        };
        assert!(storage.keep_media(instance, file.id, keep).await.unwrap());
    }
    storage
        .accept_message(
            message(instance, "chat", "M1"),
            Some(request(&format!("r{instance}"), 1)),
            vec![received(instance.0, "x")],
        )
        .await
        .unwrap();
    let device = storage.device(instance);
    device
        .change_records(vec![RecordChange::Put {
            kind: RecordKind::Device,
            key: "".into(),
            value: Bytes::from_static(b"device"),
        }])
        .await
        .unwrap();
    let mapping = LidMapping {
        lid: "100".to_owned(),
        phone_number: "15550001111".to_owned(),
        created_at: 1,
        updated_at: 1,
        learning_source: "test".to_owned(),
    };
    device.put_mappings(vec![mapping]).await.unwrap();
    device
        .set_sender_key_holders("group", vec![("device".to_owned(), true)])
        .await
        .unwrap();
    let token = TrustToken {
        token: vec![1],
        token_time: 1,
        sender_time: None,
    };
    device.put_trust_token("jid", token).await.unwrap();
    let secret = MessageSecret {
        chat: "chat".into(),
        sender: "sender".into(),
        message_id: "M1".into(),
        secret: [1; 32],
        expires_at: 0,
        message_time: 0,
    };
    device.put_message_secrets(vec![secret]).await.unwrap();
    let seen = |lid: &str, phone_number: &str| Sighting {
        lid: lid.to_owned(),
        phone_number: phone_number.to_owned(),
        name: String::new(),
        source: "test".to_owned(),
        time: SystemTime::UNIX_EPOCH,
        met: true,
    };
    let merging = vec![
        seen("100", ""),
        seen("", "15550001111"),
        seen("100", "15550001111"),
    ];
    storage
        .learn_contacts(instance, merging, quiet())
        .await
        .unwrap();
    storage
        .accept_message(message(instance, "1@g.us", "G"), None, Vec::new())
        .await
        .unwrap();
    let rise = StatusRise {
        message_ids: vec!["G".to_owned()],
        status: 4,
        reason: String::new(),
        party: Some("15550001111@s.whatsapp.net".to_owned()),
    };
    storage
        .raise_status(instance, rise, Box::new(|_| Effects::default()))
        .await
        .unwrap();
    let change = GroupChange {
        groups: vec![GroupRow {
            jid: "1@g.us".to_owned(),
            member: true,
            body: Bytes::from_static(b"group"),
        }],
        complete: true,
        events: Vec::new(),
    };
    storage.change_groups(instance, change).await.unwrap();
    let payment = super::payments::open(instance, "P");
    storage.record_messages(vec![payment]).await.unwrap();
    let send = NewSend {
        instance,
        ..super::sends::send("peer", "S")
    };
    let accepted = storage.accept_send(send, None, Vec::new()).await.unwrap();
    assert!(matches!(accepted, AcceptOutcome::Accepted));
    let call = super::calls::call(instance, "C", 1);
    storage.change_call(call, Vec::new()).await.unwrap();
    super::queues::fill(storage, instance).await;
}

/// Rows of this instance in every table that has such a column.
async fn rows_of(storage: &SqliteStorage, instance: InstanceNumber) -> Vec<(String, i64)> {
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c \
         WHERE m.type = 'table' \
         AND (c.name = 'instance' OR (m.name = 'instance' AND c.name = 'number')) ORDER BY m.name",
    )
    .fetch_all(&storage.readers)
    .await
    .unwrap();
    let mut rows = Vec::new();
    for (table, column) in tables {
        let sql = format!("SELECT count(*) FROM {table} WHERE {column} = ?");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(instance.0)
            .fetch_one(&storage.readers)
            .await
            .unwrap();
        rows.push((table, count));
    }
    rows
}

#[tokio::test]
async fn a_deleted_instance_leaves_only_its_tombstone() {
    let place = Place::new();
    let storage = place.open().await;
    let gone = created(&storage, "gone").await;
    let stays = created(&storage, "stays").await;
    fill(&storage, gone.number).await;
    fill(&storage, stays.number).await;
    let before = rows_of(&storage, stays.number).await;
    assert!(before.iter().all(|(_, count)| *count > 0), "{before:?}");
    assert!(before.len() >= 10);

    let deleted = storage
        .delete_instance(gone.number, telling(EventType::InstanceDeleted))
        .await;
    assert!(deleted.unwrap());
    for (table, count) in rows_of(&storage, gone.number).await {
        // The tombstone, the counter that gave it its number, and what tells of bytes elsewhere.
        let left = ["event", "event_sequence", "media"].contains(&&*table);
        let left = i64::from(left);
        assert_eq!(count, left, "{table}");
    }
    assert_eq!(rows_of(&storage, stays.number).await, before);
    let events = all(&storage).await;
    let tombstone = events.last().unwrap();
    assert_eq!(tombstone.event_type, EventType::InstanceDeleted);
    assert_eq!(tombstone.instance_sequence, 4);
    let bounds = storage.log_bounds().await.unwrap();
    assert_eq!((bounds.count, bounds.compacted.0), (4, 0));
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    assert_eq!(bounds.bytes, bytes as u64);

    // Whoever is late writes nothing any more.
    let device = storage.device(gone.number);
    let late = RecordChange::Put {
        kind: RecordKind::Device,
        key: "".into(),
        value: Bytes::new(),
    };
    assert!(device.change_records(vec![late]).await.is_err());
    storage
        .append_events(vec![received(gone.number.0, "late")])
        .await
        .unwrap();
    let row = message(gone.number, "chat", "M2");
    let new = storage
        .record_messages(vec![crate::storage::MessageRecord::new(
            row.clone(),
            Vec::new(),
        )])
        .await;
    assert_eq!(new.unwrap(), [false]);
    let refused = storage
        .accept_message(row, Some(request("late", 1)), Vec::new())
        .await;
    assert!(refused.is_err());
    assert_eq!(all(&storage).await.len(), 4);

    let again = storage.delete_instance(gone.number, quiet()).await;
    assert!(!again.unwrap());
    storage.close().await;
    let storage = place.open().await;
    let next = created(&storage, "gone").await;
    assert_eq!(next.number, InstanceNumber(3));
}

fn key(id: &str, permissions: Vec<Permission>, instances: Vec<InstanceNumber>) -> ApiKeyRow {
    ApiKeyRow {
        id: ApiKeyId::parse(id).unwrap(),
        secret_digest: [7; 32],
        display_name: "key".to_owned(),
        permissions,
        instances,
        create_time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        revoke_time: None,
    }
}

#[tokio::test]
async fn the_last_key_that_manages_keys_stays() {
    let place = Place::new();
    let storage = place.open().await;
    let admin = key("000000000000000a", vec![Permission::All], Vec::new());
    let other = key("000000000000000b", vec![Permission::KeysWrite], Vec::new());
    let reader = key(
        "000000000000000c",
        vec![Permission::EventsRead, Permission::MessagesRead],
        vec![InstanceNumber(1), InstanceNumber(20)],
    );
    for key in [&admin, &other, &reader] {
        storage.create_api_key(key.clone()).await.unwrap();
    }
    let found = storage.lookup_api_key(&reader.id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&reader));
    let listed = storage.list_api_keys(None, 2).await.unwrap();
    assert_eq!(listed, [admin.clone(), other.clone()]);
    let listed = storage.list_api_keys(Some(other.id.clone()), 2).await;
    assert_eq!(listed.unwrap(), std::slice::from_ref(&reader));

    let now = SystemTime::now();
    let revoke = async |id: &ApiKeyId| storage.revoke_api_key(id, now).await.unwrap();
    assert!(matches!(revoke(&admin.id).await, RevokeOutcome::Revoked(_)));
    assert!(matches!(revoke(&admin.id).await, RevokeOutcome::Revoked(_)));
    assert!(matches!(revoke(&other.id).await, RevokeOutcome::LastAdmin));
    assert!(matches!(
        revoke(&reader.id).await,
        RevokeOutcome::Revoked(_)
    ));
    let nobody = ApiKeyId::parse("00000000000000ff").unwrap();
    assert!(matches!(revoke(&nobody).await, RevokeOutcome::Missing));
    let stored = storage.lookup_api_key(&admin.id).await.unwrap().unwrap();
    assert!(stored.revoke_time.is_some());
}

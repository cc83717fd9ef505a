//! Groups, and requests that make neither a message nor an instance.

use super::*;
use crate::{
    domain::limits::REQUEST_MEMORY,
    storage::{ClaimOutcome, GroupChange, GroupRow},
};

const ONE: InstanceNumber = InstanceNumber(1);

fn group(jid: &str, member: bool, body: &'static str) -> GroupRow {
    GroupRow {
        jid: jid.to_owned(),
        member,
        body: Bytes::from_static(body.as_bytes()),
    }
}

async fn stored(storage: &SqliteStorage, groups: Vec<GroupRow>) {
    let change = GroupChange {
        groups,
        ..Default::default()
    };
    storage.change_groups(ONE, change).await.unwrap();
}

async fn jids(storage: &SqliteStorage, after: Option<&str>, limit: usize) -> Vec<String> {
    let rows = storage.list_groups(ONE, after, limit).await.unwrap();
    rows.into_iter().map(|row| row.jid).collect()
}

#[tokio::test]
async fn groups_are_kept_as_they_were_last() {
    let place = Place::new();
    let storage = place.open().await;
    assert_eq!(storage.lookup_group(ONE, "a@g.us").await.unwrap(), None);
    stored(
        &storage,
        vec![
            group("b@g.us", true, "b"),
            group("a@g.us", true, "a"),
            group("c@g.us", false, "c"),
        ],
    )
    .await;
    assert_eq!(jids(&storage, None, 9).await, ["a@g.us", "b@g.us"]);
    assert_eq!(jids(&storage, None, 1).await, ["a@g.us"]);
    assert_eq!(jids(&storage, Some("a@g.us"), 9).await, ["b@g.us"]);
    let left = storage.lookup_group(ONE, "c@g.us").await.unwrap();
    assert_eq!(left, Some(group("c@g.us", false, "c")));

    stored(
        &storage,
        vec![group("a@g.us", false, "gone"), group("c@g.us", true, "c")],
    )
    .await;
    assert_eq!(jids(&storage, None, 9).await, ["b@g.us", "c@g.us"]);
    let gone = storage.lookup_group(ONE, "a@g.us").await.unwrap();
    assert_eq!(gone, Some(group("a@g.us", false, "gone")));
    let other = InstanceNumber(2);
    assert_eq!(storage.lookup_group(other, "b@g.us").await.unwrap(), None);
    assert!(
        storage
            .list_groups(other, None, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_change_of_groups_is_logged_with_it() {
    let place = Place::new();
    let storage = place.open().await;
    assert!(!storage.groups_complete(ONE).await.unwrap());
    for complete in [true, false] {
        let change = GroupChange {
            groups: vec![group("a@g.us", true, "a")],
            complete,
            events: vec![event(1, EventType::GroupCreated, "created")],
        };
        storage.change_groups(ONE, change).await.unwrap();
    }
    assert!(storage.groups_complete(ONE).await.unwrap());
    assert!(!storage.groups_complete(InstanceNumber(2)).await.unwrap());
    assert_eq!(bodies(&all(&storage).await), ["created", "created"]);
}

#[tokio::test]
async fn groups_go_with_the_device_and_with_the_instance() {
    let place = Place::new();
    let storage = place.open().await;
    let row = created(&storage, "one").await;
    let change = GroupChange {
        groups: vec![group("a@g.us", true, "a")],
        complete: true,
        events: Vec::new(),
    };
    storage
        .change_groups(row.number, change.clone())
        .await
        .unwrap();
    storage.device(row.number).clear().await.unwrap();
    assert!(jids(&storage, None, 9).await.is_empty());
    assert!(!storage.groups_complete(row.number).await.unwrap());

    storage
        .change_groups(row.number, change.clone())
        .await
        .unwrap();
    storage.delete_instance(row.number, quiet()).await.unwrap();
    assert!(jids(&storage, None, 9).await.is_empty());
    // What comes late is not kept.
    storage.change_groups(row.number, change).await.unwrap();
    assert!(jids(&storage, None, 9).await.is_empty());
}

#[tokio::test]
async fn a_request_is_claimed_once_and_answers_what_it_answered() {
    let place = Place::new();
    let storage = place.open().await;
    let mark = request("r1", 1);
    let claim = async |mark: &RequestMark| storage.claim_request(ONE, mark.clone()).await.unwrap();
    assert_eq!(claim(&mark).await, ClaimOutcome::New);
    assert!(matches!(claim(&mark).await, ClaimOutcome::Unanswered(_)));
    assert_eq!(
        claim(&request("r1", 2)).await,
        ClaimOutcome::Reused(Vec::new())
    );
    let elsewhere = storage.claim_request(InstanceNumber(2), mark.clone()).await;
    assert_eq!(
        elsewhere.unwrap(),
        ClaimOutcome::Reused(vec!["instance".to_owned()])
    );

    // One that changed nothing may be made anew, with another body too.
    storage.release_request(mark.clone()).await.unwrap();
    let mark = request("r1", 2);
    assert_eq!(claim(&mark).await, ClaimOutcome::New);
    let answer = Bytes::from_static(b"answer");
    storage
        .answer_request(mark.clone(), answer.clone())
        .await
        .unwrap();
    assert_eq!(claim(&mark).await, ClaimOutcome::Answered(answer.clone()));
    storage.release_request(mark.clone()).await.unwrap();
    assert_eq!(claim(&mark).await, ClaimOutcome::Answered(answer));

    // After its day an id is as good as new.
    let late = RequestMark {
        time: mark.time + REQUEST_MEMORY + Duration::from_secs(1),
        ..mark
    };
    assert_eq!(claim(&late).await, ClaimOutcome::New);
    assert!(matches!(claim(&late).await, ClaimOutcome::Unanswered(_)));
}

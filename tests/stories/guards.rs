//! Callers that are slow, revoked or many: each is dealt with, and the others notice nothing.

use std::time::{Duration, Instant};

use tonic::{Code, Status};
use wagate::proto::v1::{self, StartPosition, subscribe_request::Start};

use crate::support::{Api, BUDGET, Stage, Watcher, info, within};

fn earliest() -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        start: Some(Start::Position(StartPosition::Earliest.into())),
        ..Default::default()
    }
}

/// A new key that may do this.
async fn key(api: &Api, permissions: &[&str]) -> (String, String) {
    let request = v1::CreateApiKeyRequest {
        display_name: "other".to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let created = api.keys().create_api_key(request).await.unwrap();
    let created = created.into_inner();
    (created.api_key.unwrap().id, created.secret)
}

async fn until_error(watcher: &mut Watcher) -> Status {
    loop {
        match watcher.event().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_is_cut_off_and_resumes_where_it_was() {
    let stage = Stage::with(&[
        ("events.slow_consumer_timeout", "1s"),
        ("events.streams_per_key", "1"),
    ])
    .await;
    let api = stage.api().await;
    let (one, owner) = stage.open_instance(&api, "one").await;
    let peer = stage.phone("Peer").await;
    let (_, other) = key(&api, &["events:read", "instances:pair"]).await;
    let narrow = Api::connect_narrow(stage.address(), Some(&other)).await;
    let mut stalled = Watcher::open(&narrow, earliest()).await.unwrap();
    let mut healthy = within("the first stream's place", async {
        loop {
            match Watcher::open(&api, earliest()).await {
                Ok(watcher) => return watcher,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;

    // More than fits between the two ends.
    let text = |number: u32| format!("{number} {}", "x".repeat(60_000));
    let number = owner.number.to_string();
    for message in 0..40 {
        peer.send(&number, &text(message)).await;
        // The one who reads gets each at once, whoever does not.
        healthy.until_received(&one.id, &text(message)).await;
    }
    // The key's only place is free again once the stalled stream was given up.
    let other = Api::connect(stage.address(), Some(&other)).await;
    within("the stalled stream's end", async {
        while Watcher::open(&other, Default::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    let end = until_error(&mut stalled).await;
    assert_eq!(
        (end.code(), info(&end)),
        (Code::ResourceExhausted, "SLOW_CONSUMER".into())
    );
    let mut resumed = within("the place", async {
        let request = v1::SubscribeRequest {
            start: Some(Start::AfterCursor(stalled.cursor.clone())),
            ..Default::default()
        };
        loop {
            match Watcher::open(&other, request.clone()).await {
                Ok(watcher) => return watcher,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    resumed.until_received(&one.id, &text(39)).await;
    let mut seen = stalled.seen;
    assert!(seen.len() < healthy.seen.len());
    seen.append(&mut resumed.seen);
    let count = healthy.seen.len().min(seen.len());
    assert!(count >= 40);
    // Not by their contents: pairing codes are blanked once they were used.
    let cursors = |events: &[v1::Event]| -> Vec<String> {
        events.iter().map(|event| event.cursor.clone()).collect()
    };
    assert_eq!(cursors(&seen[..count]), cursors(&healthy.seen[..count]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_its_streams_and_nobody_elses() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let (id, secret) = key(&api, &["events:read", "instances:read", "instances:pair"]).await;
    let other = Api::connect(stage.address(), Some(&secret)).await;
    let mut doomed = Watcher::open(&other, Default::default()).await.unwrap();
    let mut kept = Watcher::open(&api, Default::default()).await.unwrap();
    let request = v1::PairInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let pairing = other.instances().pair_instance(request).await.unwrap();
    let mut pairing = pairing.into_inner();
    within("a code", pairing.message()).await.unwrap();

    let begun = Instant::now();
    let request = v1::RevokeApiKeyRequest {
        api_key_id: id,
        ..Default::default()
    };
    api.keys().revoke_api_key(request).await.unwrap();
    let end = until_error(&mut doomed).await;
    assert_eq!(
        (end.code(), info(&end)),
        (Code::Unauthenticated, "CREDENTIAL_REVOKED".into())
    );
    let end = loop {
        match within("the pairing's end", pairing.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the pairing ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(info(&end), "CREDENTIAL_REVOKED");
    assert!(begun.elapsed() < Duration::from_secs(5));

    api.create("two").await;
    kept.until("an event for the other", |event| {
        (event.r#type == "instance.created").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_calls_too_often_is_told_when_to_come_back() {
    let stage = Stage::with(&[
        ("server.calls_per_second", "1"),
        ("server.calls_burst", "10"),
    ])
    .await;
    let api = stage.api().await;
    let list = async || {
        let request = v1::ListInstancesRequest::default();
        api.instances().list_instances(request).await
    };
    let refused = tokio::time::timeout(BUDGET, async {
        loop {
            if let Err(status) = list().await {
                return status;
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(
        (refused.code(), info(&refused)),
        (Code::ResourceExhausted, "RATE_LIMITED".into())
    );
    let details = tonic_types::StatusExt::get_error_details(&refused);
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    // Health is asked without a key, and never refused.
    assert!(api.is_serving().await);
    tokio::time::sleep(wait).await;
    list().await.unwrap();
}

//! The disk is full: nothing is confirmed that is not kept, reads go on, and all of it arrives later.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use tonic::Code;
use wagate::proto::v1::{self, StartPosition, subscribe_request::Start};

use crate::{
    queues::{crowd, list, to},
    support::{Api, Stage, Volume, Watcher, info, within},
};

/// Large, so that a few of them need room.
fn long(name: &str) -> String {
    format!("{name} {}", "x".repeat(40_000))
}

/// Waits until health says so.
async fn until_serving(api: &Api, serving: bool) {
    within("health", async {
        while api.is_serving().await != serving {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    let Some(volume) = Volume::mount(&path, "24m") else {
        return;
    };
    let data_dir = path.join("gateway");
    let mut stage = Stage::with(&[("storage.data_dir", data_dir.to_str().unwrap())]).await;
    let api = stage.api().await;
    let (one, owner) = stage.open_instance(&api, "one").await;
    let peer = stage.phone("Peer").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let number = owner.number.to_string();
    let mut sent = vec!["before".to_owned()];
    peer.send(&number, "before").await;
    watcher.until_received(&one.id, "before").await;

    volume.fill();
    // What is left in the database's own files takes a few more.
    within("the disk to be full", async {
        while api.is_serving().await {
            let text = long(&format!("until full {}", sent.len()));
            peer.send(&number, &text).await;
            sent.push(text);
        }
    })
    .await;
    for more in 0..5 {
        let text = long(&format!("while full {more}"));
        peer.send(&number, &text).await;
        sent.push(text);
    }

    // Reads go on, and writes are refused with a reason.
    api.instance("one").await;
    let request = v1::CreateInstanceRequest::default();
    let refused = api.instances().create_instance(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), info(&refused)),
        (Code::Unavailable, "STORAGE_UNAVAILABLE".into())
    );
    let request = v1::SubscribeRequest {
        start: Some(Start::Position(StartPosition::Earliest.into())),
        stop_when_caught_up: true,
        ..Default::default()
    };
    let mut reader = Watcher::open(&api, request).await.unwrap();
    while reader.event().await.unwrap().is_some() {}
    // What WhatsApp was told to forget is in the log.
    let kept = reader.received_texts(&one.id).len();
    let waiting = owner.queued();
    assert!(waiting >= 5, "{waiting} wait");
    assert!(
        kept + waiting >= sent.len(),
        "{kept} are kept and {waiting} wait of {}",
        sent.len()
    );
    assert!(!api.is_serving().await);

    volume.free();
    let freed = Instant::now();
    until_serving(&api, true).await;
    let last = sent.last().unwrap().clone();
    watcher.until_received(&one.id, &last).await;
    assert!(
        freed.elapsed() < Duration::from_secs(20),
        "{:?}",
        freed.elapsed()
    );
    assert_eq!(watcher.received_texts(&one.id), sent);
    owner.until_nothing_waits().await;

    // Both directions are as good as before.
    peer.send(&number, "after").await;
    watcher.until_received(&one.id, "after").await;
    sent.push("after".to_owned());
    assert_eq!(watcher.received_texts(&one.id), sent);
    let to = peer.number.to_string();
    api.send("one", &to, "and back").await.unwrap();
    peer.until_text("and back").await;

    // The database is whole: it is looked through when it is opened.
    stage.restart_gateway().await;
    let api = stage.api().await;
    let mut again = Watcher::from_earliest(&api).await;
    again.until_received(&one.id, "after").await;
    assert_eq!(again.received_texts(&one.id), sent);
    stage.stop_gateway().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_meets_a_full_disk_goes_on_and_gives_nobody_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    let Some(volume) = Volume::mount(&path, "24m") else {
        return;
    };
    let data_dir = path.join("gateway");
    let stage = Stage::with(&[("storage.data_dir", data_dir.to_str().unwrap())]).await;
    let api = stage.api().await;
    stage.open_instance(&api, "one").await;
    let phones = crowd(&stage, 60).await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let text = long("news");
    let recipients = phones.iter().map(|phone| to(phone.number, "you")).collect();
    let mut request = list("one", &text, recipients);
    if let Some(pacing) = &mut request.pacing {
        // Slow enough to be caught in the middle.
        pacing.messages_per_minute = Some(600);
    }
    let id = api.create_queue(request).await.queue.unwrap().id;
    watcher.until_progress(&id, 10).await;
    volume.fill();
    until_serving(&api, false).await;
    let counts = api.queue("one", &id).await.counts.unwrap();
    assert!(counts.waiting > 0, "{counts:?}");
    assert_eq!(counts.failed, 0);

    volume.free();
    until_serving(&api, true).await;
    watcher.until_completed(&id).await;
    let counts = api.queue("one", &id).await.counts.unwrap();
    assert_eq!((counts.sent, counts.failed), (60, 0));
    for phone in &phones {
        phone.until_text(&text).await;
        let mut inbox = Box::pin(stage.network.inbox(phone.number, 0).unwrap());
        // What comes twice comes under the same id.
        let mut ids = BTreeSet::new();
        while let Some(Some(message)) = inbox.next().now_or_never() {
            ids.insert(message.id);
        }
        assert_eq!(ids.len(), 1);
    }
}

//! Lists that go as they should, and the callers who stop them.

use std::time::Duration;

use tonic::Code;
use wagate::proto::v1::{self, ChatActivity, QueueItemState, QueueState, event::Payload};

use super::{crowd, list, to};
use crate::support::{Stage, Watcher, info, violated_field, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_reaches_everybody_it_can_and_tells_whom_it_can_not() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    stage.open_instance(&api, "one").await;
    let phones = crowd(&stage, 200).await;
    let mut recipients: Vec<_> = phones
        .iter()
        .enumerate()
        .map(|(at, phone)| to(phone.number, &format!("N{at}")))
        .collect();
    // In the middle: one whom WhatsApp does not know, one who is no recipient, one without a
    // variable, and one who was named before.
    recipients.insert(100, to("15559999999", "nobody"));
    recipients.insert(120, to("not a number", "nobody"));
    recipients.insert(
        140,
        v1::QueueRecipient {
            recipient: phones[150].number.to_string(),
            ..Default::default()
        },
    );
    recipients.insert(160, to(format!("+{}", phones[3].number), "again"));
    let mut watcher = Watcher::from_earliest(&api).await;
    let request = v1::CreateQueueRequest {
        request_id: "news of today".to_owned(),
        ..list("one", "Hello {{name}}", recipients)
    };
    let created = api.create_queue(request.clone()).await;
    let queue = created.queue.unwrap();
    let counts = queue.counts.unwrap();
    assert_eq!((counts.recipients, counts.waiting), (204, 201));
    assert_eq!((counts.invalid, counts.duplicate), (2, 1));
    let rejected: Vec<_> = created.rejected.iter().map(|one| one.position).collect();
    assert_eq!(rejected, [120, 140, 160]);
    assert!(created.rejected[1].reason.contains("name is missing"));

    let done = watcher.until_completed(&queue.id).await;
    assert_eq!(done.state(), QueueState::Completed);
    let counts = done.counts.unwrap();
    assert_eq!((counts.sent, counts.failed, counts.waiting), (200, 1, 0));
    for (at, phone) in phones.iter().enumerate() {
        let last = format!("Hello N{at}");
        assert_eq!(phone.texts_until(&last).await, [last]);
    }

    // Each percent at most once, and all in order.
    let progress = watcher.progress(&queue.id);
    assert!(progress.is_sorted_by(|a, b| a < b), "{progress:?}");
    assert_eq!(progress.last(), Some(&100));
    assert!(progress.len() > 90);
    let mut events = watcher.queue_events();
    assert_eq!(events.remove(0), "send.started");
    assert_eq!(events.pop(), Some("send.completed"));
    assert_eq!(events, ["send.failed"; 3]);

    // Who got what.
    let sent = api
        .queue_items("one", &queue.id, QueueItemState::Sent)
        .await;
    assert_eq!(sent.len(), 200);
    assert!(sent.iter().all(|item| !item.message_id.is_empty()));
    let failed = api
        .queue_items("one", &queue.id, QueueItemState::Failed)
        .await;
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (failed[0].position, &*failed[0].recipient),
        (100, "15559999999")
    );
    assert!(failed[0].reason.contains("no account"), "{failed:?}");
    let all = api
        .queue_items("one", &queue.id, QueueItemState::Unspecified)
        .await;
    assert_eq!(all.len(), 204);
    assert_eq!(all[7].variables["name"], "N7");

    // The same request is the same list; another one under its id is refused.
    let again = api.create_queue(request.clone()).await;
    assert_eq!(again.queue.unwrap().id, queue.id);
    let other = v1::CreateQueueRequest {
        name: "other news".to_owned(),
        ..request
    };
    let refused = api.queues().create_queue(other).await.unwrap_err();
    assert_eq!(info(&refused), "REQUEST_ID_REUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_paused_over_a_restart_and_goes_on_with_the_next() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (one, _) = stage.open_instance(&api, "one").await;
    let phones = crowd(&stage, 60).await;
    let recipients = phones.iter().map(|phone| to(phone.number, "you")).collect();
    let mut watcher = Watcher::from_earliest(&api).await;
    let created = api.create_queue(list("one", "Hi", recipients)).await;
    let id = created.queue.unwrap().id;
    watcher.until_progress(&id, 10).await;
    for _ in 0..2 {
        let paused = api.pause_queue("one", &id).await;
        assert_eq!(paused.state(), QueueState::Paused);
    }
    // The one that was on its way ends.
    within("the last one", async {
        while api.queue("one", &id).await.counts.unwrap().sending > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let before = api.queue("one", &id).await;
    assert!(before.counts.unwrap().waiting > 0);

    stage.restart_gateway().await;
    let api = stage.api().await;
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher.until_state(&one.id, v1::InstanceState::Open).await;
    let still = api.queue("one", &id).await;
    assert_eq!(still.state(), QueueState::Paused);
    assert_eq!(still.counts, before.counts);

    for _ in 0..2 {
        let resumed = api.resume_queue("one", &id).await;
        assert_eq!(resumed.state(), QueueState::Running);
    }
    // And once while it runs.
    stage.restart_gateway().await;
    let api = stage.api().await;
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher.until_completed(&id).await;
    let events = watcher.queue_events();
    let wanted = [
        "send.started",
        "queue.paused",
        "queue.resumed",
        "send.completed",
    ];
    assert_eq!(events, wanted);
    let progress = watcher.progress(&id);
    assert!(progress.is_sorted_by(|a, b| a < b), "{progress:?}");
    for phone in &phones {
        phone.until_text("Hi").await;
    }
    let sent = api.queue_items("one", &id, QueueItemState::Sent).await;
    assert_eq!(sent.len(), 60);

    let again = v1::PauseQueueRequest {
        instance: "one".to_owned(),
        queue_id: id.clone(),
        ..Default::default()
    };
    let refused = api.queues().pause_queue(again).await.unwrap_err();
    let wanted = (Code::FailedPrecondition, "QUEUE_COMPLETED".to_owned());
    assert_eq!((refused.code(), info(&refused)), wanted);
    let mut gone = v1::DeleteQueueRequest {
        instance: "one".to_owned(),
        queue_id: id.clone(),
        request_id: "gone".to_owned(),
    };
    for _ in 0..2 {
        api.queues().delete_queue(gone.clone()).await.unwrap();
    }
    gone.request_id.clear();
    let refused = api.queues().delete_queue(gone).await.unwrap_err();
    assert_eq!(info(&refused), "QUEUE_NOT_FOUND");
    watcher
        .until("queue.deleted", |event| match &event.payload {
            Some(Payload::QueueDeleted(_)) => Some(()),
            _ => None,
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pace_is_kept_and_a_presence_shown() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let phones = crowd(&stage, 3).await;
    let recipients = phones.iter().map(|phone| to(phone.number, "you")).collect();
    let mut request = list("one", "Hi", recipients);
    request.pacing = Some(v1::QueuePacing {
        delay_min_ms: 200,
        delay_max_ms: 400,
        presence: ChatActivity::Composing.into(),
        messages_per_minute: Some(60),
        ..Default::default()
    });
    let mut watcher = Watcher::from_earliest(&api).await;
    let begun = std::time::Instant::now();
    let created = api.create_queue(request).await;
    watcher.until_completed(&created.queue.unwrap().id).await;
    // One a second, each after at least a fifth of one.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(2_400), "{took:?}");
    let wire = stage.network.wire_log(owner.companion(), 0);
    let shown = wire.iter().filter(|one| one.text.contains("<composing"));
    assert_eq!(shown.count(), 3);

    // Outside of its window it waits, and says so.
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let minute = u32::try_from(now / 60 % 1_440).unwrap();
    let mut request = list("one", "Later", vec![to(phones[0].number, "you")]);
    request.pacing.as_mut().unwrap().window = Some(v1::QueueWindow {
        start_minute: (minute + 60) % 1_440,
        end_minute: (minute + 120) % 1_440 + 1,
        utc_offset_minutes: 0,
    });
    let created = api.create_queue(request).await;
    let queue = created.queue.unwrap();
    assert_eq!(queue.state(), QueueState::Running);
    assert!(queue.state_reason.contains("window"), "{queue:?}");
    assert_eq!(api.queue("one", &queue.id).await.counts, queue.counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_list_is_one_call() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let recipients = |count: usize| {
        let one = |at| to(format!("1555{at:07}"), "Somebody With A Long Name");
        (0..count).map(one).collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    let created = api
        .create_queue(list("one", "Hello {{name}}", recipients(50_000)))
        .await;
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    let queue = created.queue.unwrap();
    assert_eq!(queue.counts.unwrap().waiting, 50_000);
    // Nobody is paired yet, and it says what it waits for.
    assert!(queue.state_reason.contains("unpaired"), "{queue:?}");
    let request = v1::ListQueuesRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let listed = api
        .queues()
        .list_queues(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.queues.len(), 1);
    assert_eq!(listed.queues[0].message, None);

    let too_many = list("one", "Hello", recipients(50_001));
    let refused = api.queues().create_queue(too_many).await.unwrap_err();
    assert_eq!(info(&refused), "FIELD_INVALID");
    assert_eq!(violated_field(&refused), "recipients");
}

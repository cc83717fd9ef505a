//! WhatsApp limits whom the account may write to: those who know it go on, the others wait until WhatsApp says.

use std::time::{Duration, SystemTime};

use tonic::Code;
use tonic_types::StatusExt as _;
use wagate::{
    events::system_time,
    proto::v1::{self, QueueItemState, QueueState, event::Payload},
    sandbox::{Direction, FaultAction, FaultMatch, FaultRule, Refusal},
};

use super::{crowd, list, to};
use crate::support::{Stage, Watcher, info, within};

/// Waits until a list is held, or goes on.
async fn until_updated(watcher: &mut Watcher, state: QueueState) -> v1::Queue {
    watcher
        .until("queue.updated", |event| match &event.payload {
            Some(Payload::QueueUpdated(one)) => {
                one.queue.clone().filter(|queue| queue.state() == state)
            }
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_wait_until_the_time_that_whatsapp_states() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (one, owner) = stage.open_instance(&api, "one").await;
    let phones = crowd(&stage, 6).await;
    let mut watcher = Watcher::from_earliest(&api).await;
    // Every other one has written before.
    for phone in phones.iter().skip(1).step_by(2) {
        let text = format!("hello from {}", phone.number);
        phone.send(&owner.number.to_string(), &text).await;
        watcher.until_received(&one.id, &text).await;
    }
    let length = Duration::from_secs(20);
    let end = stage.network.limit_strangers(owner.number, length).unwrap();
    let recipients = phones.iter().map(|phone| to(phone.number, "you")).collect();
    let created = api.create_queue(list("one", "Hi", recipients)).await;
    let id = created.queue.unwrap().id;

    let held = until_updated(&mut watcher, QueueState::Held).await;
    let until = system_time(&held.held_until.unwrap()).unwrap();
    assert_eq!(until, end);
    assert!(held.state_reason.ends_with("(463)"), "{held:?}");
    assert_eq!(held.counts.unwrap().sent, 3);
    for phone in phones.iter().skip(1).step_by(2) {
        phone.until_text("Hi").await;
    }
    let waiting = api.queue_items("one", &id, QueueItemState::Waiting).await;
    assert_eq!(waiting.len(), 3);
    assert!(waiting[0].reason.ends_with("(463)"), "{waiting:?}");

    // A caller is told the same, and may write to whoever knows the account.
    let stranger = stage.phone("Stranger").await;
    let refused = api.send("one", &stranger.number.to_string(), "Hi").await;
    let refused = refused.unwrap_err();
    let wanted = (Code::ResourceExhausted, "NEW_CHATS_HELD".to_owned());
    assert_eq!((refused.code(), info(&refused)), wanted);
    let details = refused.get_error_details();
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(!wait.is_zero() && wait <= length, "{wait:?}");
    let text = v1::TextContent {
        text: "in time".to_owned(),
        ..Default::default()
    };
    let delay = v1::SendDelay {
        length: Some(v1::send_delay::Length::FixedMs(1)),
    };
    let delayed = v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: stranger.number.to_string(),
        content: Some(v1::send_message_request::Content::Text(text)),
        delay: Some(delay),
        wait_for: v1::WaitFor::Accepted.into(),
        ..Default::default()
    };
    api.messages().send_message(delayed).await.unwrap();
    // What may wait does, until then.
    within("a send to be held", async {
        loop {
            let request = v1::ListOutboxRequest {
                instance: "one".to_owned(),
                ..Default::default()
            };
            let found = api.messages().list_outbox(request).await.unwrap();
            let found = found.into_inner().entries;
            if let [entry] = &*found
                && entry.due_time.as_ref().and_then(system_time) == Some(end)
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let warm = phones[1].number.to_string();
    api.send("one", &warm, "and you").await.unwrap();
    phones[1].until_text("and you").await;

    // It is still so after a restart, and ends by itself.
    stage.restart_gateway().await;
    let api = stage.api().await;
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher.until_completed(&id).await;
    assert!(SystemTime::now() >= end);
    for phone in &phones {
        phone.until_seen("Hi", 1).await;
    }
    stranger.until_text("in time").await;
    let done = api.queue("one", &id).await.counts.unwrap();
    assert_eq!((done.sent, done.failed), (6, 0));
    let events = watcher.queue_events();
    let wanted = [
        "send.started",
        "queue.updated",
        "queue.updated",
        "send.completed",
    ];
    assert_eq!(events, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_holds_strangers_for_a_while() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let rule = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::FromDevice),
            tag: Some("message".to_owned()),
            child: Some("participants".to_owned()),
            number: Some(owner.number),
            device: Some(1),
            ..Default::default()
        },
        action: FaultAction::Refuse(Refusal {
            code: 429,
            backoff: 0,
        }),
        skip: 1,
        count: Some(1),
    };
    stage.network.add_fault(rule).unwrap();
    let phones = crowd(&stage, 3).await;
    let recipients = phones.iter().map(|phone| to(phone.number, "you")).collect();
    let mut watcher = Watcher::from_earliest(&api).await;
    let created = api.create_queue(list("one", "Hi", recipients)).await;
    let id = created.queue.unwrap().id;
    let held = until_updated(&mut watcher, QueueState::Held).await;
    // Nobody says how long: a quarter of an hour for the first.
    let until = system_time(&held.held_until.unwrap()).unwrap();
    let left = until.duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(14 * 60) && left <= Duration::from_secs(15 * 60));
    assert!(held.state_reason.ends_with("(429)"), "{held:?}");
    let counts = held.counts.unwrap();
    assert_eq!((counts.sent, counts.waiting, counts.failed), (1, 2, 0));
    assert_eq!(api.queue("one", &id).await.state(), QueueState::Held);
    // A caller may stop it meanwhile, and it is held again when it goes on.
    api.pause_queue("one", &id).await;
    api.resume_queue("one", &id).await;
    until_updated(&mut watcher, QueueState::Held).await;
}

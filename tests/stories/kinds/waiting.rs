//! How long SendMessage waits, and for what.

use std::time::Duration;

use wagate::sandbox::{Direction, FaultAction, FaultMatch, FaultRule};

use super::*;
use crate::support::info;

/// A deadline that is short, and long enough for the machine.
const SOON: Duration = Duration::from_secs(3);

fn saying(scene: &Scene, words: &str, wait_for: v1::WaitFor) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: scene.peer.number.to_string(),
        content: Some(text(words)),
        request_id: words.to_owned(),
        wait_for: wait_for.into(),
        ..Default::default()
    }
}

async fn answered(
    scene: &Scene,
    request: v1::SendMessageRequest,
    deadline: Option<Duration>,
) -> v1::Message {
    let mut request = tonic::Request::new(request);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    let sent = within("SendMessage", scene.api.messages().send_message(request)).await;
    sent.unwrap().into_inner().message.unwrap()
}

impl Scene {
    /// What devices of this phone send with this tag is lost from now on.
    fn lose(&self, direction: Direction, tag: &str, number: Number) -> u64 {
        let rule = FaultRule {
            matches: FaultMatch {
                direction: Some(direction),
                tag: Some(tag.to_owned()),
                number: Some(number),
                ..Default::default()
            },
            action: FaultAction::Drop,
            skip: 0,
            count: None,
        };
        self.stage.network.add_fault(rule).unwrap()
    }

    /// Waits until a message is confirmed, by WhatsApp or by its reader: a receipt may overtake the ack, which then
    /// is no news.
    async fn until_confirmed(&mut self, id: &str) {
        use v1::MessageStatus::{Received, Sent};
        self.watcher
            .once("message.status", |event| match &event.payload {
                Some(Payload::MessageStatus(one)) => {
                    (one.message_id == id && matches!(one.status(), Sent | Received)).then_some(())
                }
                _ => None,
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_says_how_far_a_message_has_to_come() {
    let mut scene = Scene::new().await;
    let accepted = saying(&scene, "accepted", v1::WaitFor::Accepted);
    let accepted = answered(&scene, accepted, None).await;
    assert_eq!(accepted.status(), v1::MessageStatus::Pending);
    scene.seen(&scene.peer, &accepted.id).await;
    scene.until_confirmed(&accepted.id).await;

    for wait_for in [v1::WaitFor::Unspecified, v1::WaitFor::Sent] {
        let request = saying(&scene, wait_for.as_str_name(), wait_for);
        let sent = answered(&scene, request, None).await;
        assert!(sent.status() >= v1::MessageStatus::Sent);
    }

    let delivered = saying(&scene, "delivered", v1::WaitFor::Delivered);
    let delivered = answered(&scene, delivered, None).await;
    assert_eq!(delivered.status(), v1::MessageStatus::Received);

    let mut unknown = saying(&scene, "unknown", v1::WaitFor::Sent);
    unknown.wait_for = 9;
    let refused = scene.api.messages().send_message(unknown).await;
    assert_eq!(info(&refused.unwrap_err()), "FIELD_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_caller_has_no_time_left_is_sent_all_the_same() {
    let mut scene = Scene::new().await;
    let receipts = scene.lose(Direction::FromDevice, "receipt", scene.peer.number);
    let request = saying(&scene, "not received", v1::WaitFor::Delivered);
    let sent = answered(&scene, request.clone(), Some(SOON)).await;
    assert_eq!(sent.status(), v1::MessageStatus::Sent);
    scene.stage.network.clear_faults(&[receipts]);

    // Asked again with more time, or for less, it is the same message.
    let again = v1::SendMessageRequest {
        wait_for: v1::WaitFor::Accepted.into(),
        ..request
    };
    assert_eq!(answered(&scene, again, None).await.id, sent.id);

    let acks = scene.lose(Direction::ToDevice, "ack", scene.owner.number);
    let receipts = scene.lose(Direction::FromDevice, "receipt", scene.peer.number);
    let request = saying(&scene, "not confirmed", v1::WaitFor::Sent);
    let pending = answered(&scene, request.clone(), Some(SOON)).await;
    assert_eq!(pending.status(), v1::MessageStatus::Pending);
    scene.seen(&scene.peer, &pending.id).await;
    scene.stage.network.clear_faults(&[acks, receipts]);

    // Whoever comes too late to wait is told what is known; a new login confirms it.
    scene.stage.stop_gateway().await;
    scene.stage.start_gateway().await;
    scene.api = scene.stage.api().await;
    let sent = answered(&scene, request, None).await;
    assert_eq!(sent.id, pending.id);
    assert!(sent.status() >= v1::MessageStatus::Sent);
}

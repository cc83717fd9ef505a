//! Messages that were handed to WhatsApp and of which nobody knows yet whether it has them.

use super::*;

impl Scene {
    /// What goes this way with this tag is lost from now on, to or from devices of this phone.
    fn lose(&self, direction: Direction, tag: &str, number: Number) -> u64 {
        self.disturb(direction, tag, number, FaultAction::Drop)
    }

    fn disturb(&self, direction: Direction, tag: &str, number: Number, action: FaultAction) -> u64 {
        let rule = FaultRule {
            matches: FaultMatch {
                direction: Some(direction),
                tag: Some(tag.to_owned()),
                number: Some(number),
                ..Default::default()
            },
            action,
            skip: 0,
            count: None,
        };
        self.stage.network.add_fault(rule).unwrap()
    }

    /// Sends what nobody confirms. Answers with the faults that keep it so.
    async fn unknown(&mut self, text: &str) -> (v1::Message, [u64; 2]) {
        let faults = [
            self.lose(Direction::ToDevice, "ack", self.owner.number),
            self.lose(Direction::FromDevice, "receipt", self.peer.number),
        ];
        let sent = self.send(self.text(text)).await.unwrap();
        self.arrived_at(&sent.id).await;
        within("UNKNOWN", async {
            loop {
                let entries = self.outbox().await;
                if entries
                    .iter()
                    .any(|one| one.state() == OutboxState::Unknown)
                {
                    return;
                }
            }
        })
        .await;
        (sent, faults)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_was_lost_is_made_up_for_by_a_receipt() {
    let mut scene = Scene::new().await;
    let acks = scene.lose(Direction::ToDevice, "ack", scene.owner.number);
    let sent = scene.send(scene.text("received")).await.unwrap();
    scene
        .watcher
        .until_status(&sent.id, MessageStatus::Received)
        .await;
    assert!(scene.outbox().await.is_empty());
    scene.stage.network.clear_faults(&[acks]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_nobody_confirms_can_not_be_taken_back_and_is_sent_again_under_its_id() {
    let mut scene = Scene::new().await;
    let (sent, faults) = scene.unknown("maybe").await;
    let refused = scene.cancel(&sent.id).await.unwrap_err();
    assert_eq!(info(&refused), "SEND_MAY_HAVE_LEFT");
    // The connection is cut between the message and its ack.
    scene.stage.network.clear_faults(&faults);
    let companion = scene.owner.companion();
    scene.stage.network.drop_connection(companion).unwrap();
    scene
        .watcher
        .until_status(&sent.id, MessageStatus::Received)
        .await;
    scene.send(text_to(&scene.peer, "last")).await.unwrap();
    assert_eq!(scene.peer.texts_until("last").await, ["maybe", "last"]);
    assert!(scene.times(&sent.id, MessageStatus::Sent) <= 1);
    assert!(scene.outbox().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_device_of_the_account_confirms_it_too() {
    let mut scene = Scene::new().await;
    let (sent, faults) = scene.unknown("said here").await;
    let request = wagate::proto::sandbox_v1::SendTextRequest {
        phone: scene.owner.number.to_string(),
        to: scene.peer.number.to_string(),
        text: "said here".to_owned(),
        id: sent.id.clone(),
        ..Default::default()
    };
    scene.api.sandbox().send_text(request).await.unwrap();
    scene
        .watcher
        .until_status(&sent.id, MessageStatus::Sent)
        .await;
    scene.stage.network.clear_faults(&faults);
    assert!(scene.outbox().await.is_empty());
    // It is one message, told once.
    scene.send(text_to(&scene.peer, "last")).await.unwrap();
    scene
        .watcher
        .until("the last", |event| match &event.payload {
            Some(Payload::MessageSent(one)) => {
                let message = one.message.as_ref().unwrap();
                (message.id != sent.id).then_some(())
            }
            _ => None,
        })
        .await;
    let told = scene.watcher.seen.iter().filter(|event| {
        matches!(&event.payload, Some(Payload::MessageSent(one))
            if one.message.as_ref().unwrap().id == sent.id)
    });
    assert_eq!(told.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_comes_twice_is_told_once() {
    let mut scene = Scene::new().await;
    let twice = FaultAction::Duplicate(2);
    scene.disturb(Direction::ToDevice, "ack", scene.owner.number, twice);
    let sent = scene.send(text_to(&scene.peer, "once")).await.unwrap();
    scene.send(text_to(&scene.peer, "last")).await.unwrap();
    scene
        .watcher
        .until_status(&sent.id, MessageStatus::Received)
        .await;
    // A receipt may have come before both.
    assert!(scene.times(&sent.id, MessageStatus::Sent) <= 1);
    assert_eq!(scene.peer.texts_until("last").await, ["once", "last"]);
}

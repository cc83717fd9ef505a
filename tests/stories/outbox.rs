//! Sends that wait: for a connection, for their time, behind others. And what becomes of those that nobody confirms.

mod unconfirmed;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wagate::{
    proto::v1::{self, InstanceState, MessageStatus, OutboxState, event::Payload},
    sandbox::{Direction, FaultAction, FaultMatch, FaultRule, Number, Typing},
};

use crate::support::{Api, Stage, TestPhone, Watcher, info, within};

/// An instance, its owner's phone and another one.
struct Scene {
    stage: Stage,
    api: Api,
    instance: v1::Instance,
    owner: TestPhone,
    peer: TestPhone,
    watcher: Watcher,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (instance, owner) = stage.open_instance(&api, "one").await;
        let peer = stage.phone("Peer").await;
        let watcher = Watcher::from_earliest(&api).await;
        Self {
            stage,
            api,
            instance,
            owner,
            peer,
            watcher,
        }
    }

    /// A text to the peer that may wait.
    fn text(&self, text: &str) -> v1::SendMessageRequest {
        v1::SendMessageRequest {
            wait_for: v1::WaitFor::Accepted.into(),
            ..text_to(&self.peer, text)
        }
    }

    async fn send(&self, request: v1::SendMessageRequest) -> Result<v1::Message, tonic::Status> {
        let sent = within("SendMessage", self.api.messages().send_message(request)).await?;
        Ok(sent.into_inner().message.unwrap())
    }

    async fn disconnect(&mut self) {
        let request = v1::DisconnectInstanceRequest {
            instance: "one".to_owned(),
            ..Default::default()
        };
        let done = self.api.instances().disconnect_instance(request).await;
        done.unwrap();
    }

    /// Connects, and waits until it is.
    async fn connect(&mut self) {
        let request = v1::ConnectInstanceRequest {
            instance: "one".to_owned(),
            ..Default::default()
        };
        let done = self.api.instances().connect_instance(request).await;
        done.unwrap();
        within("an open instance", async {
            while self.api.instance("one").await.state() != InstanceState::Open {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn restart(&mut self) {
        self.stage.restart_gateway().await;
        self.api = self.stage.api().await;
        self.watcher = Watcher::from_earliest(&self.api).await;
    }

    async fn outbox(&self) -> Vec<v1::OutboxEntry> {
        let mut entries = Vec::new();
        let mut request = v1::ListOutboxRequest {
            instance: "one".to_owned(),
            // Small, so that pages are turned.
            page_size: 2,
            ..Default::default()
        };
        loop {
            let page = self.api.messages().list_outbox(request.clone()).await;
            let page = page.unwrap().into_inner();
            entries.extend(page.entries);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return entries;
            }
        }
    }

    async fn cancel(&self, message_id: &str) -> Result<v1::Message, tonic::Status> {
        let request = v1::CancelSendRequest {
            instance: "one".to_owned(),
            message_id: message_id.to_owned(),
            ..Default::default()
        };
        let ended = self.api.messages().cancel_send(request).await?;
        Ok(ended.into_inner().message.unwrap())
    }

    async fn get(&self, message_id: &str) -> v1::Message {
        let request = v1::GetMessageRequest {
            instance: "one".to_owned(),
            message_id: message_id.to_owned(),
            chat: String::new(),
        };
        let found = self.api.messages().get_message(request).await.unwrap();
        found.into_inner().message.unwrap()
    }

    /// The reason of the error that a send has ended with.
    async fn failed(&mut self, message_id: &str) -> String {
        self.watcher
            .once("an error", |event| match &event.payload {
                Some(Payload::MessageStatus(one)) => (one.message_id == message_id
                    && one.status() == MessageStatus::Error)
                    .then(|| one.reason.clone()),
                _ => None,
            })
            .await
    }

    /// How often a status of a message was told until now.
    fn times(&self, message_id: &str, status: MessageStatus) -> usize {
        let told = self.watcher.seen.iter().filter(|event| {
            matches!(&event.payload, Some(Payload::MessageStatus(one))
                if one.message_id == message_id && one.status() == status)
        });
        told.count()
    }

    /// When a message reached the peer's phone, by the clock of the network.
    async fn arrived_at(&self, message_id: &str) -> SystemTime {
        let device = self.peer.number.device(0);
        within("the message at the phone", async {
            loop {
                let log = self.stage.network.wire_log(device, 0);
                let arrived = log.iter().find(|entry| {
                    entry.direction == Direction::ToDevice
                        && entry.text.starts_with("<message")
                        && entry.text.contains(message_id)
                });
                if let Some(arrived) = arrived {
                    return arrived.time;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

fn text_to(phone: &TestPhone, text: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: phone.number.to_string(),
        content: Some(v1::send_message_request::Content::Text(v1::TextContent {
            text: text.to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn in_future(span: Duration) -> Option<pbjson_types::Timestamp> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + span;
    Some(pbjson_types::Timestamp {
        seconds: time.as_secs() as i64,
        nanos: time.subsec_nanos() as i32,
    })
}

fn fixed(milliseconds: u32) -> Option<v1::SendDelay> {
    Some(v1::SendDelay {
        length: Some(v1::send_delay::Length::FixedMs(milliseconds)),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_to_an_offline_instance_waits_and_goes_once() {
    let mut scene = Scene::new().await;
    scene.disconnect().await;
    // Who waits for WhatsApp is told at once that it is not there.
    let refused = scene.send(text_to(&scene.peer, "now")).await.unwrap_err();
    assert_eq!(info(&refused), "INSTANCE_DISCONNECTED");

    let request = v1::SendMessageRequest {
        request_id: "r1".to_owned(),
        ..scene.text("later")
    };
    let sent = scene.send(request.clone()).await.unwrap();
    assert_eq!(sent.status(), MessageStatus::Pending);
    assert_eq!(
        sent.chat.as_ref().unwrap().id,
        format!("{}@s.whatsapp.net", scene.peer.number)
    );
    scene
        .watcher
        .until_status(&sent.id, MessageStatus::Pending)
        .await;
    let again = scene.send(request.clone()).await.unwrap();
    assert_eq!(again.id, sent.id);
    let ending = v1::SendMessageRequest {
        wait_for: v1::WaitFor::Sent.into(),
        expire_time: in_future(Duration::from_secs(600)),
        ..text_to(&scene.peer, "ending")
    };
    let mut waits = tonic::Request::new(ending);
    waits.set_timeout(Duration::from_secs(3));
    let ending = scene.api.messages().send_message(waits).await.unwrap();
    let ending = ending.into_inner().message.unwrap();
    assert_eq!(ending.status(), MessageStatus::Pending);

    // All of it outlives the process.
    scene.restart().await;
    let waiting = scene.outbox().await;
    let ids: Vec<_> = waiting
        .iter()
        .map(|one| &one.message.as_ref().unwrap().id)
        .collect();
    assert_eq!(ids, [&sent.id, &ending.id]);
    for entry in &waiting {
        assert_eq!(entry.state(), OutboxState::Accepted);
        assert_eq!(entry.recipient, scene.peer.number.to_string());
        assert!(entry.due_time.is_some() && entry.expire_time.is_some());
    }
    let stored = scene.get(&sent.id).await;
    assert_eq!(stored.status(), MessageStatus::Pending);
    assert_eq!(stored.content, sent.content);
    assert_eq!(scene.send(request.clone()).await.unwrap().id, sent.id);

    scene.connect().await;
    for id in [&sent.id, &ending.id] {
        scene
            .watcher
            .until_status(id, MessageStatus::Received)
            .await;
    }
    let last = v1::SendMessageRequest {
        wait_for: v1::WaitFor::Sent.into(),
        ..scene.text("last")
    };
    scene.send(last).await.unwrap();
    let texts = scene.peer.texts_until("last").await;
    assert_eq!(texts, ["later", "ending", "last"]);
    assert_eq!(scene.times(&sent.id, MessageStatus::Pending), 1);
    assert!(scene.outbox().await.is_empty());
    let after = scene.send(request).await.unwrap();
    assert_eq!(after.id, sent.id);
    assert!(after.status() >= MessageStatus::Sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_in_a_chat_and_chats_do_not_wait_for_each_other() {
    let mut scene = Scene::new().await;
    let other = scene.stage.phone("Other").await;
    scene.disconnect().await;
    for number in 0..12 {
        let phone = if number % 2 == 0 { &scene.peer } else { &other };
        let request = v1::SendMessageRequest {
            wait_for: v1::WaitFor::Accepted.into(),
            ..text_to(phone, &format!("text {number}"))
        };
        scene.send(request).await.unwrap();
    }
    // One that is held back holds back its own chat alone.
    let held = v1::SendMessageRequest {
        delay: fixed(3_000),
        ..scene.text("held")
    };
    scene.send(held).await.unwrap();
    scene.connect().await;
    // What is said now comes behind what waits.
    let direct = scene.send(text_to(&other, "direct")).await.unwrap();
    assert!(direct.status() >= MessageStatus::Sent, "{direct:?}");
    let behind = scene.send(text_to(&scene.peer, "behind")).await.unwrap();
    assert!(behind.status() >= MessageStatus::Sent, "{behind:?}");
    let texts = |rest: usize, last: &[&str]| -> Vec<String> {
        let numbers = (0..12).filter(|number| number % 2 == rest);
        let texts = numbers.map(|number| format!("text {number}"));
        texts.chain(last.iter().map(ToString::to_string)).collect()
    };
    assert_eq!(other.texts_until("direct").await, texts(1, &["direct"]));
    assert_eq!(
        scene.peer.texts_until("behind").await,
        texts(0, &["held", "behind"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_leaves_at_its_time() {
    let mut scene = Scene::new().await;
    let time = in_future(Duration::from_secs(2));
    let planned = v1::SendMessageRequest {
        send_time: time,
        ..scene.text("planned")
    };
    let planned = scene.send(planned).await.unwrap();
    assert_eq!(planned.status(), MessageStatus::Pending);
    // It stands in nobody's way until then.
    let before = scene.send(text_to(&scene.peer, "before")).await.unwrap();
    assert!(before.status() >= MessageStatus::Sent);
    let waiting = scene.outbox().await;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    scene
        .watcher
        .until_status(&planned.id, MessageStatus::Received)
        .await;
    let arrived = scene.arrived_at(&planned.id).await;
    let time = time.unwrap();
    assert!(arrived >= UNIX_EPOCH + Duration::new(time.seconds as u64, time.nanos as u32));
    assert_eq!(
        scene.peer.texts_until("planned").await,
        ["before", "planned"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_by_two_names_gets_all_in_order() {
    let mut scene = Scene::new().await;
    // It has written, so both of its names are known.
    scene.peer.send(&scene.instance.phone_number, "hello").await;
    let hello = scene.watcher.until_received(&scene.instance.id, "hello");
    let party = hello.await.sender.unwrap();
    assert!(!party.lid.is_empty() && !party.phone_number.is_empty());
    let slow = v1::SendMessageRequest {
        delay: fixed(1_500),
        ..scene.text("first, by number")
    };
    let by_lid = |text: &str| v1::SendMessageRequest {
        recipient: party.lid.clone(),
        ..scene.text(text)
    };
    scene.send(slow).await.unwrap();
    let second = scene.send(by_lid("second, by hidden identity")).await;
    assert_eq!(second.unwrap().status(), MessageStatus::Pending);
    scene.send(scene.text("third, by number")).await.unwrap();
    let last = "third, by number";
    assert_eq!(
        scene.peer.texts_until(last).await,
        [
            "hello",
            "first, by number",
            "second, by hidden identity",
            last
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_leave_in_time_ends() {
    let mut scene = Scene::new().await;
    scene.disconnect().await;
    let short = v1::SendMessageRequest {
        expire_time: in_future(Duration::from_secs(1)),
        ..scene.text("too late")
    };
    let sent = scene.send(short).await.unwrap();
    let reason = scene.failed(&sent.id).await;
    assert!(reason.contains("expired"), "{reason}");
    let stored = scene.get(&sent.id).await;
    assert_eq!(stored.status(), MessageStatus::Error);
    assert_eq!(stored.status_reason, reason);
    assert!(scene.outbox().await.is_empty());

    // Nor does it while nobody looks.
    let short = v1::SendMessageRequest {
        expire_time: in_future(Duration::from_secs(1)),
        ..scene.text("too late as well")
    };
    let sent = scene.send(short).await.unwrap();
    scene.stage.stop_gateway().await;
    scene.restart().await;
    assert!(scene.failed(&sent.id).await.contains("expired"));

    scene.connect().await;
    scene.send(scene.text("in time")).await.unwrap();
    assert_eq!(scene.peer.texts_until("in time").await, ["in time"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_left_can_be_taken_back() {
    let mut scene = Scene::new().await;
    scene.disconnect().await;
    let sent = scene.send(scene.text("never mind")).await.unwrap();
    let ended = scene.cancel(&sent.id).await.unwrap();
    assert_eq!(ended.status(), MessageStatus::Error);
    assert!(ended.status_reason.contains("cancelled"));
    assert_eq!(scene.failed(&sent.id).await, ended.status_reason);
    // To repeat it does no harm.
    assert_eq!(scene.cancel(&sent.id).await.unwrap().id, sent.id);
    assert_eq!(scene.times(&sent.id, MessageStatus::Error), 1);

    scene.connect().await;
    // Also while its chat is shown that somebody writes.
    let slow = v1::SendMessageRequest {
        delay: fixed(600_000),
        presence: v1::ChatActivity::Composing.into(),
        ..scene.text("slow")
    };
    let slow = scene.send(slow).await.unwrap();
    let shown = async |wanted: Typing| {
        within("typing", async {
            loop {
                let seen = scene.stage.network.typing(scene.peer.number).unwrap();
                if seen.last().is_some_and(|last| last.typing == wanted) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    shown(Typing::Composing).await;
    scene.cancel(&slow.id).await.unwrap();
    shown(Typing::Paused).await;

    let last = scene.send(text_to(&scene.peer, "last")).await.unwrap();
    assert_eq!(scene.peer.texts_until("last").await, ["last"]);
    let left = scene.cancel(&last.id).await.unwrap_err();
    assert_eq!(info(&left), "SEND_LEFT");
    let missing = scene.cancel("3EB0NONE").await.unwrap_err();
    assert_eq!(info(&missing), "MESSAGE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_kept_and_the_chat_shows_what_is_done_meanwhile() {
    let scene = Scene::new().await;
    let begun = SystemTime::now();
    let mut ids = Vec::new();
    for (text, presence) in [
        ("written", v1::ChatActivity::Composing),
        ("recorded", v1::ChatActivity::Recording),
    ] {
        let request = v1::SendMessageRequest {
            delay: Some(v1::SendDelay {
                length: Some(v1::send_delay::Length::Range(v1::SendDelayRange {
                    min_ms: 800,
                    max_ms: 1_200,
                })),
            }),
            presence: presence.into(),
            ..scene.text(text)
        };
        ids.push(scene.send(request).await.unwrap().id);
    }
    let (first, second) = (
        scene.arrived_at(&ids[0]).await,
        scene.arrived_at(&ids[1]).await,
    );
    let least = Duration::from_millis(800);
    assert!(first.duration_since(begun).unwrap() >= least);
    // The second is held back after the first.
    assert!(second.duration_since(begun).unwrap() >= least * 2);
    let seen = scene.stage.network.typing(scene.peer.number).unwrap();
    let before = |typing: Typing, time: SystemTime| {
        seen.iter()
            .any(|one| one.typing == typing && one.time <= time)
    };
    assert!(before(Typing::Composing, first), "{seen:?}");
    assert!(before(Typing::Paused, first), "{seen:?}");
    assert!(before(Typing::Recording, second), "{seen:?}");
    assert!(!before(Typing::Recording, begun + least), "{seen:?}");
    assert_eq!(seen[0].sender, scene.owner.companion());
    assert_eq!(
        scene.peer.texts_until("recorded").await,
        ["written", "recorded"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_outlives_a_restart() {
    let mut scene = Scene::new().await;
    let begun = SystemTime::now();
    let request = v1::SendMessageRequest {
        delay: fixed(4_000),
        ..scene.text("held back")
    };
    let sent = scene.send(request).await.unwrap();
    let due = async |scene: &Scene| {
        let entries = scene.outbox().await;
        entries.first().and_then(|entry| entry.due_time)
    };
    let drawn = due(&scene).await;
    scene.restart().await;
    if let (Some(drawn), Some(due)) = (drawn, due(&scene).await) {
        // It was drawn once.
        assert_eq!(due, drawn);
    }
    let arrived = scene.arrived_at(&sent.id).await;
    assert!(arrived.duration_since(begun).unwrap() >= Duration::from_secs(4));
    scene.send(text_to(&scene.peer, "last")).await.unwrap();
    assert_eq!(scene.peer.texts_until("last").await, ["held back", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_can_not_be_ends_as_a_message_with_an_error() {
    let mut scene = Scene::new().await;
    scene.disconnect().await;
    let nobody = v1::SendMessageRequest {
        recipient: "15550999999".to_owned(),
        ..scene.text("anybody there?")
    };
    let sent = scene.send(nobody).await.unwrap();
    scene.connect().await;
    let reason = scene.failed(&sent.id).await;
    assert!(reason.contains("no account"), "{reason}");
    let stored = scene.get(&sent.id).await;
    assert_eq!(stored.status(), MessageStatus::Error);
    assert_eq!(stored.content, sent.content);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_ends_with_the_account() {
    let mut scene = Scene::new().await;
    scene.disconnect().await;
    let sent = scene.send(scene.text("too late")).await.unwrap();
    let request = v1::LogoutInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    scene
        .api
        .instances()
        .logout_instance(request)
        .await
        .unwrap();
    let reason = scene.failed(&sent.id).await;
    assert!(reason.contains("logged out"), "{reason}");
    let refused = scene.send(scene.text("nor this")).await.unwrap_err();
    assert_eq!(info(&refused), "INSTANCE_LOGGED_OUT");
    assert!(scene.outbox().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equal_requests_at_the_same_moment_one_is_sent_and_all_are_answered() {
    let mut scene = Scene::new().await;
    for offline in [false, true] {
        let text = if offline { "waiting" } else { "at once" };
        if offline {
            scene.disconnect().await;
        }
        let request = v1::SendMessageRequest {
            request_id: text.to_owned(),
            ..scene.text(text)
        };
        let both = futures::future::join_all((0..6).map(|_| scene.send(request.clone()))).await;
        let ids: Vec<_> = both.into_iter().map(|sent| sent.unwrap().id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

        let other = v1::SendMessageRequest {
            request_id: text.to_owned(),
            forwarded: true,
            ..scene.text("something else")
        };
        let refused = scene.send(other).await.unwrap_err();
        assert_eq!(info(&refused), "REQUEST_ID_REUSED");
        assert!(refused.message().contains("forwarded, text"), "{refused:?}");
    }
    scene.connect().await;
    scene.send(scene.text("last")).await.unwrap();
    assert_eq!(
        scene.peer.texts_until("last").await,
        ["at once", "waiting", "last"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_instance_is_made_once_per_request() {
    let mut scene = Scene::new().await;
    let request = v1::RestartInstanceRequest {
        instance: "one".to_owned(),
        request_id: "r1".to_owned(),
    };
    let restart = async |request: v1::RestartInstanceRequest| {
        let done = scene.api.instances().restart_instance(request).await;
        done.map(|done| done.into_inner().instance.unwrap())
    };
    let first = restart(request.clone()).await.unwrap();
    scene
        .watcher
        .until("open again", |event| match &event.payload {
            Some(Payload::ConnectionUpdated(one)) => (one.reason == "restarted").then_some(()),
            _ => None,
        })
        .await;
    scene
        .watcher
        .until_state(&scene.instance.id, InstanceState::Open)
        .await;
    // The answer is that of the first time, though it is open now; by its id it is the same instance.
    let by_id = v1::RestartInstanceRequest {
        instance: scene.instance.id.clone(),
        ..request
    };
    assert_eq!(restart(by_id).await.unwrap(), first);
    assert_eq!(scene.api.instance("one").await.state(), InstanceState::Open);
}

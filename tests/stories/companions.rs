//! Several instances that are companions of one phone: each has what the others say, once, and what is said to all.

use wagate::{
    proto::v1::{self, MessageStatus, event::Payload},
    sandbox::{Direction, FaultAction, FaultMatch, FaultRule, NewGroup},
};

use crate::support::{Api, Stage, TestPhone, Watcher, within};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Three instances of one account.
struct Scene {
    stage: Stage,
    api: Api,
    owner: TestPhone,
    instances: Vec<v1::Instance>,
    watcher: Watcher,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (first, owner) = stage.open_instance(&api, NAMES[0]).await;
        let mut instances = vec![first];
        let mut watcher = Watcher::from_earliest(&api).await;
        for name in &NAMES[1..] {
            let instance = api.create(name).await;
            stage.pair(&api, name, &owner).await;
            let open = v1::InstanceState::Open;
            watcher.until_state(&instance.id, open).await;
            instances.push(api.instance(name).await);
        }
        let numbers: Vec<_> = instances.iter().map(|one| &one.phone_number).collect();
        assert!(numbers.windows(2).all(|two| two[0] == two[1]));
        Self {
            stage,
            api,
            owner,
            instances,
            watcher,
        }
    }

    /// Waits until an instance has told that the account sent this.
    async fn until_sent(&mut self, instance: &str, text: &str) -> v1::Message {
        self.watcher
            .once("message.sent", |event| match &event.payload {
                Some(Payload::MessageSent(one)) if event.instance == instance => {
                    let message = one.message.clone()?;
                    (crate::support::text_of(&message) == Some(text)).then_some(message)
                }
                _ => None,
            })
            .await
    }

    /// How often an instance has told so far that the account sent this.
    fn told_as_sent(&self, instance: &str, id: &str) -> usize {
        let told = self.watcher.seen.iter().filter(|event| {
            let sent = match &event.payload {
                Some(Payload::MessageSent(one)) => one.message.as_ref(),
                _ => None,
            };
            event.instance == instance && sent.is_some_and(|message| message.id == id)
        });
        told.count()
    }

    async fn until_status(&mut self, instance: &str, id: &str, status: MessageStatus) {
        self.watcher
            .once("message.status", |event| match &event.payload {
                Some(Payload::MessageStatus(one)) if event.instance == instance => {
                    (one.message_id == id && one.status() == status).then_some(())
                }
                _ => None,
            })
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_sends_the_others_tell_once() {
    let mut scene = Scene::new().await;
    let peer = scene.stage.phone("Peer").await;
    let to = peer.number.to_string();
    let mut sent = Vec::new();
    for name in NAMES {
        let text = format!("from {name}");
        let message = scene.api.send(name, &to, &text).await.unwrap();
        sent.push((text, message));
    }
    for (text, message) in &sent {
        peer.until_text(text).await;
        scene.owner.until_text(text).await;
        for instance in scene.instances.clone() {
            let told = scene.until_sent(&instance.id, text).await;
            assert_eq!(told.id, message.id);
            assert!(told.from_me);
            assert_eq!(
                told.chat.as_ref().unwrap().id,
                format!("{to}@s.whatsapp.net")
            );
        }
        // The peer's receipt raises it where it was sent.
        let writer = message.instance.clone();
        scene
            .until_status(&writer, &message.id, MessageStatus::Received)
            .await;
    }
    // One more through everything, so that whatever was to be told twice has been.
    peer.send(&scene.owner.number.to_string(), "enough").await;
    for instance in scene.instances.clone() {
        scene.watcher.until_received(&instance.id, "enough").await;
        for (_, message) in &sent {
            assert_eq!(scene.told_as_sent(&instance.id, &message.id), 1);
        }
    }
    let mut seen = peer.texts_until("enough").await;
    seen.pop();
    let wanted: Vec<_> = sent.iter().map(|(text, _)| text.clone()).collect();
    assert_eq!(seen, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_all_have_and_a_dead_one_gets_it_later() {
    let mut scene = Scene::new().await;
    let peer = scene.stage.phone("Peer").await;
    let own = scene.owner.number.to_string();
    peer.send(&own, "to all").await;
    for instance in scene.instances.clone() {
        let told = scene.watcher.until_received(&instance.id, "to all").await;
        assert!(!told.from_me);
    }
    let new = NewGroup {
        subject: "Tea".to_owned(),
        members: vec![scene.owner.number],
        number_addressed: false,
    };
    let network = &scene.stage.network;
    let (group, _) = network.create_group(peer.number, new).await.unwrap();
    network
        .send_group_text(peer.number, group, "to all of the group")
        .await
        .unwrap();
    for instance in scene.instances.clone() {
        let text = "to all of the group";
        scene.watcher.until_received(&instance.id, text).await;
    }

    // One is away meanwhile; the others go on, and it has everything once it is back.
    let request = v1::DisconnectInstanceRequest {
        instance: "three".to_owned(),
        ..Default::default()
    };
    let mut instances = scene.api.instances();
    let away = instances.disconnect_instance(request);
    within("a disconnect", away).await.unwrap();
    peer.send(&own, "while three is away").await;
    let jid = group.jid().to_string();
    scene.api.send("one", &jid, "in the group").await.unwrap();
    for instance in scene.instances.clone().into_iter().take(2) {
        let text = "while three is away";
        scene.watcher.until_received(&instance.id, text).await;
    }
    let request = v1::ConnectInstanceRequest {
        instance: "three".to_owned(),
        ..Default::default()
    };
    let back = instances.connect_instance(request);
    within("a connect", back).await.unwrap();
    let three = scene.instances[2].id.clone();
    scene
        .watcher
        .until_received(&three, "while three is away")
        .await;
    scene.until_sent(&three, "in the group").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_cant_read_it_asks_the_one_that_wrote_it() {
    let mut scene = Scene::new().await;
    let peer = scene.stage.phone("Peer").await;
    let new = NewGroup {
        subject: "Tea".to_owned(),
        members: vec![scene.owner.number],
        number_addressed: false,
    };
    let network = scene.stage.network.clone();
    let (group, _) = network.create_group(peer.number, new).await.unwrap();
    let jid = group.jid().to_string();
    network
        .send_group_text(peer.number, group, "hello")
        .await
        .unwrap();
    for instance in scene.instances.clone() {
        scene.watcher.until_received(&instance.id, "hello").await;
    }
    // Each is asked by the peer for its own message alone.
    for (name, device) in NAMES.iter().zip(1u16..) {
        scene
            .api
            .send(name, &jid, &format!("first of {name}"))
            .await
            .unwrap();
        peer.until_text(&format!("first of {name}")).await;
        let author = scene.owner.number.device(device);
        network
            .forget_sender_key(peer.number, group, author)
            .await
            .unwrap();
        scene
            .api
            .send(name, &jid, &format!("second of {name}"))
            .await
            .unwrap();
        peer.until_text(&format!("second of {name}")).await;
        for (instance, other) in scene.instances.iter().zip(1u16..) {
            let log = network.wire_log(scene.owner.number.device(other), 0);
            let asked = log.iter().filter(|entry| {
                entry.direction == Direction::ToDevice
                    && entry.text.starts_with("<receipt")
                    && entry.text.contains("type=\"retry\"")
            });
            let wanted = usize::from(other <= device);
            assert_eq!(asked.count(), wanted, "{} after {name}", instance.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_only_one_companion_misses_comes_to_it_with_its_next_login() {
    let mut scene = Scene::new().await;
    let peer = scene.stage.phone("Peer").await;
    let two = scene.owner.number.device(2);
    let lost = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            tag: Some("message".to_owned()),
            number: Some(two.number),
            device: Some(two.device),
            ..Default::default()
        },
        action: FaultAction::Drop,
        skip: 0,
        count: Some(1),
    };
    scene.stage.network.add_fault(lost).unwrap();
    let to = peer.number.to_string();
    let sent = scene.api.send("one", &to, "missed by two").await.unwrap();
    let three = scene.instances[2].id.clone();
    scene.until_sent(&three, "missed by two").await;
    scene.stage.network.drop_connection(two).unwrap();
    let instance = scene.instances[1].id.clone();
    let told = scene.until_sent(&instance, "missed by two").await;
    assert_eq!(told.id, sent.id);
}

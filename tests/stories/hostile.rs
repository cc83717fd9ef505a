//! An instance on a network that wishes it ill. The log keeps every honest message once, and the instance goes on.
//!
//! Everything random comes from a seed that a failure prints; `WAGATE_TEST_SEED` plays one again.

use wagate::{
    proto::v1,
    sandbox::{Direction, FaultAction, FaultMatch, FaultRule, Jid, Node, NodeBuilder},
};

use crate::support::{Api, Attacker, Seed, Stage, TestPhone, Watcher, delimited, resident};

/// An open instance and a peer that have texted before.
struct Scene {
    stage: Stage,
    api: Api,
    instance: v1::Instance,
    owner: TestPhone,
    peer: TestPhone,
    texts: Vec<String>,
    ids: Vec<String>,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (instance, owner) = stage.open_instance(&api, "one").await;
        let peer = stage.phone("Peer").await;
        let mut scene = Self {
            stage,
            api,
            instance,
            owner,
            peer,
            texts: Vec::new(),
            ids: Vec::new(),
        };
        scene.talk("before").await;
        scene
    }

    /// A text each way, both of which arrive.
    async fn talk(&mut self, text: &str) {
        let id = self.peer.send(&self.instance.phone_number, text).await;
        let mut watcher = Watcher::from_earliest(&self.api).await;
        watcher.until_received(&self.instance.id, text).await;
        let answer = format!("{text} to you, too");
        let to = self.peer.number.to_string();
        // It may be on its way back.
        let sent = loop {
            match self.api.send_as("one", &to, &answer, &answer).await {
                Ok(sent) => break sent,
                Err(status) if status.code() == tonic::Code::Unavailable => {
                    watcher
                        .until_state(&self.instance.id, v1::InstanceState::Open)
                        .await;
                }
                Err(status) => panic!("{status:?}"),
            }
        };
        self.peer.until_text(&answer).await;
        self.texts.push(text.to_owned());
        self.ids.extend([id, sent.id]);
    }

    /// The honest texts are in the log once each, in order.
    async fn check(&self) {
        let mut watcher = Watcher::from_earliest(&self.api).await;
        let last = self.texts.last().unwrap();
        watcher.until_received(&self.instance.id, last).await;
        let mut texts = watcher.received_texts(&self.instance.id);
        texts.retain(|text| self.texts.contains(text));
        assert_eq!(texts, self.texts);
        let numbers: Vec<u64> = watcher
            .seen
            .iter()
            .filter(|event| event.instance == self.instance.id)
            .map(|event| event.instance_sequence)
            .collect();
        assert!(
            numbers.iter().copied().eq(1..=numbers.len() as u64),
            "{numbers:?}"
        );
    }

    fn inject(&self, stanza: Node) {
        // Some of it ends the connection; the instance comes back by itself.
        self.stage
            .network
            .inject(self.owner.companion(), stanza)
            .ok();
    }

    fn inject_bytes(&self, bytes: Vec<u8>) {
        self.stage
            .network
            .inject_bytes(self.owner.companion(), bytes)
            .ok();
    }

    async fn forge(&self, id: Option<String>, protobuf: Vec<u8>) {
        let to = self.instance.phone_number.parse().unwrap();
        self.stage
            .network
            .send_protobuf(self.peer.number, to, id, protobuf)
            .await
            .unwrap();
    }

    fn known(&self) -> Vec<Jid> {
        let own = self.instance.phone_number.as_str();
        let peer = self.peer.number.to_string();
        vec![
            Jid::pn(own),
            Jid::pn_device(own, 1),
            Jid::pn(peer.as_str()),
            Jid::pn(""),
            "120363000000000000@g.us".parse().unwrap(),
            "status@broadcast".parse().unwrap(),
            "1@newsletter".parse().unwrap(),
            self.instance.lid.parse().unwrap(),
        ]
    }
}

/// Whether a stanza ends the session by right. WhatsApp may refuse a device at any time, and one that is refused
/// stays away until it is told to connect: also where no reason is given that anybody knows.
fn is_farewell(stanza: &Node) -> bool {
    let reason = stanza.attrs.get("reason").map(|reason| reason.as_str());
    stanza.tag == "failure" && !matches!(reason.as_deref(), Some("500" | "503"))
}

#[tokio::test(flavor = "multi_thread")]
async fn stanzas_that_make_no_sense() {
    let seed = Seed::choose(1);
    let mut scene = Scene::new().await;
    let mut attacker = Attacker::new(seed.0, scene.known());
    attacker.ids.clone_from(&scene.ids);
    let before = resident();
    for round in 0..4 {
        for _ in 0..250 {
            let stanza = attacker.stanza();
            if !is_farewell(&stanza) {
                scene.inject(stanza);
            }
        }
        // Ends of a connection that are none of the session.
        let end = NodeBuilder::new(["stream:error", "failure"][round % 2]);
        let why = ["515", "503", "no number", "500"][round];
        scene.inject(end.attr(["code", "reason"][round % 2], why).build());
        scene.talk(&format!("round {round}")).await;
    }
    scene.check().await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 200, "memory grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_hold_no_stanza() {
    let seed = Seed::choose(2);
    let mut scene = Scene::new().await;
    let mut attacker = Attacker::new(seed.0, scene.known());
    let before = resident();
    scene.inject_bytes(Vec::new());
    for _ in 0..300 {
        let bytes = attacker.bytes();
        scene.inject_bytes(bytes);
    }
    // Nested as deep as a frame can be.
    let mut deep = vec![0];
    for _ in 0..100_000 {
        deep.extend_from_slice(&[0xf8, 2, 0xfc, 1, b'a', 0xf8, 1]);
    }
    scene.inject_bytes(deep);
    // As large as a frame can be, and lists that claim more than there is.
    scene.inject_bytes(vec![0; (1 << 24) - 64]);
    scene.inject_bytes(
        [
            &[0, 0xf9, 0xff, 0xff][..],
            &[0xf9, 0xff, 0xff].repeat(1_000),
        ]
        .concat(),
    );
    scene.inject_bytes(bomb(1 << 20));
    scene.talk("after the frames").await;
    scene.check().await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 300, "memory grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_no_cipher_opens_and_all_that_follow_it() {
    let seed = Seed::choose(3);
    let mut scene = Scene::new().await;
    let mut attacker = Attacker::new(seed.0, scene.known());
    let frame = attacker.bytes();
    let network = scene.stage.network.clone();
    network
        .inject_frame(scene.owner.companion(), frame)
        .unwrap();
    // Nothing that the network says is readable any more, and it goes on talking: the connection looks alive.
    let mut watcher = Watcher::from_earliest(&scene.api).await;
    let to = scene.instance.phone_number.clone();
    let mut number = 0;
    let instance = scene.instance.id.clone();
    let heard = watcher.until_received(&instance, "into deaf ears 0");
    let mut heard = std::pin::pin!(heard);
    loop {
        let text = format!("into deaf ears {number}");
        number += 1;
        scene.peer.send(&to, &text).await;
        scene.texts.push(text);
        let second = std::time::Duration::from_secs(1);
        if tokio::time::timeout(second, &mut heard).await.is_ok() {
            break;
        }
    }
    scene.talk("and then it hears again").await;
    scene.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_ciphertexts_of_nonsense() {
    let seed = Seed::choose(4);
    let mut scene = Scene::new().await;
    let mut attacker = Attacker::new(seed.0, scene.known());
    attacker.ids.clone_from(&scene.ids);
    let to = scene.instance.phone_number.parse().unwrap();
    let peer = scene.peer.number;
    for round in 0..3 {
        for _ in 0..40 {
            let protobuf = attacker.protobuf(4);
            scene.forge(None, protobuf).await;
        }
        for _ in 0..20 {
            let plaintext = attacker.bytes();
            let network = &scene.stage.network;
            network
                .send_plaintext(peer, to, None, &plaintext)
                .await
                .unwrap();
        }
        scene.talk(&format!("round {round}")).await;
    }
    scene.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_monstrous_size_and_taken_ids() {
    let mut scene = Scene::new().await;
    let text = |text: &str| {
        let mut protobuf = Vec::new();
        delimited(1, text.as_bytes(), &mut protobuf);
        protobuf
    };
    scene.forge(None, text(&"x".repeat(1 << 20))).await;
    scene
        .forge(Some("A".repeat(100_000)), text("under a long id"))
        .await;
    scene.forge(Some(String::new()), text("under no id")).await;
    // An id that is taken: the first message under it stands.
    let taken = scene.ids[0].clone();
    scene.forge(Some(taken), text("under a taken id")).await;
    // Wrapped in itself, deeper than anybody would.
    let mut nested = text("at the bottom");
    for _ in 0..5_000 {
        let mut inner = Vec::new();
        delimited(1, &nested, &mut inner);
        nested.clear();
        delimited(37, &inner, &mut nested);
    }
    scene.forge(None, nested).await;
    scene.talk("after the monsters").await;
    scene.check().await;
    let mut watcher = Watcher::from_earliest(&scene.api).await;
    watcher
        .until_received(&scene.instance.id, "after the monsters")
        .await;
    let texts = watcher.received_texts(&scene.instance.id);
    let forged = ["under a taken id", "under a long id", "under no id"];
    assert!(
        !texts.iter().any(|text| forged.contains(&text.as_str())),
        "{texts:?}"
    );
    // A reader with the usual limit of 4 MiB can always go on.
    let sizes = watcher.seen.iter().map(prost::Message::encoded_len);
    assert!(sizes.max() < Some(1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_many_times_and_receipts_for_nothing() {
    let mut scene = Scene::new().await;
    let own = scene.owner.number;
    let network = &scene.stage.network;
    network
        .add_fault(FaultRule {
            matches: FaultMatch {
                direction: Some(Direction::ToDevice),
                number: Some(own),
                device: Some(1),
                ..Default::default()
            },
            action: FaultAction::Duplicate(5),
            skip: 0,
            count: Some(60),
        })
        .unwrap();
    let peer = Jid::pn(scene.peer.number.to_string());
    for kind in [
        "",
        "read",
        "played",
        "retry",
        "server-error",
        "no-such-type",
    ] {
        let items: Vec<Node> = (0..2_000)
            .map(|number| {
                NodeBuilder::new("item")
                    .attr("id", format!("{number:032X}"))
                    .build()
            })
            .collect();
        let receipt = NodeBuilder::new("receipt")
            .attr("from", peer.clone())
            .attr("id", "UNKNOWN")
            .attr("type", kind)
            .attr("t", "99999999999999")
            .children([NodeBuilder::new("list").children(items).build()])
            .build();
        scene.inject(receipt);
        scene.inject(
            NodeBuilder::new("ack")
                .attr("class", "message")
                .attr("from", peer.clone())
                .attr("id", "UNKNOWN")
                .attr("error", "421")
                .build(),
        );
    }
    for number in 0..10 {
        scene.talk(&format!("again {number}")).await;
    }
    scene.check().await;
}

/// A little that inflates to very much: zeros, as copies of 258 of them that take 13 bits each.
fn bomb(length: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, with the fixed codes, and one literal zero to copy from.
    bits.push(0b1, 1);
    bits.push(0b01, 2);
    bits.push_code(0x30, 8);
    while bits.bytes.len() < length {
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.push_code(0, 7);
    // 2: compressed. Then zlib's header.
    [&[2, 0x78, 0x01][..], &bits.bytes].concat()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for at in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> at & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// Huffman codes start with their highest bit.
    fn push_code(&mut self, code: u32, count: u32) {
        for at in (0..count).rev() {
            self.push(code >> at & 1, 1);
        }
    }
}

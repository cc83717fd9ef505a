//! Bytes from anybody on the port.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use proptest::prelude::{Strategy as _, any};

use super::{newcomer::Newcomer, *};

const UPGRADE: &str = "GET /ws/chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

async fn opened(sandbox: &Sandbox) -> tokio::net::TcpStream {
    let mut socket = tokio::net::TcpStream::connect(sandbox.address())
        .await
        .unwrap();
    socket.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    socket
}

/// A masked binary WebSocket message.
fn message(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length as u8),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_is_hung_up_on_and_the_network_lives() {
    let sandbox = sandbox().await;
    let header = &wacore_binary::consts::WA_CONN_HEADER[..];
    let junk: [Vec<u8>; 6] = [
        b"\x00\x00\x00\x00".to_vec(),
        b"ED\0\x01\xff\xff\xff".to_vec(),
        [header, b"\xff\xff\xff"].concat(),
        [header, b"\x00\x00\x04junk"].concat(),
        [header, b"\x00\x00\x00"].concat(),
        [header, &[0; 4096]].concat(),
    ];
    for payload in junk {
        let mut socket = opened(&sandbox).await;
        socket.write_all(&message(&payload)).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "not hung up on {payload:?}");
    }
    // Other paths and methods.
    let mut socket = tokio::net::TcpStream::connect(sandbox.address())
        .await
        .unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");

    let number = phone(&sandbox, "Ada").await;
    let (gateway, _) = Gateway::paired(&sandbox, number).await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Whatever a linked device says, the network answers or ignores it.
    #[test]
    fn no_stanza_panics_the_network(
        tag in "message|receipt|ack|ib|iq|presence",
        xmlns in "encrypt|usync|md|w:p|passive|w:sync:app:state|abt|privacy|x",
        kind in "get|set|result|retry|x",
        child in "participants|list|key|usync|sync|rotate|remove-companion-device|offline_batch|retry|enc|digest|count",
        to in "s.whatsapp.net|15550001000@s.whatsapp.net|15550001000:9@s.whatsapp.net|900000001@lid|x@g.us|@|x",
        content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, records) = Store::open(None).unwrap();
            let network = network::Network::restore(store, MediaHost::open(None).unwrap(), &records).unwrap();
            let phone = network.create_phone(PhoneOptions::default()).await.unwrap();
            let (line, _outgoing) = network::Line::new();
            let connection = network.lock().attach(phone.address(), line);
            let inner = wacore_binary::builder::NodeBuilder::new("user").attr("jid", to.as_str()).bytes(content).build();
            let stanza = wacore_binary::builder::NodeBuilder::new_dynamic(tag)
                .attr("id", "1")
                .attr("class", "message")
                .attr("xmlns", xmlns)
                .attr("type", kind)
                .attr("to", to.as_str())
                .children([wacore_binary::builder::NodeBuilder::new_dynamic(child)
                    .attr("count", "9999999999999")
                    .attr("jid", to.as_str())
                    .children([inner])
                    .build()])
                .build();
            network.receive(connection, network::Role::Device(phone.address()), stanza.clone());
            network.receive(connection, network::Role::Unregistered, stanza);
            network.stop.cancel();
        });
    }
}

/// Whole frames that hold no stanza, from a client that knows how to encrypt them.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_encrypts_junk_is_hung_up_on() {
    let sandbox = sandbox().await;
    let mut deep = vec![0];
    for _ in 0..100_000 {
        deep.extend_from_slice(&[0xf8, 2, 0xfc, 1, b'a', 0xf8, 1]);
    }
    let junk: [&[u8]; 6] = [
        b"",
        &[0],
        &[0, 0xf9, 0xff, 0xff, 0xfc, 1, b'a'],
        // Said to be compressed.
        &[2, 0x78, 0x9c, 0xff, 0xff],
        &[0xff; 500],
        &deep,
    ];
    for bytes in junk {
        let mut newcomer = Newcomer::dial(&sandbox, "Ada").await;
        newcomer.write_bytes(bytes).await;
        newcomer.until_hung_up_on().await;
    }
    let number = phone(&sandbox, "Ada").await;
    let (gateway, _) = Gateway::paired(&sandbox, number).await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// A stanza with anything in it, some levels deep.
fn stanza() -> impl proptest::strategy::Strategy<Value = Node> {
    let name = || {
        proptest::sample::select(vec![
            "message",
            "receipt",
            "ack",
            "iq",
            "ib",
            "participants",
            "to",
            "enc",
            "list",
            "item",
            "retry",
            "keys",
            "key",
            "skey",
            "value",
            "signature",
            "id",
            "identity",
            "registration",
            "type",
            "user",
            "usync",
            "query",
            "device-identity",
            "ref",
            "pair-device",
            "link_code_companion_reg",
            "collection",
            "sync",
            "",
            "💥",
        ])
    };
    let value = || {
        proptest::prop_oneof![
            name().prop_map(str::to_owned),
            any::<i64>().prop_map(|number| number.to_string()),
            proptest::sample::select(vec![
                "15550001000@s.whatsapp.net",
                "900000001@lid",
                "@",
                "s.whatsapp.net"
            ])
            .prop_map(str::to_owned),
            proptest::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter),
        ]
    };
    let key = proptest::sample::select(vec![
        "id",
        "to",
        "from",
        "type",
        "class",
        "xmlns",
        "jid",
        "count",
        "participant",
        "recipient",
        "t",
        "error",
        "v",
    ]);
    let attributes = proptest::collection::vec((key, value()), 0..6);
    let empty = (
        name(),
        attributes.clone(),
        proptest::collection::vec(any::<u8>(), 0..80),
    );
    let leaf = empty.prop_map(|(tag, attributes, content)| {
        let node = NodeBuilder::new(tag).bytes(content);
        attributes
            .into_iter()
            .fold(node, |node, (key, value)| node.attr(key, value))
            .build()
    });
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let children = proptest::collection::vec(inner, 0..4);
        (name(), attributes.clone(), children).prop_map(|(tag, attributes, children)| {
            let node = NodeBuilder::new(tag).children(children);
            attributes
                .into_iter()
                .fold(node, |node, (key, value)| node.attr(key, value))
                .build()
        })
    })
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    /// Neither does any other, from a device, from one that is not paired, or for a phone.
    #[test]
    fn no_stanza_at_all_panics_the_network(stanzas in proptest::collection::vec(stanza(), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, records) = Store::open(None).unwrap();
            let network = network::Network::restore(store, MediaHost::open(None).unwrap(), &records).unwrap();
            let phone = network.create_phone(PhoneOptions::default()).await.unwrap();
            let other = network.create_phone(PhoneOptions::default()).await.unwrap();
            for stanza in stanzas {
                let (line, _outgoing) = network::Line::new();
                let connection = network.lock().attach(phone.address(), line);
                network.receive(connection, network::Role::Device(phone.address()), stanza.clone());
                network.receive(connection, network::Role::Unregistered, stanza.clone());
                network.lock().push(other.address(), stanza);
            }
            // The phone that was spoken to still hears.
            phone.clone().start().await;
            phone.send_text(other.number, "still there").await.unwrap();
            let inbox = other.inbox.clone().follow(0);
            let mut inbox = std::pin::pin!(inbox);
            let heard = tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
            assert_eq!(heard.text.as_deref(), Some("still there"));
            network.stop.cancel();
        });
    }

    /// Bytes off the wire are a stanza or an error.
    #[test]
    fn no_bytes_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for flag in [0, 2] {
            let packed = [&[flag][..], &bytes].concat();
            if let Ok(plain) = wacore_binary::util::unpack_bytes(packed.as_slice().into())
                && let Ok(node) = wacore_binary::OwnedNodeRef::new(plain)
            {
                let node = node.to_owned_node();
                let again = wacore_binary::marshal(&node).unwrap();
                let again = wacore_binary::util::unpack_bytes(again.as_slice().into()).unwrap();
                wacore_binary::OwnedNodeRef::new(again).unwrap();
            }
        }
    }
}

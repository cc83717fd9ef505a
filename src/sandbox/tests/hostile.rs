//! Bytes from anybody on the port.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

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
            let network = network::Network::restore(store, &records).unwrap();
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

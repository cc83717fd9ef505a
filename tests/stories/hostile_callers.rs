//! Callers that wish the server ill: any bytes at any method, and any frames on the socket. Every answer has a
//! reason and the server goes on serving.

use std::{collections::BTreeMap, future::poll_fn, net::SocketAddr, pin::pin, time::Duration};

use http_body::Body as _;
use prost::Message as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};
use wagate::proto::{DESCRIPTOR_SET, v1};

use crate::support::{Attacker, Seed, Stage, info, resident, within};

/// Longer than any of these calls takes that is not a stream or waits on purpose.
const PATIENCE: Duration = Duration::from_millis(500);

/// The paths of all methods of the contract.
fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap();
    let mut paths = Vec::new();
    for file in files.file {
        for service in &file.service {
            for method in &service.method {
                let package = file.package();
                paths.push(format!("/{package}.{}/{}", service.name(), method.name()));
            }
        }
    }
    assert!(paths.len() > 10, "{paths:?}");
    paths
}

/// What a call may carry: gRPC's five bytes and a message, or what merely looks so.
fn body(attacker: &mut Attacker, random: &mut StdRng) -> Vec<u8> {
    let message = match random.random_range(0..3) {
        0 => attacker.bytes(),
        _ => attacker.protobuf(5),
    };
    let (flag, length) = match random.random_range(0..8) {
        0 => return message,
        1 => (random.random(), message.len() as u32),
        2 => (0, random.random()),
        3 => (1, message.len() as u32),
        _ => (0, message.len() as u32),
    };
    let mut body = vec![flag];
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(&message);
    body
}

/// The status of a call; `None` if it goes on answering.
async fn call(channel: &mut Channel, request: http::Request<Body>) -> Option<Status> {
    let answered = async {
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), 200);
        if let Some(status) = Status::from_header_map(response.headers()) {
            return status;
        }
        let mut body = pin!(response.into_body());
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            if let Some(trailers) = frame.unwrap().trailers_ref() {
                return Status::from_header_map(trailers).expect("trailers have a status");
            }
        }
        panic!("an answer ended without a status");
    };
    tokio::time::timeout(PATIENCE, answered).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_at_any_method() {
    let seed = Seed::choose(5);
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let mut attacker = Attacker::new(seed.0, vec!["x@lid".parse().unwrap()]);
    let mut random = StdRng::seed_from_u64(seed.0);
    let endpoint = Channel::from_shared(format!("http://{}", stage.address())).unwrap();
    let mut channel = endpoint.connect().await.unwrap();
    let before = resident();
    let mut told = BTreeMap::<String, u32>::new();
    for path in methods() {
        for _ in 0..30 {
            let content = body(&mut attacker, &mut random);
            let mut request = http::Request::post(&path)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("authorization", format!("Bearer {}", stage.key()));
            if random.random_ratio(1, 6) {
                let odd = ["gzip", "br", "identity", "💥", "999999999999H", "-1S"];
                let odd = odd[random.random_range(0..odd.len())];
                let header = ["grpc-encoding", "grpc-timeout", "grpc-accept-encoding"];
                request = request.header(header[random.random_range(0..3)], odd.as_bytes());
            }
            let content = Body::new(axum::body::Body::from(content));
            let request = request.body(content).unwrap();
            let Some(status) = call(&mut channel, request).await else {
                continue;
            };
            if !path.starts_with("/wagate.v1.") {
                // The network's own control service explains itself in words.
                assert!(status.code() == Code::Ok || !status.message().is_empty());
            } else if status.code() != Code::Ok {
                let reason = info(&status);
                assert_ne!(reason, "INTERNAL", "{path}: {status:?}");
                *told.entry(reason).or_default() += 1;
            }
        }
    }
    assert!(told.contains_key("FIELD_INVALID"), "{told:?}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 100, "memory grew by {grown} MiB");
    assert_eq!(api.instance("one").await.name, "one");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames with a type, flags, a stream and a content that need not fit together.
fn frames(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    if random.random_ratio(3, 4) {
        // An honest SETTINGS first, so that the rest is looked at.
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    }
    for _ in 0..random.random_range(1..60) {
        let mut content = vec![0; [0, 4, 5, 6, 8, 40, 16_384][random.random_range(0..7)]];
        random.fill_bytes(&mut content);
        let claimed = match random.random_range(0..12) {
            0 => random.random_range(0..1 << 24),
            _ => content.len() as u32,
        };
        bytes.extend_from_slice(&claimed.to_be_bytes()[1..]);
        bytes.push(random.random_range(0..12));
        bytes.push(random.random());
        let stream: u32 = [0, 1, 1, 3, 5, random.random()][random.random_range(0..6)];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(&content);
    }
    bytes
}

/// Says it and listens until hung up on, or for a while.
async fn shout(address: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may hang up in the middle.
    if socket.write_all(bytes).await.is_ok() {
        let mut answer = Vec::new();
        let heard = socket.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_millis(50), heard)
            .await
            .ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_frames_on_the_socket() {
    let seed = Seed::choose(6);
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let mut random = StdRng::seed_from_u64(seed.0);
    let before = resident();
    for _ in 0..20 {
        let shouts = (0..10).map(|_| {
            let bytes = match random.random_range(0..4) {
                0 => {
                    let mut bytes = vec![0; random.random_range(1..5_000)];
                    random.fill_bytes(&mut bytes);
                    bytes
                }
                _ => frames(&mut random),
            };
            let address = stage.address();
            tokio::spawn(async move { shout(address, &bytes).await })
        });
        let shouts: Vec<_> = shouts.collect();
        for shout in shouts {
            within("a shout", shout).await.unwrap();
        }
        // The old connection and a new one.
        api.instance("one").await;
        stage.api().await.instance("one").await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 100, "memory grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_opened_and_reset_without_end() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let before = resident();
    let mut bytes = PREFACE.to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    for number in 0..20_000_u32 {
        let stream = (number * 2 + 1).to_be_bytes();
        // ":method POST", ":scheme http", ":path /" from the static table.
        bytes.extend_from_slice(&[0, 0, 3, 1, 4]);
        bytes.extend_from_slice(&stream);
        bytes.extend_from_slice(&[0x83, 0x86, 0x84]);
        bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
        bytes.extend_from_slice(&stream);
        bytes.extend_from_slice(&8_u32.to_be_bytes());
    }
    within("the flood", shout(stage.address(), &bytes)).await;
    stage.api().await.instance("one").await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 100, "memory grew by {grown} MiB");
    let request = v1::GetInstanceRequest {
        instance: "one".to_owned(),
    };
    api.instances().get_instance(request).await.unwrap();
}

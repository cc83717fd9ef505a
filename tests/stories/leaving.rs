//! The program ends when it is told to, whatever is open.

use std::time::{Duration, Instant};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use wagate::proto::v1::{self, StartPosition, subscribe_request::Start};

use crate::support::{Api, Watcher, program::sandbox, within};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_within_thirty_seconds_whatever_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = sandbox(folder.path(), &[]);
    let endpoint = program.remarks.until("gRPC").await;
    let address = endpoint.rsplit('/').next().unwrap().parse().unwrap();
    let key = program.remarks.until("API key").await;
    let key = key.split_whitespace().nth(2).unwrap().to_owned();
    let send = program.results.until("wagate send").await;
    let number = send.split_whitespace().nth(3).unwrap().to_owned();

    // Peers that say nothing, half of a hello, and a hello without more.
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"PRI * HTTP/2").await.unwrap();
    let mut whole = TcpStream::connect(address).await.unwrap();
    whole
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();

    // A stream that nobody reads.
    let narrow = Api::connect_narrow(address, Some(&key)).await;
    let request = v1::SubscribeRequest {
        start: Some(Start::Position(StartPosition::Earliest.into())),
        ..Default::default()
    };
    let mut stalled = Watcher::open(&narrow, request).await.unwrap();
    within("an event", stalled.event()).await.unwrap();
    let api = Api::connect(address, Some(&key)).await;
    for message in 0..20 {
        let text = format!("{message} {}", "x".repeat(60_000));
        within("a send", api.send("demo", &number, &text))
            .await
            .unwrap();
    }

    // A pairing that nobody completes.
    api.create("never").await;
    let request = v1::PairInstanceRequest {
        instance: "never".to_owned(),
        ..Default::default()
    };
    let pairing = api.instances().pair_instance(request).await.unwrap();
    let mut pairing = pairing.into_inner();
    within("a code", pairing.message()).await.unwrap();

    let begun = Instant::now();
    let (status, _, remarks) = program.terminate().await;
    assert!(status.success(), "{status} {remarks:#?}");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
}

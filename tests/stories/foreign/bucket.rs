//! Media in a bucket of a server that is not ours.

use futures::{StreamExt as _, stream};
use wagate::{
    proto::v1::{self, MediaKind, MediaState, UploadMediaMetadata},
    sandbox::Document,
};

use crate::{
    media::{chunk, document, download, fetching::until_state, metadata, send, upload},
    support::{Stage, Watcher, info, install_bucket, samples::noise, within},
};

const BUCKET: &str = "wagate-media";
const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "a secret of the operator";

/// Larger than three parts of a transfer.
const LARGE: usize = 17 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn media_lie_in_a_bucket() {
    let Some(program) = install_bucket().await else {
        return;
    };
    let (mut bucket, endpoint) = program.serve_bucket(BUCKET, KEY, SECRET).await;
    let settings = [
        ("media.store", "s3"),
        ("media.s3_bucket", BUCKET),
        ("media.s3_endpoint", &endpoint),
        ("media.s3_access_key", KEY),
        ("media.s3_secret_key", SECRET),
        ("media.stall_timeout", "300ms"),
    ];
    let mut stage = Stage::with(&settings).await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let peer = stage.phone("Peer").await;
    let named = |media: &v1::Media| format!("{}/{}", instance.number, media.id);

    // In and out, in parts and not, and over a restart.
    let (small, large) = (noise(300_000), noise(LARGE));
    let first = upload(&api, document("one"), &small).await.unwrap();
    let second = upload(&api, document("one"), &large).await.unwrap();
    let mut wanted = vec![named(&first), named(&second)];
    wanted.sort();
    assert_eq!(bucket.bucket_fails(0).await, (wanted.clone(), 0));
    stage.restart_gateway().await;
    let api = stage.api().await;
    assert!(download(&api, &first, 0, 0).await.unwrap() == small);
    assert!(download(&api, &second, 0, 0).await.unwrap() == large);
    let middle = download(&api, &second, 6_000_000, 100).await.unwrap();
    assert_eq!(middle, large[6_000_000..6_000_100]);

    // To a phone, and from one.
    let mut watcher = Watcher::from_earliest(&api).await;
    let request = v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: peer.number.to_string(),
        content: Some(v1::send_message_request::Content::Document(
            v1::DocumentContent {
                source: Some(v1::MediaSource {
                    source: Some(v1::media_source::Source::MediaId(second.id.clone())),
                    ..Default::default()
                }),
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    let sent = within("a document", api.messages().send_message(request)).await;
    let sent = sent.unwrap().into_inner().message.unwrap();
    let mut inbox = Box::pin(stage.network.inbox(peer.number, 0).unwrap());
    let seen = within("the document in an inbox", inbox.next())
        .await
        .unwrap();
    assert_eq!(seen.id, sent.id);
    assert!(stage.network.open_file(&seen.message).unwrap() == large);
    let file = Document {
        bytes: &large,
        mime_type: "application/x-noise",
        file_name: "noise.bin",
    };
    let network = &stage.network;
    network
        .send_document(peer.number, owner.number, file)
        .await
        .unwrap();
    let news = until_state(&mut watcher, MediaState::Ready).await;
    let fetched = news.media.unwrap();
    assert!(download(&api, &fetched, 0, 0).await.unwrap() == large);
    wanted.push(named(&fetched));
    wanted.sort();

    // What is refused or given up leaves nothing, in parts or not.
    for bytes in [&small, &large] {
        let wrong = UploadMediaMetadata {
            sha256: vec![0; 32].into(),
            ..document("one")
        };
        let refused = upload(&api, wrong, bytes).await.unwrap_err();
        assert_eq!(info(&refused), "MEDIA_HASH_MISMATCH");
        let parts: Vec<_> = bytes.chunks(1 << 20).map(chunk).collect();
        let parts = stream::iter([metadata(document("one"))]).chain(stream::iter(parts));
        let refused = send(&api, parts.chain(stream::pending()))
            .await
            .unwrap_err();
        assert_eq!(info(&refused), "TRANSFER_STALLED");
    }
    within("the traces to vanish", async {
        while bucket.bucket_fails(0).await != (wanted.clone(), 0) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;

    // A bucket that fails is a clear answer, and another try goes through once it works.
    bucket.bucket_fails(503).await;
    let refused = upload(&api, document("one"), &small).await.unwrap_err();
    assert_eq!(info(&refused), "STORAGE_UNAVAILABLE");
    let refused = download(&api, &first, 0, 0).await.unwrap_err();
    assert_eq!(info(&refused), "STORAGE_UNAVAILABLE");
    bucket.bucket_fails(0).await;
    assert!(download(&api, &first, 0, 0).await.unwrap() == small);

    // With the instance its media go, at the next sweep: the start of a gateway is one.
    let request = v1::DeleteInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    api.instances().delete_instance(request).await.unwrap();
    stage.restart_gateway().await;
    within("an empty bucket", async {
        while bucket.bucket_fails(0).await != (Vec::new(), 0) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_the_key_does_not_open_takes_nothing() {
    let Some(program) = install_bucket().await else {
        return;
    };
    let (mut bucket, endpoint) = program.serve_bucket(BUCKET, KEY, SECRET).await;
    let stage = Stage::with(&[
        ("media.store", "s3"),
        ("media.s3_bucket", BUCKET),
        ("media.s3_endpoint", &endpoint),
        ("media.s3_access_key", KEY),
        ("media.s3_secret_key", "another secret"),
    ])
    .await;
    let api = stage.api().await;
    api.create("one").await;
    let told = UploadMediaMetadata {
        kind: MediaKind::Document.into(),
        ..document("one")
    };
    let refused = upload(&api, told, b"bytes").await.unwrap_err();
    assert_eq!(info(&refused), "STORAGE_UNAVAILABLE");
    assert_eq!(bucket.bucket_fails(0).await, (Vec::new(), 0));
}

//! Streams that somebody else ends: a revoked key, a server that leaves.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status, Streaming, codec::CompressionEncoding};
use wagate::proto::{
    sandbox_v1::{ListPhonesRequest, StreamInboxRequest},
    v1::{self, InstanceState, pair_instance_response::Step},
};

use crate::support::{Api, Stage, Watcher, info, within};

/// What RevokeApiKey promises.
const SOON: Duration = Duration::from_secs(5);

/// A caller with a key of their own that may do this, and the key's id.
async fn caller(stage: &Stage, permission: &str) -> (Api, String) {
    let create = v1::CreateApiKeyRequest {
        display_name: permission.to_owned(),
        permissions: vec![permission.to_owned()],
        instances: Vec::new(),
        ..Default::default()
    };
    let created = stage.api().await.keys().create_api_key(create).await;
    let created = created.unwrap().into_inner();
    let api = Api::connect(stage.address(), Some(&created.secret)).await;
    (api, created.api_key.unwrap().id)
}

async fn revoke(stage: &Stage, api_key_id: String) -> Instant {
    let revoke = v1::RevokeApiKeyRequest {
        api_key_id,
        ..Default::default()
    };
    let revoked = stage.api().await.keys().revoke_api_key(revoke).await;
    revoked.unwrap();
    Instant::now()
}

/// Reads a stream to its end, which is an error.
async fn failed<T>(mut stream: Streaming<T>) -> Status {
    within("the stream's end", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended well"),
                Err(status) => return status,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_its_pairing() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let instance = api.create("one").await;
    let (pairing, key) = caller(&stage, "instances:pair").await;
    let request = v1::PairInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let mut steps = pairing
        .instances()
        .pair_instance(request)
        .await
        .unwrap()
        .into_inner();
    let first = within("a QR", steps.message()).await.unwrap().unwrap();
    assert!(matches!(first.step, Some(Step::QrCode(_))), "{first:?}");

    let revoked = revoke(&stage, key).await;
    let ended = failed(steps).await;
    assert!(revoked.elapsed() < SOON, "{:?}", revoked.elapsed());
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert_eq!(info(&ended), "CREDENTIAL_REVOKED");
    // Nobody is left to show a code to.
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher
        .until_state(&instance.id, InstanceState::Unpaired)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_and_a_drain_end_an_inbox() {
    let mut stage = Stage::new().await;
    let phone = stage.phone("Peer").await;
    let inbox = async |api: &Api| {
        let request = StreamInboxRequest {
            phone: phone.number.to_string(),
            after_sequence: 0,
        };
        let stream = api.sandbox().stream_inbox(request).await;
        stream.unwrap().into_inner()
    };
    let (revocable, key) = caller(&stage, "sandbox:write").await;
    let first = inbox(&revocable).await;
    let second = inbox(&stage.api().await).await;

    let revoked = revoke(&stage, key).await;
    let ended = failed(first).await;
    assert!(revoked.elapsed() < SOON, "{:?}", revoked.elapsed());
    assert_eq!(info(&ended), "CREDENTIAL_REVOKED");

    // The drain would wait ten seconds for it.
    let began = Instant::now();
    let (ended, ()) = tokio::join!(failed(second), stage.stop_gateway());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(ended.code(), Code::Unavailable);
    assert_eq!(info(&ended), "SERVER_DRAINING");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_speaks_gzip() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let gzip = CompressionEncoding::Gzip;
    let mut instances = api
        .instances()
        .send_compressed(gzip)
        .accept_compressed(gzip);
    let create = v1::CreateInstanceRequest {
        name: "one".to_owned(),
        ..Default::default()
    };
    let created = instances.create_instance(create).await.unwrap();
    assert_eq!(created.metadata().get("grpc-encoding").unwrap(), "gzip");
    let mut messages = api.messages().send_compressed(gzip).accept_compressed(gzip);
    let get = v1::GetMessageRequest {
        instance: "one".to_owned(),
        message_id: "3EB0".to_owned(),
        chat: String::new(),
    };
    let missing = messages.get_message(get).await.unwrap_err();
    assert_eq!(info(&missing), "MESSAGE_NOT_FOUND");
    let mut sandbox = api.sandbox().send_compressed(gzip).accept_compressed(gzip);
    let phones = sandbox.list_phones(ListPhonesRequest {}).await.unwrap();
    assert_eq!(phones.metadata().get("grpc-encoding").unwrap(), "gzip");
}

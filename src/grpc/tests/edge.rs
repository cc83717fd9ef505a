//! What every call meets before a service: layers, health, reflection, the end.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Instant,
};

use futures::future::BoxFuture;
use prost::Message as _;
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{body::Body, server::NamedService};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::*;

/// A service that panics.
#[derive(Clone)]
struct Panics;

impl NamedService for Panics {
    const NAME: &'static str = "test.Panics";
}

impl tower::Service<http::Request<Body>> for Panics {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { panic!("{} panics", request.uri()) })
    }
}

/// Calls any method with any bytes.
async fn call(running: &Running, path: &'static str, body: &[u8]) -> Result<(), Status> {
    call_encoded(running, path, body, "identity").await
}

/// The same, saying how the bytes are compressed.
async fn call_encoded(
    running: &Running,
    path: &'static str,
    body: &[u8],
    encoding: &'static str,
) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(running.channel().await);
    grpc.ready().await.unwrap();
    let mut request = Request::new(vec![bytes::Bytes::copy_from_slice(body)]);
    let bearer = format!("Bearer {}", running.admin).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let encoding = tonic::metadata::AsciiMetadataValue::from_static(encoding);
    request.metadata_mut().insert("grpc-encoding", encoding);
    let path = http::uri::PathAndQuery::from_static(path);
    let codec = crate::grpc::codec::Encoded::<v1::GetEventResponse>::default();
    within(grpc.unary(request, path, codec)).await.map(|_| ())
}

#[tokio::test]
async fn every_error_has_a_reason_whoever_made_it() {
    let mut services = Services::new();
    services.add(Panics);
    let running = start_with(config(limits()), services).await;
    for path in [
        "/wagate.v1.EventService/Nothing",
        "/nobody.Nothing/Nothing",
        "/x",
    ] {
        refused(
            call(&running, path, b"").await,
            Code::Unimplemented,
            "METHOD_UNKNOWN",
        );
    }
    refused(
        call(&running, "/test.Panics/Any", b"").await,
        Code::Internal,
        "INTERNAL",
    );
    let get = "/wagate.v1.EventService/GetEvent";
    let outcome = call(&running, get, b"\xff\xff\xff").await;
    refused(outcome, Code::InvalidArgument, "FIELD_INVALID");
    let outcome = call(&running, get, &vec![0; 5 << 20]).await;
    refused(outcome, Code::InvalidArgument, "FIELD_INVALID");

    let outcome = call_encoded(&running, get, b"", "lzma").await;
    let details = refused(outcome, Code::InvalidArgument, "FIELD_INVALID");
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "grpc-encoding");

    let mut client = EventServiceClient::new(running.channel().await);
    let outcome = within(client.get_event_log_info(v1::GetEventLogInfoRequest {})).await;
    let status = outcome.as_ref().unwrap_err();
    assert!(status.metadata().contains_key("x-request-id"));
    refused(outcome, Code::Unauthenticated, "API_KEY_MISSING");
    let mut client = running.events_as("wg_0123456789abcdef_wrong").await;
    let outcome = within(client.get_event_log_info(v1::GetEventLogInfoRequest {})).await;
    refused(outcome, Code::Unauthenticated, "API_KEY_INVALID");
    let (_, key) = running.key(&[Permission::MessagesRead], &[]).await;
    let mut client = running.events_as(&key).await;
    let outcome = within(client.get_event_log_info(v1::GetEventLogInfoRequest {})).await;
    refused(outcome, Code::PermissionDenied, "PERMISSION_DENIED");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_an_error_with_a_reason() {
    let hasty = ServerConfig {
        answer: Duration::from_millis(100),
        ..config(limits())
    };
    let running = start_with(hasty, Services::new()).await;
    let mut client = running.events().await;
    let request = v1::ListEventsRequest {
        wait: Some(Duration::from_secs(60).into()),
        ..Default::default()
    };
    let outcome = within(client.list_events(request)).await;
    refused(outcome, Code::DeadlineExceeded, "DEADLINE");
}

#[tokio::test]
async fn health_follows_the_database_and_the_drain() {
    let running = start().await;
    let mut client = HealthClient::new(running.channel().await);
    let request = HealthCheckRequest {
        service: "wagate.v1.EventService".to_owned(),
    };
    let mut health = within(client.watch(request)).await.unwrap().into_inner();
    let mut next = async || {
        let response = within(health.message()).await.unwrap().unwrap();
        response.status()
    };
    assert_eq!(next().await, ServingStatus::Serving);
    running.store.writable.send_replace(false);
    assert_eq!(next().await, ServingStatus::NotServing);
    running.store.writable.send_replace(true);
    assert_eq!(next().await, ServingStatus::Serving);
    running.shutdown.begin();
    assert_eq!(next().await, ServingStatus::NotServing);
    // The watch is open still and holds nothing up.
    within(running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn reflection_lists_what_is_public_and_knows_the_error_types() {
    let running = start().await;
    let key = WithKey(running.admin.clone());
    let ask = async |wanted| {
        let mut client =
            ServerReflectionClient::with_interceptor(running.channel().await, key.clone());
        let request = ServerReflectionRequest {
            message_request: Some(wanted),
            ..Default::default()
        };
        let requests = tokio_stream::once(request);
        let mut answers = within(client.server_reflection_info(requests))
            .await
            .unwrap()
            .into_inner();
        within(answers.message())
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap()
    };
    let MessageResponse::ListServicesResponse(listed) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list");
    };
    let mut names: Vec<_> = listed.service.into_iter().map(|one| one.name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "wagate.v1.ApiKeyService",
            "wagate.v1.EventService",
        ]
    );
    for symbol in [
        "wagate.v1.EventService.Subscribe",
        "google.rpc.ErrorInfo",
        "google.rpc.Status",
        "google.rpc.BadRequest",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ] {
        let found = ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
        assert!(
            matches!(found, MessageResponse::FileDescriptorResponse(_)),
            "{symbol}"
        );
    }
    let mut keyless = ServerReflectionClient::new(running.channel().await);
    let outcome = within(keyless.server_reflection_info(tokio_stream::empty())).await;
    refused(outcome, Code::Unauthenticated, "API_KEY_MISSING");
}

#[test]
fn every_method_of_the_contract_is_mounted() {
    let set = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTOR_SET).unwrap();
    let source = include_str!("../events.rs");
    let services = set.file.iter().flat_map(|file| &file.service);
    let events = services.filter(|service| service.name() == "EventService");
    for method in events.flat_map(|service| &service.method) {
        let path = format!("\"/wagate.v1.EventService/{}\"", method.name());
        assert!(source.contains(&path), "{path}");
    }
}

#[tokio::test]
async fn a_silent_peer_holds_up_nothing_and_is_let_go() {
    let silent = ServerConfig {
        connections: ConnectionLimits {
            opening: Duration::from_millis(100),
            ..ConnectionLimits::default()
        },
        ..config(limits())
    };
    let running = start_with(silent, Services::new()).await;
    let mut peer = TcpStream::connect(running.address).await.unwrap();
    // The server speaks first in HTTP/2, then hangs up on who says nothing.
    within(async { while peer.read_u8().await.is_ok() {} }).await;

    let running = start().await;
    let _peer = TcpStream::connect(running.address).await.unwrap();
    running.channel().await;
    let begun = Instant::now();
    running.shutdown.begin();
    within(running.task).await.unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

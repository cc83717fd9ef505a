//! Against a server that plays a script: one list of frames and an ending per call.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{
    cli::{connection::Target, output::captured},
    proto::v1::{
        Drain, Event, EventBatch, Gap, GetEventLogInfoRequest, GetEventLogInfoResponse,
        GetEventRequest, GetEventResponse, ListEventsRequest, ListEventsResponse, StreamOpened,
        event_service_server::{EventService, EventServiceServer},
    },
};

type Frames = Vec<Result<SubscribeResponse, Status>>;

#[derive(Default)]
struct Script {
    calls: Mutex<VecDeque<Frames>>,
    asked: Mutex<Vec<SubscribeRequest>>,
    keys: Mutex<Vec<String>>,
}

struct Player(Arc<Script>);

#[tonic::async_trait]
impl EventService for Player {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let key = request.metadata().get("authorization");
        let key = key.and_then(|key| key.to_str().ok()).unwrap_or_default();
        self.0.keys.lock().expect("whole").push(key.to_owned());
        self.0
            .asked
            .lock()
            .expect("whole")
            .push(request.into_inner());
        let next = self.0.calls.lock().expect("whole").pop_front();
        let frames = next.ok_or_else(|| Status::not_found("the script is over"))?;
        Ok(Response::new(Box::pin(stream::iter(frames))))
    }

    async fn list_events(
        &self,
        _: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        Err(Status::unimplemented("not in this play"))
    }

    async fn get_event(
        &self,
        _: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        Err(Status::unimplemented("not in this play"))
    }

    async fn get_event_log_info(
        &self,
        _: Request<GetEventLogInfoRequest>,
    ) -> Result<Response<GetEventLogInfoResponse>, Status> {
        Err(Status::unimplemented("not in this play"))
    }
}

/// What a run asked, printed, remarked, and how it ended.
struct Run {
    asked: Vec<SubscribeRequest>,
    keys: Vec<String>,
    printed: String,
    remarks: String,
    outcome: Result<(), Failure>,
}

async fn run(calls: Vec<Frames>, arguments: Events) -> Run {
    let script = Arc::new(Script {
        calls: Mutex::new(calls.into()),
        ..Script::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = Server::builder()
        .add_service(EventServiceServer::new(Player(script.clone())))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);

    let target = Target::new(&format!("http://{address}"), Some("secret"));
    let gateway = target.connect().await.expect("it listens");
    let (mut output, results, remarks) = captured::output(true);
    let outcome = arguments.run(gateway.events(), &mut output).await;
    server.abort();
    let asked = script.asked.lock().expect("whole").clone();
    let keys = script.keys.lock().expect("whole").clone();
    Run {
        asked,
        keys,
        printed: results.text(),
        remarks: remarks.text(),
        outcome,
    }
}

fn frame(cursor: &str, frame: Frame) -> Result<SubscribeResponse, Status> {
    Ok(SubscribeResponse {
        cursor: cursor.to_owned(),
        frame: Some(frame),
        ..SubscribeResponse::default()
    })
}

fn opened(cursor: &str) -> Result<SubscribeResponse, Status> {
    frame(cursor, Frame::Opened(StreamOpened::default()))
}

fn batch(cursor: &str, ids: &[&str]) -> Result<SubscribeResponse, Status> {
    let event = |id: &&str| Event {
        id: id.to_string(),
        ..Event::default()
    };
    let batch = EventBatch {
        events: ids.iter().map(event).collect(),
        ..EventBatch::default()
    };
    frame(cursor, Frame::Batch(batch))
}

fn until_caught_up() -> Events {
    Events {
        stop_when_caught_up: true,
        ..Events::default()
    }
}

fn refusal(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "wagate", std::collections::HashMap::new());
    Status::with_error_details(code, "no", details)
}

#[tokio::test]
async fn it_resumes_where_it_was() {
    let drain = Drain {
        reconnect_after: Some(pbjson_types::Duration {
            seconds: 0,
            nanos: 1_000_000,
        }),
    };
    let run = run(
        vec![
            vec![
                opened("c0"),
                batch("c2", &["a", "b"]),
                Err(Status::unknown("broken pipe")),
            ],
            vec![
                opened("c2"),
                batch("c3", &["c"]),
                frame("c4", Frame::Drain(drain)),
                Err(refusal(Code::Unavailable, "SERVER_DRAINING")),
            ],
            vec![opened("c4"), batch("c5", &["d"])],
        ],
        until_caught_up(),
    )
    .await;
    assert!(run.outcome.is_ok(), "{:?}", run.outcome);
    let starts: Vec<_> = run.asked.into_iter().map(|one| one.start).collect();
    let latest = Start::Position(StartPosition::Latest.into());
    let after = |cursor: &str| Some(Start::AfterCursor(cursor.to_owned()));
    assert_eq!(starts, [Some(latest), after("c2"), after("c4")]);
    assert_eq!(
        run.printed,
        "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"c\"}\n{\"id\":\"d\"}\n"
    );
    assert!(run.remarks.contains("resuming after c2"), "{}", run.remarks);
    assert_eq!(run.remarks.matches("resumed").count(), 2, "{}", run.remarks);
    assert_eq!(run.keys, ["Bearer secret"; 3]);
}

#[tokio::test]
async fn the_place_is_kept_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cursor");
    let arguments = Events {
        cursor_file: Some(file.clone()),
        from: Some(From::Earliest),
        ..until_caught_up()
    };
    let first = run(
        vec![vec![opened("c0"), batch("c1", &["a"])]],
        arguments.clone(),
    )
    .await;
    assert!(first.outcome.is_ok(), "{:?}", first.outcome);
    let earliest = Start::Position(StartPosition::Earliest.into());
    assert_eq!(first.asked[0].start, Some(earliest));
    assert_eq!(fs::read_to_string(&file).expect("written"), "c1\n");

    let second = run(vec![vec![opened("c1")]], arguments.clone()).await;
    assert_eq!(
        second.asked[0].start,
        Some(Start::AfterCursor("c1".to_owned()))
    );

    fs::write(&file, "").expect("written");
    let third = run(vec![], arguments).await;
    assert!(matches!(third.outcome, Err(Failure::Usage(_))));
}

#[tokio::test]
async fn what_can_not_get_better_ends_it() {
    for (code, reason) in [
        (Code::OutOfRange, "CURSOR_COMPACTED"),
        (Code::Unauthenticated, "CREDENTIAL_REVOKED"),
        (Code::ResourceExhausted, "STREAM_LIMIT"),
        (Code::NotFound, "INSTANCE_GONE"),
    ] {
        let frames = vec![opened("c0"), Err(refusal(code, reason))];
        let run = run(vec![frames], Events::default()).await;
        assert_eq!(run.asked.len(), 1, "{reason}");
        assert!(matches!(run.outcome, Err(Failure::Refused(_))), "{reason}");
    }
}

#[tokio::test]
async fn a_server_that_never_answered_is_not_waited_for() {
    let frames = vec![Err(Status::unavailable("not yet"))];
    let run = run(vec![frames], Events::default()).await;
    assert_eq!(run.asked.len(), 1);
    assert!(matches!(run.outcome, Err(Failure::Refused(_))));
}

#[tokio::test]
async fn a_gap_is_not_kept_quiet() {
    let gap = Gap {
        reason: "CURSOR_COMPACTED".into(),
        ..Gap::default()
    };
    let arguments = Events {
        on_gap: Some(OnGap::Skip),
        after: Some("old".into()),
        ..until_caught_up()
    };
    let run = run(
        vec![vec![opened("old"), frame("c9", Frame::Gap(gap))]],
        arguments,
    )
    .await;
    assert!(run.outcome.is_ok());
    assert_eq!(run.asked[0].on_gap(), GapPolicy::Skip);
    assert!(run.remarks.contains("CURSOR_COMPACTED"), "{}", run.remarks);
}

#[test]
fn waits_grow_to_a_limit() {
    let mut backoff = Backoff::default();
    let waits: Vec<_> = (0..20).map(|_| backoff.next()).collect();
    assert!(waits[0] <= Backoff::FIRST);
    assert!(waits.iter().all(|wait| *wait <= Backoff::LONGEST));
    assert!(waits[15] >= Duration::from_secs(1) && backoff.ceiling == Backoff::LONGEST);
}

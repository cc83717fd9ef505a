//! The log and its readers: resume, filters, heartbeats, retention, drain, and every error.

use std::time::Duration;

use tonic::{Code, Status};
use wagate::proto::v1::{
    self, GapPolicy, StartPosition, subscribe_request::Start, subscribe_response::Frame,
};

use crate::support::{Api, Stage, Watcher, info, violated_field, within};

fn from(start: Start) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        start: Some(start),
        ..Default::default()
    }
}

fn earliest() -> v1::SubscribeRequest {
    from(Start::Position(StartPosition::Earliest.into()))
}

/// All events that a request yields up to the head.
async fn all(api: &Api, request: v1::SubscribeRequest) -> Vec<v1::Event> {
    let request = v1::SubscribeRequest {
        stop_when_caught_up: true,
        ..request
    };
    let mut watcher = Watcher::open(api, request).await.unwrap();
    while watcher.event().await.unwrap().is_some() {}
    watcher.seen
}

async fn refused(api: &Api, request: v1::SubscribeRequest) -> Status {
    match Watcher::open(api, request).await {
        Ok(_) => panic!("the stream opened"),
        Err(status) => status,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_resumes_exactly_also_after_a_restart() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    for number in 0..30 {
        api.create(&format!("i{number}")).await;
    }
    let events = all(&api, earliest()).await;
    assert_eq!(events.len(), 30);
    stage.restart_gateway().await;
    let api = stage.api().await;
    for (index, event) in events.iter().enumerate().step_by(7) {
        let rest = all(&api, from(Start::AfterCursor(event.cursor.clone()))).await;
        assert_eq!(rest, events[index + 1..]);
        let page = v1::ListEventsRequest {
            start: Some(v1::list_events_request::Start::AfterCursor(
                event.cursor.clone(),
            )),
            page_size: 4,
            ..Default::default()
        };
        let page = api.events().list_events(page).await.unwrap().into_inner();
        let end = (index + 5).min(events.len());
        assert_eq!(page.events, events[index + 1..end]);
        assert_eq!(page.caught_up, end == events.len());
        let one = v1::GetEventRequest {
            event_id: event.id.clone(),
        };
        let one = api.events().get_event(one).await.unwrap().into_inner();
        assert_eq!(one.event.as_ref(), Some(event));
    }
    let moment = events[20].record_time.unwrap();
    let since = all(&api, from(Start::AfterTime(moment))).await;
    assert!(since.len() >= 10);
    assert!(since.iter().all(|event| {
        let time = event.record_time.as_ref().unwrap();
        (time.seconds, time.nanos) >= (moment.seconds, moment.nanos)
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_from_now_on_sees_only_what_comes() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("before").await;
    // An empty request, as grpcurl's `{}`.
    let mut watcher = Watcher::open(&api, Default::default()).await.unwrap();
    api.create("after").await;
    let event = within("an event", watcher.event()).await.unwrap().unwrap();
    assert_eq!(event.r#type, "instance.created");
    assert_eq!(event.instance_sequence, 1);
    // What it was told at the opening is the place right before.
    let rest = all(
        &api,
        from(Start::AfterCursor(watcher.opened.head_cursor.clone())),
    )
    .await;
    assert_eq!(rest, [event]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_out_what_they_say() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (one, _) = stage.open_instance(&api, "one").await;
    api.create("two").await;
    let everything = all(&api, earliest()).await;
    let filtered = |instances: &[&str], types: &[&str]| v1::SubscribeRequest {
        instances: instances.iter().map(|name| (*name).to_owned()).collect(),
        event_types: types.iter().map(|name| (*name).to_owned()).collect(),
        ..earliest()
    };
    let expected = |keep: &dyn Fn(&v1::Event) -> bool| -> Vec<v1::Event> {
        everything
            .iter()
            .filter(|event| keep(event))
            .cloned()
            .collect()
    };
    assert_eq!(
        all(&api, filtered(&["one"], &[])).await,
        expected(&|event| event.instance == one.id)
    );
    assert_eq!(
        all(&api, filtered(&[], &["connection.*"])).await,
        expected(&|event| event.r#type.starts_with("connection."))
    );
    assert_eq!(
        all(&api, filtered(&["one", "two"], &["instance.created"])).await,
        expected(&|event| event.r#type == "instance.created")
    );

    let unknown = refused(&api, filtered(&["nobody"], &[])).await;
    assert_eq!(
        (unknown.code(), info(&unknown)),
        (Code::NotFound, "INSTANCE_NOT_FOUND".into())
    );
    let unknown = refused(&api, filtered(&[], &["message.recieved"])).await;
    assert_eq!(
        (unknown.code(), info(&unknown)),
        (Code::InvalidArgument, "EVENT_TYPE_UNKNOWN".into())
    );
    assert_eq!(violated_field(&unknown), "event_types[0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_cursor_says_what_is_wrong_with_it() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let odd = refused(&api, from(Start::AfterCursor("wgc1nonsense".to_owned()))).await;
    assert_eq!(
        (odd.code(), info(&odd)),
        (Code::InvalidArgument, "CURSOR_INVALID".into())
    );
    assert_eq!(violated_field(&odd), "after_cursor");

    // Of another log.
    let other = Stage::new().await;
    let elsewhere = other.api().await;
    elsewhere.create("one").await;
    let cursor = all(&elsewhere, earliest()).await[0].cursor.clone();
    let foreign = refused(&api, from(Start::AfterCursor(cursor.clone()))).await;
    assert_eq!(
        (foreign.code(), info(&foreign)),
        (Code::OutOfRange, "CURSOR_EPOCH_MISMATCH".into())
    );
    // With on_gap SKIP it is told and gone over.
    let skip = v1::SubscribeRequest {
        on_gap: GapPolicy::Skip.into(),
        ..from(Start::AfterCursor(cursor))
    };
    let mut watcher = Watcher::open(&api, skip).await.unwrap();
    let Some(Frame::Gap(gap)) = watcher.frame().await.unwrap().unwrap().frame else {
        panic!("no gap frame");
    };
    assert_eq!(gap.reason, "CURSOR_EPOCH_MISMATCH");
    let event = within("an event", watcher.event()).await.unwrap().unwrap();
    assert_eq!(event.r#type, "instance.created");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_is_told_before_it_comes() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    within("an event", watcher.event()).await.unwrap().unwrap();
    let stopping = tokio::spawn(async move {
        stage.stop_gateway().await;
        stage
    });
    let mut drained = false;
    let end = loop {
        match watcher.frame().await {
            Ok(Some(frame)) => drained |= matches!(frame.frame, Some(Frame::Drain(_))),
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert!(drained);
    assert_eq!(
        (end.code(), info(&end)),
        (Code::Unavailable, "SERVER_DRAINING".into())
    );
    let mut stage = stopping.await.unwrap();
    stage.start_gateway().await;
    let api = stage.api().await;
    let rest = all(&api, from(Start::AfterCursor(watcher.cursor.clone()))).await;
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_stream() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let mut request = tonic::Request::new(v1::SubscribeRequest::default());
    request.set_timeout(Duration::from_millis(300));
    let mut stream = api.events().subscribe(request).await.unwrap().into_inner();
    let end = loop {
        match within("the deadline", stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (end.code(), info(&end)),
        (Code::DeadlineExceeded, "DEADLINE".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits_for_the_first_event() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let request = v1::ListEventsRequest {
        start: Some(v1::list_events_request::Start::Position(
            StartPosition::Latest.into(),
        )),
        wait: Some(pbjson_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..Default::default()
    };
    let mut events = api.events();
    let waiting = tokio::spawn(async move { events.list_events(request).await });
    let creating = async {
        // However late the poll gets there, one of these comes after it.
        for number in 0.. {
            api.create(&format!("i{number}")).await;
            if waiting.is_finished() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    within("the poll", creating).await;
    let page = waiting.await.unwrap().unwrap().into_inner();
    assert!(!page.events.is_empty());
}

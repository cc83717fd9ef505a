//! Subscribe.

use std::time::Instant;

use tonic::Streaming;
use v1::{subscribe_request::Start, subscribe_response::Frame};

use super::*;
use crate::domain::cursor::{Cursor, Position};

async fn open(
    running: &Running,
    request: v1::SubscribeRequest,
) -> Streaming<v1::SubscribeResponse> {
    let mut client = running.events().await;
    within(client.subscribe(request))
        .await
        .unwrap()
        .into_inner()
}

async fn next(stream: &mut Streaming<v1::SubscribeResponse>) -> Result<Frame, Status> {
    let response = within(stream.message()).await?.expect("the stream goes on");
    assert!(Cursor::parse(&response.cursor).is_some(), "{response:?}");
    assert!(response.server_time.is_some());
    Ok(response.frame.expect("every frame says something"))
}

async fn opened(stream: &mut Streaming<v1::SubscribeResponse>) -> v1::StreamOpened {
    match next(stream).await.unwrap() {
        Frame::Opened(opened) => opened,
        other => panic!("first came {other:?}"),
    }
}

/// Events until there are so many, heartbeats left out.
async fn details(stream: &mut Streaming<v1::SubscribeResponse>, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match next(stream).await.unwrap() {
            Frame::Batch(batch) => {
                assert_eq!(batch.delivery_sequence_first, seen.len() as u64 + 1);
                seen.extend(batch.events.iter().map(|event| detail(event).to_owned()));
            }
            Frame::Heartbeat(_) | Frame::Opened(_) => {}
            other => panic!("not expected: {other:?}"),
        }
    }
    seen
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn from_earliest() -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        start: Some(Start::Position(v1::StartPosition::Earliest as i32)),
        ..Default::default()
    }
}

fn after(cursor: &str) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        start: Some(Start::AfterCursor(cursor.to_owned())),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_empty_request_streams_what_comes_next() {
    let running = start().await;
    running.emit_numbers(0..3).await;
    let mut stream = open(&running, v1::SubscribeRequest::default()).await;
    let hello = opened(&mut stream).await;
    assert_eq!(hello.log_epoch, fake::EPOCH.to_string());
    assert_eq!(hello.batch.unwrap().max_events, 100);
    running.emit_numbers(3..5).await;
    running.emit_numbers(5..6).await;
    assert_eq!(details(&mut stream, 3).await, numbers(3..6));
}

#[tokio::test]
async fn a_stream_resumes_anywhere_without_a_hole_or_a_repeat() {
    let running = start().await;
    running.emit_numbers(0..20).await;
    let mut cursors = Vec::new();
    let request = v1::SubscribeRequest {
        stop_when_caught_up: true,
        batch: Some(v1::BatchOptions {
            max_events: 3,
            ..Default::default()
        }),
        ..from_earliest()
    };
    let mut stream = open(&running, request).await;
    let mut seen = 0;
    while let Some(response) = within(stream.message()).await.unwrap() {
        match response.frame.unwrap() {
            Frame::Opened(_) => {}
            Frame::Batch(batch) => {
                assert!(batch.events.len() <= 3);
                seen += batch.events.len() as u32;
                assert_eq!(batch.lag_events, u64::from(20 - seen));
                assert_eq!(batch.events.last().unwrap().cursor, response.cursor);
                cursors.extend(batch.events.into_iter().map(|event| event.cursor));
            }
            other => panic!("not expected: {other:?}"),
        }
    }
    assert_eq!(cursors.len(), 20);
    for (index, cursor) in (0u32..).zip(&cursors).step_by(6) {
        let mut stream = open(&running, after(cursor)).await;
        let rest = numbers(index + 1..20);
        assert_eq!(details(&mut stream, rest.len()).await, rest);
    }
}

#[tokio::test]
async fn a_frame_stays_within_its_bytes() {
    let running = start().await;
    running.emit(1, (0..6).map(|_| "x".repeat(1_000))).await;
    let request = v1::SubscribeRequest {
        batch: Some(v1::BatchOptions {
            max_bytes: 2_600,
            ..Default::default()
        }),
        stop_when_caught_up: true,
        ..from_earliest()
    };
    let mut stream = open(&running, request).await;
    opened(&mut stream).await;
    let mut sizes = Vec::new();
    while let Some(response) = within(stream.message()).await.unwrap() {
        if let Some(Frame::Batch(batch)) = response.frame {
            sizes.push(batch.events.len());
        }
    }
    assert_eq!(sizes.iter().sum::<usize>(), 6);
    assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
}

#[tokio::test]
async fn delayed_events_share_a_frame() {
    let running = start().await;
    let request = v1::SubscribeRequest {
        batch: Some(v1::BatchOptions {
            max_events: 3,
            max_delay: Some(Duration::from_secs(5).into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut stream = open(&running, request).await;
    opened(&mut stream).await;
    for number in 0..3 {
        running.emit_numbers(number..number + 1).await;
    }
    let begun = Instant::now();
    match next(&mut stream).await.unwrap() {
        Frame::Batch(batch) => assert_eq!(batch.events.len(), 3),
        other => panic!("not expected: {other:?}"),
    }
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "a full frame goes at once"
    );
}

#[tokio::test]
async fn a_heartbeat_never_overtakes_an_event() {
    let running = start().await;
    let request = v1::SubscribeRequest {
        batch: Some(v1::BatchOptions {
            max_delay: Some(Duration::from_millis(35).into()),
            ..Default::default()
        }),
        heartbeat_interval: Some(Duration::from_millis(1).into()),
        ..Default::default()
    };
    let mut stream = open(&running, request).await;
    let hello = opened(&mut stream).await;
    let interval = hello.heartbeat_interval.unwrap();
    assert_eq!(
        interval,
        Duration::from_millis(20).into(),
        "coerced and echoed"
    );
    let (mut seen, mut heartbeats, mut emitted) = (0, 0, 0);
    while heartbeats < 20 {
        let response = within(stream.message()).await.unwrap().unwrap();
        let cursor = Cursor::parse(&response.cursor).unwrap();
        match response.frame.unwrap() {
            Frame::Batch(batch) => seen += batch.events.len() as u64,
            Frame::Heartbeat(beat) => {
                heartbeats += 1;
                assert_eq!(beat.caught_up, beat.lag_events == 0);
            }
            other => panic!("not expected: {other:?}"),
        }
        assert_eq!(
            cursor.position,
            Position(seen),
            "everything up to the cursor was sent"
        );
        running.emit_numbers(emitted..emitted + 2).await;
        emitted += 2;
        if heartbeats % 4 == 3 {
            // Let it run dry now and then, so that heartbeats come while nothing is pending, too.
            while !matches!(next(&mut stream).await.unwrap(), Frame::Heartbeat(_)) {}
            seen = u64::from(emitted);
            heartbeats += 1;
        }
    }
}

#[tokio::test]
async fn stopping_at_the_head_ends_with_ok() {
    let running = start().await;
    let request = v1::SubscribeRequest {
        stop_when_caught_up: true,
        ..Default::default()
    };
    for start in [None, from_earliest().start] {
        let request = v1::SubscribeRequest {
            start,
            ..request.clone()
        };
        let mut stream = open(&running, request).await;
        opened(&mut stream).await;
        assert_eq!(within(stream.message()).await.unwrap(), None);
    }
    running.emit_numbers(0..4).await;
    // A filter that nothing passes ends as well.
    let request = v1::SubscribeRequest {
        event_types: vec!["message.*".to_owned()],
        start: from_earliest().start,
        ..request
    };
    let mut stream = open(&running, request).await;
    opened(&mut stream).await;
    assert_eq!(within(stream.message()).await.unwrap(), None);
}

#[tokio::test]
async fn a_gap_is_an_error_or_told() {
    let running = start().await;
    running.emit_numbers(0..10).await;
    let cursor = |position| running.log.cursor(Position(position)).to_string();
    // Everything so far is too old; what follows is kept.
    let later = SystemTime::now() + Retention::default().age + Duration::from_secs(1);
    running.log.apply_retention(later).await.unwrap();
    running.emit_numbers(10..12).await;

    let mut stream = open(&running, after(&cursor(10))).await;
    assert_eq!(
        details(&mut stream, 2).await,
        numbers(10..12),
        "at the boundary"
    );
    let mut stream = open(&running, from_earliest()).await;
    assert_eq!(
        details(&mut stream, 2).await,
        numbers(10..12),
        "earliest is no gap"
    );

    let mut client = running.events().await;
    let alien = Cursor {
        epoch: crate::domain::cursor::LogEpoch(1),
        position: Position(3),
    }
    .to_string();
    let cases = [
        (cursor(9), "CURSOR_COMPACTED", "earliest_cursor", cursor(10)),
        (cursor(13), "CURSOR_AHEAD_OF_LOG", "head_cursor", cursor(12)),
        (
            alien,
            "CURSOR_EPOCH_MISMATCH",
            "earliest_cursor",
            cursor(10),
        ),
    ];
    for (from, reason, key, value) in cases {
        let outcome = within(client.subscribe(after(&from))).await;
        let details = refused(outcome, Code::OutOfRange, reason);
        assert_eq!(details.error_info().unwrap().metadata[key], value);

        let request = v1::SubscribeRequest {
            on_gap: v1::GapPolicy::Skip as i32,
            stop_when_caught_up: true,
            ..after(&from)
        };
        let mut stream = open(&running, request).await;
        let first = within(stream.message()).await.unwrap().unwrap();
        assert_eq!(first.cursor, from, "until the gap is told");
        match next(&mut stream).await.unwrap() {
            Frame::Gap(gap) => {
                assert_eq!((gap.from_cursor, gap.to_cursor), (from, cursor(10)));
                assert_eq!(gap.reason, reason);
            }
            other => panic!("not expected: {other:?}"),
        }
        assert_eq!(self::details(&mut stream, 2).await, numbers(10..12));
    }
    let outcome = within(client.subscribe(after("wgc1nonsense"))).await;
    let details = refused(outcome, Code::InvalidArgument, "CURSOR_INVALID");
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(violation.field, "after_cursor");
}

#[tokio::test]
async fn a_reader_that_retention_overtakes_is_told() {
    let running = start().await;
    running.emit_numbers(0..10).await;
    let mut reader = running.log.reader(Position(0));
    let wanted = crate::events::Wanted::default();
    let first = reader.read(&wanted, None, 4, usize::MAX).await.unwrap();
    assert_eq!(first.len(), 4);
    let later = SystemTime::now() + Retention::default().age + Duration::from_secs(1);
    running.log.apply_retention(later).await.unwrap();
    match reader.read(&wanted, None, 4, usize::MAX).await {
        Err(crate::events::ReadError::Gap(gap)) => {
            assert_eq!(gap.from.position, Position(4));
            assert_eq!(gap.earliest, Position(10));
        }
        other => panic!("not expected: {other:?}"),
    }
    reader.skip_to(Position(10));
    assert!(
        reader
            .read(&wanted, None, 4, usize::MAX)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn filters_are_exact_and_unknown_words_are_refused() {
    let running = start().await;
    let mut client = running.events().await;
    let request = |instances: &[&str], types: &[&str]| v1::SubscribeRequest {
        instances: instances.iter().map(ToString::to_string).collect(),
        event_types: types.iter().map(ToString::to_string).collect(),
        stop_when_caught_up: true,
        ..from_earliest()
    };
    let outcome = within(client.subscribe(request(&["instance-1", "nobody"], &[]))).await;
    let told = refused(outcome, Code::NotFound, "INSTANCE_NOT_FOUND");
    assert_eq!(told.error_info().unwrap().metadata["instance"], "nobody");
    let outcome = within(client.subscribe(request(&[], &["message.*", "mess.*"]))).await;
    let told = refused(outcome, Code::InvalidArgument, "EVENT_TYPE_UNKNOWN");
    let violation = &told.bad_request().unwrap().field_violations[0];
    assert_eq!(violation.field, "event_types[1]");
    assert!(violation.description.contains("message.received"));

    running.emit(1, ["one".to_owned()]).await;
    running.emit(2, ["two".to_owned()]).await;
    let timeout = Payload::ConnectionPairingTimeout(v1::ConnectionPairingTimeout {});
    running.emit_payload(2, timeout).await;
    running.emit(3, ["three".to_owned()]).await;
    let mut stream = open(
        &running,
        request(&["instance-2", "instance-3"], &["error.*"]),
    )
    .await;
    assert_eq!(details(&mut stream, 2).await, ["two", "three"]);
    assert_eq!(within(stream.message()).await.unwrap(), None);
}

#[tokio::test]
async fn a_bound_key_sees_its_instances_and_no_pairing() {
    let running = start().await;
    let (_, key) = running.key(&[Permission::EventsRead], &[2]).await;
    let mut client = running.events_as(&key).await;
    let foreign = v1::SubscribeRequest {
        instances: vec!["instance-1".to_owned()],
        ..Default::default()
    };
    refused(
        within(client.subscribe(foreign)).await,
        Code::NotFound,
        "INSTANCE_NOT_FOUND",
    );
    let pairing = v1::SubscribeRequest {
        event_types: vec!["connection.pairing".to_owned()],
        ..Default::default()
    };
    let told = refused(
        within(client.subscribe(pairing)).await,
        Code::PermissionDenied,
        "PERMISSION_DENIED",
    );
    assert_eq!(
        told.error_info().unwrap().metadata["permission"],
        "instances:pair"
    );

    running.emit(1, ["foreign".to_owned()]).await;
    let shown = Payload::ConnectionPairing(v1::ConnectionPairing {
        qr_text: "secret".to_owned(),
        ..Default::default()
    });
    running.emit_payload(2, shown).await;
    running.emit(2, ["own".to_owned()]).await;
    for types in [vec![], vec!["*".to_owned()]] {
        let request = v1::SubscribeRequest {
            event_types: types,
            stop_when_caught_up: true,
            ..from_earliest()
        };
        let mut stream = within(client.subscribe(request))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(details(&mut stream, 1).await, ["own"]);
        assert_eq!(within(stream.message()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_stream_of_one_instance_ends_with_it() {
    let running = start().await;
    for types in [vec![], vec!["error.*".to_owned()]] {
        let running = start().await;
        let request = v1::SubscribeRequest {
            instances: vec!["instance-2".to_owned()],
            event_types: types.clone(),
            ..Default::default()
        };
        let mut stream = open(&running, request).await;
        opened(&mut stream).await;
        delete(&running, 2).await;
        if types.is_empty() {
            match next(&mut stream).await.unwrap() {
                Frame::Batch(batch) => assert_eq!(batch.events[0].r#type, "instance.deleted"),
                other => panic!("not expected: {other:?}"),
            }
        }
        refused(
            within(stream.message()).await,
            Code::NotFound,
            "INSTANCE_GONE",
        );
    }
    // Of two, one remains.
    let request = v1::SubscribeRequest {
        instances: vec!["instance-1".to_owned(), "instance-2".to_owned()],
        event_types: vec!["error.*".to_owned()],
        ..Default::default()
    };
    let mut stream = open(&running, request).await;
    opened(&mut stream).await;
    delete(&running, 2).await;
    running.emit_numbers(0..1).await;
    assert_eq!(details(&mut stream, 1).await, numbers(0..1));
}

async fn delete(running: &Running, number: u32) {
    let gone = running.store.delete_instance(
        InstanceNumber(number),
        Box::new(|row| {
            let deleted = v1::InstanceDeleted {
                name: row.name.to_string(),
            };
            let payload = Payload::InstanceDeleted(deleted);
            vec![compose(row, payload, SystemTime::now(), "")]
        }),
    );
    assert!(gone.await.unwrap());
}

#[tokio::test]
async fn a_shutdown_is_told_and_quick() {
    let running = start().await;
    let mut stream = open(&running, v1::SubscribeRequest::default()).await;
    opened(&mut stream).await;
    let begun = Instant::now();
    running.shutdown.begin();
    match next(&mut stream).await.unwrap() {
        Frame::Drain(drain) => assert!(drain.reconnect_after.is_some()),
        other => panic!("not expected: {other:?}"),
    }
    let details = refused(
        within(stream.message()).await,
        Code::Unavailable,
        "SERVER_DRAINING",
    );
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    within(running.task).await.unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_revoked_key_ends_its_streams_only() {
    let running = start().await;
    let (id, key) = running.key(&[Permission::EventsRead], &[]).await;
    let mut client = running.events_as(&key).await;
    let request = v1::SubscribeRequest::default();
    let mut revoked = within(client.subscribe(request.clone()))
        .await
        .unwrap()
        .into_inner();
    let mut other = open(&running, request).await;
    opened(&mut revoked).await;
    opened(&mut other).await;
    let mut admin = running.api_keys_as(&running.admin).await;
    within(admin.revoke_api_key(v1::RevokeApiKeyRequest {
        api_key_id: id,
        ..Default::default()
    }))
    .await
    .unwrap();
    let outcome = within(revoked.message()).await;
    refused(outcome, Code::Unauthenticated, "CREDENTIAL_REVOKED");
    running.emit_numbers(0..1).await;
    assert_eq!(details(&mut other, 1).await, numbers(0..1));
}

#[tokio::test]
async fn a_stream_keeps_its_deadline() {
    let running = start().await;
    let mut client = running.events().await;
    let mut request = Request::new(v1::SubscribeRequest::default());
    // tonic's client keeps no deadline of streams either, so what ends it is the server.
    request.set_timeout(Duration::from_millis(300));
    let mut stream = within(client.subscribe(request))
        .await
        .unwrap()
        .into_inner();
    opened(&mut stream).await;
    refused(
        within(stream.message()).await,
        Code::DeadlineExceeded,
        "DEADLINE",
    );
}

#[tokio::test]
async fn a_key_has_so_many_streams_and_a_slow_reader_is_cut_off() {
    let running = start_with(
        config(StreamLimits {
            per_key: 1,
            stall: Duration::from_millis(200),
            ..limits()
        }),
        Services::new(),
    )
    .await;
    // More than fits between the two ends.
    running.emit(1, (0..16).map(|_| "x".repeat(900_000))).await;
    let mut slow = open(&running, from_earliest()).await;
    let mut client = running.events().await;
    let small = v1::SubscribeRequest::default();
    let outcome = within(client.subscribe(small.clone())).await;
    let details = refused(outcome, Code::ResourceExhausted, "STREAM_LIMIT");
    assert_eq!(details.error_info().unwrap().metadata["limit"], "1");
    // Its place is free again once the slow one was given up.
    within(async {
        while client.subscribe(small.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut last = String::new();
    let ended = loop {
        match within(slow.message()).await {
            Ok(Some(response)) => last = response.cursor,
            ended => break ended,
        }
    };
    let details = refused(ended, Code::ResourceExhausted, "SLOW_CONSUMER");
    assert_eq!(
        details.error_info().unwrap().metadata["last_sent_cursor"],
        last
    );
    assert!(details.retry_info().is_some());
    let mut resumed = open(&running, after(&last)).await;
    assert!(matches!(
        next(&mut resumed).await.unwrap(),
        Frame::Opened(_)
    ));
    assert!(matches!(next(&mut resumed).await.unwrap(), Frame::Batch(_)));
}

#[tokio::test]
async fn bad_options_are_named() {
    let running = start().await;
    let mut client = running.events().await;
    let batch = |batch| v1::SubscribeRequest {
        batch: Some(batch),
        ..Default::default()
    };
    let cases = [
        (
            "batch.max_events",
            batch(v1::BatchOptions {
                max_events: 501,
                ..Default::default()
            }),
        ),
        (
            "batch.max_bytes",
            batch(v1::BatchOptions {
                max_bytes: -1,
                ..Default::default()
            }),
        ),
        (
            "batch.max_delay",
            batch(v1::BatchOptions {
                max_delay: Some(Duration::from_secs(6).into()),
                ..Default::default()
            }),
        ),
        (
            "client_id",
            v1::SubscribeRequest {
                client_id: "x".repeat(65),
                ..Default::default()
            },
        ),
        (
            "on_gap",
            v1::SubscribeRequest {
                on_gap: 9,
                ..Default::default()
            },
        ),
        (
            "position",
            v1::SubscribeRequest {
                start: Some(Start::Position(9)),
                ..Default::default()
            },
        ),
    ];
    for (field, request) in cases {
        let outcome = within(client.subscribe(request)).await;
        let details = refused(outcome, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            field
        );
    }
}

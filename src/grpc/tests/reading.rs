//! ListEvents, GetEvent and GetEventLogInfo.

use v1::list_events_request::Start;

use super::*;
use crate::domain::cursor::Position;

#[tokio::test]
async fn pages_follow_each_other_to_the_head() {
    let running = start().await;
    running.emit_numbers(0..10).await;
    let mut client = running.events().await;
    let mut request = v1::ListEventsRequest {
        page_size: 4,
        ..Default::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = within(client.list_events(request.clone()))
            .await
            .unwrap()
            .into_inner();
        seen.extend(page.events.iter().map(|event| detail(event).to_owned()));
        request.start = Some(Start::AfterCursor(page.next_cursor));
        if page.caught_up {
            break;
        }
    }
    assert_eq!(
        seen,
        (0..10).map(|number| number.to_string()).collect::<Vec<_>>()
    );
    let page = within(client.list_events(request.clone()))
        .await
        .unwrap()
        .into_inner();
    assert!(page.events.is_empty() && page.caught_up);

    let wrong = v1::ListEventsRequest {
        page_size: -1,
        ..Default::default()
    };
    refused(
        within(client.list_events(wrong)).await,
        Code::InvalidArgument,
        "FIELD_INVALID",
    );
}

#[tokio::test]
async fn a_waiting_call_gets_the_first_event() {
    let running = start().await;
    let mut client = running.events().await;
    let request = v1::ListEventsRequest {
        wait: Some(Duration::from_secs(60).into()),
        instances: vec!["instance-1".to_owned()],
        ..Default::default()
    };
    let waiting = tokio::spawn(async move { client.list_events(request).await });
    running.emit(2, ["foreign".to_owned()]).await;
    running.emit_numbers(0..1).await;
    let page = within(waiting).await.unwrap().unwrap().into_inner();
    assert_eq!(page.events.len(), 1);
    assert_eq!(
        page.next_cursor,
        running.log.cursor(Position(2)).to_string()
    );
}

#[tokio::test]
async fn waiting_ends_with_the_server() {
    let running = start().await;
    let mut client = running.events().await;
    let request = v1::ListEventsRequest {
        wait: Some(Duration::from_secs(60).into()),
        ..Default::default()
    };
    let waiting = tokio::spawn(async move { client.list_events(request).await });
    // The drain waits for a call that has come as far as the log.
    within(async {
        while running.store.readers() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    running.shutdown.begin();
    let page = within(waiting).await.unwrap().unwrap().into_inner();
    assert!(page.events.is_empty());
    within(running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_gap_in_a_list_is_an_error_or_told() {
    let running = start().await;
    running.emit_numbers(0..5).await;
    let from = running.log.cursor(Position(2)).to_string();
    let later = SystemTime::now() + Retention::default().age + Duration::from_secs(1);
    running.log.apply_retention(later).await.unwrap();
    running.emit_numbers(5..6).await;
    let mut client = running.events().await;
    let request = v1::ListEventsRequest {
        start: Some(Start::AfterCursor(from.clone())),
        ..Default::default()
    };
    let outcome = within(client.list_events(request.clone())).await;
    refused(outcome, Code::OutOfRange, "CURSOR_COMPACTED");
    let request = v1::ListEventsRequest {
        on_gap: v1::GapPolicy::Skip as i32,
        ..request
    };
    let page = within(client.list_events(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.gap.unwrap().from_cursor, from);
    assert_eq!(page.events.len(), 1);
}

#[tokio::test]
async fn one_event_is_found_by_its_id_by_those_who_may() {
    let running = start().await;
    running.emit(1, ["one".to_owned()]).await;
    let mut client = running.events().await;
    let listed = within(client.list_events(v1::ListEventsRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let event = &listed.events[0];
    let request = v1::GetEventRequest {
        event_id: event.id.clone(),
    };
    let found = within(client.get_event(request.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.event.as_ref(), Some(event));

    let (_, key) = running.key(&[Permission::EventsRead], &[2]).await;
    let mut bound = running.events_as(&key).await;
    refused(
        within(bound.get_event(request)).await,
        Code::NotFound,
        "EVENT_NOT_FOUND",
    );
    let wrong = v1::GetEventRequest {
        event_id: "x".to_owned(),
    };
    refused(
        within(client.get_event(wrong)).await,
        Code::InvalidArgument,
        "FIELD_INVALID",
    );
}

#[tokio::test]
async fn the_log_tells_about_itself() {
    let running = start().await;
    running.emit_numbers(0..3).await;
    let (_, key) = running.key(&[Permission::EventsRead], &[1, 2]).await;
    let mut client = running.events_as(&key).await;
    let info = within(client.get_event_log_info(v1::GetEventLogInfoRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(info.event_count, 3);
    assert_eq!(
        info.head_cursor,
        running.log.cursor(Position(3)).to_string()
    );
    let heads: Vec<_> = info
        .instances
        .iter()
        .map(|one| one.instance_sequence)
        .collect();
    assert_eq!(heads, [3, 0]);
}

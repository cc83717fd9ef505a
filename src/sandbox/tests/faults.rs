//! Fault rules seen from a real client.

use super::*;

fn messages_to(number: Number, action: FaultAction) -> FaultRule {
    FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            tag: Some("message".to_owned()),
            number: Some(number),
            device: Some(1),
            ..FaultMatch::default()
        },
        action,
        skip: 0,
        count: Some(1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_message_comes_with_the_next_login() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    sandbox
        .add_fault(messages_to(ada, FaultAction::Drop))
        .unwrap();
    sandbox
        .send_text(bob, ada, "lost on the way")
        .await
        .unwrap();
    until("the rule has worked", || sandbox.faults()[0].hits == 1).await;
    let log = sandbox.wire_log(device, 0);
    assert!(
        log.iter()
            .any(|entry| entry.copies == 0 && entry.text.starts_with("<message"))
    );
    sandbox.drop_connection(device).unwrap();
    assert!(gateway.received("lost on the way").await.offline);
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicated_message_arrives_once() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    sandbox
        .add_fault(messages_to(ada, FaultAction::Duplicate(2)))
        .unwrap();
    sandbox.send_text(bob, ada, "thrice").await.unwrap();
    gateway.received("thrice").await;
    sandbox.send_text(bob, ada, "the end").await.unwrap();
    gateway.received("the end").await;
    assert!(gateway.unexpected().is_empty());
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_is_overtaken() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let delay = FaultAction::Delay(Duration::from_millis(300));
    sandbox.add_fault(messages_to(ada, delay)).unwrap();
    sandbox.send_text(bob, ada, "slow").await.unwrap();
    sandbox.send_text(bob, ada, "fast").await.unwrap();
    gateway.received("fast").await;
    assert!(gateway.unexpected().is_empty());
    gateway.received("slow").await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// A phone whose message cannot be read is asked for it again and sends it anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_first_message_does_not_break_the_session() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    sandbox
        .add_fault(messages_to(ada, FaultAction::Drop))
        .unwrap();
    sandbox.send_text(bob, ada, "first").await.unwrap();
    sandbox.send_text(bob, ada, "second").await.unwrap();
    gateway.received("second").await;
    sandbox.drop_connection(device).unwrap();
    gateway.received("first").await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

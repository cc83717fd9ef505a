//! Texts, both ways, by number and by hidden identity, and what became of them.

use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use wagate::{
    proto::v1::{self, InstanceState, MessageStatus, event::Payload},
    sandbox::{Direction, FaultAction, FaultMatch, FaultRule, PhoneOptions},
};

use crate::support::{Stage, Watcher, info, within};

fn addressed(by_lid: bool) -> PhoneOptions {
    PhoneOptions {
        push_name: if by_lid { "Lid" } else { "Number" }.to_owned(),
        lid_addressed: by_lid,
        ..Default::default()
    }
}

async fn texts_go_both_ways(instance_by_lid: bool, phone_by_lid: bool) {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage
        .open_instance_with(&api, "one", addressed(instance_by_lid))
        .await;
    let phone = stage.phone_with(addressed(phone_by_lid)).await;
    let mut watcher = Watcher::from_earliest(&api).await;

    phone.send(&instance.phone_number, "hello").await;
    let received = watcher.until_received(&instance.id, "hello").await;
    let sender = received.sender.unwrap();
    assert_eq!(sender.phone_number, phone.number.to_string());
    assert_eq!(received.status, MessageStatus::Received as i32);
    assert!(!received.from_me);
    let chat = received.chat.unwrap();
    assert_eq!(chat.id, format!("{}@s.whatsapp.net", phone.number));
    // It is found by every name of its chat, whichever WhatsApp used.
    let found_in = async |chat: &str| {
        let request = v1::GetMessageRequest {
            instance: "one".to_owned(),
            message_id: received.id.clone(),
            chat: chat.to_owned(),
        };
        let found = api.messages().get_message(request).await;
        found.map(|found| found.into_inner().message.unwrap().id)
    };
    let number = format!("+{}", phone.number);
    for name in ["", &chat.id, &number, &number[1..]] {
        assert_eq!(found_in(name).await.unwrap(), received.id, "{name:?}");
    }
    if phone_by_lid {
        assert_eq!(found_in(&sender.lid).await.unwrap(), received.id);
    }
    for other in ["15550009999", "900009@lid", "nonsense"] {
        let missing = found_in(other).await.unwrap_err();
        assert_eq!(info(&missing), "MESSAGE_NOT_FOUND", "{other:?}");
    }

    let sent = api.send("one", &chat.id, "hello yourself").await.unwrap();
    assert!(sent.status >= MessageStatus::Sent as i32, "{sent:?}");
    phone.until_text("hello yourself").await;
    watcher
        .until_status(&sent.id, MessageStatus::Received)
        .await;
    // The account's own phone sees what the gateway sent.
    owner.until_text("hello yourself").await;

    let request = v1::GetMessageRequest {
        instance: "one".to_owned(),
        message_id: sent.id.clone(),
        chat: String::new(),
    };
    let stored = api.messages().get_message(request).await.unwrap();
    let stored = stored.into_inner().message.unwrap();
    assert_eq!(stored.status(), MessageStatus::Received);
    assert_eq!(stored.content, sent.content);
    stage.network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_number() {
    texts_go_both_ways(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_hidden_identity() {
    texts_go_both_ways(true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_account_and_a_hidden_one() {
    texts_go_both_ways(false, true).await;
    texts_go_both_ways(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_talk() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (one, _) = stage.open_instance(&api, "one").await;
    let (two, _) = stage.open_instance_with(&api, "two", addressed(true)).await;
    let mut watcher = Watcher::from_earliest(&api).await;

    let sent = api.send("one", &two.phone_number, "ping").await.unwrap();
    watcher.until_received(&two.id, "ping").await;
    watcher
        .until_status(&sent.id, MessageStatus::Received)
        .await;
    api.send("two", &one.phone_number, "pong").await.unwrap();
    watcher.until_received(&one.id, "pong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_writes_on_the_phone_is_told_as_sent() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    let mut watcher = Watcher::from_earliest(&api).await;

    owner.send(&phone.number.to_string(), "from my phone").await;
    let sent = watcher
        .until("message.sent", |event| match &event.payload {
            Some(Payload::MessageSent(sent)) => sent.message.clone(),
            _ => None,
        })
        .await;
    assert!(sent.from_me);
    assert_eq!(sent.instance, instance.id);
    assert_eq!(
        sent.chat.unwrap().id,
        format!("{}@s.whatsapp.net", phone.number)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_the_gateway_is_down_arrives_once_it_is_back() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    phone.send(&instance.phone_number, "before").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher.until_received(&instance.id, "before").await;
    let cursor = watcher.cursor.clone();

    stage.stop_gateway().await;
    for number in 0..20 {
        phone
            .send(&instance.phone_number, &format!("while down {number}"))
            .await;
    }
    stage.start_gateway().await;
    phone.send(&instance.phone_number, "after").await;

    let api = stage.api().await;
    let mut watcher = Watcher::after(&api, &cursor).await;
    watcher.until_received(&instance.id, "after").await;
    let mut wanted: Vec<_> = (0..20)
        .map(|number| format!("while down {number}"))
        .collect();
    wanted.push("after".to_owned());
    assert_eq!(watcher.received_texts(&instance.id), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_network_delivers_twice_is_logged_once() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    stage
        .network
        .add_fault(FaultRule {
            matches: FaultMatch {
                direction: Some(Direction::ToDevice),
                tag: Some("message".to_owned()),
                number: Some(owner.number),
                device: Some(1),
                ..Default::default()
            },
            action: FaultAction::Duplicate(3),
            skip: 0,
            count: None,
        })
        .unwrap();
    for number in 0..10 {
        phone
            .send(&instance.phone_number, &format!("twice {number}"))
            .await;
    }
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher.until_received(&instance.id, "twice 9").await;
    let wanted: Vec<_> = (0..10).map(|number| format!("twice {number}")).collect();
    assert_eq!(watcher.received_texts(&instance.id), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_sends_once() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, _) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    let to = phone.number.to_string();

    let first = api.send_as("one", &to, "once", "r-1").await.unwrap();
    let again = api.send_as("one", &to, "once", "r-1").await.unwrap();
    assert_eq!(first.id, again.id);
    let other = api.send_as("one", &to, "other", "r-1").await.unwrap_err();
    assert_eq!(other.code(), tonic::Code::InvalidArgument);
    assert_eq!(info(&other), "REQUEST_ID_REUSED");

    // Side by side, too.
    let calls = (0..8).map(|_| api.send_as("one", &to, "together", "r-2"));
    let answers = futures::future::join_all(calls).await;
    let ids: std::collections::BTreeSet<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().id)
        .collect();
    assert_eq!(ids.len(), 1);
    api.send("one", &to, "last").await.unwrap();
    assert_eq!(
        phone.texts_until("last").await,
        ["once", "together", "last"]
    );
}

/// Sends a text while the network loses these stanzas of the instance, stops the gateway once the
/// text is on its way, starts it again and says what became of it.
async fn send_through_a_fault(direction: Direction, tags: &[&str], arrives: bool) {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    let to = phone.number.to_string();
    let rules: Vec<u64> = tags
        .iter()
        .map(|tag| {
            let rule = FaultRule {
                matches: FaultMatch {
                    direction: Some(direction),
                    tag: Some((*tag).to_owned()),
                    number: Some(owner.number),
                    device: Some(1),
                    ..Default::default()
                },
                action: FaultAction::Drop,
                skip: 0,
                count: None,
            };
            stage.network.add_fault(rule).unwrap()
        })
        .collect();
    let call = tokio::spawn({
        let (api, to) = (api.clone(), to.clone());
        async move { api.send_as("one", &to, "unconfirmed", "r").await }
    });
    if arrives {
        phone.until_text("unconfirmed").await;
    } else {
        within("the stanza to be lost", async {
            while stage.network.faults().iter().all(|rule| rule.hits == 0) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    stage.stop_gateway().await;
    call.abort();
    stage.network.clear_faults(&rules);
    stage.start_gateway().await;

    let api = stage.api().await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let mut opened = 0;
    let sent = watcher
        .until("message.sent", |event| match &event.payload {
            Some(Payload::MessageSent(sent)) => sent.message.clone(),
            _ => None,
        })
        .await;
    // The last of the states in the log is that of the new session.
    watcher
        .once("open again", |event| match &event.payload {
            Some(Payload::ConnectionUpdated(update))
                if update.previous_state() == InstanceState::Connecting
                    && update.state() == InstanceState::Open =>
            {
                opened += 1;
                (opened == 2).then_some(())
            }
            _ => None,
        })
        .await;
    let replay = api.send_as("one", &to, "unconfirmed", "r").await.unwrap();
    assert_eq!(replay.id, sent.id);
    assert!(replay.status >= MessageStatus::Sent as i32);
    assert_eq!(phone.until_text("unconfirmed").await.id, sent.id);
    api.send("one", &to, "last").await.unwrap();
    assert_eq!(phone.texts_until("last").await, ["unconfirmed", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_whose_confirmation_is_lost_is_not_sent_twice() {
    send_through_a_fault(Direction::ToDevice, &["ack", "receipt"], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_is_lost_goes_out_again_under_its_id() {
    send_through_a_fault(Direction::FromDevice, &["message"], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_says_so() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    stage.open_instance(&api, "one").await;
    let unknown = api
        .send("one", "15550999999", "anybody?")
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::FailedPrecondition);
    assert_eq!(info(&unknown), "RECIPIENT_NOT_ON_WHATSAPP");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_crash_swallowed_is_asked_for_again() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    // The network does not hear that it arrived, so it will deliver it again.
    let deaf = ["receipt", "ack"].map(|tag| {
        let rule = FaultRule {
            matches: FaultMatch {
                direction: Some(Direction::FromDevice),
                tag: Some(tag.to_owned()),
                number: Some(owner.number),
                device: Some(1),
                ..Default::default()
            },
            action: FaultAction::Drop,
            skip: 0,
            count: None,
        };
        stage.network.add_fault(rule).unwrap()
    });
    phone.send(&instance.phone_number, "swallowed").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher.until_received(&instance.id, "swallowed").await;
    let cursor = watcher.cursor.clone();
    stage.stop_gateway().await;

    // As after a crash between two commits: the Signal session has come past the message, and
    // nobody has kept it.
    let database = stage.data_dir().join("wagate.db");
    let mut database = SqliteConnectOptions::new()
        .filename(database)
        .connect()
        .await
        .unwrap();
    let swallow = "DELETE FROM message; DELETE FROM device_record WHERE kind IN (15, 16);";
    sqlx::raw_sql(swallow).execute(&mut database).await.unwrap();
    database.close().await.unwrap();

    stage.network.clear_faults(&deaf);
    stage.start_gateway().await;
    let api = stage.api().await;
    let mut watcher = Watcher::after(&api, &cursor).await;
    watcher.until_received(&instance.id, "swallowed").await;
    phone.send(&instance.phone_number, "and on").await;
    watcher.until_received(&instance.id, "and on").await;
    assert_eq!(
        watcher.received_texts(&instance.id),
        ["swallowed", "and on"]
    );
}

//! Messages that WhatsApp refuses: each is told as an error with its reason, and the next one goes through.

use wagate::{
    proto::v1::{self, MessageStatus, event::Payload},
    sandbox::{Direction, FaultAction, FaultMatch, FaultRule, Refusal},
};

use crate::support::{Stage, TestPhone, Watcher, within};

/// The next message of the account's companion to people or a group is refused with this code.
fn refuse_next(stage: &Stage, owner: &TestPhone, code: u16) {
    let rule = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::FromDevice),
            tag: Some("message".to_owned()),
            child: Some("participants".to_owned()),
            number: Some(owner.number),
            device: Some(1),
            ..Default::default()
        },
        action: FaultAction::Refuse(Refusal { code, backoff: 0 }),
        skip: 0,
        count: Some(1),
    };
    stage.network.add_fault(rule).unwrap();
}

/// Every status that was told of a message, with its reason, until this one.
async fn statuses(
    watcher: &mut Watcher,
    id: &str,
    last: MessageStatus,
) -> Vec<(MessageStatus, String)> {
    watcher.until_status(id, last).await;
    let told = watcher
        .seen
        .iter()
        .filter_map(|event| match &event.payload {
            Some(Payload::MessageStatus(one)) if one.message_id == id => {
                Some((one.status(), one.reason.clone()))
            }
            _ => None,
        });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_with_its_reason_and_the_next_message_goes_through() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (one, owner) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    let to = phone.number.to_string();
    let mut watcher = Watcher::from_earliest(&api).await;
    // Strangers would have to wait after some of these.
    phone.send(&owner.number.to_string(), "hello").await;
    watcher.until_received(&one.id, "hello").await;

    let mut refused = Vec::new();
    for code in [463, 479, 400, 404, 429, 475, 503, 599] {
        refuse_next(&stage, &owner, code);
        let text = format!("refused with {code}");
        let sent = within("a refusal", api.send_as("one", &to, &text, &text)).await;
        let sent = sent.unwrap();
        assert_eq!(sent.status(), MessageStatus::Error, "{sent:?}");
        let reason = sent.status_reason.clone();
        assert!(reason.ends_with(&format!(" ({code})")), "{reason}");
        // A wording of its own for each that is known, and none of the message's.
        assert!(!reason.contains("refused with"), "{reason}");

        let through = api.send("one", &to, &format!("after {code}")).await;
        let through = through.unwrap();
        assert!(through.status() >= MessageStatus::Sent, "{through:?}");
        assert!(through.status_reason.is_empty());
        phone.until_text(&format!("after {code}")).await;
        let told = statuses(&mut watcher, &sent.id, MessageStatus::Error).await;
        let pending = (MessageStatus::Pending, String::new());
        assert_eq!(told, [pending, (MessageStatus::Error, reason)]);
        refused.push(sent);
    }
    let reasons = |code: u16| {
        let ending = format!("({code})");
        let of = |one: &&v1::Message| one.status_reason.ends_with(&ending);
        refused.iter().find(of).unwrap().status_reason.clone()
    };
    assert!(reasons(463).contains("do not know it"));
    assert!(reasons(599).starts_with("WhatsApp refused it"));

    // It stays so: not sent at the next login, and the request that was refused is answered as it was.
    stage.restart_gateway().await;
    let api = stage.api().await;
    let mut watcher = Watcher::after(&api, &watcher.cursor).await;
    let open = v1::InstanceState::Open;
    watcher.until_state(&refused[0].instance, open).await;
    let again = api
        .send_as("one", &to, "refused with 463", "refused with 463")
        .await;
    assert_eq!(again.unwrap(), refused[0]);
    api.send("one", &to, "last").await.unwrap();
    let seen = phone.texts_until("last").await;
    assert!(
        seen.iter().all(|text| !text.starts_with("refused")),
        "{seen:?}"
    );
    // Nor does anything of it come to the account's own phone.
    let seen = owner.texts_until("last").await;
    assert!(
        seen.iter().all(|text| !text.starts_with("refused")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_a_group_is_told_too() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let group = api.create_group("one", "Tea", &[ann.number]).await.id;
    refuse_next(&stage, &owner, 479);
    let sent = api.send("one", &group, "refused").await.unwrap();
    assert_eq!(sent.status(), MessageStatus::Error, "{sent:?}");
    assert!(sent.status_reason.ends_with("(479)"));
    // The key went down with it: the member has to ask for it, and gets it.
    let next = api.send("one", &group, "next").await.unwrap();
    assert!(next.status() >= MessageStatus::Sent, "{next:?}");
    assert_eq!(ann.texts_until("next").await, ["next"]);
}

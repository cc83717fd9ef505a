//! Calls to accounts of Baileys and whatsmeow: they hear what phones do, and phones hear them reject.

use std::time::Duration;

use wagate::{
    proto::sandbox_v1::PhoneCallState,
    sandbox::{Callee, NewGroup},
};

use super::{Companion, named};
use crate::support::{Library, Stage};

async fn calls_are_heard_and_rejected(library: Library, by_lid: bool) {
    let Some(program) = library.install().await else {
        return;
    };
    let stage = Stage::new().await;
    let api = stage.api().await;
    let mut companion = Companion::paired(&stage, program, by_lid).await;
    let caller = stage.phone_with(named("Caller", by_lid)).await;
    let (from, owner) = (caller.number.to_string(), companion.owner.number);
    let to = companion.number.clone();

    // Rejected by the client: everybody else hears of it.
    let call = api.call(caller.number, &to, true).await;
    let offer = companion.client.until_call(&call, "offer").await;
    assert_eq!(offer["from"], from);
    assert_eq!(
        (&offer["video"], &offer["group"]),
        (&true.into(), &false.into())
    );
    api.until_phone_sees(owner, &call, PhoneCallState::Ringing)
        .await;
    companion.client.reject_call(&call).await;
    let seen = api
        .until_phone_sees(caller.number, &call, PhoneCallState::Rejected)
        .await;
    let by = seen.by.unwrap();
    assert_eq!((by.number.as_str(), by.device), (to.as_str(), 1));
    let seen = api
        .until_phone_sees(owner, &call, PhoneCallState::Rejected)
        .await;
    assert_eq!(seen.reason, "rejected_elsewhere");

    // Answered on the account's phone, and one that nobody answers.
    let call = api.call(caller.number, &to, false).await;
    let offer = companion.client.until_call(&call, "offer").await;
    assert_eq!(offer["video"], false);
    api.until_phone_sees(owner, &call, PhoneCallState::Ringing)
        .await;
    api.phone_answers(owner, &call).await.unwrap();
    companion.client.until_call(&call, "terminate").await;
    let short = Duration::from_millis(200);
    let call = api.call_for(caller.number, &to, false, short).await;
    companion.client.until_call(&call, "timeout").await;

    // A group's.
    let new = NewGroup {
        subject: "Choir".to_owned(),
        members: vec![owner],
        number_addressed: !by_lid,
    };
    let group = stage.network.create_group(caller.number, new).await;
    let (group, _) = group.unwrap();
    let ring = Duration::from_secs(60);
    let callee = Callee::Group(group);
    let call = stage
        .network
        .start_call(caller.number, callee, false, ring)
        .await
        .unwrap();
    let offer = companion.client.until_call(&call.id, "offer").await;
    assert_eq!(offer["group"], true);
    companion.client.reject_call(&call.id).await;
    api.until_phone_sees(caller.number, &call.id, PhoneCallState::Rejected)
        .await;

    // What happened while it was dead it hears when it is back, and nothing stays behind.
    let mut missed = String::new();
    let mut companion = companion
        .die_and_come_back(&stage, async || {
            missed = api.call(caller.number, &to, true).await;
            api.phone_hangs_up(caller.number, &missed).await.unwrap();
        })
        .await;
    companion.client.until_call(&missed, "terminate").await;
    companion.owner.until_nothing_waits().await;
    companion.client.stop().await;
    stage.network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_by_number() {
    calls_are_heard_and_rejected(Library::Baileys, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_by_hidden_identity() {
    calls_are_heard_and_rejected(Library::Baileys, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_by_number() {
    calls_are_heard_and_rejected(Library::Whatsmeow, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_by_hidden_identity() {
    calls_are_heard_and_rejected(Library::Whatsmeow, true).await;
}

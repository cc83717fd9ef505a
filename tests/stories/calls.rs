//! Calls: who hears of them, who turns them away, and how they end.

use std::time::Duration;

use tonic::Code;
use wagate::{
    proto::{
        sandbox_v1::PhoneCallState,
        v1::{self, CallState},
    },
    sandbox::{
        Direction, FaultAction, FaultMatch, FaultRule, InboxMessage, MemberChange, NewGroup,
        PhoneOptions,
    },
};

use crate::support::{Api, Stage, TestPhone, Watcher, info, violated_field};

use CallState::{Accept, Missed, Offer, Reject, Ringing, Timeout};

const TEXT: &str = "I can't talk, write to me";

struct Scene {
    stage: Stage,
    api: Api,
    instance: v1::Instance,
    owner: TestPhone,
    caller: TestPhone,
    watcher: Watcher,
}

impl Scene {
    async fn new(by_lid: bool) -> Self {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (instance, owner) = stage.open_instance(&api, "one").await;
        let caller = stage
            .phone_with(PhoneOptions {
                push_name: "Caller".to_owned(),
                lid_addressed: by_lid,
                ..Default::default()
            })
            .await;
        let watcher = Watcher::from_earliest(&api).await;
        Self {
            stage,
            api,
            instance,
            owner,
            caller,
            watcher,
        }
    }

    async fn call(&self) -> String {
        let to = &self.instance.phone_number;
        self.api.call(self.caller.number, to, false).await
    }

    async fn until(&mut self, call: &str, state: CallState) -> v1::Call {
        self.watcher
            .until_call(&self.instance.id, call, state)
            .await
    }

    /// The states that were told of a call, once all that is to come has come.
    async fn states(&mut self, call: &str) -> Vec<CallState> {
        let mark = format!("after {call} {}", self.watcher.seen.len());
        self.caller.send(&self.instance.phone_number, &mark).await;
        self.watcher.until_received(&self.instance.id, &mark).await;
        self.watcher.call_states(&self.instance.id, call)
    }

    async fn restart_gateway(&mut self) {
        self.stage.restart_gateway().await;
        self.api = self.stage.api().await;
        self.watcher = Watcher::from_earliest(&self.api).await;
    }

    async fn disconnect(&self) {
        let request = v1::DisconnectInstanceRequest {
            instance: "one".to_owned(),
            ..Default::default()
        };
        self.api
            .instances()
            .disconnect_instance(request)
            .await
            .unwrap();
    }

    async fn connect(&self) {
        let request = v1::ConnectInstanceRequest {
            instance: "one".to_owned(),
            ..Default::default()
        };
        self.api
            .instances()
            .connect_instance(request)
            .await
            .unwrap();
    }
}

/// How often a phone has seen a text, once it has seen another.
async fn count(phone: &TestPhone, text: &str, last: &str) -> usize {
    let texts = phone.texts_until(last).await;
    texts.iter().filter(|one| *one == text).count()
}

async fn is_rejected_by_hand(by_lid: bool) {
    let mut scene = Scene::new(by_lid).await;
    let call = scene.call().await;
    let offered = scene.until(&call, Offer).await;
    let caller = offered.caller.clone().unwrap();
    assert_eq!(caller.phone_number, scene.caller.number.to_string());
    assert_eq!(caller.lid.is_empty(), !by_lid);
    assert_eq!(caller.name, "Caller");
    assert!(!offered.video && !offered.group && offered.group_id.is_empty());
    assert!(offered.offer_time.is_some() && offered.duration.is_none());
    scene.until(&call, Ringing).await;
    let api = scene.api.clone();
    let (owner, number) = (scene.owner.number, scene.caller.number);
    api.until_phone_sees(number, &call, PhoneCallState::Ringing)
        .await;
    api.until_phone_sees(owner, &call, PhoneCallState::Ringing)
        .await;

    let rejected = api.reject("one", &call).await.unwrap();
    assert_eq!(rejected.state(), Reject);
    let seen = api
        .until_phone_sees(number, &call, PhoneCallState::Rejected)
        .await;
    let by = seen.by.unwrap();
    assert_eq!((by.number, by.device), (owner.to_string(), 1));
    // The account's own phone stops ringing.
    let seen = api
        .until_phone_sees(owner, &call, PhoneCallState::Rejected)
        .await;
    assert_eq!(seen.reason, "rejected_elsewhere");
    // Once more changes nothing.
    assert_eq!(api.reject("one", &call).await.unwrap(), rejected);
    assert_eq!(scene.states(&call).await, [Offer, Ringing, Reject]);

    // The caller is known from now on.
    let request = v1::GetContactRequest {
        instance: "one".to_owned(),
        contact: number.to_string(),
    };
    let contact = api.contacts().get_contact(request).await.unwrap();
    assert_eq!(contact.into_inner().contact.unwrap().name, "Caller");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_number_is_rejected_by_hand() {
    is_rejected_by_hand(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_hidden_identity_is_rejected_by_hand() {
    is_rejected_by_hand(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_rejects_calls_by_itself_and_says_so_once() {
    let mut scene = Scene::new(false).await;
    let instance = scene.api.reject_all("one", true, TEXT).await.unwrap();
    assert!(instance.reject_calls);
    assert_eq!(instance.reject_calls_text, TEXT);

    let call = scene.call().await;
    scene.until(&call, Reject).await;
    scene
        .api
        .until_phone_sees(scene.caller.number, &call, PhoneCallState::Rejected)
        .await;
    let answer: InboxMessage = scene.caller.until_text(TEXT).await;
    assert_eq!(answer.sender.number, scene.owner.number);
    assert_eq!(scene.states(&call).await, [Offer, Reject]);

    // Each call is answered, also after a restart, and none twice.
    scene.restart_gateway().await;
    scene.until(&call, Reject).await;
    scene
        .watcher
        .until_state(&instance.id, v1::InstanceState::Open)
        .await;
    let second = scene.call().await;
    scene.until(&second, Reject).await;
    scene.caller.until_seen(TEXT, 2).await;

    // Without a text it only rejects; switched off, it rings.
    scene.api.reject_all("one", true, "").await.unwrap();
    let silent = scene.call().await;
    scene.until(&silent, Reject).await;
    scene.api.reject_all("one", false, TEXT).await.unwrap();
    let rings = scene.call().await;
    scene.until(&rings, Ringing).await;
    let to = scene.caller.number.to_string();
    scene.api.send("one", &to, "the end").await.unwrap();
    assert_eq!(count(&scene.caller, TEXT, "the end").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_on_the_accounts_phone() {
    let mut scene = Scene::new(false).await;
    let call = scene.call().await;
    scene.until(&call, Ringing).await;
    let (owner, caller) = (scene.owner.number, scene.caller.number);
    scene
        .api
        .until_phone_sees(owner, &call, PhoneCallState::Ringing)
        .await;
    scene.api.phone_answers(owner, &call).await.unwrap();
    scene.until(&call, Accept).await;
    let seen = scene
        .api
        .until_phone_sees(caller, &call, PhoneCallState::Accepted)
        .await;
    assert_eq!(seen.by.unwrap().device, 0);

    let refused = scene.api.reject("one", &call).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(info(&refused), "CALL_ENDED");
    assert_eq!(violated_field(&refused), "call_id");
    scene.api.phone_hangs_up(owner, &call).await.unwrap();
    scene
        .api
        .until_phone_sees(caller, &call, PhoneCallState::Ended)
        .await;
    assert_eq!(scene.states(&call).await, [Offer, Ringing, Accept]);

    // Or rejected there.
    let call = scene.call().await;
    scene
        .api
        .until_phone_sees(owner, &call, PhoneCallState::Ringing)
        .await;
    scene.api.phone_rejects(owner, &call).await.unwrap();
    scene.until(&call, Reject).await;
    assert_eq!(scene.states(&call).await, [Offer, Ringing, Reject]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_answers_rings_out_or_is_missed() {
    let mut scene = Scene::new(false).await;
    let to = scene.instance.phone_number.clone();
    let number = scene.caller.number;
    let short = Duration::from_millis(300);
    let call = scene.api.call_for(number, &to, false, short).await;
    scene.until(&call, Timeout).await;
    scene
        .api
        .until_phone_sees(number, &call, PhoneCallState::TimedOut)
        .await;
    assert_eq!(scene.states(&call).await, [Offer, Ringing, Timeout]);
    let refused = scene.api.reject("one", &call).await.unwrap_err();
    assert_eq!(info(&refused), "CALL_ENDED");

    let call = scene.call().await;
    scene.until(&call, Ringing).await;
    scene.api.phone_hangs_up(number, &call).await.unwrap();
    scene.until(&call, Missed).await;
    assert_eq!(scene.states(&call).await, [Offer, Ringing, Missed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_call_of_a_group_says_that_it_is_one() {
    let mut scene = Scene::new(false).await;
    let other = scene.stage.phone("Other").await;
    let new = NewGroup {
        subject: "Choir".to_owned(),
        members: vec![scene.owner.number, other.number],
        ..Default::default()
    };
    let network = scene.stage.network.clone();
    let caller = scene.caller.number;
    let (group, _) = network.create_group(caller, new).await.unwrap();
    let jid = group.jid().to_string();
    let call = scene.api.call(caller, &jid, true).await;
    let offered = scene.until(&call, Offer).await;
    assert!(offered.video && offered.group);
    assert_eq!(offered.group_id, jid);
    let named = offered.caller.unwrap().phone_number;
    assert_eq!(named, caller.to_string());

    // It goes on without the instance.
    scene
        .api
        .until_phone_sees(other.number, &call, PhoneCallState::Ringing)
        .await;
    scene.api.reject("one", &call).await.unwrap();
    scene
        .api
        .until_phone_sees(scene.owner.number, &call, PhoneCallState::Rejected)
        .await;
    scene.api.phone_answers(other.number, &call).await.unwrap();
    let seen = scene
        .api
        .until_phone_sees(caller, &call, PhoneCallState::Accepted)
        .await;
    assert_eq!(seen.by.unwrap().number, other.number.to_string());
    assert_eq!(scene.states(&call).await, [Offer, Ringing, Reject]);

    // Who is not in the group is not called by it.
    let gone = [scene.owner.number];
    let change = MemberChange::Remove;
    network
        .change_members(caller, group, change, &gone)
        .await
        .unwrap();
    let second = scene.api.call(caller, &jid, true).await;
    scene
        .api
        .until_phone_sees(other.number, &second, PhoneCallState::Ringing)
        .await;
    assert!(scene.states(&second).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_away_is_told_once_and_says_what_it_was() {
    let mut scene = Scene::new(true).await;
    let to = scene.instance.phone_number.clone();
    let (owner, caller) = (scene.owner.number, scene.caller.number);
    scene.api.reject_all("one", true, TEXT).await.unwrap();
    scene.disconnect().await;
    let missed = scene.api.call(caller, &to, true).await;
    scene.api.phone_hangs_up(caller, &missed).await.unwrap();
    let answered = scene.api.call(caller, &to, false).await;
    scene
        .api
        .until_phone_sees(owner, &answered, PhoneCallState::Ringing)
        .await;
    scene.api.phone_answers(owner, &answered).await.unwrap();
    scene
        .api
        .until_phone_sees(caller, &answered, PhoneCallState::Accepted)
        .await;
    // Still ringing when it comes back, but not here.
    let rings = scene.api.call(caller, &to, true).await;
    let refused = scene.api.reject("one", &rings).await.unwrap_err();
    assert_eq!(info(&refused), "CALL_NOT_FOUND");
    scene.connect().await;

    let told = scene.until(&missed, Missed).await;
    assert!(told.video && !told.group && told.offer_time.is_some());
    let party = told.caller.unwrap();
    assert_eq!(party.phone_number, caller.to_string());
    assert_eq!(party.name, "Caller");
    assert!(!scene.until(&answered, Accept).await.video);
    assert!(scene.until(&rings, Missed).await.video);
    assert_eq!(scene.states(&missed).await, [Missed]);
    assert_eq!(scene.states(&answered).await, [Accept]);
    assert_eq!(scene.states(&rings).await, [Missed]);
    let refused = scene.api.reject("one", &missed).await.unwrap_err();
    assert_eq!(info(&refused), "CALL_ENDED");

    // Nothing waits, and nobody was written to about what nobody rejected.
    scene.owner.until_nothing_waits().await;
    let mark = "nothing before this";
    scene
        .api
        .send("one", &caller.to_string(), mark)
        .await
        .unwrap();
    assert_eq!(count(&scene.caller, TEXT, mark).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_over_a_restart() {
    let mut scene = Scene::new(false).await;
    let call = scene.call().await;
    let ended = scene.call().await;
    scene.until(&call, Ringing).await;
    scene.until(&ended, Ringing).await;
    scene.stage.stop_gateway().await;
    let network = &scene.stage.network;
    network.end_call(scene.caller.number, &ended).unwrap();
    scene.stage.start_gateway().await;
    scene.api = scene.stage.api().await;
    scene.watcher = Watcher::from_earliest(&scene.api).await;
    scene.until(&ended, Missed).await;
    scene
        .watcher
        .until_state(&scene.instance.id, v1::InstanceState::Open)
        .await;
    // The other one rings still.
    let rejected = scene.api.reject("one", &call).await.unwrap();
    assert_eq!(rejected.state(), Reject);
    scene
        .api
        .until_phone_sees(scene.caller.number, &call, PhoneCallState::Rejected)
        .await;
    assert_eq!(scene.states(&call).await, [Offer, Ringing, Reject]);
    assert_eq!(scene.states(&ended).await, [Offer, Ringing, Missed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_several_times_is_told_once() {
    let mut scene = Scene::new(false).await;
    scene.api.reject_all("one", true, TEXT).await.unwrap();
    let rule = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            number: Some(scene.owner.number),
            device: Some(1),
            tag: Some("call".to_owned()),
            ..Default::default()
        },
        action: FaultAction::Duplicate(3),
        skip: 0,
        count: None,
    };
    scene.stage.network.add_fault(rule).unwrap();
    let call = scene.call().await;
    scene.until(&call, Reject).await;
    scene.caller.until_text(TEXT).await;
    assert_eq!(scene.states(&call).await, [Offer, Reject]);
    let mark = "nothing after it";
    let to = scene.caller.number.to_string();
    scene.api.send("one", &to, mark).await.unwrap();
    assert_eq!(count(&scene.caller, TEXT, mark).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_refused_by_name() {
    let scene = Scene::new(false).await;
    let api = &scene.api;
    let refused = api.reject("one", "no-such-call").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(info(&refused), "CALL_NOT_FOUND");
    for id in [String::new(), "x".repeat(300)] {
        let refused = api.reject("one", &id).await.unwrap_err();
        assert_eq!(info(&refused), "FIELD_INVALID");
        assert_eq!(violated_field(&refused), "call_id");
    }
    let refused = api.reject("nobody", "x").await.unwrap_err();
    assert_eq!(info(&refused), "INSTANCE_NOT_FOUND");

    let long = "x".repeat(65_537);
    let refused = api.reject_all("one", true, &long).await.unwrap_err();
    assert_eq!(info(&refused), "TEXT_TOO_LONG");
    assert_eq!(violated_field(&refused), "reject_calls_text");
    let refused = api.reject_all("one", true, "  ").await.unwrap_err();
    assert_eq!(info(&refused), "FIELD_INVALID");
    assert!(!api.instance("one").await.reject_calls);

    // A phone can't do to a call what it has not to do with.
    let caller = scene.caller.number;
    let unknown = api.phone_answers(caller, "nothing").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let call = scene.call().await;
    let own = api.phone_answers(caller, &call).await.unwrap_err();
    assert_eq!(own.code(), Code::FailedPrecondition);
    api.phone_hangs_up(caller, &call).await.unwrap();
    let twice = api.phone_hangs_up(caller, &call).await.unwrap_err();
    assert_eq!(twice.code(), Code::FailedPrecondition);
}

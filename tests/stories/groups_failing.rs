//! Groups: what goes wrong on WhatsApp's side, or on the way there.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use wagate::{
    proto::v1::{self, GroupMembership, ParticipantAction, event::Payload},
    sandbox::{Direction, FaultAction, FaultMatch, FaultRule, NewGroup, Refusal},
};

use crate::support::{
    Stage, TestPhone, Watcher,
    groups::{id, new_group},
    info, violated_field, within,
};

/// What the account's companion asks about groups, or is answered.
fn stanzas(owner: &TestPhone, direction: Direction, child: Option<&str>) -> FaultMatch {
    FaultMatch {
        direction: Some(direction),
        tag: Some("iq".to_owned()),
        child: child.map(str::to_owned),
        xmlns: (direction == Direction::FromDevice).then(|| "w:g2".to_owned()),
        number: Some(owner.number),
        device: Some(1),
    }
}

fn rule(matches: FaultMatch, action: FaultAction, count: Option<u32>) -> FaultRule {
    FaultRule {
        matches,
        action,
        skip: 0,
        count,
    }
}

/// Waits until a rule has taken a stanza.
async fn until_hit(stage: &Stage, rule: u64) {
    within("a fault", async {
        let hit = || {
            let rules = stage.network.faults();
            rules.iter().any(|one| one.id == rule && one.hits > 0)
        };
        while !hit() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn renamed(subject: &str) -> v1::UpdateGroupRequest {
    v1::UpdateGroupRequest {
        subject: subject.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_ends_is_told_and_refused_from_then_on() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let group = api.create_group("one", "Ends", &[ann.number]).await.id;
    api.send("one", &group, "while it lasts").await.unwrap();
    let mut watcher = Watcher::from_earliest(&api).await;

    stage.network.end_group(id(&group), "terminated").unwrap();
    let told = watcher
        .until_group_updated(&instance.id, "membership")
        .await;
    assert_eq!(told.before.unwrap().membership(), GroupMembership::Member);
    assert_eq!(told.after.unwrap().membership(), GroupMembership::Deleted);

    // The same at once and after a restart.
    for restarted in [false, true] {
        if restarted {
            stage.restart_gateway().await;
        }
        let api = stage.api().await;
        if restarted {
            let mut watcher = Watcher::after(&api, &watcher.cursor).await;
            watcher
                .until_state(&instance.id, v1::InstanceState::Open)
                .await;
        }
        let known = api.group("one", &group).await.unwrap();
        assert_eq!(known.membership(), GroupMembership::Deleted);
        assert_eq!(known.subject, "Ends");
        let add = ParticipantAction::Add;
        let refused: [(Status, &str); 5] = [
            (
                api.send("one", &group, "too late").await.unwrap_err(),
                "recipient",
            ),
            (
                api.update_group("one", &group, &["subject"], renamed("Late"))
                    .await
                    .unwrap_err(),
                "group",
            ),
            (
                api.participants("one", &group, add, &[ann.number])
                    .await
                    .unwrap_err(),
                "group",
            ),
            (api.invite_link("one", &group).await.unwrap_err(), "group"),
            (api.leave("one", &group).await.unwrap_err(), "group"),
        ];
        for (refused, field) in refused {
            assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
            assert_eq!(info(&refused), "GROUP_NOT_FOUND");
            assert_eq!(violated_field(&refused), field);
        }
        let request = v1::ListGroupsRequest {
            instance: "one".to_owned(),
            ..Default::default()
        };
        let listed = api.groups().list_groups(request).await.unwrap();
        assert!(listed.into_inner().groups.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_answer_was_lost_is_not_made_twice() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let answer = stanzas(&owner, Direction::ToDevice, Some("group"));
    let lost = rule(answer, FaultAction::Drop, Some(1));
    let lost = stage.network.add_fault(lost).unwrap();

    let request = v1::CreateGroupRequest {
        request_id: "once".to_owned(),
        announce: true,
        ..new_group("one", "Once", &[ann.number])
    };
    let first = {
        let (api, request) = (api.clone(), request.clone());
        tokio::spawn(async move { api.groups().create_group(request).await })
    };
    until_hit(&stage, lost).await;
    assert_eq!(stage.network.groups(Some(owner.number)).len(), 1);
    stage.network.drop_connection(owner.companion()).unwrap();
    let first = within("the first answer", first).await.unwrap();
    let undecided = first.unwrap_err();
    assert_eq!(info(&undecided), "WHATSAPP_TIMEOUT");
    assert_eq!(undecided.code(), Code::Unavailable);
    assert!(undecided.get_error_details().retry_info().is_some());

    let created = within("the second answer", async {
        loop {
            match api.groups().create_group(request.clone()).await {
                Ok(created) => return created.into_inner(),
                // Not logged in again yet.
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let group = created.group.clone().unwrap();
    assert!(group.announce);
    assert_eq!(group.size, 2);
    let there = stage.network.groups(Some(owner.number));
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].id, id(&group.id));
    let again = api.groups().create_group(request).await.unwrap();
    assert_eq!(again.into_inner(), created);

    api.send("one", &group.id, "all here").await.unwrap();
    watcher.until_group_created(&instance.id, &group.id).await;
    ann.until_text("all here").await;
    let told = watcher.seen.iter().filter(|event| {
        matches!(&event.payload, Some(Payload::GroupCreated(_))) && event.instance == instance.id
    });
    assert_eq!(told.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_changes_are_refused_with_a_time_to_wait() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let group = api.create_group("one", "Slow", &[ann.number]).await.id;
    let new = NewGroup {
        subject: "Ann's".to_owned(),
        members: Vec::new(),
        number_addressed: false,
    };
    let (hers, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let code = stage.network.group_invite(ann.number, hers, false).await;
    let code = code.unwrap();

    let patience = Refusal {
        code: 429,
        backoff: 7,
    };
    let asked = stanzas(&owner, Direction::FromDevice, None);
    let limit = rule(asked, FaultAction::Refuse(patience), None);
    let limit = stage.network.add_fault(limit).unwrap();
    let request = v1::CreateGroupRequest {
        request_id: "later".to_owned(),
        ..new_group("one", "Later", &[ann.number])
    };
    let add = ParticipantAction::Add;
    for refused in [
        api.groups()
            .create_group(request.clone())
            .await
            .unwrap_err(),
        api.update_group("one", &group, &["subject"], renamed("Fast"))
            .await
            .unwrap_err(),
        api.participants("one", &group, add, &[ben.number])
            .await
            .unwrap_err(),
        api.join("one", &code).await.unwrap_err(),
        api.leave("one", &group).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert_eq!(info(&refused), "WHATSAPP_RATE_LIMITED");
        let details = refused.get_error_details();
        let wait = details.retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(wait, Duration::from_secs(7));
    }
    // Nothing was done, and nothing is believed to be.
    let known = api.group("one", &group).await.unwrap();
    assert_eq!((&*known.subject, known.size), ("Slow", 2));
    assert_eq!(stage.network.groups(Some(owner.number)).len(), 1);

    // The same request is done once it is let through.
    stage.network.clear_faults(&[limit]);
    let created = api.groups().create_group(request).await.unwrap();
    assert_eq!(created.into_inner().group.unwrap().subject, "Later");
    assert_eq!(stage.network.groups(Some(owner.number)).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_that_is_revoked_while_joining_leads_nowhere() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let new = NewGroup {
        subject: "Ann's".to_owned(),
        members: Vec::new(),
        number_addressed: false,
    };
    let (group, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let jid = format!("{group}@g.us");
    let code = stage.network.group_invite(ann.number, group, false).await;
    let code = code.unwrap();

    // On its way when the invite goes.
    let asked = stanzas(&owner, Direction::FromDevice, Some("invite"));
    let late = FaultAction::Delay(Duration::from_secs(1));
    let late = stage.network.add_fault(rule(asked, late, Some(1))).unwrap();
    let joining = {
        let (api, code) = (api.clone(), code.clone());
        tokio::spawn(async move { api.join("one", &code).await })
    };
    until_hit(&stage, late).await;
    let fresh = stage.network.group_invite(ann.number, group, true).await;
    let fresh = fresh.unwrap();
    let refused = within("the answer", joining).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(info(&refused), "INVITE_REVOKED");
    assert_eq!(violated_field(&refused), "invite");
    let outside = api.group("one", &jid).await.unwrap_err();
    assert_eq!(info(&outside), "GROUP_NOT_MEMBER");
    let inside = stage.network.group(group).unwrap();
    assert!(!inside.members.contains_key(&owner.number));

    // The new one does, and only then is there a group.
    let mut watcher = Watcher::from_earliest(&api).await;
    api.join("one", &fresh).await.unwrap();
    watcher.until_group_created(&instance.id, &jid).await;
    let known = api.group("one", &jid).await.unwrap();
    assert_eq!(known.membership(), GroupMembership::Member);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_without_the_key_is_answered_by_a_gateway_that_was_away() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let members = [ann.number, ben.number];
    let group = api.create_group("one", "Keys", &members).await.id;
    api.send("one", &group, "with a key").await.unwrap();
    ann.until_text("with a key").await;

    // It comes when the gateway is gone, and can't be read.
    let late = FaultMatch {
        direction: Some(Direction::ToDevice),
        tag: Some("message".to_owned()),
        number: Some(ann.number),
        ..Default::default()
    };
    let delay = FaultAction::Delay(Duration::from_secs(3));
    stage.network.add_fault(rule(late, delay, Some(1))).unwrap();
    let forgotten = stage
        .network
        .forget_sender_key(ann.number, id(&group), owner.companion());
    forgotten.await.unwrap();
    let sent = api.send("one", &group, "without").await.unwrap();
    ben.until_text("without").await;
    stage.stop_gateway().await;
    let before = owner.queued();
    within("the question", async {
        while owner.queued() <= before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stage.start_gateway().await;
    let answered = ann.until_text("without").await;
    assert_eq!(answered.id, sent.id);
}

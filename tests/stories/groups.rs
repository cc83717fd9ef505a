//! Groups: to run one, with phones in it.

use wagate::{
    proto::v1::{
        self, GroupMembership, GroupParticipantChange as Change, GroupRole, ParticipantAction,
        ParticipantOutcome,
    },
    sandbox::{GroupAdds, GroupSetting, Invitation, MemberChange, NewGroup, PhoneOptions},
};

use crate::support::{
    Stage, Watcher,
    groups::{id, members, new_group, outcomes},
    info, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_created_with_those_who_let_themselves_be_added() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let friend = stage.phone("Friend").await;
    let shy = stage
        .phone_with(PhoneOptions {
            push_name: "Shy".to_owned(),
            group_adds: GroupAdds::Nobody,
            ..Default::default()
        })
        .await;
    let mut watcher = Watcher::from_earliest(&api).await;

    let mut request = new_group("one", "Chess", &[friend.number, shy.number]);
    request.participants.push("15550999999".to_owned());
    request.description = "Every Friday".to_owned();
    request.announce = true;
    request.join_approval = true;
    request.only_admins_add = true;
    request.ephemeral_seconds = 86_400;
    request.request_id = "create".to_owned();
    let created = api.groups().create_group(request.clone()).await.unwrap();
    let created = created.into_inner();
    assert_eq!(
        outcomes(&created.results),
        [
            ParticipantOutcome::Done,
            ParticipantOutcome::InviteNeeded,
            ParticipantOutcome::NotOnWhatsapp,
        ]
    );
    let group = created.group.clone().unwrap();
    assert_eq!(
        (&*group.subject, &*group.description),
        ("Chess", "Every Friday")
    );
    assert!(group.announce && group.join_approval && !group.members_may_add && !group.locked);
    assert_eq!(group.ephemeral_seconds, 86_400);
    assert_eq!(
        (group.membership(), group.own_role()),
        (GroupMembership::Member, GroupRole::Owner)
    );
    let wanted = [
        (owner.number.to_string(), true),
        (friend.number.to_string(), false),
    ];
    let mut wanted = wanted.to_vec();
    wanted.sort();
    assert_eq!(members(&group), wanted);
    let told = watcher.until_group_created(&instance.id, &group.id).await;
    assert_eq!(told.group.unwrap().subject, "Chess");
    assert_eq!(told.actor.unwrap().phone_number, owner.number.to_string());

    // The same request is the same group.
    let again = api.groups().create_group(request.clone()).await.unwrap();
    assert_eq!(again.into_inner(), created);
    request.subject = "Go".to_owned();
    let other = api.groups().create_group(request).await.unwrap_err();
    assert_eq!(info(&other), "REQUEST_ID_REUSED");
    assert_eq!(stage.network.groups(Some(owner.number)).len(), 1);

    // What could not be done is offered: the invite goes out as a message and lets the friend in.
    let invite = created.results[1].invite.clone().unwrap();
    let request = v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: shy.number.to_string(),
        content: Some(v1::send_message_request::Content::GroupInvite(
            v1::GroupInviteContent {
                group_id: invite.group.clone(),
                subject: group.subject.clone(),
                code: invite.code.clone(),
                expire_time: invite.expire_time,
                caption: "come!".to_owned(),
            },
        )),
        ..Default::default()
    };
    api.messages().send_message(request).await.unwrap();
    let invitation = Invitation {
        code: invite.code,
        expires: invite.expire_time.unwrap().seconds as u64,
    };
    stage
        .network
        .accept_invitation(shy.number, id(&group.id), &invitation)
        .await
        .unwrap();
    watcher
        .until_members(&instance.id, Change::Add, shy.number)
        .await;
    assert_eq!(api.group("one", &group.id).await.unwrap().size, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_added_promoted_demoted_and_removed() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let mut watcher = Watcher::from_earliest(&api).await;
    let group = api.create_group("one", "Chess", &[ann.number]).await.id;

    for (action, change) in [
        (ParticipantAction::Add, Change::Add),
        (ParticipantAction::Promote, Change::Promote),
        (ParticipantAction::Demote, Change::Demote),
        (ParticipantAction::Remove, Change::Remove),
    ] {
        let results = api.participants("one", &group, action, &[ben.number]).await;
        let results = results.unwrap();
        assert_eq!(outcomes(&results), [ParticipantOutcome::Done], "{action:?}");
        assert_eq!(results[0].participant, ben.number.to_string());
        let told = watcher
            .until_members(&instance.id, change, ben.number)
            .await;
        let actor = told.actor.unwrap().phone_number;
        assert_eq!(actor, owner.number.to_string(), "{action:?}");
        assert!(!told.includes_self);
        let known = api.group("one", &group).await.unwrap();
        let ben = members(&known)
            .into_iter()
            .find(|(number, _)| *number == ben.number.to_string());
        let promoted = action == ParticipantAction::Promote;
        let wanted = (action != ParticipantAction::Remove).then_some(promoted);
        assert_eq!(ben.map(|(_, admin)| admin), wanted, "{action:?}");
    }
    let again = api
        .participants("one", &group, ParticipantAction::Add, &[ann.number])
        .await
        .unwrap();
    assert_eq!(outcomes(&again), [ParticipantOutcome::AlreadyAMember]);
    let stranger = api
        .participants("one", &group, ParticipantAction::Remove, &[ben.number])
        .await
        .unwrap();
    assert_eq!(outcomes(&stranger), [ParticipantOutcome::NotAMember]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_phone_changes_is_told_with_who_did_it() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let mut watcher = Watcher::from_earliest(&api).await;
    let new = NewGroup {
        subject: "Ann's".to_owned(),
        members: vec![owner.number],
        number_addressed: false,
    };
    let (group, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let jid = format!("{group}@g.us");
    let told = watcher.until_group_created(&instance.id, &jid).await;
    assert_eq!(told.actor.unwrap().phone_number, ann.number.to_string());
    assert_eq!(told.group.unwrap().own_role(), GroupRole::Member);

    let settings = [
        (GroupSetting::Subject("Renamed".to_owned()), "subject"),
        (
            GroupSetting::Description("What for".to_owned()),
            "description",
        ),
        (GroupSetting::Announce(true), "announce"),
        (GroupSetting::Locked(true), "locked"),
        (GroupSetting::Ephemeral(604_800), "ephemeral_seconds"),
        (GroupSetting::Approval(true), "join_approval"),
        (GroupSetting::MembersAdd(false), "members_may_add"),
        (GroupSetting::History(true), "history_for_newcomers"),
    ];
    for (setting, field) in settings {
        stage
            .network
            .set_group(ann.number, group, setting)
            .await
            .unwrap();
        let told = watcher.until_group_updated(&instance.id, field).await;
        let actor = told.actor.unwrap_or_default().phone_number;
        assert_eq!(actor, ann.number.to_string(), "{field}");
        assert_ne!(told.before, told.after);
    }
    let known = api.group("one", &jid).await.unwrap();
    assert_eq!(
        (&*known.subject, &*known.description),
        ("Renamed", "What for")
    );
    assert!(known.announce && known.locked && known.join_approval && !known.members_may_add);
    assert!(known.history_for_newcomers);
    assert_eq!(known.ephemeral_seconds, 604_800);

    for (change, wanted) in [
        (MemberChange::Add, Change::Add),
        (MemberChange::Promote, Change::Promote),
        (MemberChange::Demote, Change::Demote),
        (MemberChange::Remove, Change::Remove),
    ] {
        stage
            .network
            .change_members(ann.number, group, change, &[ben.number])
            .await
            .unwrap();
        let told = watcher
            .until_members(&instance.id, wanted, ben.number)
            .await;
        let actor = told.actor.unwrap_or_default();
        assert_eq!(actor.phone_number, ann.number.to_string());
        assert_eq!(actor.name, "Ann");
    }
    stage
        .network
        .change_members(ann.number, group, MemberChange::Promote, &[owner.number])
        .await
        .unwrap();
    let told = watcher
        .until_members(&instance.id, Change::Promote, owner.number)
        .await;
    assert!(told.includes_self);
    let known = api.group("one", &jid).await.unwrap();
    assert_eq!(known.own_role(), GroupRole::Admin);

    stage
        .network
        .change_members(ann.number, group, MemberChange::Remove, &[owner.number])
        .await
        .unwrap();
    let told = watcher
        .until_members(&instance.id, Change::Remove, owner.number)
        .await;
    assert!(told.includes_self);
    let known = api.group("one", &jid).await.unwrap();
    assert_eq!(known.membership(), GroupMembership::Removed);
    assert_eq!(known.own_role(), GroupRole::Unspecified);
    let gone = api.send("one", &jid, "hello?").await.unwrap_err();
    assert_eq!(info(&gone), "GROUP_NOT_MEMBER");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_changed_field_by_field() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let group = api.create_group("one", "Chess", &[ann.number]).await.id;

    let fields = v1::UpdateGroupRequest {
        subject: "Go".to_owned(),
        description: "On Mondays".to_owned(),
        picture: PNG.into(),
        announce: true,
        locked: true,
        ephemeral_seconds: 7_776_000,
        join_approval: true,
        members_may_add: false,
        history_for_newcomers: true,
        ..Default::default()
    };
    let all = [
        "subject",
        "description",
        "picture",
        "announce",
        "locked",
        "ephemeral_seconds",
        "join_approval",
        "members_may_add",
        "history_for_newcomers",
    ];
    let changed = api.update_group("one", &group, &all, fields).await.unwrap();
    assert_eq!(
        (&*changed.subject, &*changed.description),
        ("Go", "On Mondays")
    );
    assert!(changed.announce && changed.locked && changed.join_approval);
    assert!(!changed.members_may_add && changed.history_for_newcomers);
    assert!(!changed.picture_id.is_empty() && changed.participants.is_empty());
    for field in ["subject", "announce", "history_for_newcomers", "picture_id"] {
        let told = watcher.until_group_updated(&instance.id, field).await;
        let by = told.actor.unwrap().phone_number;
        assert_eq!(by, instance.phone_number, "{field}");
    }
    let seen = stage.network.group(id(&group)).unwrap();
    assert_eq!(seen.subject.text, "Go");
    assert_eq!(seen.description.unwrap().text, "On Mondays");
    assert!(seen.announce && seen.locked && seen.approval && !seen.members_add && seen.history);
    assert_eq!(seen.ephemeral, 7_776_000);
    let jpeg = seen.picture.unwrap().jpeg;
    assert!(jpeg.starts_with(b"\xff\xd8\xff"));

    // And back; only what is named.
    let fields = v1::UpdateGroupRequest {
        subject: "not named".to_owned(),
        members_may_add: true,
        ..Default::default()
    };
    let some = [
        "description",
        "picture",
        "announce",
        "ephemeral_seconds",
        "members_may_add",
    ];
    let changed = api
        .update_group("one", &group, &some, fields)
        .await
        .unwrap();
    assert_eq!((&*changed.subject, &*changed.description), ("Go", ""));
    assert!(changed.picture_id.is_empty() && !changed.announce && changed.locked);
    assert_eq!(changed.ephemeral_seconds, 0);
    let seen = stage.network.group(id(&group)).unwrap();
    assert!(seen.description.is_none() && seen.picture.is_none() && seen.members_add);
    within("the cache to agree", async {
        while api.group("one", &group).await.unwrap().announce {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// One grey pixel.
const PNG: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\
    \x00\x01\x08\x00\x00\x00\x00\x3a\x7e\x9b\x55\x00\x00\x00\x0a\x49\x44\x41\x54\x78\x9c\x63\
    \x68\x00\x00\x00\x82\x00\x81\x77\xcd\x72\xb6\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\
    \x82";

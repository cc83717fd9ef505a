//! Groups: to come in by an invite, to be let in, and to leave.

use wagate::{
    proto::v1::{
        self, GroupJoinRequestChange, GroupMembership, GroupParticipantChange as Change,
        JoinDecision, ParticipantOutcome,
    },
    sandbox::{GroupSetting, Joined, MemberChange, NewGroup},
};

use crate::support::{
    Api, Stage, Watcher,
    groups::{id, outcomes},
    info, violated_field,
};

async fn reviewed(
    api: &Api,
    group: &str,
    decision: JoinDecision,
    people: &[wagate::sandbox::Number],
) -> Vec<ParticipantOutcome> {
    let request = v1::ReviewJoinRequestsRequest {
        instance: "one".to_owned(),
        group: group.to_owned(),
        decision: decision.into(),
        participants: people.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let answer = api.groups().review_join_requests(request).await.unwrap();
    outcomes(&answer.into_inner().results)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_joins_by_a_link_and_leaves() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (one, _) = stage.open_instance(&api, "one").await;
    let (two, other) = stage.open_instance(&api, "two").await;
    let ann = stage.phone("Ann").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let group = api.create_group("one", "Open", &[]).await.id;
    let link = api.invite_link("one", &group).await.unwrap();

    let request = v1::GetInviteInfoRequest {
        instance: "two".to_owned(),
        invite: link.clone(),
    };
    let seen = api.groups().get_invite_info(request).await.unwrap();
    let seen = seen.into_inner().group.unwrap();
    assert_eq!((&*seen.id, &*seen.subject, seen.size), (&*group, "Open", 1));
    assert_eq!(seen.membership(), GroupMembership::Unspecified);
    let stranger = api.group("two", &group).await.unwrap_err();
    assert_eq!(info(&stranger), "GROUP_NOT_MEMBER");

    let joined = api.join("two", &link).await.unwrap();
    assert_eq!(
        (&*joined.group_id, joined.pending_approval),
        (&*group, false)
    );
    watcher.until_group_created(&two.id, &group).await;
    let told = watcher
        .until_members(&one.id, Change::Join, other.number)
        .await;
    assert_eq!(told.actor.unwrap().phone_number, other.number.to_string());
    let again = api.join("two", &link).await.unwrap();
    assert_eq!(again.group_id, group);

    // A phone does the same.
    let code = link.rsplit('/').next().unwrap();
    let done = stage.network.join_group(ann.number, code).await.unwrap();
    assert_eq!(done, Joined::Member(id(&group)));
    watcher
        .until_members(&two.id, Change::Join, ann.number)
        .await;

    // The link goes, and with it the way in.
    let request = v1::ResetInviteLinkRequest {
        instance: "one".to_owned(),
        group: group.clone(),
        request_id: "reset".to_owned(),
    };
    let reset = api.groups().reset_invite_link(request.clone()).await;
    let reset = reset.unwrap().into_inner();
    assert_ne!(reset.link, link);
    let once = api.groups().reset_invite_link(request).await.unwrap();
    assert_eq!(once.into_inner(), reset);
    api.leave("two", &group).await.unwrap();
    let told = watcher
        .until_members(&one.id, Change::Leave, other.number)
        .await;
    assert_eq!(told.actor.unwrap().phone_number, other.number.to_string());
    let left = api.group("two", &group).await.unwrap();
    assert_eq!(left.membership(), GroupMembership::Left);
    let twice = api.leave("two", &group).await.unwrap_err();
    assert_eq!(info(&twice), "GROUP_NOT_MEMBER");
    let revoked = api.join("two", &link).await.unwrap_err();
    assert_eq!(info(&revoked), "INVITE_REVOKED");
    assert_eq!(violated_field(&revoked), "invite");
    let unknown = api.join("two", "AAAABBBBCCCCDDDDEEEEFF").await;
    assert_eq!(info(&unknown.unwrap_err()), "INVITE_INVALID");
    api.join("two", &reset.code).await.unwrap();

    // Whoever was thrown out does not come back by the link.
    let out = [other.number];
    let remove = v1::ParticipantAction::Remove;
    api.participants("one", &group, remove, &out).await.unwrap();
    watcher
        .until_members(&two.id, Change::Remove, other.number)
        .await;
    let barred = api.join("two", &reset.link).await.unwrap_err();
    assert_eq!(info(&barred), "GROUP_JOIN_REFUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_let_in_or_turned_away() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let mut watcher = Watcher::from_earliest(&api).await;
    let group = api.create_group("one", "Closed", &[]).await.id;
    let fields = v1::UpdateGroupRequest {
        join_approval: true,
        ..Default::default()
    };
    api.update_group("one", &group, &["join_approval"], fields)
        .await
        .unwrap();
    let link = api.invite_link("one", &group).await.unwrap();
    let code = link.rsplit('/').next().unwrap();
    for phone in [&ann, &ben] {
        let asked = stage.network.join_group(phone.number, code).await.unwrap();
        assert_eq!(asked, Joined::Waiting(id(&group)));
    }
    let told = watcher
        .until_requests(&instance.id, GroupJoinRequestChange::Created)
        .await;
    assert_eq!((&*told.group_id, &*told.method), (&*group, "invite_link"));
    assert!(!told.parties[0].phone_number.is_empty());

    let request = v1::ListJoinRequestsRequest {
        instance: "one".to_owned(),
        group: group.clone(),
    };
    let waiting = api.groups().list_join_requests(request.clone()).await;
    let waiting = waiting.unwrap().into_inner().requests;
    let mut numbers: Vec<_> = waiting
        .iter()
        .map(|one| one.party.clone().unwrap().phone_number)
        .collect();
    numbers.sort();
    let mut wanted = [ann.number, ben.number].map(|number| number.to_string());
    wanted.sort();
    assert_eq!(numbers, wanted);
    assert!(waiting.iter().all(|one| one.request_time.is_some()));

    let done = [ParticipantOutcome::Done];
    let approved = reviewed(&api, &group, JoinDecision::Approve, &[ann.number]).await;
    assert_eq!(approved, done);
    watcher
        .until_members(&instance.id, Change::Approve, ann.number)
        .await;
    let rejected = reviewed(&api, &group, JoinDecision::Reject, &[ben.number]).await;
    assert_eq!(rejected, done);
    watcher
        .until_requests(&instance.id, GroupJoinRequestChange::Rejected)
        .await;
    let late = reviewed(&api, &group, JoinDecision::Approve, &[ben.number]).await;
    assert_eq!(late, [ParticipantOutcome::NotAMember]);
    let none = api.groups().list_join_requests(request).await.unwrap();
    assert!(none.into_inner().requests.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_waits_until_it_is_let_in() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let new = NewGroup {
        subject: "Ann's".to_owned(),
        ..Default::default()
    };
    let (group, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let approval = GroupSetting::Approval(true);
    stage
        .network
        .set_group(ann.number, group, approval)
        .await
        .unwrap();
    let code = stage.network.group_invite(ann.number, group, false);
    let code = code.await.unwrap();
    let asked = api.join("one", &code).await.unwrap();
    assert!(asked.pending_approval && asked.group.is_none());
    let jid = asked.group_id;
    assert_eq!(id(&jid), group);
    let approve = MemberChange::Approve;
    stage
        .network
        .change_members(ann.number, group, approve, &[owner.number])
        .await
        .unwrap();
    let told = watcher.until_group_created(&instance.id, &jid).await;
    assert_eq!(told.actor.unwrap().phone_number, ann.number.to_string());
    assert_eq!(api.group("one", &jid).await.unwrap().size, 2);

    // Only admins review.
    let request = v1::ListJoinRequestsRequest {
        instance: "one".to_owned(),
        group: jid,
    };
    let refused = api.groups().list_join_requests(request).await.unwrap_err();
    assert_eq!(info(&refused), "GROUP_ADMIN_REQUIRED");
}

//! Who may do what in a group, how people come in, and what they hear when they may not.

use wacore::stanza::groups::GroupNotificationAction as Action;
use whatsapp_rust::features::{
    GroupCreateOptions, GroupParticipantOptions, JoinGroupResult, MemberLinkMode,
    MemberShareHistoryMode,
};

use super::{
    groups::{tea, trio},
    *,
};

fn denied<T: std::fmt::Debug>(result: Result<T, SandboxError>) -> u16 {
    match result {
        Err(SandboxError::Denied { code, .. }) => code,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

async fn shy_phone(sandbox: &Sandbox, name: &str) -> Number {
    let options = PhoneOptions {
        push_name: name.to_owned(),
        group_adds: GroupAdds::Contacts,
        ..PhoneOptions::default()
    };
    sandbox.create_phone(options).await.unwrap().number
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_do_what_the_settings_leave_to_them() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let group = tea(&sandbox, ada, &[bob]).await;
    let set = async |phone, setting| sandbox.set_group(phone, group, setting).await;
    // A member edits and adds at first, and never decides.
    let subject = |text: &str| GroupSetting::Subject(text.to_owned());
    set(bob, subject("Tea and cake")).await.unwrap();
    assert_eq!(sandbox.group(group).unwrap().subject.by, bob);
    assert_eq!(denied(set(bob, GroupSetting::Locked(true)).await), 403);
    assert_eq!(denied(set(bob, GroupSetting::Announce(true)).await), 403);
    assert_eq!(denied(sandbox.group_invite(bob, group, false).await), 401);
    assert_eq!(denied(sandbox.group_invite(bob, group, true).await), 401);
    let change = async |change, whom| sandbox.change_members(bob, group, change, &[whom]).await;
    assert_eq!(denied(change(MemberChange::Promote, bob).await), 403);
    // Nobody else does anything.
    assert_eq!(denied(set(eve, subject("Mine")).await), 403);
    assert_eq!(denied(sandbox.group_invite(eve, group, false).await), 403);
    assert_eq!(denied(sandbox.leave_group(eve, group).await), 403);
    assert_eq!(
        denied(sandbox.send_group_text(eve, group, "hello").await),
        403
    );

    for setting in [
        GroupSetting::Locked(true),
        GroupSetting::Announce(true),
        GroupSetting::MembersAdd(false),
    ] {
        set(ada, setting).await.unwrap();
    }
    assert_eq!(denied(set(bob, subject("Cake")).await), 403);
    assert_eq!(denied(set(bob, GroupSetting::Ephemeral(86_400)).await), 403);
    assert_eq!(denied(change(MemberChange::Add, eve).await), 403);
    assert_eq!(
        denied(sandbox.send_group_text(bob, group, "hello").await),
        405
    );
    sandbox.send_group_text(ada, group, "hello").await.unwrap();
    // What makes no sense, makes none for admins either.
    assert_eq!(denied(set(ada, subject("")).await), 406);
    assert_eq!(denied(set(ada, subject(&"x".repeat(101))).await), 406);
    let description = GroupSetting::Description("x".repeat(2049));
    assert_eq!(denied(set(ada, description).await), 406);
    assert_eq!(denied(set(ada, GroupSetting::Ephemeral(77)).await), 400);
    let picture = GroupSetting::Picture(b"no image".to_vec());
    assert_eq!(denied(set(ada, picture).await), 406);
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_touches_the_owner_and_ranks_pass_on() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let group = tea(&sandbox, ada, &[bob, eve]).await;
    let change = async |phone, change, whom| {
        let outcomes = sandbox.change_members(phone, group, change, &[whom]).await;
        outcomes.unwrap()[0].code
    };
    assert_eq!(change(ada, MemberChange::Promote, bob).await, 200);
    assert_eq!(change(ada, MemberChange::Promote, bob).await, 200);
    assert_eq!(change(bob, MemberChange::Demote, ada).await, 406);
    assert_eq!(change(bob, MemberChange::Remove, ada).await, 406);
    let stranger = Number::from(15_550_009_999);
    assert_eq!(change(bob, MemberChange::Remove, stranger).await, 404);
    assert_eq!(change(bob, MemberChange::Demote, bob).await, 200);
    sandbox.leave_group(ada, group).await.unwrap();
    // The last admin has gone: the eldest of the others takes over.
    assert_eq!(sandbox.group(group).unwrap().rank(bob), Some(Rank::Admin));
    sandbox.leave_group(bob, group).await.unwrap();
    sandbox.leave_group(eve, group).await.unwrap();
    assert!(matches!(
        sandbox.group(group),
        Err(SandboxError::NoSuchGroup(_))
    ));
    assert_eq!(denied(sandbox.leave_group(eve, group).await), 404);
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_be_added_is_invited() {
    let sandbox = sandbox().await;
    let (ada, eve) = (
        phone(&sandbox, "Ada").await,
        shy_phone(&sandbox, "Eve").await,
    );
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let client = gateway.client();
    let options =
        GroupCreateOptions::new("Tea").with_participant(GroupParticipantOptions::new(eve.jid()));
    let created = client
        .groups()
        .create_group(options)
        .await
        .unwrap()
        .metadata;
    let group = GroupId::of(&created.id).unwrap();
    assert_eq!(sandbox.group(group).unwrap().members.len(), 1);

    let added = client
        .groups()
        .add_participants(created.id.clone(), &[eve.jid()])
        .await
        .unwrap();
    assert_eq!(added[0].error.as_deref(), Some("403"));
    let ticket = added[0].add_request.clone().unwrap();
    let mut invitation = Invitation {
        code: "nonsense".to_owned(),
        expires: ticket.expiration,
    };
    let refused = sandbox.accept_invitation(eve, group, &invitation).await;
    assert_eq!(denied(refused), 410);
    invitation.code = ticket.code;
    let joined = sandbox.accept_invitation(eve, group, &invitation).await;
    assert_eq!(joined.unwrap(), Joined::Member(group));
    // As if the one who invited had added.
    gateway
        .group_update("the addition", |update| {
            let added = matches!(&update.action, Action::Add { reason: None, .. });
            (added && update.participant_pn == Some(ada.jid())).then_some(())
        })
        .await;
    gateway.send(group.jid(), "welcome").await;
    seen(&sandbox, eve, |message| {
        message.text.as_deref() == Some("welcome")
    })
    .await;

    // Among contacts nobody needs an invitation.
    sandbox.leave_group(eve, group).await.unwrap();
    sandbox.send_text(eve, ada, "add me").await.unwrap();
    gateway.received("add me").await;
    let added = client
        .groups()
        .add_participants(created.id, &[eve.jid()])
        .await
        .unwrap();
    assert!(added[0].is_ok());
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_by_the_invite_code() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let (bobs, _) = Gateway::paired(&sandbox, bob).await;
    let (client, groups) = (gateway.client(), bobs.client());
    let created = client
        .groups()
        .create_group(GroupCreateOptions::new("Tea"))
        .await
        .unwrap()
        .metadata;
    let (jid, group) = (created.id.clone(), GroupId::of(&created.id).unwrap());
    let link = client
        .groups()
        .get_invite_link(jid.clone(), false)
        .await
        .unwrap();
    let code = link.rsplit('/').next().unwrap();
    let shown = groups.groups().get_invite_info(code).await.unwrap();
    assert_eq!(
        (shown.id.clone(), shown.subject.as_str()),
        (jid.clone(), "Tea")
    );
    let joined = groups.groups().join_with_invite_code(code).await.unwrap();
    assert_eq!(joined, JoinGroupResult::Joined(jid.clone()));
    gateway
        .group_update("the newcomer", |update| match &update.action {
            Action::Add { reason, .. } if update.participant_pn == Some(bob.jid()) => {
                assert_eq!(reason.as_deref(), Some("invite"));
                Some(())
            }
            _ => None,
        })
        .await;
    bobs.group_update("the new group", |update| {
        matches!(update.action, Action::Create { .. }).then_some(())
    })
    .await;

    let again = groups.groups().join_with_invite_code(code).await;
    assert!(again.unwrap_err().to_string().contains("409"));
    client
        .groups()
        .get_invite_link(jid.clone(), true)
        .await
        .unwrap();
    assert_eq!(denied(sandbox.join_group(eve, code).await), 410);
    assert_eq!(denied(sandbox.join_group(eve, "nonsense").await), 406);
    bobs.group_update("the new code", |update| {
        matches!(update.action, Action::Invite { .. }).then_some(())
    })
    .await;

    // Who was thrown out stays out until an admin says otherwise.
    let code = sandbox.group(group).unwrap().invite;
    sandbox
        .change_members(ada, group, MemberChange::Remove, &[bob])
        .await
        .unwrap();
    assert_eq!(denied(sandbox.join_group(bob, &code).await), 405);
    sandbox
        .change_members(ada, group, MemberChange::Add, &[bob])
        .await
        .unwrap();
    sandbox.leave_group(bob, group).await.unwrap();
    sandbox.join_group(bob, &code).await.unwrap();
    gateway.stop().await;
    bobs.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_answer_requests_to_join() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, ada, &[]).await;
    let approval = GroupSetting::Approval(true);
    sandbox.set_group(ada, group, approval).await.unwrap();
    let code = sandbox.group(group).unwrap().invite;
    for guest in [bob, eve] {
        let joined = sandbox.join_group(guest, &code).await.unwrap();
        assert_eq!(joined, Joined::Waiting(group));
        gateway
            .group_update("the request", |update| match &update.action {
                Action::CreatedMembershipRequests { requests, .. }
                    if requests[0].phone_number == Some(guest.jid()) =>
                {
                    Some(())
                }
                _ => None,
            })
            .await;
    }
    let client = gateway.client();
    let requests = client
        .groups()
        .get_membership_requests(&group.jid())
        .await
        .unwrap();
    assert_eq!(requests.len(), 2);
    let results = client
        .groups()
        .approve_membership_requests(&group.jid(), &[bob.jid(), ada.jid()])
        .await
        .unwrap();
    assert!(results[0].is_ok());
    assert_eq!(results[1].error.as_deref(), Some("404"));
    gateway
        .group_update("the addition", |update| {
            matches!(&update.action, Action::Add { .. }).then_some(())
        })
        .await;
    client
        .groups()
        .reject_membership_requests(&group.jid(), &[eve.jid()])
        .await
        .unwrap();
    gateway
        .group_update("the rejection", |update| {
            matches!(&update.action, Action::RevokedMembershipRequests { .. }).then_some(())
        })
        .await;
    let now = sandbox.group(group).unwrap();
    assert!(now.rank(bob).is_some() && now.rank(eve).is_none() && now.requests.is_empty());
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// Where admins decide who comes, members only propose.
#[tokio::test(flavor = "multi_thread")]
async fn members_propose_and_admins_decide() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let group = tea(&sandbox, ada, &[bob]).await;
    let approval = GroupSetting::Approval(true);
    sandbox.set_group(ada, group, approval).await.unwrap();
    let change = async |phone, change| {
        let outcomes = sandbox.change_members(phone, group, change, &[eve]).await;
        outcomes.unwrap()[0].code
    };
    assert_eq!(change(bob, MemberChange::Add).await, 202);
    assert!(sandbox.group(group).unwrap().rank(eve).is_none());
    assert_eq!(change(ada, MemberChange::Reject).await, 200);
    assert_eq!(change(ada, MemberChange::Approve).await, 404);
    assert_eq!(change(bob, MemberChange::Add).await, 202);
    assert_eq!(change(ada, MemberChange::Approve).await, 200);
    assert!(sandbox.group(group).unwrap().rank(eve).is_some());
    sandbox.shutdown().await;
}

/// Settings that clients ask for in another way than the rest.
#[tokio::test(flavor = "multi_thread")]
async fn members_may_hand_out_the_code_if_admins_let_them() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, ada, &[bob]).await;
    assert_eq!(denied(sandbox.group_invite(bob, group, false).await), 401);
    let (client, jid) = (gateway.client(), group.jid());
    let groups = client.groups();
    groups
        .set_member_link_mode(&jid, MemberLinkMode::AllMemberLink)
        .await
        .unwrap();
    sandbox.group_invite(bob, group, false).await.unwrap();
    groups
        .set_member_share_history_mode(&jid, MemberShareHistoryMode::AllMemberShare)
        .await
        .unwrap();
    groups.set_group_history(jid, true).await.unwrap();
    let now = sandbox.group(group).unwrap();
    assert!(now.members_invite && now.members_share && now.history);
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// Who names people by the other of their names has to look at the group again first.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_the_other_addressing_is_refused() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, bob, &[ada]).await;
    let message = NodeBuilder::new("message")
        .attr("to", group.jid())
        .attr("id", "A1")
        .attr("type", "text")
        .attr("addressing_mode", "pn")
        .children([NodeBuilder::new("enc")
            .attr("type", "skmsg")
            .bytes([7])
            .build()])
        .build();
    gateway.client().send_node(message).await.unwrap();
    until("it is refused", || {
        let log = sandbox.wire_log(device, 0);
        log.iter()
            .any(|entry| entry.text.starts_with("<ack") && entry.text.contains("error=\"421\""))
    })
    .await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_told_and_shown() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, bob, &[ada]).await;
    let client = gateway.client();
    let jpeg = vec![0xff, 0xd8, 0xff, 0xe0, 1, 2, 3];
    let set = client
        .groups()
        .set_profile_picture(group.jid(), jpeg.clone())
        .await
        .unwrap();
    let pick = |event: &Event| match event {
        Event::PictureUpdate(update) => Some((update.jid.clone(), update.picture_id.clone())),
        _ => None,
    };
    let told = gateway.events.next("the picture", pick).await;
    assert_eq!(told, (group.jid(), Some(set.id.clone())));
    let found = client
        .contacts()
        .get_profile_picture(&group.jid(), false)
        .await;
    let found = found.unwrap().unwrap();
    assert_eq!(found.id, set.id);
    assert!(found.url.starts_with("http://127.0.0.1:"));
    assert_eq!(sandbox.group(group).unwrap().picture.unwrap().jpeg, jpeg);
    client
        .groups()
        .remove_profile_picture(group.jid())
        .await
        .unwrap();
    gateway.events.next("no picture", pick).await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_group_is_gone_for_all() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let group = tea(&sandbox, bob, &[ada]).await;
    sandbox.end_group(group, "tea is out").unwrap();
    gateway
        .group_update("the end", |update| match &update.action {
            Action::Delete { reason } => {
                assert_eq!(reason.as_deref(), Some("tea is out"));
                Some(())
            }
            _ => None,
        })
        .await;
    let refused = gateway.client().groups().get_metadata(&group.jid()).await;
    assert!(refused.unwrap_err().to_string().contains("404"));
    assert!(sandbox.groups(None).is_empty());
    gateway.stop().await;
    sandbox.shutdown().await;
}

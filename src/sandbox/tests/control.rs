//! The gRPC face: what it answers and what it refuses.

use tonic::{Code, Request};

use super::*;
use crate::proto::sandbox_v1::{self as pb, sandbox_service_server::SandboxService as _};

#[tokio::test(flavor = "multi_thread")]
async fn phones_talk_over_grpc() {
    let sandbox = sandbox().await;
    let service = sandbox.service();
    let create = |name: &str| {
        Request::new(pb::CreatePhoneRequest {
            push_name: name.to_owned(),
            ..Default::default()
        })
    };
    let ada = service
        .create_phone(create("Ada"))
        .await
        .unwrap()
        .into_inner()
        .phone
        .unwrap();
    let bob = service
        .create_phone(create("Bob"))
        .await
        .unwrap()
        .into_inner()
        .phone
        .unwrap();
    let phones = service
        .list_phones(Request::new(pb::ListPhonesRequest {}))
        .await
        .unwrap();
    assert_eq!(phones.into_inner().phones, [ada.clone(), bob.clone()]);

    let request = pb::SendTextRequest {
        phone: ada.number.clone(),
        to: bob.lid.clone(),
        text: "hello".to_owned(),
        ..Default::default()
    };
    let sent = service
        .send_text(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    let request = pb::StreamInboxRequest {
        phone: bob.number.clone(),
        after_sequence: 0,
    };
    let mut inbox = service
        .stream_inbox(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    let message = inbox.next().await.unwrap().unwrap().message.unwrap();
    assert_eq!((message.id, message.text), (sent.id, "hello".to_owned()));
    assert_eq!((message.sender, message.from_me), (ada.number, false));

    let info = service
        .get_network_info(Request::new(pb::GetNetworkInfoRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(info.websocket_url, sandbox.ws_url());
    assert_eq!(info.noise_static_key[..], sandbox.static_key());
    assert_eq!(info.root_key.len(), 32);
    sandbox.shutdown().await;
    assert!(inbox.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_run_a_group_over_grpc() {
    let sandbox = sandbox().await;
    let service = sandbox.service();
    let numbers = [
        phone(&sandbox, "Ada").await,
        phone(&sandbox, "Bob").await,
        phone(&sandbox, "Eve").await,
    ];
    let [ada, bob, eve] = numbers.map(|number| number.to_string());
    let create = pb::CreateGroupRequest {
        phone: ada.clone(),
        subject: "Tea".to_owned(),
        members: vec![bob.clone(), "15550009999".to_owned()],
        ..Default::default()
    };
    let created = service.create_group(Request::new(create)).await.unwrap();
    let created = created.into_inner();
    assert_eq!(created.refused.len(), 1);
    assert_eq!(created.refused[0].code, 404);
    let group = created.group.unwrap();
    let ranks: Vec<(&str, pb::GroupRank)> = group
        .members
        .iter()
        .map(|member| (member.number.as_str(), member.rank()))
        .collect();
    let expected = [
        (ada.as_str(), pb::GroupRank::Owner),
        (bob.as_str(), pb::GroupRank::Member),
    ];
    assert_eq!(ranks, expected);

    let update = pb::UpdateGroupRequest {
        phone: ada.clone(),
        group: group.id.clone(),
        setting: Some(pb::update_group_request::Setting::Approval(true)),
    };
    let updated = service.update_group(Request::new(update)).await.unwrap();
    assert!(updated.into_inner().group.unwrap().approval);
    let request = pb::GetGroupInviteRequest {
        phone: ada.clone(),
        group: group.id.clone(),
    };
    let code = service.get_group_invite(Request::new(request)).await;
    let code = code.unwrap().into_inner().code;
    let join = pb::JoinGroupRequest {
        phone: eve.clone(),
        code,
        ..Default::default()
    };
    let joined = service
        .join_group(Request::new(join.clone()))
        .await
        .unwrap();
    assert!(joined.into_inner().waiting);
    let approve = pb::ChangeGroupMembersRequest {
        phone: ada.clone(),
        group: group.id.clone(),
        change: pb::GroupMemberChange::Approve.into(),
        members: vec![eve.clone()],
    };
    let approved = service.change_group_members(Request::new(approve)).await;
    let approved = approved.unwrap().into_inner();
    assert_eq!(approved.outcomes[0].code, 200);
    assert_eq!(approved.group.unwrap().members.len(), 3);

    let text = pb::SendTextRequest {
        phone: bob.clone(),
        to: group.id.clone(),
        text: "welcome".to_owned(),
        mentions: vec![format!("{eve}@s.whatsapp.net")],
        ..Default::default()
    };
    let sent = service.send_text(Request::new(text.clone())).await.unwrap();
    let inbox = pb::StreamInboxRequest {
        phone: eve.clone(),
        after_sequence: 0,
    };
    let inbox = service.stream_inbox(Request::new(inbox)).await.unwrap();
    let seen = inbox.into_inner().next().await.unwrap().unwrap();
    let seen = seen.message.unwrap();
    assert_eq!((&seen.group, &seen.sender), (&group.id, &bob));
    assert_eq!(seen.id, sent.into_inner().id);

    let reset = pb::ResetGroupInviteRequest {
        phone: ada.clone(),
        group: group.id.clone(),
    };
    service
        .reset_group_invite(Request::new(reset))
        .await
        .unwrap();
    let leave = pb::LeaveGroupRequest {
        phone: eve.clone(),
        group: group.id.clone(),
    };
    service.leave_group(Request::new(leave)).await.unwrap();
    let status = service.join_group(Request::new(join)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let text = pb::SendTextRequest {
        phone: eve.clone(),
        ..text
    };
    let status = service.send_text(Request::new(text)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");

    let list = async |member: &str| {
        let request = pb::ListGroupsRequest {
            member: member.to_owned(),
        };
        let listed = service.list_groups(Request::new(request)).await.unwrap();
        listed.into_inner().groups.len()
    };
    assert_eq!((list("").await, list(&eve).await), (1, 0));
    let end = pb::EndGroupRequest {
        group: group.id.clone(),
        ..Default::default()
    };
    service.end_group(Request::new(end)).await.unwrap();
    let get = pb::GetGroupRequest { group: group.id };
    let status = service.get_group(Request::new(get)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let get = pb::GetGroupRequest {
        group: "tea".to_owned(),
    };
    let status = service.get_group(Request::new(get)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().starts_with("group:"), "{status}");
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_name_the_field() {
    let sandbox = sandbox().await;
    let service = sandbox.service();
    let ada = phone(&sandbox, "Ada").await.to_string();
    let refused = |status: tonic::Status, code: Code, field: &str| {
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().starts_with(field), "{status}");
    };

    let request = pb::CreatePhoneRequest {
        number: "12".to_owned(),
        ..Default::default()
    };
    let status = service
        .create_phone(Request::new(request))
        .await
        .unwrap_err();
    refused(status, Code::InvalidArgument, "number:");
    let request = pb::CreatePhoneRequest {
        number: ada.clone(),
        ..Default::default()
    };
    let status = service
        .create_phone(Request::new(request))
        .await
        .unwrap_err();
    refused(status, Code::AlreadyExists, "number:");
    let request = pb::CreatePhoneRequest {
        number: "10000000000".to_owned(),
        ..Default::default()
    };
    let status = service
        .create_phone(Request::new(request))
        .await
        .unwrap_err();
    refused(status, Code::InvalidArgument, "number:");

    let text = |to: &str, text: &str| {
        Request::new(pb::SendTextRequest {
            phone: ada.clone(),
            to: to.to_owned(),
            text: text.to_owned(),
            ..Default::default()
        })
    };
    let status = service
        .send_text(text("15550009999", "hi"))
        .await
        .unwrap_err();
    refused(status, Code::NotFound, "to:");
    let status = service.send_text(text(&ada, "")).await.unwrap_err();
    refused(status, Code::InvalidArgument, "text:");

    let request = pb::UnlinkDeviceRequest {
        phone: ada.clone(),
        device: 70_000,
    };
    let status = service
        .unlink_device(Request::new(request))
        .await
        .unwrap_err();
    refused(status, Code::InvalidArgument, "device:");
    let request = pb::UnlinkDeviceRequest {
        phone: ada.clone(),
        device: 7,
    };
    let status = service
        .unlink_device(Request::new(request))
        .await
        .unwrap_err();
    refused(status, Code::NotFound, "device:");

    let request = pb::FailNextLoginRequest {
        reason: 99,
        ..Default::default()
    };
    let status = service
        .fail_next_login(Request::new(request))
        .await
        .unwrap_err();
    refused(status, Code::InvalidArgument, "reason:");
    let request = pb::AddFaultRuleRequest {
        rule: Some(pb::FaultRule::default()),
    };
    let status = service
        .add_fault_rule(Request::new(request))
        .await
        .unwrap_err();
    refused(status, Code::InvalidArgument, "rule.action:");
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_rules_are_listed_as_added() {
    let sandbox = sandbox().await;
    let service = sandbox.service();
    let rule = pb::FaultRule {
        r#match: Some(pb::FaultMatch {
            direction: pb::Direction::ToDevice.into(),
            tag: "message".to_owned(),
            device: Some(0),
            ..Default::default()
        }),
        action: Some(pb::fault_rule::Action::Duplicate(2)),
        skip: 1,
        count: Some(3),
        ..Default::default()
    };
    let request = pb::AddFaultRuleRequest {
        rule: Some(rule.clone()),
    };
    let added = service
        .add_fault_rule(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    let list = service
        .list_fault_rules(Request::new(pb::ListFaultRulesRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.rules, [added.rule.clone().unwrap()]);
    assert_eq!(
        pb::FaultRule {
            id: 0,
            ..added.rule.unwrap()
        },
        rule
    );
    let request = pb::ClearFaultRulesRequest { ids: Vec::new() };
    let cleared = service
        .clear_fault_rules(Request::new(request))
        .await
        .unwrap();
    assert_eq!(cleared.into_inner().cleared, 1);
    sandbox.shutdown().await;
}

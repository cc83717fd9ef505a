//! Groups: bad input, several who change the same thing, and what happens while nobody listens.

use wagate::{
    proto::v1::{
        self, GroupMembership, GroupParticipantChange as Change, ParticipantAction, event::Payload,
    },
    sandbox::{Direction, GroupSetting, MemberChange, NewGroup, Number},
};

use crate::support::{
    Stage, TestPhone, Watcher,
    groups::{id, members, new_group},
    info, violated_field, within,
};

/// How many changes and messages the account's companion has sent.
fn sent_by(stage: &Stage, owner: &TestPhone) -> usize {
    let entries = stage.network.wire_log(owner.companion(), 0);
    let changes = entries.iter().filter(|entry| {
        let text = &entry.text;
        let of_groups = text.contains("w:g2") || text.contains("w:profile:picture");
        let changes = of_groups && text.starts_with("<iq") && text.contains("\"set\"");
        entry.direction == Direction::FromDevice && (changes || text.starts_with("<message"))
    });
    changes.count()
}

/// Invented numbers.
fn numbers(count: usize) -> Vec<Number> {
    let text = |n| format!("155500{n:05}");
    (0..count).map(|n| text(n).parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_before_anything_is_sent() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let group = api.create_group("one", "Chess", &[ann.number]).await.id;
    let sent = sent_by(&stage, &owner);
    assert!(sent > 0);

    let long = "x".repeat(101);
    let everybody: Vec<String> = numbers(1_024).iter().map(ToString::to_string).collect();
    let create = |change: &dyn Fn(&mut v1::CreateGroupRequest)| {
        let mut request = new_group("one", "Fine", &[]);
        change(&mut request);
        let api = api.clone();
        async move { api.groups().create_group(request).await.unwrap_err() }
    };
    for (refused, reason, field) in [
        (
            create(&|one| one.subject = String::new()).await,
            "GROUP_SUBJECT_INVALID",
            "subject",
        ),
        (
            create(&|one| one.subject = long.clone()).await,
            "GROUP_SUBJECT_INVALID",
            "subject",
        ),
        (
            create(&|one| one.description = "x".repeat(2_049)).await,
            "GROUP_DESCRIPTION_INVALID",
            "description",
        ),
        (
            create(&|one| one.participants = everybody.clone()).await,
            "PARTICIPANTS_TOO_MANY",
            "participants",
        ),
        (
            create(&|one| one.participants = vec!["junk".to_owned()]).await,
            "RECIPIENT_INVALID",
            "participants[0]",
        ),
        (
            create(&|one| one.participants = vec![group.clone()]).await,
            "RECIPIENT_INVALID",
            "participants[0]",
        ),
        (
            create(&|one| one.ephemeral_seconds = u32::MAX).await,
            "FIELD_INVALID",
            "ephemeral_seconds",
        ),
        (
            create(&|one| one.instance = "nobody".to_owned()).await,
            "INSTANCE_NOT_FOUND",
            "instance",
        ),
    ] {
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            (reason, field)
        );
    }
    assert_eq!(stage.network.groups(Some(owner.number)).len(), 1);

    for (group, reason) in [
        ("", "GROUP_ID_INVALID"),
        ("15550001111", "GROUP_ID_INVALID"),
        ("x@g.us", "GROUP_ID_INVALID"),
        ("120363999999999999@g.us", "GROUP_NOT_FOUND"),
    ] {
        let refused = api.group("one", group).await.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            (reason, "group")
        );
    }
    for (mask, fields, reason, field) in [
        (vec![], Default::default(), "FIELD_INVALID", "update_mask"),
        (
            vec!["subject", "owner"],
            v1::UpdateGroupRequest {
                subject: "Fine".to_owned(),
                ..Default::default()
            },
            "FIELD_INVALID",
            "update_mask",
        ),
        (
            vec!["subject"],
            Default::default(),
            "GROUP_SUBJECT_INVALID",
            "subject",
        ),
        (
            vec!["announce", "subject"],
            v1::UpdateGroupRequest {
                subject: long.clone(),
                announce: true,
                ..Default::default()
            },
            "GROUP_SUBJECT_INVALID",
            "subject",
        ),
        (
            vec!["announce", "description"],
            v1::UpdateGroupRequest {
                description: "x".repeat(2_049),
                announce: true,
                ..Default::default()
            },
            "GROUP_DESCRIPTION_INVALID",
            "description",
        ),
        (
            vec!["picture"],
            v1::UpdateGroupRequest {
                picture: b"not a picture".as_slice().into(),
                ..Default::default()
            },
            "PICTURE_INVALID",
            "picture",
        ),
        (
            vec!["announce", "picture"],
            v1::UpdateGroupRequest {
                picture: b"\xff\xd8\xff\xe0 begins like one".as_slice().into(),
                announce: true,
                ..Default::default()
            },
            "PICTURE_INVALID",
            "picture",
        ),
        (
            vec!["ephemeral_seconds"],
            v1::UpdateGroupRequest {
                ephemeral_seconds: u32::MAX,
                ..Default::default()
            },
            "FIELD_INVALID",
            "ephemeral_seconds",
        ),
    ] {
        let refused = api.update_group("one", &group, &mask, fields).await;
        let refused = refused.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            (reason, field)
        );
    }
    assert_eq!(
        stage.network.group(id(&group)).unwrap().subject.text,
        "Chess"
    );

    let add = ParticipantAction::Add;
    let nobody = api.participants("one", &group, add, &[]).await.unwrap_err();
    assert_eq!(violated_field(&nobody), "participants");
    let nothing = ParticipantAction::Unspecified;
    let people = [ann.number];
    let nothing = api.participants("one", &group, nothing, &people);
    assert_eq!(violated_field(&nothing.await.unwrap_err()), "action");
    let many = api.participants("one", &group, add, &numbers(1_024)).await;
    let many = many.unwrap_err();
    assert_eq!(info(&many), "PARTICIPANTS_TOO_MANY");
    assert_eq!(violated_field(&many), "participants");
    let junk = api.join("one", "https://example.com/not an invite!").await;
    assert_eq!(info(&junk.unwrap_err()), "INVITE_INVALID");
    let unknown = v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: group.clone(),
        content: Some(v1::send_message_request::Content::Text(v1::TextContent {
            text: "what?".to_owned(),
            link_preview: None,
        })),
        quoted_message_id: "3EB0UNKNOWN".to_owned(),
        ..Default::default()
    };
    let unknown = api.messages().send_message(unknown).await.unwrap_err();
    assert_eq!(info(&unknown), "MESSAGE_NOT_FOUND");
    assert_eq!(violated_field(&unknown), "quoted_message_id");
    assert_eq!(sent_by(&stage, &owner), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_group_or_not_ones_own_is_refused() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let new = NewGroup {
        subject: "Ann's".to_owned(),
        members: Vec::new(),
        number_addressed: false,
    };
    let (hers, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let hers = format!("{hers}@g.us");
    let sent = sent_by(&stage, &owner);
    for (group, reason, writing) in [
        ("x@g.us", "GROUP_ID_INVALID", "RECIPIENT_INVALID"),
        ("no group", "GROUP_ID_INVALID", "RECIPIENT_INVALID"),
        (
            "120363999999999999@g.us",
            "GROUP_NOT_FOUND",
            "GROUP_NOT_FOUND",
        ),
        (&hers, "GROUP_NOT_MEMBER", "GROUP_NOT_MEMBER"),
    ] {
        let renamed = v1::UpdateGroupRequest {
            subject: "Mine".to_owned(),
            ..Default::default()
        };
        let promote = ParticipantAction::Promote;
        let requests = v1::ListJoinRequestsRequest {
            instance: "one".to_owned(),
            group: group.to_owned(),
        };
        let reset = v1::ResetInviteLinkRequest {
            instance: "one".to_owned(),
            group: group.to_owned(),
            ..Default::default()
        };
        for refused in [
            api.group("one", group).await.unwrap_err(),
            api.update_group("one", group, &["subject"], renamed)
                .await
                .unwrap_err(),
            api.participants("one", group, promote, &[ann.number])
                .await
                .unwrap_err(),
            api.invite_link("one", group).await.unwrap_err(),
            api.groups().reset_invite_link(reset).await.unwrap_err(),
            api.groups().list_join_requests(requests).await.unwrap_err(),
            api.leave("one", group).await.unwrap_err(),
        ] {
            let told = (&*info(&refused), &*violated_field(&refused));
            assert_eq!(told, (reason, "group"), "{group}");
        }
        let refused = api.send("one", group, "hello?").await.unwrap_err();
        let told = (&*info(&refused), &*violated_field(&refused));
        assert_eq!(told, (writing, "recipient"), "{group}");
    }
    assert_eq!(sent_by(&stage, &owner), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_admin_is_told_so() {
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
    watcher.until_group_created(&instance.id, &jid).await;

    let announce = v1::UpdateGroupRequest {
        announce: true,
        ..Default::default()
    };
    let refused = api.update_group("one", &jid, &["announce"], announce).await;
    let refused = refused.unwrap_err();
    assert_eq!(info(&refused), "GROUP_ADMIN_REQUIRED");
    assert_eq!(violated_field(&refused), "announce");
    let refused = api
        .participants("one", &jid, ParticipantAction::Remove, &[ann.number])
        .await
        .unwrap_err();
    assert_eq!(info(&refused), "GROUP_ADMIN_REQUIRED");
    let refused = api.invite_link("one", &jid).await.unwrap_err();
    assert_eq!(info(&refused), "GROUP_ADMIN_REQUIRED");

    // Members may do what the group lets them, until it is locked.
    let renamed = || v1::UpdateGroupRequest {
        subject: "Ours".to_owned(),
        ..Default::default()
    };
    api.update_group("one", &jid, &["subject"], renamed())
        .await
        .unwrap();
    let add = ParticipantAction::Add;
    api.participants("one", &jid, add, &[ben.number])
        .await
        .unwrap();
    let locked = GroupSetting::Locked(true);
    stage
        .network
        .set_group(ann.number, group, locked)
        .await
        .unwrap();
    watcher.until_group_updated(&instance.id, "locked").await;
    let refused = api.update_group("one", &jid, &["subject"], renamed()).await;
    let refused = refused.unwrap_err();
    assert_eq!(info(&refused), "GROUP_ADMIN_REQUIRED");
    assert_eq!(violated_field(&refused), "subject");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_change_the_same_group_at_once() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    stage.open_instance(&api, "one").await;
    let (_, other) = stage.open_instance(&api, "two").await;
    let ann = stage.phone("Ann").await;
    let group = api.create_group("one", "Both", &[other.number]).await.id;
    let promote = ParticipantAction::Promote;
    api.participants("one", &group, promote, &[other.number])
        .await
        .unwrap();
    within("the second to be an admin", async {
        loop {
            let known = api.group("two", &group).await;
            if known.is_ok_and(|known| known.own_role() == v1::GroupRole::Admin) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;

    let calls = (0..12).map(|round| {
        let (api, group) = (api.clone(), group.clone());
        let name = if round % 2 == 0 { "one" } else { "two" };
        let (ann, fields) = (
            ann.number,
            v1::UpdateGroupRequest {
                subject: format!("{name} {round}"),
                announce: round % 3 == 0,
                locked: round % 4 == 0,
                ..Default::default()
            },
        );
        async move {
            let mask = ["subject", "announce", "locked"];
            api.update_group(name, &group, &mask, fields).await.unwrap();
            let action = match round % 4 {
                0 | 1 => ParticipantAction::Add,
                _ => ParticipantAction::Remove,
            };
            api.participants(name, &group, action, &[ann])
                .await
                .unwrap();
        }
    });
    futures::future::join_all(calls).await;

    // Whatever came last, both know it.
    let seen = stage.network.group(id(&group)).unwrap();
    within("both to agree with the network", async {
        for name in ["one", "two"] {
            loop {
                let known = api.group(name, &group).await.unwrap();
                let agrees = known.subject == seen.subject.text
                    && (known.announce, known.locked) == (seen.announce, seen.locked)
                    && members(&known).len() == seen.members.len();
                if agrees {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_survives_a_restart_and_what_was_missed_is_found() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let group = api.create_group("one", "Kept", &[ann.number]).await;
    let other = api.create_group("one", "Lost", &[ann.number]).await;
    let list = |instance: &str, token: &str| v1::ListGroupsRequest {
        instance: instance.to_owned(),
        page_size: 1,
        page_token: token.to_owned(),
    };

    api.groups().list_groups(list("one", "")).await.unwrap();

    // Offline, what is known is answered all the same.
    let request = v1::DisconnectInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    api.instances().disconnect_instance(request).await.unwrap();
    stage.restart_gateway().await;
    let api = stage.api().await;
    let known = api.group("one", &group.id).await.unwrap();
    assert_eq!(members(&known), members(&group));
    let first = api.groups().list_groups(list("one", "")).await.unwrap();
    let first = first.into_inner();
    let token = first.next_page_token;
    let second = api.groups().list_groups(list("one", &token)).await.unwrap();
    let second = second.into_inner();
    assert_eq!(second.next_page_token, "");
    let mut listed = [&first.groups[0].id, &second.groups[0].id];
    listed.sort();
    let mut wanted = [&group.id, &other.id];
    wanted.sort();
    assert_eq!(listed, wanted);
    assert!(first.groups[0].participants.is_empty() && first.groups[0].size == 2);
    let unknown = api.group("one", "120363999999999999@g.us").await;
    assert_eq!(info(&unknown.unwrap_err()), "INSTANCE_DISCONNECTED");
    let refused = api.leave("one", &group.id).await.unwrap_err();
    assert_eq!(info(&refused), "INSTANCE_DISCONNECTED");

    // Meanwhile others go on.
    stage
        .network
        .change_members(
            owner.number,
            id(&group.id),
            MemberChange::Promote,
            &[ann.number],
        )
        .await
        .unwrap();
    for (group, setting) in [
        (&group.id, GroupSetting::Subject("Changed".to_owned())),
        (&group.id, GroupSetting::Announce(true)),
    ] {
        stage
            .network
            .set_group(ann.number, id(group), setting)
            .await
            .unwrap();
    }
    stage
        .network
        .change_members(ann.number, id(&group.id), MemberChange::Add, &[ben.number])
        .await
        .unwrap();
    stage
        .network
        .leave_group(owner.number, id(&other.id))
        .await
        .unwrap();

    let mut watcher = Watcher::from_earliest(&api).await;
    let request = v1::ConnectInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    api.instances().connect_instance(request).await.unwrap();
    watcher.until_group_updated(&instance.id, "subject").await;
    watcher.until_group_updated(&instance.id, "announce").await;
    watcher
        .until_members(&instance.id, Change::Add, ben.number)
        .await;
    watcher
        .once("the end of the other group", |event| match &event.payload {
            Some(Payload::GroupParticipantsUpdated(update))
                if update.group_id == other.id && update.includes_self =>
            {
                Some(())
            }
            _ => None,
        })
        .await;
    let known = api.group("one", &group.id).await.unwrap();
    assert_eq!(
        (&*known.subject, known.announce, known.size),
        ("Changed", true, 3)
    );
    let left = api.group("one", &other.id).await.unwrap();
    assert_ne!(left.membership(), GroupMembership::Member);
    // Nothing was told twice.
    let times = watcher
        .seen
        .iter()
        .filter(|event| {
            matches!(&event.payload, Some(Payload::GroupUpdated(update))
            if update.changed_fields.iter().any(|field| field == "subject"))
        })
        .count();
    assert_eq!(times, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_from_before_the_pairing_are_listed_and_no_news() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (owner, ann) = (stage.phone("Owner").await, stage.phone("Ann").await);
    let new = NewGroup {
        subject: "Old".to_owned(),
        members: vec![owner.number],
        number_addressed: true,
    };
    let (group, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let instance = api.create("one").await;
    stage.pair(&api, "one", &owner).await;
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher
        .until_state(&instance.id, v1::InstanceState::Open)
        .await;
    let request = v1::ListGroupsRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let listed = api.groups().list_groups(request).await.unwrap();
    let listed = listed.into_inner().groups;
    assert_eq!(listed.len(), 1);
    assert_eq!(id(&listed[0].id), group);
    assert_eq!(listed[0].addressing(), v1::GroupAddressing::Number);
    // The first that is heard of it is what happens next.
    let rename = GroupSetting::Subject("New".to_owned());
    stage
        .network
        .set_group(ann.number, group, rename)
        .await
        .unwrap();
    let told = watcher.until_group_updated(&instance.id, "subject").await;
    assert_eq!(told.before.unwrap().subject, "Old");
    let created = watcher
        .seen
        .iter()
        .any(|event| matches!(event.payload, Some(Payload::GroupCreated(_))));
    assert!(!created);
}

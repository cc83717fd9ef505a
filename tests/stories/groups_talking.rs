//! Groups: to write into one and to read what others write.

use wagate::{
    proto::v1::{self, MessageStatus, event::Payload, message_content::Content},
    sandbox::{GroupId, GroupText, MemberChange, NewGroup, Number, PhoneOptions},
};
use waproto::{buffa::Message as _, whatsapp as wa};

use crate::support::{Api, Stage, TestPhone, Watcher, groups::id, info, within};

fn phone(name: &str, lid_addressed: bool) -> PhoneOptions {
    PhoneOptions {
        push_name: name.to_owned(),
        lid_addressed,
        ..Default::default()
    }
}

fn text(group: &str, text: &str) -> v1::SendMessageRequest {
    v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: group.to_owned(),
        content: Some(v1::send_message_request::Content::Text(v1::TextContent {
            text: text.to_owned(),
            link_preview: None,
        })),
        ..Default::default()
    }
}

async fn sent(api: &Api, request: v1::SendMessageRequest) -> v1::Message {
    let answer = api.messages().send_message(request).await.unwrap();
    let message = answer.into_inner().message.unwrap();
    assert!(message.status() >= MessageStatus::Sent, "{message:?}");
    message
}

/// The context of a message as a phone got it.
async fn context_at(phone: &TestPhone, text: &str) -> wa::ContextInfo {
    let message = phone.until_text(text).await;
    let message = wa::Message::decode_from_slice(&message.message).unwrap();
    let extended = message.extended_text_message.into_option().unwrap();
    extended.context_info.into_option().unwrap_or_default()
}

fn said(message: &v1::Message) -> &str {
    match message.content.as_ref().unwrap().content.as_ref().unwrap() {
        Content::Text(text) => &text.text,
        other => panic!("{other:?}"),
    }
}

async fn everybody_talks(by_lid: bool) {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage
        .open_instance_with(&api, "one", phone("Owner", by_lid))
        .await;
    let ann = stage.phone_with(phone("Ann", by_lid)).await;
    let ben = stage.phone_with(phone("Ben", !by_lid)).await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let new = NewGroup {
        subject: "Talk".to_owned(),
        members: vec![owner.number, ben.number],
        number_addressed: !by_lid,
    };
    let (group, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let jid = format!("{group}@g.us");
    let known = watcher.until_group_created(&instance.id, &jid).await;
    let known = known.group.unwrap();
    let called = |number: Number| {
        let number = number.to_string();
        let people = known
            .participants
            .iter()
            .filter_map(|one| one.party.as_ref());
        let mut people = people.filter(|party| party.phone_number == number);
        let party = people.next().unwrap();
        let name = if by_lid { &party.lid } else { &party.jid };
        assert!(!party.lid.is_empty() && !party.jid.is_empty());
        name.clone()
    };
    let user = |number: Number| called(number).split('@').next().unwrap().to_owned();

    // A text from a phone names its sender by both names.
    let hello = stage
        .network
        .send_group_text(ann.number, group, "hello all")
        .await
        .unwrap();
    let received = watcher.until_received(&instance.id, "hello all").await;
    assert_eq!(received.id, hello.id);
    let chat = received.chat.as_ref().unwrap();
    assert_eq!((&*chat.id, chat.kind()), (&*jid, v1::ChatKind::Group));
    let sender = received.sender.as_ref().unwrap();
    assert_eq!(sender.phone_number, ann.number.to_string());
    assert!(sender.lid.ends_with("@lid"), "{sender:?}");
    assert_eq!(sender.name, "Ann");

    // An answer quotes it and mentions another, as the group calls them.
    let request = v1::SendMessageRequest {
        quoted_message_id: hello.id.clone(),
        mentions: Some(v1::MentionOptions {
            mentioned: vec![ben.number.to_string()],
            ..Default::default()
        }),
        ..text(&jid, &format!("hello Ann, says @{}", ben.number))
    };
    let answer = sent(&api, request).await;
    let wanted = format!("hello Ann, says @{}", user(ben.number));
    assert_eq!(said(&answer), wanted);
    let quoted = answer.quoted.clone().unwrap();
    assert_eq!((&*quoted.id, quoted.stored), (&*hello.id, true));
    assert_eq!(quoted.sender.unwrap().phone_number, ann.number.to_string());
    for reader in [&ann, &ben] {
        let context = context_at(reader, &wanted).await;
        assert_eq!(context.mentioned_jid, [called(ben.number)]);
        assert_eq!(context.stanza_id.as_deref(), Some(&*hello.id));
        assert_eq!(context.participant, Some(called(ann.number)));
        assert_eq!(context.remote_jid, None);
        let original = context.quoted_message.into_option().unwrap();
        let text = original.extended_text_message.into_option();
        let text = text.and_then(|text| text.text).or(original.conversation);
        assert_eq!(text.as_deref(), Some("hello all"));
    }
    watcher
        .until_status(&answer.id, MessageStatus::Received)
        .await;

    // And a phone answers that, and mentions the account.
    let reply = GroupText {
        text: "good".to_owned(),
        mentions: vec![called(owner.number)],
        quoted_id: Some(answer.id.clone()),
        ..Default::default()
    };
    stage
        .network
        .send_group_text(ben.number, group, reply)
        .await
        .unwrap();
    let received = watcher.until_received(&instance.id, "good").await;
    let quoted = received.quoted.unwrap();
    assert!(quoted.stored);
    assert_eq!(quoted.id, answer.id);
    assert_eq!(quoted.sender.unwrap().phone_number, instance.phone_number);
    let mentioned = received.mentions.unwrap().parties;
    assert_eq!(mentioned.len(), 1);
    assert_eq!(mentioned[0].phone_number, instance.phone_number);
    assert!(mentioned[0].lid.ends_with("@lid"));

    // Everybody is notified: named in the text, or as a ghost not.
    for ghost in [false, true] {
        let request = v1::SendMessageRequest {
            mentions: Some(v1::MentionOptions {
                everyone: true,
                ghost,
                mentioned: vec![ann.number.to_string()],
            }),
            ..text(&jid, &format!("ghost {ghost}"))
        };
        let told = sent(&api, request).await;
        let said = said(&told).to_owned();
        if ghost {
            assert_eq!(said, "ghost true");
        } else {
            let names = [ann.number, ben.number].map(|one| format!("@{}", user(one)));
            assert!(names.iter().all(|name| said.contains(name)), "{said}");
        }
        let mut mentioned = context_at(&ann, &said).await.mentioned_jid;
        mentioned.sort();
        let mut wanted = [called(ann.number), called(ben.number)];
        wanted.sort();
        assert_eq!(mentioned, wanted);
    }
    // In a chat with one person there is nobody to mention.
    let request = v1::SendMessageRequest {
        mentions: Some(v1::MentionOptions {
            everyone: true,
            ghost: false,
            mentioned: vec![ben.number.to_string()],
        }),
        ..text(&ann.number.to_string(), "just you")
    };
    let told = sent(&api, request).await;
    assert_eq!((said(&told), &told.mentions), ("just you", &None));
    ann.until_text("just you").await;
    stage.network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_talks_by_hidden_identity() {
    everybody_talks(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_talks_by_number() {
    everybody_talks(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_name_every_participant() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, _) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let mut watcher = Watcher::from_earliest(&api).await;
    let people = [ann.number, ben.number];
    let group = api.create_group("one", "Talk", &people).await.id;
    let message = sent(&api, text(&group, "who reads this?")).await;
    for number in people {
        let number = number.to_string();
        let chat = watcher
            .once("a receipt", |event| match &event.payload {
                Some(Payload::MessageStatus(update))
                    if update.message_id == message.id
                        && update.status() == MessageStatus::Received
                        && update.party.as_ref()?.phone_number == number =>
                {
                    update.chat.clone()
                }
                _ => None,
            })
            .await;
        assert_eq!(chat.id, group);
    }
    // It was sent once, however many confirm it.
    let told = watcher.seen.iter();
    let told = told.filter(|event| matches!(event.payload, Some(Payload::MessageSent(_))));
    assert_eq!(told.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_write_into_an_announcement_group() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let new = NewGroup {
        subject: "News".to_owned(),
        members: vec![owner.number],
        number_addressed: false,
    };
    let (group, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let jid = format!("{group}@g.us");
    watcher.until_group_created(&instance.id, &jid).await;
    sent(&api, text(&jid, "still allowed")).await;
    let announce = wagate::sandbox::GroupSetting::Announce(true);
    stage
        .network
        .set_group(ann.number, group, announce)
        .await
        .unwrap();
    watcher.until_group_updated(&instance.id, "announce").await;
    let refused = api.send("one", &jid, "no more").await.unwrap_err();
    assert_eq!(info(&refused), "GROUP_ADMIN_REQUIRED");
    assert_eq!(crate::support::violated_field(&refused), "recipient");
    let promote = MemberChange::Promote;
    stage
        .network
        .change_members(ann.number, group, promote, &[owner.number])
        .await
        .unwrap();
    watcher
        .until_members(
            &instance.id,
            v1::GroupParticipantChange::Promote,
            owner.number,
        )
        .await;
    sent(&api, text(&jid, "as an admin")).await;
    ann.until_text("as an admin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_removed_while_sending_hears_why() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let ann = stage.phone("Ann").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let new = NewGroup {
        subject: "Talk".to_owned(),
        members: vec![owner.number],
        number_addressed: false,
    };
    let (group, _): (GroupId, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let jid = format!("{group}@g.us");
    watcher.until_group_created(&instance.id, &jid).await;
    sent(&api, text(&jid, "first")).await;

    let sending = {
        let (api, jid) = (api.clone(), jid.clone());
        tokio::spawn(async move {
            let mut last = Vec::new();
            for number in 0..200 {
                match api.send("one", &jid, &format!("again {number}")).await {
                    Ok(message) => last.push(message),
                    Err(status) => return (last, status),
                }
            }
            panic!("nobody removed the account");
        })
    };
    ann.until_text("again 3").await;
    stage
        .network
        .change_members(ann.number, group, MemberChange::Remove, &[owner.number])
        .await
        .unwrap();
    let (sent, refused) = within("a refusal", sending).await.unwrap();
    assert_eq!(info(&refused), "GROUP_NOT_MEMBER");
    for message in &sent {
        let settled = match message.status() {
            MessageStatus::Error => !message.status_reason.is_empty(),
            status => status >= MessageStatus::Sent,
        };
        assert!(settled, "{message:?}");
    }
    let known = api.group("one", &jid).await.unwrap();
    assert_eq!(known.membership(), v1::GroupMembership::Removed);
    assert_eq!(id(&jid), group);
}

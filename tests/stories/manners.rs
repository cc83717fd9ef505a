//! How messages are sent, whatever they say: to disappear, to be seen once, as passed on. Told with every kind.

use wagate::proto::{
    sandbox_v1::{self as sandbox, send_message_request::Content},
    v1::{self, event::Payload},
};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{Message, message},
};

use crate::support::{Api, Stage, TestPhone, Watcher, within};

macro_rules! kinds {
    ($($field:ident: $kind:ident),+ $(,)?) => {
        [$((
            stringify!($field),
            Message {
                $field: MessageField::some(message::$kind::default()),
                ..Default::default()
            },
        )),+]
    };
}

async fn send(
    api: &Api,
    phone: &TestPhone,
    to: &str,
    content: Content,
    manner: impl FnOnce(&mut sandbox::SendMessageRequest),
) -> Result<String, tonic::Status> {
    let mut request = sandbox::SendMessageRequest {
        phone: phone.number.to_string(),
        to: to.to_owned(),
        content: Some(content),
        ..Default::default()
    };
    manner(&mut request);
    let sent = within("a phone's send", api.sandbox().send_message(request)).await?;
    Ok(sent.into_inner().id)
}

async fn received(watcher: &mut Watcher, id: &str) -> v1::Message {
    watcher
        .once("a message", |event| match &event.payload {
            Some(Payload::MessageReceived(one)) => one.message.clone().filter(|one| one.id == id),
            _ => None,
        })
        .await
}

fn seconds(seconds: i64) -> Option<pbjson_types::Duration> {
    Some(pbjson_types::Duration { seconds, nanos: 0 })
}

fn as_it_is(message: &Message) -> Content {
    Content::Message(message.encode_to_vec().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_disappears_and_is_passed_on() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let own = &instance.phone_number;
    let kinds = kinds![
        extended_text_message: ExtendedTextMessage,
        image_message: ImageMessage,
        video_message: VideoMessage,
        ptv_message: VideoMessage,
        audio_message: AudioMessage,
        document_message: DocumentMessage,
        sticker_message: StickerMessage,
        location_message: LocationMessage,
        live_location_message: LiveLocationMessage,
        contact_message: ContactMessage,
        contacts_array_message: ContactsArrayMessage,
        event_message: EventMessage,
        list_message: ListMessage,
        buttons_message: ButtonsMessage,
        product_message: ProductMessage,
        order_message: OrderMessage,
        group_invite_message: GroupInviteMessage,
    ];
    let mut sent = Vec::new();
    let bare = Message {
        conversation: Some("a bare text".to_owned()),
        ..Default::default()
    };
    let poll = Content::Poll(sandbox::PhonePoll {
        question: "tea?".to_owned(),
        options: vec!["yes".to_owned(), "no".to_owned()],
        selectable: 1,
    });
    let mut contents: Vec<(&str, Content)> = kinds
        .iter()
        .map(|(kind, message)| (*kind, as_it_is(message)))
        .collect();
    contents.extend([("conversation", as_it_is(&bare)), ("poll", poll)]);
    for (kind, content) in contents {
        let id = send(&api, &phone, own, content, |request| {
            request.ephemeral = seconds(86_400);
            request.forwarding_score = 5;
        });
        sent.push((kind, id.await.unwrap()));
    }
    for (kind, id) in sent {
        let message = received(&mut watcher, &id).await;
        assert_eq!(message.ephemeral_seconds, 86_400, "{kind}");
        assert!(message.forwarded, "{kind}");
        assert_eq!(message.forwarding_score, 5, "{kind}");
        assert!(!message.view_once, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_seen_once_says_so() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let phone = stage.phone("Peer").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let own = &instance.phone_number;
    let media = kinds![
        image_message: ImageMessage,
        video_message: VideoMessage,
        audio_message: AudioMessage,
    ];
    for (kind, message) in &media {
        let once = send(&api, &phone, own, as_it_is(message), |request| {
            request.view_once = true;
            request.ephemeral = seconds(604_800);
        });
        let message = received(&mut watcher, &once.await.unwrap()).await;
        assert!(message.view_once, "{kind}");
        assert_eq!(message.ephemeral_seconds, 604_800, "{kind}");
        assert!(!message.forwarded, "{kind}");
    }
    // What can't be so is refused, and nothing of it is sent.
    let text = kinds![extended_text_message: ExtendedTextMessage];
    let reaction = Content::Reaction(sandbox::PhoneReaction {
        message_id: "NONE".to_owned(),
        emoji: "👍".to_owned(),
    });
    let refused = [
        send(&api, &phone, own, as_it_is(&text[0].1), |one| {
            one.view_once = true;
        })
        .await,
        send(&api, &phone, own, reaction, |one| one.forwarding_score = 1).await,
        send(&api, &phone, own, as_it_is(&text[0].1), |one| {
            one.ephemeral = seconds(31_536_001);
        })
        .await,
        send(&api, &phone, own, as_it_is(&text[0].1), |one| {
            one.forwarding_score = 128;
        })
        .await,
    ];
    for refused in refused {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    }
    phone.send(own, "last").await;
    watcher.until_received(&instance.id, "last").await;
    let received = watcher
        .seen
        .iter()
        .filter(|event| matches!(&event.payload, Some(Payload::MessageReceived(_))));
    assert_eq!(received.count(), media.len() + 1);
}

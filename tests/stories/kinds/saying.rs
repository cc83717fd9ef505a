//! What is said, each kind from a phone and to a phone.

use send_message_request::Content as Asked;
use tonic_types::StatusExt as _;
use waproto::{buffa::MessageField, whatsapp::message};

use super::*;
use crate::support::info;

fn raw(message: &wa::Message) -> Vec<u8> {
    message.encode_to_vec()
}

macro_rules! with {
    ($field:ident: $message:expr) => {
        wa::Message {
            $field: MessageField::some($message),
            ..Default::default()
        }
    };
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// One message of every kind that stands for itself, and the name of what we show of it.
fn every_kind() -> Vec<(&'static str, wa::Message)> {
    vec![
        (
            "Text",
            with!(extended_text_message: message::ExtendedTextMessage {
                text: some("see https://example.com"),
                matched_text: some("https://example.com"),
                title: some("Example"),
                ..Default::default()
            }),
        ),
        (
            "Image",
            with!(image_message: message::ImageMessage {
                mimetype: some("image/jpeg"),
                ..Default::default()
            }),
        ),
        (
            "Video",
            with!(video_message: message::VideoMessage::default()),
        ),
        (
            "Video",
            with!(ptv_message: message::VideoMessage::default()),
        ),
        (
            "Audio",
            with!(audio_message: message::AudioMessage {
                ptt: Some(true),
                ..Default::default()
            }),
        ),
        (
            "Document",
            with!(document_message: message::DocumentMessage::default()),
        ),
        (
            "Sticker",
            with!(sticker_message: message::StickerMessage::default()),
        ),
        (
            "Album",
            with!(album_message: message::AlbumMessage::default()),
        ),
        (
            "Location",
            with!(location_message: message::LocationMessage::default()),
        ),
        (
            "LiveLocation",
            with!(live_location_message: message::LiveLocationMessage::default()),
        ),
        (
            "Contacts",
            with!(contact_message: message::ContactMessage::default()),
        ),
        (
            "Contacts",
            with!(contacts_array_message: message::ContactsArrayMessage::default()),
        ),
        (
            "Poll",
            with!(poll_creation_message: message::PollCreationMessage::default()),
        ),
        (
            "EventInvitation",
            with!(event_message: message::EventMessage::default()),
        ),
        ("List", with!(list_message: message::ListMessage::default())),
        (
            "ListReply",
            with!(list_response_message: message::ListResponseMessage::default()),
        ),
        (
            "Buttons",
            with!(buttons_message: message::ButtonsMessage::default()),
        ),
        (
            "ButtonReply",
            with!(buttons_response_message: message::ButtonsResponseMessage::default()),
        ),
        (
            "Interactive",
            with!(interactive_message: message::InteractiveMessage::default()),
        ),
        (
            "InteractiveReply",
            with!(
                interactive_response_message: message::InteractiveResponseMessage::default()
            ),
        ),
        (
            "Product",
            with!(product_message: message::ProductMessage::default()),
        ),
        (
            "Order",
            with!(order_message: message::OrderMessage::default()),
        ),
        (
            "GroupInvite",
            with!(group_invite_message: message::GroupInviteMessage::default()),
        ),
        (
            "PaymentRequest",
            with!(request_payment_message: message::RequestPaymentMessage::default()),
        ),
        (
            "PaymentSent",
            with!(send_payment_message: message::SendPaymentMessage::default()),
        ),
        (
            "PaymentInvite",
            with!(payment_invite_message: message::PaymentInviteMessage::default()),
        ),
        (
            "Unsupported",
            with!(sticker_pack_message: message::StickerPackMessage::default()),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_from_a_phone_arrives() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let mut sent = Vec::new();
        for (kind, message) in every_kind() {
            let (network, phone) = (&scene.stage.network, scene.peer.number);
            let own = scene.own();
            let id = network.send_message(phone, own, &raw(&message)).await;
            sent.push((kind, id.unwrap().id));
        }
        for (kind, id) in sent {
            let received = scene.received(&id).await;
            let shown = format!("{:?}", content(&received));
            assert!(shown.starts_with(&format!("{kind}(")), "{kind}: {shown}");
            assert_eq!(scene.stored(&id).await.content, received.content);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_companions_cannot_open_is_told_as_view_once() {
    let mut scene = Scene::new().await;
    let image = with!(image_message: message::ImageMessage::default());
    let once = with!(view_once_message_v2: message::FutureProofMessage {
        message: MessageField::some(image),
    });
    let network = &scene.stage.network;
    let id = network
        .send_message(scene.peer.number, scene.own(), &raw(&once))
        .await;
    let received = scene.received(&id.unwrap().id).await;
    assert!(received.view_once);
    assert!(matches!(content(&received), Content::Image(_)));
}

fn place() -> v1::LocationContent {
    v1::LocationContent {
        latitude: 1.5,
        longitude: -2.5,
        name: "Tower".to_owned(),
        ..Default::default()
    }
}

fn card(name: &str) -> v1::ContactCard {
    v1::ContactCard {
        name: name.to_owned(),
        phone_numbers: vec!["15550003333".to_owned()],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_that_can_be_sent_is_seen_by_a_phone() {
    let scene = Scene::new().await;
    type Has = fn(&wa::Message) -> bool;
    let at = |seconds| Some(pbjson_types::Timestamp { seconds, nanos: 0 });
    let kinds: Vec<(Asked, Has)> = vec![
        (
            Asked::Text(v1::TextContent {
                text: "see https://example.com".to_owned(),
                link_preview: Some(v1::LinkPreview {
                    url: "https://example.com".to_owned(),
                    title: "Example".to_owned(),
                    ..Default::default()
                }),
            }),
            |seen| {
                let text = seen.extended_text_message.as_option().unwrap();
                text.title.as_deref() == Some("Example")
            },
        ),
        (Asked::Location(place()), |seen| {
            let place = seen.location_message.as_option().unwrap();
            place.degrees_longitude == Some(-2.5) && place.name.as_deref() == Some("Tower")
        }),
        (
            Asked::LiveLocation(v1::LiveLocationContent {
                latitude: 1.5,
                caption: "here".to_owned(),
                ..Default::default()
            }),
            |seen| {
                let live = seen.live_location_message.as_option().unwrap();
                live.caption.as_deref() == Some("here")
            },
        ),
        (
            Asked::Contacts(v1::ContactsContent {
                contacts: vec![card("Ann; B")],
            }),
            |seen| {
                let card = seen.contact_message.as_option().unwrap();
                let vcard = card.vcard.as_deref().unwrap();
                vcard.contains("waid=15550003333") && vcard.contains("FN:Ann\\; B\n")
            },
        ),
        (
            Asked::Contacts(v1::ContactsContent {
                contacts: vec![card("Ann"), card("Bob")],
            }),
            |seen| {
                seen.contacts_array_message
                    .as_option()
                    .unwrap()
                    .contacts
                    .len()
                    == 2
            },
        ),
        (
            Asked::EventInvitation(v1::EventInvitationContent {
                name: "Tea".to_owned(),
                start_time: at(1_900_000_000),
                location: Some(place()),
                ..Default::default()
            }),
            |seen| {
                let event = seen.event_message.as_option().unwrap();
                event.start_time == Some(1_900_000_000) && event.location.is_set()
            },
        ),
        (
            Asked::GroupInvite(v1::GroupInviteContent {
                group_id: "120363000000000001@g.us".to_owned(),
                subject: "Tea".to_owned(),
                code: "abc".to_owned(),
                ..Default::default()
            }),
            |seen| seen.group_invite_message.is_set(),
        ),
    ];
    for (asked, has) in kinds {
        let sent = scene.say(asked.clone()).await;
        assert!(sent.status >= v1::MessageStatus::Sent as i32, "{sent:?}");
        let (_, seen) = scene.seen(&scene.peer, &sent.id).await;
        assert!(has(&seen), "{asked:?}: {seen:?}");
        // The account's own phone has it as well.
        scene.seen(&scene.owner, &sent.id).await;
        assert_eq!(scene.stored(&sent.id).await.content, sent.content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_around_a_message_goes_with_it() {
    let mut scene = Scene::new().await;
    let own = scene.instance.phone_number.clone();
    let question = scene.peer.send(&own, "where?").await;
    scene.received(&question).await;
    let request = v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: scene.peer.number.to_string(),
        content: Some(Asked::Location(place())),
        quoted_message_id: question.clone(),
        ephemeral_seconds: Some(86_400),
        forwarded: true,
        ..Default::default()
    };
    let sent = scene
        .api
        .messages()
        .send_message(request.clone())
        .await
        .unwrap();
    let sent = sent.into_inner().message.unwrap();
    assert!(sent.forwarded);
    assert_eq!(sent.ephemeral_seconds, 86_400);
    assert_eq!(sent.quoted.as_ref().unwrap().id, question);
    let (_, seen) = scene.seen(&scene.peer, &sent.id).await;
    let place = seen.location_message.as_option().unwrap();
    let around = place.context_info.as_option().unwrap();
    assert_eq!(around.stanza_id.as_deref(), Some(&*question));
    assert_eq!(around.expiration, Some(86_400));
    assert_eq!(around.is_forwarded, Some(true));

    let wrong = v1::SendMessageRequest {
        ephemeral_seconds: Some(5),
        ..request
    };
    let refused = scene.api.messages().send_message(wrong).await.unwrap_err();
    assert_eq!(info(&refused), "FIELD_INVALID");
    let details = refused.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "ephemeral_seconds");
}

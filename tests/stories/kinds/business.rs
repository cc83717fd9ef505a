//! Lists and buttons, and what is chosen.

use send_message_request::Content as Asked;
use tonic_types::StatusExt as _;
use waproto::{
    buffa::MessageField,
    whatsapp::message::{self, interactive_message},
};

use super::*;
use crate::support::info;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn a_list() -> Asked {
    Asked::List(v1::ListContent {
        title: "Tea".to_owned(),
        description: "Which one?".to_owned(),
        button_text: "Choose".to_owned(),
        sections: vec![v1::ListSection {
            title: "Green".to_owned(),
            rows: vec![v1::ListRow {
                id: "sencha".to_owned(),
                title: "Sencha".to_owned(),
                ..Default::default()
            }],
        }],
        ..Default::default()
    })
}

fn yes_or_no() -> Asked {
    let button = |id: &str| v1::ReplyButton {
        id: id.to_owned(),
        text: id.to_uppercase(),
    };
    Asked::Buttons(v1::ButtonsContent {
        text: "Milk?".to_owned(),
        buttons: vec![button("yes"), button("no")],
        ..Default::default()
    })
}

/// Name and parameters of each button that a phone was sent.
fn flow(seen: &wa::Message) -> Vec<(String, serde_json::Value)> {
    use interactive_message::InteractiveMessage::NativeFlowMessage;
    let shown = seen.interactive_message.as_option().expect("buttons");
    let Some(NativeFlowMessage(flow)) = &shown.interactive_message else {
        panic!("{shown:?}");
    };
    let buttons = flow.buttons.iter().map(|button| {
        let params = button.button_params_json.as_deref().unwrap();
        let params = serde_json::from_str(params).unwrap();
        (button.name.clone().unwrap(), params)
    });
    buttons.collect()
}

impl Scene {
    async fn answer(&self, to: &str, answer: Asked) -> Result<v1::Message, tonic::Status> {
        let request = v1::SendMessageRequest {
            instance: "one".to_owned(),
            recipient: self.peer.number.to_string(),
            content: Some(answer),
            quoted_message_id: to.to_owned(),
            ..Default::default()
        };
        let sent = within("SendMessage", self.api.messages().send_message(request)).await?;
        Ok(sent.into_inner().message.unwrap())
    }

    /// Says something with the peer's phone.
    async fn peer_says(&mut self, message: wa::Message) -> v1::Message {
        let (network, own) = (&self.stage.network, self.own());
        let raw = message.encode_to_vec();
        let sent = network.send_message(self.peer.number, own, &raw).await;
        self.received(&sent.unwrap().id).await
    }
}

fn refused_field(status: tonic::Status) -> String {
    assert_eq!(info(&status), "FIELD_INVALID");
    let details = status.get_error_details();
    details.bad_request().unwrap().field_violations[0]
        .field
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_buttons_arrive_as_what_phones_show_and_are_answered() {
    let mut scene = Scene::new().await;
    let sent = scene.say(a_list()).await;
    assert!(matches!(content(&sent), Content::List(_)));
    let (_, seen) = scene.seen(&scene.peer, &sent.id).await;
    let buttons = flow(&seen);
    assert_eq!(buttons[0].0, "single_select");
    assert_eq!(buttons[0].1["sections"][0]["rows"][0]["id"], "sencha");

    let sent = scene.say(yes_or_no()).await;
    let (_, seen) = scene.seen(&scene.peer, &sent.id).await;
    let buttons = flow(&seen);
    assert_eq!(buttons.len(), 2);
    assert_eq!(buttons[1].1["id"], "no");
    let pressed = scene.peer_says(wa::Message {
        template_button_reply_message: MessageField::some(message::TemplateButtonReplyMessage {
            selected_id: some("no"),
            selected_display_text: some("NO"),
            selected_index: Some(1),
            context_info: MessageField::some(wa::ContextInfo {
                stanza_id: Some(sent.id.clone()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    });
    let pressed = pressed.await;
    match content(&pressed) {
        Content::ButtonReply(reply) => assert_eq!(reply.button_id, "no"),
        other => panic!("{other:?}"),
    }
    let quoted = pressed.quoted.unwrap();
    assert!(quoted.stored);
    assert_eq!(quoted.content, sent.content);

    let link = Asked::Interactive(v1::InteractiveContent {
        body: "See".to_owned(),
        buttons: vec![v1::InteractiveButton {
            name: "cta_url".to_owned(),
            params_json: "{\"display_text\":\"Open\",\"url\":\"https://example.com\"}".to_owned(),
        }],
        ..Default::default()
    });
    let sent = scene.say(link).await;
    let (_, seen) = scene.seen(&scene.peer, &sent.id).await;
    assert_eq!(flow(&seen)[0].1["url"], "https://example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_chosen_must_be_there() {
    let mut scene = Scene::new().await;
    let asked = scene
        .peer_says(wa::Message {
            list_message: MessageField::some(message::ListMessage {
                description: some("Which?"),
                sections: vec![message::list_message::Section {
                    rows: vec![message::list_message::Row {
                        row_id: some("s"),
                        title: some("Sencha"),
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        })
        .await;
    let choose = |row_id: &str| {
        Asked::ListReply(v1::ListReplyContent {
            row_id: row_id.to_owned(),
            ..Default::default()
        })
    };
    let press = |button_id: &str| {
        Asked::ButtonReply(v1::ButtonReplyContent {
            button_id: button_id.to_owned(),
            ..Default::default()
        })
    };
    let chosen = scene.answer(&asked.id, choose("s")).await.unwrap();
    match content(&chosen) {
        Content::ListReply(reply) => assert_eq!(reply.title, "Sencha"),
        other => panic!("{other:?}"),
    }
    let (_, seen) = scene.seen(&scene.peer, &chosen.id).await;
    let reply = seen.list_response_message.as_option().unwrap();
    let around = reply.context_info.as_option().unwrap();
    assert_eq!(around.stanza_id.as_deref(), Some(&*asked.id));
    assert!(around.quoted_message.list_message.is_set());
    for (to, answer, field) in [
        (&*asked.id, choose("t"), "list_reply.row_id"),
        (&asked.id, press("s"), "quoted_message_id"),
        ("", choose("s"), "quoted_message_id"),
        ("", press("s"), "quoted_message_id"),
    ] {
        let refused = scene.answer(to, answer).await.unwrap_err();
        assert_eq!(refused_field(refused), field);
    }

    let asked = scene
        .peer_says(wa::Message {
            interactive_message: MessageField::some(message::InteractiveMessage {
                body: MessageField::some(interactive_message::Body {
                    text: some("Milk?"),
                }),
                interactive_message: Some(
                    interactive_message::NativeFlowMessage {
                        buttons: vec![interactive_message::native_flow_message::NativeFlowButton {
                            name: some("quick_reply"),
                            button_params_json: some("{\"id\":\"y\",\"display_text\":\"Yes\"}"),
                        }],
                        ..Default::default()
                    }
                    .into(),
                ),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await;
    let pressed = scene.answer(&asked.id, press("y")).await.unwrap();
    let (_, seen) = scene.seen(&scene.peer, &pressed.id).await;
    let reply = seen.template_button_reply_message.as_option().unwrap();
    assert_eq!(reply.selected_display_text.as_deref(), Some("Yes"));
    let entered = Asked::InteractiveReply(v1::InteractiveReplyContent {
        name: "menu_options".to_owned(),
        params_json: "{\"id\":\"y\"}".to_owned(),
        text: "Yes".to_owned(),
    });
    let entered = scene.answer(&asked.id, entered).await.unwrap();
    let (_, seen) = scene.seen(&scene.peer, &entered.id).await;
    assert!(seen.interactive_response_message.is_set());
}

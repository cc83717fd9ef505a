//! Lists and buttons of a caller, and answers to those of others.
//!
//! Lists and buttons leave as WhatsApp's newer kind, which phones show; the older kinds of a companion are taken
//! and shown to nobody.

use serde_json::json;
use whatsapp_rust::{
    buffa::MessageField,
    waproto::whatsapp::{self as wa, message},
};

use crate::{
    proto::v1::{self, message_content::Content},
    wa::convert::inbound::{self, peel},
};

use message::{interactive_message, interactive_response_message};

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// What an answer can't be an answer to, by the field that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoChoice {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub why: &'static str,
}

/// Text with buttons that need something.
pub fn interactive(content: &v1::InteractiveContent) -> wa::Message {
    let buttons = content
        .buttons
        .iter()
        .map(|button| (button.name.as_str(), button.params_json.clone()));
    flow(
        &content.header,
        &content.body,
        &content.footer,
        buttons.collect(),
    )
}

/// Text with buttons that only answer.
pub fn buttons(content: &v1::ButtonsContent) -> wa::Message {
    let button = |button: &v1::ReplyButton| {
        let params = json!({"display_text": button.text, "id": button.id});
        ("quick_reply", params.to_string())
    };
    let buttons = content.buttons.iter().map(button).collect();
    flow(&content.header, &content.text, &content.footer, buttons)
}

/// A list to choose from.
pub fn list(content: &v1::ListContent) -> wa::Message {
    let row = |row: &v1::ListRow| {
        json!({
            "header": "",
            "title": row.title,
            "description": row.description,
            "id": row.id,
        })
    };
    let section = |section: &v1::ListSection| {
        json!({
            "title": section.title,
            "highlight_label": "",
            "rows": section.rows.iter().map(row).collect::<Vec<_>>(),
        })
    };
    let params = json!({
        "title": content.button_text,
        "sections": content.sections.iter().map(section).collect::<Vec<_>>(),
    });
    flow(
        &content.title,
        &content.description,
        &content.footer,
        vec![("single_select", params.to_string())],
    )
}

fn flow(header: &str, body: &str, footer: &str, buttons: Vec<(&str, String)>) -> wa::Message {
    let button = |(name, params): (&str, String)| {
        interactive_message::native_flow_message::NativeFlowButton {
            name: some(name),
            button_params_json: Some(params),
        }
    };
    let header = (!header.is_empty()).then(|| interactive_message::Header {
        title: some(header),
        has_media_attachment: Some(false),
        ..Default::default()
    });
    let footer = (!footer.is_empty()).then(|| interactive_message::Footer {
        text: some(footer),
        ..Default::default()
    });
    let flow = interactive_message::NativeFlowMessage {
        buttons: buttons.into_iter().map(button).collect(),
        message_version: Some(1),
        ..Default::default()
    };
    wa::Message {
        interactive_message: MessageField::some(message::InteractiveMessage {
            header: header.into(),
            body: MessageField::some(interactive_message::Body { text: some(body) }),
            footer: footer.into(),
            interactive_message: Some(flow.into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What was chosen from the list that is answered, with what the list says of it.
pub fn list_reply(
    asked: &wa::Message,
    reply: v1::ListReplyContent,
) -> Result<(Content, wa::Message), NoChoice> {
    let list = peel(asked).message.list_message.as_option();
    let list = list.ok_or(NoChoice {
        field: "quoted_message_id",
        why: "must be the id of a list; answer newer ones by interactive_reply",
    })?;
    let mut rows = list.sections.iter().flat_map(|section| &section.rows);
    let row = rows.find(|row| row.row_id.as_deref() == Some(&*reply.row_id));
    let row = row.ok_or(NoChoice {
        field: "list_reply.row_id",
        why: "must be the id of a row of the list",
    })?;
    let answer = message::ListResponseMessage {
        title: row.title.clone(),
        description: row.description.clone(),
        list_type: Some(message::list_response_message::ListType::SINGLE_SELECT),
        single_select_reply: MessageField::some(
            message::list_response_message::SingleSelectReply {
                selected_row_id: row.row_id.clone(),
            },
        ),
        ..Default::default()
    };
    Ok(shown(wa::Message {
        list_response_message: MessageField::some(answer),
        ..Default::default()
    }))
}

/// The button that was pressed of the message that is answered, with what the button says.
pub fn button_reply(
    asked: &wa::Message,
    reply: v1::ButtonReplyContent,
) -> Result<(Content, wa::Message), NoChoice> {
    let asked = peel(asked).message;
    if let Some(buttons) = asked.buttons_message.as_option() {
        let mut buttons = buttons.buttons.iter();
        let pressed = buttons.find(|one| one.button_id.as_deref() == Some(&*reply.button_id));
        let text = pressed.ok_or(UNKNOWN_BUTTON)?.button_text.as_option();
        use message::buttons_response_message::{Response, Type};
        let answer = message::ButtonsResponseMessage {
            selected_button_id: some(&reply.button_id),
            r#type: Some(Type::DISPLAY_TEXT),
            response: text
                .and_then(|text| text.display_text.clone())
                .map(Response::SelectedDisplayText),
            ..Default::default()
        };
        return Ok(shown(wa::Message {
            buttons_response_message: MessageField::some(answer),
            ..Default::default()
        }));
    }
    let Some(Content::Interactive(content)) = inbound::content(asked, &Default::default()) else {
        return Err(NoChoice {
            field: "quoted_message_id",
            why: "must be the id of a message with buttons",
        });
    };
    let mut buttons = (0..).zip(&content.buttons);
    let pressed = buttons.find_map(|(index, button)| {
        let params: QuickReply = serde_json::from_str(&button.params_json).ok()?;
        let same = button.name == "quick_reply" && params.id == reply.button_id;
        same.then_some((index, params))
    });
    let (index, params) = pressed.ok_or(UNKNOWN_BUTTON)?;
    let answer = message::TemplateButtonReplyMessage {
        selected_id: Some(params.id),
        selected_display_text: Some(params.display_text),
        selected_index: Some(index),
        ..Default::default()
    };
    Ok(shown(wa::Message {
        template_button_reply_message: MessageField::some(answer),
        ..Default::default()
    }))
}

const UNKNOWN_BUTTON: NoChoice = NoChoice {
    field: "button_reply.button_id",
    why: "must be the id of a reply button of the message",
};

/// What a reply button needs.
#[derive(serde::Deserialize)]
struct QuickReply {
    id: String,
    #[serde(default)]
    display_text: String,
}

/// What came of a button of the message that is answered.
pub fn interactive_reply(
    asked: &wa::Message,
    reply: v1::InteractiveReplyContent,
) -> Result<(Content, wa::Message), NoChoice> {
    let content = inbound::content(asked, &Default::default());
    if !matches!(content, Some(Content::Interactive(_))) {
        return Err(NoChoice {
            field: "quoted_message_id",
            why: "must be the id of a message with the buttons of a business",
        });
    }
    let flow = interactive_response_message::NativeFlowResponseMessage {
        name: some(&reply.name),
        params_json: some(&reply.params_json),
        version: Some(1),
    };
    let answer = message::InteractiveResponseMessage {
        body: MessageField::some(interactive_response_message::Body {
            text: some(&reply.text),
            ..Default::default()
        }),
        interactive_response_message: Some(flow.into()),
        ..Default::default()
    };
    Ok(shown(wa::Message {
        interactive_response_message: MessageField::some(answer),
        ..Default::default()
    }))
}

/// An answer as it will be told, and as it is sent.
fn shown(message: wa::Message) -> (Content, wa::Message) {
    let content = inbound::content(&message, &Default::default());
    (
        content.unwrap_or(Content::Unsupported(Default::default())),
        message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(message: &wa::Message) -> v1::InteractiveContent {
        match inbound::content(message, &Default::default()) {
            Some(Content::Interactive(content)) => content,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_and_buttons_become_what_phones_show() {
        let list = list(&v1::ListContent {
            title: "Tea".to_owned(),
            description: "Which?".to_owned(),
            button_text: "Choose".to_owned(),
            footer: String::new(),
            sections: vec![v1::ListSection {
                title: "Green".to_owned(),
                rows: vec![v1::ListRow {
                    id: "s".to_owned(),
                    title: "Sencha".to_owned(),
                    description: "from \"Uji\"".to_owned(),
                }],
            }],
        });
        let shown = understood(&list);
        assert_eq!((&*shown.header, &*shown.body), ("Tea", "Which?"));
        assert_eq!(shown.buttons[0].name, "single_select");
        let params: serde_json::Value =
            serde_json::from_str(&shown.buttons[0].params_json).unwrap();
        assert_eq!(params["title"], "Choose");
        let row = &params["sections"][0]["rows"][0];
        assert_eq!(row["description"], "from \"Uji\"");

        let buttons = buttons(&v1::ButtonsContent {
            text: "Milk?".to_owned(),
            buttons: vec![v1::ReplyButton {
                id: "y".to_owned(),
                text: "Yes".to_owned(),
            }],
            ..Default::default()
        });
        let pressed = |id: &str| {
            let reply = v1::ButtonReplyContent {
                button_id: id.to_owned(),
                ..Default::default()
            };
            button_reply(&buttons, reply)
        };
        let (content, message) = pressed("y").unwrap();
        assert!(message.template_button_reply_message.is_set());
        match content {
            Content::ButtonReply(reply) => assert_eq!(reply.text, "Yes"),
            other => panic!("{other:?}"),
        }
        assert_eq!(pressed("n").unwrap_err(), UNKNOWN_BUTTON);
        let reply = v1::ListReplyContent::default();
        let refused = list_reply(&buttons, reply).unwrap_err();
        assert_eq!(refused.field, "quoted_message_id");
    }

    #[test]
    fn an_answer_to_an_old_list_says_what_the_list_says() {
        let row = message::list_message::Row {
            row_id: some("s"),
            title: some("Sencha"),
            description: some("green"),
        };
        let asked = wa::Message {
            list_message: MessageField::some(message::ListMessage {
                sections: vec![message::list_message::Section {
                    rows: vec![row],
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        };
        let reply = v1::ListReplyContent {
            row_id: "s".to_owned(),
            title: "something else".to_owned(),
            ..Default::default()
        };
        let (content, message) = list_reply(&asked, reply.clone()).unwrap();
        assert!(message.list_response_message.is_set());
        match content {
            Content::ListReply(reply) => assert_eq!(reply.title, "Sencha"),
            other => panic!("{other:?}"),
        }
        let unknown = v1::ListReplyContent {
            row_id: "t".to_owned(),
            ..reply
        };
        let refused = list_reply(&asked, unknown).unwrap_err();
        assert_eq!(refused.field, "list_reply.row_id");
    }
}

//! Lists, buttons and the answers to them, within the limits that WhatsApp names to businesses.

use std::collections::HashSet;

use tonic::Status;

use super::{most, small, some};
use crate::{domain::limits, grpc::status, proto::v1};

/// Longest text above or below, in characters.
pub(super) const MARGIN_CHARS: usize = 60;

/// Longest text on a button and longest title of a row, in characters.
pub(super) const BUTTON_CHARS: usize = 20;
pub(super) const ROW_CHARS: usize = 24;
pub(super) const ROW_DESCRIPTION_CHARS: usize = 72;

/// Longest id of a row or a button, in characters.
pub(super) const ID_CHARS: usize = 200;

/// Most rows of a list, and most buttons.
pub(super) const ROWS: usize = 10;
pub(super) const REPLY_BUTTONS: usize = 3;
pub(super) const BUTTONS: usize = 10;

/// Most that a button needs, in bytes.
pub(super) const PARAMS_BYTES: usize = 16 << 10;

/// Longest name of what a button does, in characters.
pub(super) const FLOW_CHARS: usize = 64;

fn count(field: &str, count: usize, most: usize, what: &str) -> Result<(), Status> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    let description = format!("must have 1 to {most} {what}");
    Err(status::field_invalid(field, description))
}

/// An id that no other one is.
fn id<'i>(field: &str, id: &'i str, seen: &mut HashSet<&'i str>) -> Result<(), Status> {
    some(field, id, ID_CHARS)?;
    if !seen.insert(id) {
        return Err(status::field_invalid(field, "must differ from the others"));
    }
    Ok(())
}

fn json(field: &str, text: &str) -> Result<(), Status> {
    small(field, text.as_bytes(), PARAMS_BYTES)?;
    let value: Result<serde_json::Value, _> = serde_json::from_str(text);
    if !value.is_ok_and(|value| value.is_object()) {
        return Err(status::field_invalid(field, "must be a JSON object"));
    }
    Ok(())
}

pub(super) fn list(list: v1::ListContent) -> Result<v1::ListContent, Status> {
    most("list.title", &list.title, MARGIN_CHARS)?;
    some("list.description", &list.description, limits::CAPTION_CHARS)?;
    some("list.button_text", &list.button_text, BUTTON_CHARS)?;
    most("list.footer", &list.footer, MARGIN_CHARS)?;
    let rows = list.sections.iter().map(|section| section.rows.len());
    count("list.sections", rows.sum(), ROWS, "rows")?;
    let mut seen = HashSet::new();
    for (place, section) in list.sections.iter().enumerate() {
        let field = |name: &str| format!("list.sections[{place}].{name}");
        count(&field("rows"), section.rows.len(), ROWS, "rows")?;
        if list.sections.len() > 1 {
            some(&field("title"), &section.title, ROW_CHARS)?;
        }
        most(&field("title"), &section.title, ROW_CHARS)?;
        for (number, row) in section.rows.iter().enumerate() {
            let field = |name: &str| format!("list.sections[{place}].rows[{number}].{name}");
            id(&field("id"), &row.id, &mut seen)?;
            some(&field("title"), &row.title, ROW_CHARS)?;
            most(
                &field("description"),
                &row.description,
                ROW_DESCRIPTION_CHARS,
            )?;
        }
    }
    Ok(list)
}

pub(super) fn buttons(message: v1::ButtonsContent) -> Result<v1::ButtonsContent, Status> {
    most("buttons.header", &message.header, MARGIN_CHARS)?;
    some("buttons.text", &message.text, limits::CAPTION_CHARS)?;
    most("buttons.footer", &message.footer, MARGIN_CHARS)?;
    let buttons = &message.buttons;
    count("buttons.buttons", buttons.len(), REPLY_BUTTONS, "buttons")?;
    let mut seen = HashSet::new();
    for (number, button) in buttons.iter().enumerate() {
        let field = |name: &str| format!("buttons.buttons[{number}].{name}");
        id(&field("id"), &button.id, &mut seen)?;
        some(&field("text"), &button.text, BUTTON_CHARS)?;
    }
    Ok(message)
}

pub(super) fn interactive(
    message: v1::InteractiveContent,
) -> Result<v1::InteractiveContent, Status> {
    most("interactive.header", &message.header, MARGIN_CHARS)?;
    some("interactive.body", &message.body, limits::CAPTION_CHARS)?;
    most("interactive.footer", &message.footer, MARGIN_CHARS)?;
    let buttons = &message.buttons;
    count("interactive.buttons", buttons.len(), BUTTONS, "buttons")?;
    for (number, button) in buttons.iter().enumerate() {
        let field = |name: &str| format!("interactive.buttons[{number}].{name}");
        some(&field("name"), &button.name, FLOW_CHARS)?;
        json(&field("params_json"), &button.params_json)?;
    }
    Ok(message)
}

/// Answers stand under what they answer.
pub(super) fn answered(quoted: &str) -> Result<(), Status> {
    if quoted.is_empty() {
        return Err(status::field_invalid(
            "quoted_message_id",
            "must be the id of the message that is answered",
        ));
    }
    Ok(())
}

pub(super) fn list_reply(reply: v1::ListReplyContent) -> Result<v1::ListReplyContent, Status> {
    some("list_reply.row_id", &reply.row_id, limits::CAPTION_CHARS)?;
    Ok(reply)
}

pub(super) fn button_reply(
    reply: v1::ButtonReplyContent,
) -> Result<v1::ButtonReplyContent, Status> {
    let field = "button_reply.button_id";
    some(field, &reply.button_id, limits::CAPTION_CHARS)?;
    Ok(reply)
}

pub(super) fn interactive_reply(
    reply: v1::InteractiveReplyContent,
) -> Result<v1::InteractiveReplyContent, Status> {
    some("interactive_reply.name", &reply.name, FLOW_CHARS)?;
    json("interactive_reply.params_json", &reply.params_json)?;
    let text = "interactive_reply.text";
    most(text, &reply.text, limits::CAPTION_CHARS)?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn field<T: std::fmt::Debug>(checked: Result<T, Status>) -> String {
        let details = checked.unwrap_err().get_error_details();
        let request = details.bad_request().expect("it names a field");
        request.field_violations[0].field.clone()
    }

    fn a_list(sections: &[&[&str]]) -> v1::ListContent {
        let row = |id: &&str| v1::ListRow {
            id: (*id).to_owned(),
            title: "row".to_owned(),
            ..Default::default()
        };
        v1::ListContent {
            description: "Which?".to_owned(),
            button_text: "Choose".to_owned(),
            sections: sections
                .iter()
                .map(|rows| v1::ListSection {
                    title: "part".to_owned(),
                    rows: rows.iter().map(row).collect(),
                })
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_list_has_one_to_ten_rows_that_differ() {
        assert!(list(a_list(&[&["a", "b"], &["c"]])).is_ok());
        assert_eq!(field(list(a_list(&[]))), "list.sections");
        assert_eq!(field(list(a_list(&[&["a"; 11]]))), "list.sections");
        assert_eq!(
            field(list(a_list(&[&["a"], &["a"]]))),
            "list.sections[1].rows[0].id"
        );
        let nothing = field(list(a_list(&[&["a"], &[]])));
        assert_eq!(nothing, "list.sections[1].rows");
    }

    #[test]
    fn buttons_are_few_and_say_what_they_need() {
        let with = |params: &str| {
            interactive(v1::InteractiveContent {
                body: "Pay".to_owned(),
                buttons: vec![v1::InteractiveButton {
                    name: "cta_copy".to_owned(),
                    params_json: params.to_owned(),
                }],
                ..Default::default()
            })
        };
        assert!(with("{\"copy_code\": \"1\"}").is_ok());
        for params in ["", "[]", "{"] {
            assert_eq!(field(with(params)), "interactive.buttons[0].params_json");
        }
        let many = v1::ButtonsContent {
            text: "Which?".to_owned(),
            buttons: vec![v1::ReplyButton::default(); 4],
            ..Default::default()
        };
        assert_eq!(field(buttons(many)), "buttons.buttons");
        assert_eq!(field(answered("")), "quoted_message_id");
    }
}

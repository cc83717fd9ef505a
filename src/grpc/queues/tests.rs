//! What lists are taken, and which of their recipients.

use super::*;

fn text(text: &str) -> Option<v1::QueueMessage> {
    let text = v1::TextContent {
        text: text.to_owned(),
        ..Default::default()
    };
    Some(v1::QueueMessage {
        content: Some(Listed::Text(text)),
        ..Default::default()
    })
}

fn to(recipient: &str, variables: &[(&str, &str)]) -> v1::QueueRecipient {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    v1::QueueRecipient {
        recipient: recipient.to_owned(),
        variables: variables.iter().map(owned).collect(),
    }
}

fn list(
    text: Option<v1::QueueMessage>,
    recipients: Vec<v1::QueueRecipient>,
) -> v1::CreateQueueRequest {
    v1::CreateQueueRequest {
        message: text,
        recipients,
        ..Default::default()
    }
}

#[test]
fn what_is_wrong_with_a_recipient_is_said() {
    let long = "x".repeat(limits::TEXT_CHARS);
    let recipients = vec![
        to("+1 555 000 0001", &[("name", "Ann")]),
        to("15550000001@s.whatsapp.net", &[("name", "Ann")]),
        to("nobody", &[("name", "Ann")]),
        to("15550000002", &[]),
        to("120363000000000001@g.us", &[("name", "all")]),
        to("15550000003", &[("name", &long)]),
        to("15550000004", &[("name", " ")]),
    ];
    let new = new_list(list(text("{{name}}"), recipients)).unwrap();
    let states: Vec<ItemState> = new.items.iter().map(|item| item.state).collect();
    use ItemState::*;
    assert_eq!(
        states,
        [
            Waiting, Duplicate, Invalid, Invalid, Waiting, Invalid, Invalid
        ]
    );
    assert!(new.items[3].reason.contains("name is missing"));
    assert!(new.items[5].variables.is_empty());
    assert_eq!(new.items[6].reason, "the text is empty");
    assert_eq!(new.pacing.messages_per_minute, Some(limits::QUEUE_RATE));
}

#[test]
fn what_is_wrong_with_a_list_names_its_field() {
    let field = |asked: v1::CreateQueueRequest| {
        use tonic_types::StatusExt as _;
        let Err(status) = new_list(asked) else {
            return String::new();
        };
        let details = status.get_error_details();
        details.bad_request().unwrap().field_violations[0]
            .field
            .clone()
    };
    let good = || list(text("hi"), vec![to("15550000001", &[])]);
    let paced = |pacing| v1::CreateQueueRequest {
        pacing: Some(pacing),
        ..good()
    };
    assert_eq!(field(good()), "");
    assert_eq!(field(list(text("hi"), Vec::new())), "recipients");
    assert_eq!(field(list(None, vec![to("15550000001", &[])])), "message");
    assert_eq!(
        field(list(text(" "), vec![to("15550000001", &[])])),
        "message.text.text"
    );
    let delay = v1::QueuePacing {
        delay_min_ms: 2,
        delay_max_ms: 1,
        ..Default::default()
    };
    assert_eq!(field(paced(delay)), "pacing.delay_max_ms");
    let window = v1::QueueWindow {
        start_minute: 5,
        end_minute: 5,
        ..Default::default()
    };
    let window = v1::QueuePacing {
        window: Some(window),
        ..Default::default()
    };
    assert_eq!(field(paced(window)), "pacing.window.end_minute");
}

#[test]
fn the_largest_list_fits_a_request_and_is_looked_at_quickly() {
    let recipients = (0..limits::QUEUE_RECIPIENTS).map(|at| {
        let number = format!("1555{at:07}");
        to(
            &number,
            &[("name", "Somebody With A Name"), ("city", "Springfield")],
        )
    });
    let asked = list(text("Hello {{name}} of {{city}}"), recipients.collect());
    assert!(asked.encoded_len() < limits::QUEUE_REQUEST_BYTES / 2);
    let new = new_list(asked).unwrap();
    assert!(
        new.items
            .iter()
            .all(|item| item.state == ItemState::Waiting)
    );
}

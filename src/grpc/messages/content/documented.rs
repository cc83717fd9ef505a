//! What docs/messages.md says of the kinds of message, held against the contract and the limits.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::*;
use crate::{domain::event_type::EventType, grpc::messages};

const PAGE: &str = include_str!("../../../../docs/messages.md");

/// A row of the table of kinds.
struct Row {
    kind: &'static str,
    arrives: &'static str,
    leaves: &'static str,
    limits: &'static str,
}

fn rows() -> Vec<Row> {
    let heading = "| kind | in | out | limits when sent |\n";
    let (_, table) = PAGE.split_once(heading).expect("a table of kinds");
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let row = |line: &'static str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [kind, arrives, leaves, limits] = cells[..] else {
            panic!("a row of other columns: {line}");
        };
        Row {
            kind: kind.trim_matches('`'),
            arrives,
            leaves,
            limits,
        }
    };
    rows.map(row).collect()
}

fn contract() -> FileDescriptorSet {
    FileDescriptorSet::decode(crate::proto::DESCRIPTOR_SET).unwrap()
}

fn message(name: &str) -> DescriptorProto {
    let files = contract().file.into_iter();
    let mut ours = files.filter(|file| file.package() == "wagate.v1");
    ours.find_map(|file| file.message_type.into_iter().find(|one| one.name() == name))
        .unwrap()
}

/// The fields of a message that are in its oneof `content`. `optional` fields have oneofs of their own.
fn kinds(message: DescriptorProto) -> BTreeSet<String> {
    let oneofs = message.oneof_decl.iter();
    let at = oneofs.clone().position(|one| one.name() == "content");
    let at = i32::try_from(at.unwrap()).unwrap();
    let fields = message.field.iter();
    let fields = fields.filter(|field| field.oneof_index == Some(at));
    fields.map(|field| field.name().to_owned()).collect()
}

/// What is between the first two backticks.
fn named(cell: &str) -> Option<&str> {
    cell.split('`').nth(1)
}

/// A number as people write it: `65,536`.
fn told(number: usize) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

#[test]
fn every_kind_has_one_row() {
    let rows = rows();
    let told: BTreeSet<String> = rows.iter().map(|row| row.kind.to_owned()).collect();
    assert_eq!(told, kinds(message("MessageContent")));
    assert_eq!(told.len(), rows.len());
}

#[test]
fn what_is_said_to_be_sent_is_what_send_message_takes() {
    let taken = kinds(message("SendMessageRequest"));
    let told = rows()
        .into_iter()
        .filter(|row| row.leaves.starts_with("yes"));
    let told: BTreeSet<String> = told.map(|row| row.kind.to_owned()).collect();
    assert_eq!(told, taken);
}

#[test]
fn what_goes_another_way_names_a_call_or_an_event_that_there_is() {
    let files = contract().file.into_iter();
    let services = files.flat_map(|file| file.service);
    let calls: BTreeSet<String> = services
        .flat_map(|service| service.method)
        .map(|method| method.name().to_owned())
        .collect();
    for row in rows() {
        if !row.leaves.starts_with("yes") && row.leaves != "no" {
            let call = named(row.leaves).unwrap_or_default();
            assert!(calls.contains(call), "{}: {:?}", row.kind, row.leaves);
        }
        if !row.arrives.starts_with("yes") {
            let event = named(row.arrives).unwrap_or_default();
            let known = EventType::EVERY.iter().any(|one| one.as_str() == event);
            assert!(known, "{}: {:?}", row.kind, row.arrives);
        }
    }
}

#[test]
fn the_limits_are_those_that_are_checked() {
    use limits::*;
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let (text, caption, link) = (told(TEXT_CHARS), told(CAPTION_CHARS), told(LINK_CHARS));
    let (name, description) = (told(NAME_CHARS), told(DESCRIPTION_CHARS));
    let (margin, row) = (business::MARGIN_CHARS, business::ROW_CHARS);
    let (id, button) = (business::ID_CHARS, business::BUTTON_CHARS);
    let days = messages::PIN_SECONDS.map(|seconds| told(seconds.try_into().unwrap()));
    let wanted: &[(&str, Vec<String>)] = &[
        (
            "text",
            vec![
                format!("1–{text} characters"),
                format!("title at most {name} characters"),
                format!("description {caption}"),
                format!("thumbnail {}", kib(THUMBNAIL_BYTES)),
            ],
        ),
        (
            "location",
            vec![
                format!("name {name} characters"),
                format!("address {caption}"),
                format!("URL {link}"),
                format!("thumbnail {}", kib(THUMBNAIL_BYTES)),
            ],
        ),
        (
            "live_location",
            vec![format!("caption {caption} characters")],
        ),
        (
            "contacts",
            vec![
                format!("1–{CARDS} cards"),
                format!("name {name} characters"),
                format!("a vCard of at most {}", kib(VCARD_BYTES)),
                format!("1–{CARD_NUMBERS} phone numbers"),
            ],
        ),
        ("reaction", vec![format!("at most {EMOJI_BYTES} bytes")]),
        (
            "edited",
            vec![
                format!("text {text} characters"),
                format!("caption {caption}"),
            ],
        ),
        (
            "poll",
            vec![
                format!("question {POLL_NAME_CHARS} characters"),
                format!(
                    "{}–{} options of 1–{POLL_OPTION_CHARS} characters",
                    POLL_OPTIONS.start(),
                    POLL_OPTIONS.end()
                ),
            ],
        ),
        (
            "event_invitation",
            vec![
                format!("name {POLL_NAME_CHARS} characters"),
                format!("description {description}"),
                format!("link {link}"),
            ],
        ),
        (
            "event_response",
            vec![format!("at most {EXTRA_GUESTS} extra guests")],
        ),
        (
            "list",
            vec![
                format!("text 1–{caption} characters"),
                format!("button {button}"),
                format!("title and footer {margin}"),
                format!("1–{} rows with ids of at most {id}", business::ROWS),
                format!("title {row}, text {}", business::ROW_DESCRIPTION_CHARS),
                format!("titles of sections {row}"),
            ],
        ),
        (
            "buttons",
            vec![
                format!("text 1–{caption} characters"),
                format!("header and footer {margin}"),
                format!(
                    "1–{} buttons with ids of at most {id}",
                    business::REPLY_BUTTONS
                ),
                format!("text {button}"),
            ],
        ),
        (
            "interactive",
            vec![
                format!("text 1–{caption} characters"),
                format!("header and footer {margin}"),
                format!("1–{} buttons", business::BUTTONS),
                format!("a name of {}", business::FLOW_CHARS),
                format!("at most {}", kib(business::PARAMS_BYTES)),
            ],
        ),
        (
            "interactive_reply",
            vec![
                format!("a name of {} characters", business::FLOW_CHARS),
                format!("text {caption}"),
                format!("at most {}", kib(business::PARAMS_BYTES)),
            ],
        ),
        (
            "pin",
            vec![format!(
                "for {}, {} or {} seconds",
                days[1], days[2], days[3]
            )],
        ),
        (
            "group_invite",
            vec![
                format!("1–{SUBJECT_CHARS} characters"),
                format!("caption {caption}"),
            ],
        ),
    ];
    let rows = rows();
    for (kind, wanted) in wanted {
        let row = rows.iter().find(|row| row.kind == *kind).unwrap();
        for wanted in wanted {
            assert!(
                row.limits.contains(wanted),
                "{kind}: {wanted:?} is not in {:?}",
                row.limits
            );
        }
    }
    let [never, day, week, months] =
        messages::EPHEMERAL_SECONDS.map(|one| told(one.try_into().unwrap()));
    let page = PAGE.replace('\n', " ");
    for wanted in [
        format!("at most {LIST_ENTRIES} entries of a list"),
        format!("no thumbnail of more than {}", kib(THUMBNAIL_BYTES)),
        format!("`ephemeral_seconds` ({day}, {week}, {months} or {never})"),
    ] {
        assert!(page.contains(&wanted), "{wanted:?} is not told");
    }
}

//! `docs/messages.md` names every kind of message, and says truly which can be sent.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

const TABLE: &str = include_str!("../../../docs/messages.md");

/// The fields of the oneof of a message of the contract.
fn kinds(message: &str) -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTOR_SET).unwrap();
    let ours = set.file.iter().filter(|file| file.package() == "wagate.v1");
    let found = ours
        .flat_map(|file| &file.message_type)
        .find(|one| one.name() == message)
        .unwrap();
    let optional = |field: &prost_types::FieldDescriptorProto| field.proto3_optional();
    let fields = found.field.iter().filter(|field| !optional(field));
    fields
        .filter(|field| field.oneof_index.is_some())
        .map(|field| field.name().to_owned())
        .collect()
}

/// Which kinds the table names, and what it says of sending them.
fn told() -> BTreeMap<String, String> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), cells[3].to_owned())
    })
    .collect()
}

#[test]
fn the_table_names_every_kind() {
    let named: BTreeSet<String> = told().into_keys().collect();
    assert_eq!(named, kinds("MessageContent"));
}

#[test]
fn the_table_says_which_can_be_sent() {
    let yes = told().into_iter().filter(|(_, out)| out.starts_with("yes"));
    let yes: BTreeSet<String> = yes.map(|(kind, _)| kind).collect();
    assert_eq!(yes, kinds("SendMessageRequest"));
}

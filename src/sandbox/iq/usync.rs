//! usync: who exists, under which LID, with which devices.

use wacore_binary::{Node, builder::NodeBuilder};

use super::Answer;
use crate::sandbox::{
    address::Number,
    model::Account,
    network::State,
    wire::{self, WireError},
};

pub(super) fn answer(state: &State, node: &Node) -> Answer {
    let usync = node
        .get_optional_child("usync")
        .ok_or(WireError::BAD_REQUEST)?;
    let protocols: Vec<&str> = usync
        .get_optional_child("query")
        .and_then(Node::children)
        .ok_or(WireError::BAD_REQUEST)?
        .iter()
        .map(|protocol| protocol.tag.as_ref())
        .collect();
    let users: Vec<Node> = usync
        .get_optional_child("list")
        .into_iter()
        .flat_map(|list| list.get_children_by_tag("user"))
        .filter_map(|user| answer_user(state, &protocols, user))
        .collect();
    Ok(vec![
        NodeBuilder::new("usync")
            .children([
                wire::empty("result"),
                NodeBuilder::new("list").children(users).build(),
            ])
            .build(),
    ])
}

/// The user in the form it was asked for; a JID nobody has is left out, a number nobody has is answered as such.
fn answer_user(state: &State, protocols: &[&str], user: &Node) -> Option<Node> {
    let contact = user
        .get_optional_child("contact")
        .and_then(Node::content_as_string)
        .filter(|number| !number.is_empty());
    let number = contact
        .as_ref()
        .and_then(|number| number.parse::<Number>().ok());
    let asked = match wire::jid(user, "jid") {
        Some(jid) => jid,
        None => number?.jid(),
    };
    let account = state.account_of(&asked).map(|(account, _)| account);
    if account.is_none() && number.is_none() {
        return None;
    }
    let mut children = Vec::new();
    for protocol in protocols {
        match (*protocol, account) {
            ("contact", account) => {
                let mut known = NodeBuilder::new("contact")
                    .attr("type", if account.is_some() { "in" } else { "out" });
                if let Some(contact) = &contact {
                    known = known.string_content(contact.as_str());
                }
                children.push(known.build());
            }
            ("lid", Some(account)) => {
                children.push(
                    NodeBuilder::new("lid")
                        .attr("val", account.lid.jid())
                        .build(),
                );
            }
            ("devices", Some(account)) => children.push(devices(account)),
            // Status, picture, business and the like: nothing is set.
            _ => {}
        }
    }
    Some(
        NodeBuilder::new("user")
            .attr("jid", asked.to_non_ad())
            .children(children)
            .build(),
    )
}

fn devices(account: &Account) -> Node {
    let list = account.devices.iter().map(|(id, device)| {
        let entry = NodeBuilder::new("device").attr("id", *id);
        if *id == 0 {
            entry.build()
        } else {
            entry.attr("key-index", device.key_index).build()
        }
    });
    NodeBuilder::new("devices")
        .children([
            NodeBuilder::new("device-list").children(list).build(),
            key_index_list(account),
        ])
        .build()
}

/// `<key-index-list>`: without it clients drop every companion of the account.
pub(in crate::sandbox) fn key_index_list(account: &Account) -> Node {
    NodeBuilder::new("key-index-list")
        .attr("ts", account.key_index_time)
        .bytes(account.key_index_list.clone())
        .build()
}

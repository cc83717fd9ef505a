//! Groups (`w:g2`): asking about them, changing them, coming and going.
//!
//! Reads requests and decides whether they are allowed; what happens then is the model's, who is told `group`'s.
//! Who is no member is refused with 403, who is no admin with 401 where it is about the invite code and with 403
//! elsewhere, as WhatsApp does.

mod change;
mod create;
mod invite;
mod participants;
mod query;
mod requests;

use wacore_binary::{Node, builder::NodeBuilder};

use super::Answer;
use crate::sandbox::{
    address::{DeviceAddress, Number},
    group::{Group, GroupId},
    network::State,
    wire::{self, WireError},
};

/// Groups that one network holds.
const MAX_GROUPS: usize = 10_000;

pub(super) fn answer(state: &mut State, from: DeviceAddress, kind: &str, node: &Node) -> Answer {
    let actor = from.number;
    let child = node.children().and_then(|children| children.first());
    let child = child.ok_or(WireError::BAD_REQUEST)?;
    let to = wire::jid(node, "to");
    let Some(id) = to.as_ref().and_then(GroupId::of) else {
        return match (kind, &*child.tag) {
            ("set", "create") => create::create(state, actor, child),
            ("get", "participating") => Ok(query::participating(state, actor, child)),
            ("get", "query") => Ok(query::several(state, actor, child)),
            ("get", "invite") => invite::preview(state, child),
            ("set", "invite") => invite::join(state, actor, child),
            ("set", "leave") => participants::leave(state, actor, child),
            _ => Err(WireError::NOT_IMPLEMENTED),
        };
    };
    let group = state.groups.get(&id).cloned();
    let group = group.ok_or(WireError::NOT_FOUND)?;
    match (kind, &*child.tag) {
        ("get", "query") => query::one(state, actor, &group, child),
        ("get", "invite") => invite::code(actor, &group),
        ("set", "invite") => invite::reset(state, actor, group),
        ("set", "accept") => invite::accept(state, actor, group, child),
        ("set", "revoke") => invite::revoke(state, actor, group, child),
        ("set", "add") => participants::add(state, actor, group, child),
        ("set", "remove") => participants::remove(state, actor, group, child),
        ("set", "promote" | "demote") => participants::appoint(state, actor, group, child),
        ("get", "membership_approval_requests") => requests::list(state, actor, &group),
        ("set", "membership_requests_action") => requests::review(state, actor, group, child),
        ("set", "cancel_membership_requests") => requests::cancel(state, actor, group, child),
        // Says only that an invitation was seen.
        ("set", "ack") => group.check_member(actor).map(|()| Vec::new()),
        ("set", _) => change::change(state, actor, group, child),
        _ => Err(WireError::NOT_IMPLEMENTED),
    }
}

/// A person whom a request names.
struct Named<'n> {
    /// As it was written.
    node: &'n Node,
    /// Who it is, if anybody.
    number: Option<Number>,
}

/// The people whom a request names. One who is named twice, also by both names, counts once.
fn named<'n>(state: &State, node: &'n Node) -> Vec<Named<'n>> {
    let mut known = std::collections::HashSet::new();
    node.get_children_by_tag("participant")
        .map(|node| {
            let number = ["jid", "phone_number"]
                .into_iter()
                .filter_map(|key| wire::jid(node, key))
                .find_map(|jid| state.account_of(&jid).map(|(account, _)| account.number));
            Named { node, number }
        })
        .filter(|named| named.number.is_none_or(|number| known.insert(number)))
        .collect()
}

/// What became of one person: done, or refused with a code.
fn outcome(
    state: &State,
    group: &Group,
    named: &Named<'_>,
    refusal: Option<WireError>,
) -> NodeBuilder {
    let person = named
        .number
        .and_then(|number| state.person("participant", group, number));
    let person = match (person, wire::jid(named.node, "jid")) {
        (Some(person), _) => person,
        (None, Some(jid)) => NodeBuilder::new("participant").attr("jid", jid),
        (None, None) => NodeBuilder::new("participant"),
    };
    match refusal {
        Some(WireError(code, _)) => person.attr("error", code),
        None => person.attr("type", "200"),
    }
}

/// The node that says whom a change concerns.
fn people(state: &State, group: &Group, tag: &'static str, numbers: &[Number]) -> NodeBuilder {
    let people = numbers
        .iter()
        .filter_map(|number| state.person("participant", group, *number))
        .map(NodeBuilder::build);
    NodeBuilder::new(tag)
        .attr("v_id", group.version)
        .children(people)
}

/// Text inside a node, whether a client sends it as bytes or as a string.
fn content(node: &Node) -> Result<String, WireError> {
    let bytes = wire::bytes(node).unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| WireError::NOT_ACCEPTABLE)
}

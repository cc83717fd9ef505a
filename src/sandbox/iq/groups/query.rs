//! What groups are like.

use wacore::messages::MessageUtils;
use wacore_binary::{Jid, Node, builder::NodeBuilder};

use super::{Answer, invite};
use crate::sandbox::{
    address::Number,
    group::{Group, GroupId, View},
    network::State,
    wire::{self, WireError},
};

/// One group, for its members or for who was invited. Left out if the asker knows the members already.
pub(super) fn one(state: &State, actor: Number, group: &Group, query: &Node) -> Answer {
    if let Some(invitation) = query.get_optional_child("add_request") {
        invite::check_ticket(actor, group, invitation)?;
        return Ok(vec![state.group_node(group, View::OUTSIDE)]);
    }
    group.check_member(actor)?;
    if wire::text(query, "phash").is_some_and(|known| members_hash(state, group) == Some(known)) {
        return Ok(Vec::new());
    }
    Ok(vec![state.group_node(group, View::FULL)])
}

/// All groups somebody is in.
pub(super) fn participating(state: &State, actor: Number, query: &Node) -> Vec<Node> {
    let view = View {
        members: query.get_optional_child("participants").is_some(),
        description: query.get_optional_child("description").is_some(),
    };
    let groups = state
        .groups
        .values()
        .filter(|group| group.rank(actor).is_some())
        .map(|group| state.group_node(group, view));
    vec![NodeBuilder::new("groups").children(groups).build()]
}

/// Several groups by name; each that the asker may not see with an error of its own.
pub(super) fn several(state: &State, actor: Number, query: &Node) -> Vec<Node> {
    let groups = query
        .get_children_by_tag("group")
        .filter_map(|asked| GroupId::of(&wire::jid(asked, "jid")?))
        .map(|id| match state.groups.get(&id) {
            Some(group) if group.rank(actor).is_some() => state.group_node(group, View::FULL),
            found => {
                let error = match found {
                    Some(_) => WireError::FORBIDDEN,
                    None => WireError::NOT_FOUND,
                };
                NodeBuilder::new("group")
                    .attr("id", id.to_string())
                    .attr("error", error.0)
                    .build()
            }
        });
    vec![NodeBuilder::new("groups").children(groups).build()]
}

/// The hash of the members, not of their devices.
fn members_hash(state: &State, group: &Group) -> Option<String> {
    let members: Vec<Jid> = group
        .members
        .keys()
        .filter_map(|number| Some(state.accounts.get(number)?.jid(group.namespace())))
        .collect();
    MessageUtils::participant_list_hash(&members).ok()
}

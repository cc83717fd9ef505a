//! A new group.

use wacore_binary::{Node, NodeContent, builder::NodeBuilder};

use super::{Answer, MAX_GROUPS, change, content, named, participants};
use crate::sandbox::{
    address::Number,
    group::{Description, Group, GroupId, MEMBER_LINK, News, View},
    network::State,
    wire::{self, WireError},
};

/// Creates a group and seats everybody who can be added; the others are in the answer with an error.
pub(super) fn create(state: &mut State, actor: Number, asked: &Node) -> Answer {
    if state.groups.len() >= MAX_GROUPS {
        return Err(WireError::FULL);
    }
    let subject = wire::text(asked, "subject").unwrap_or_default();
    change::check_subject(&subject)?;
    // Groups are LID-addressed nowadays; those by number are old, or asked for by a phone of ours.
    let lid_addressed = !wire::is(asked, "addressing_mode", "pn");
    let id = std::iter::repeat_with(GroupId::random)
        .find(|id| !state.groups.contains_key(id))
        .ok_or(WireError::INTERNAL)?;
    let mut group = Group::new(id, actor, subject, lid_addressed);
    furnish(&mut group, actor, asked)?;

    let mut refused = Vec::new();
    for named in named(state, asked) {
        if named.number == Some(actor) {
            continue;
        }
        match participants::seat(state, &mut group, actor, &named) {
            Ok(number) => group.admit(number),
            Err(refusal) => refused.push(*refusal),
        }
    }
    let shown = state.group_node(&group, View::FULL);
    let mut created = NodeBuilder::new("create").attr("type", "new");
    if let Some(key) = wire::text(asked, "key") {
        created = created.attr("key", key);
    }
    let created = created.children([shown.clone()]).build();
    let news = News::to_members(&group, actor, created);
    state.change_group(group, vec![news])?;

    let mut answer = shown;
    if let Some(NodeContent::Nodes(children)) = &mut answer.content {
        children.extend(refused);
    }
    Ok(vec![answer])
}

/// The settings a group starts with.
fn furnish(group: &mut Group, actor: Number, asked: &Node) -> Result<(), WireError> {
    for setting in asked.children().unwrap_or_default() {
        match &*setting.tag {
            "description" => {
                let text = change::description_text(setting)?;
                group.description = (!text.is_empty()).then(|| Description {
                    id: wire::text(setting, "id").unwrap_or_else(change::version_id),
                    text,
                    by: actor,
                    time: wire::now(),
                });
            }
            "member_link_mode" => group.members_invite = content(setting)? == MEMBER_LINK[0],
            "participant" => {}
            "parent" | "linked_parent" => return Err(WireError::NOT_IMPLEMENTED),
            "ephemeral" if wire::is(setting, "expiration", "0") => {}
            _ => {
                // What a newer client wants and we have not heard of does not keep it from having a group.
                match change::set(group, setting) {
                    Ok(()) | Err(WireError::NOT_IMPLEMENTED) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

//! Pictures of groups (`w:profile:picture`). Accounts have none here.

use wacore_binary::{Node, builder::NodeBuilder};

use super::Answer;
use crate::sandbox::{
    address::{DeviceAddress, Number},
    group::{Group, GroupId, News, Picture},
    network::State,
    wire::{self, WireError},
};

/// The largest picture, in bytes.
const MAX_PICTURE: usize = 1 << 20;

/// How every JPEG image begins.
const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];

/// Where a picture is, for those who may see it. The same place whatever size was asked for.
pub(super) fn find(state: &State, from: DeviceAddress, node: &Node) -> Answer {
    let group = target(state, node)?.ok_or(WireError::NOT_FOUND)?;
    group.check_member(from.number)?;
    let picture = group.picture.as_ref().ok_or(WireError::NOT_FOUND)?;
    let asked = node.get_optional_child("picture");
    let asked = asked.ok_or(WireError::BAD_REQUEST)?;
    if wire::number(asked, "id") == Some(picture.id) {
        return Ok(vec![wire::empty("picture")]);
    }
    let path = path(group.id, picture.id);
    let kind = wire::text(asked, "type").unwrap_or_else(|| "image".to_owned());
    Ok(vec![
        NodeBuilder::new("picture")
            .attr("id", picture.id)
            .attr("type", kind)
            .attr("url", format!("http://{}{path}", state.host))
            .attr("direct_path", path)
            .build(),
    ])
}

/// Sets a picture; without one, removes it.
pub(super) fn set(state: &mut State, from: DeviceAddress, node: &Node) -> Answer {
    let actor = from.number;
    let group = target(state, node)?.ok_or(WireError::NOT_IMPLEMENTED)?;
    let mut group = group.clone();
    group.check_editor(actor)?;
    let before = group.picture.as_ref().map(|picture| picture.id);
    let Some(picture) = node.get_optional_child("picture") else {
        if group.picture.take().is_some() {
            let gone = change(state, &group, actor, "delete").build();
            tell(state, group, actor, gone)?;
        }
        return Ok(Vec::new());
    };
    let jpeg = wire::bytes(picture).unwrap_or_default();
    if jpeg.len() > MAX_PICTURE || !jpeg.starts_with(&JPEG) {
        return Err(WireError::NOT_ACCEPTABLE);
    }
    let id = wire::now().max(before.map_or(0, |id| id + 1));
    group.picture = Some(Picture {
        id,
        jpeg: jpeg.to_vec(),
    });
    let new = change(state, &group, actor, "set").attr("id", id).build();
    tell(state, group, actor, new)?;
    Ok(vec![NodeBuilder::new("picture").attr("id", id).build()])
}

fn change(state: &State, group: &Group, actor: Number, what: &'static str) -> NodeBuilder {
    let change = NodeBuilder::new(what).attr("jid", group.id.jid());
    match state.accounts.get(&actor) {
        Some(account) => change.attr("author", account.jid(group.namespace())),
        None => change,
    }
}

fn tell(state: &mut State, group: Group, actor: Number, what: Node) -> Result<(), WireError> {
    let news = News {
        kind: "picture",
        ..News::to_members(&group, actor, what)
    };
    state.change_group(group, vec![news])
}

/// The group that a request is about; nothing when it is about an account.
fn target<'s>(state: &'s State, node: &Node) -> Result<Option<&'s Group>, WireError> {
    let named = ["target", "to"]
        .into_iter()
        .filter_map(|key| wire::jid(node, key))
        .find_map(|jid| GroupId::of(&jid));
    match named {
        Some(id) => state.groups.get(&id).map(Some).ok_or(WireError::NOT_FOUND),
        None => Ok(None),
    }
}

/// Where the listener serves a picture.
pub(in crate::sandbox) fn path(group: GroupId, picture: u64) -> String {
    format!("/pictures/{group}/{picture}")
}

//! Small requests around a session: properties, privacy, app state without content, removal of a device.

use wacore_binary::{Node, builder::NodeBuilder};

use super::Answer;
use crate::sandbox::{
    address::DeviceAddress,
    network::State,
    wire::{self, WireError},
};

pub(super) fn props() -> Vec<Node> {
    vec![
        NodeBuilder::new("props")
            .attr("protocol", "1")
            .attr("ab_key", "sandbox")
            .attr("refresh", "86400")
            .build(),
    ]
}

pub(super) fn privacy() -> Vec<Node> {
    const SETTINGS: [(&str, &str); 7] = [
        ("readreceipts", "all"),
        ("profile", "all"),
        ("status", "all"),
        ("online", "all"),
        ("last", "all"),
        ("groupadd", "all"),
        ("calladd", "all"),
    ];
    let categories = SETTINGS.map(|(name, value)| {
        NodeBuilder::new("category")
            .attr("name", name)
            .attr("value", value)
            .build()
    });
    vec![NodeBuilder::new("privacy").children(categories).build()]
}

/// Every collection is empty. A patch has nowhere to go yet and is refused with the whole request.
pub(super) fn app_state(node: &Node) -> Answer {
    let sync = node
        .get_optional_child("sync")
        .ok_or(WireError::BAD_REQUEST)?;
    let mut collections = Vec::new();
    for collection in sync.get_children_by_tag("collection") {
        let has_patch = collection.get_optional_child("patch").is_some()
            || collection
                .get_optional_child_by_tag(&["patches", "patch"])
                .is_some();
        if has_patch {
            return Err(WireError::NOT_IMPLEMENTED);
        }
        let name = wire::text(collection, "name").ok_or(WireError::BAD_REQUEST)?;
        collections.push(
            NodeBuilder::new("collection")
                .attr("name", name)
                .attr(
                    "version",
                    wire::number::<u64>(collection, "version").unwrap_or(0),
                )
                .attr("has_more_patches", "false")
                .build(),
        );
    }
    Ok(vec![NodeBuilder::new("sync").children(collections).build()])
}

/// A device takes itself, or the phone one of its companions, off the account.
pub(super) fn remove_device(state: &State, from: DeviceAddress, node: &Node) -> Answer {
    let target = removed(state, node).ok_or(WireError::NOT_FOUND)?;
    let allowed =
        target.number == from.number && !target.is_phone() && (target == from || from.is_phone());
    if allowed {
        Ok(Vec::new())
    } else {
        Err(WireError::FORBIDDEN)
    }
}

/// After the reply, so that the device hears it before its connection ends.
pub(super) fn finish_removal(state: &mut State, from: DeviceAddress, node: &Node) {
    if let Some(target) = removed(state, node) {
        let farewell =
            (target != from).then(|| wire::stream_error(Some(401), Some("device_removed")));
        if let Err(error) = state.unlink(target, farewell) {
            tracing::warn!(%error, "a device was not removed");
        }
    }
}

fn removed(state: &State, node: &Node) -> Option<DeviceAddress> {
    let jid = wire::jid(node.get_optional_child("remove-companion-device")?, "jid")?;
    let (account, _) = state.account_of(&jid)?;
    let address = account.number.device(jid.device);
    state.device(address).map(|_| address)
}

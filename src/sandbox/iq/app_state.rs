//! The app state (`w:sync:app:state`): devices of an account leave their patches here and fetch those of the others.

use std::sync::Arc;

use wacore_binary::{Node, builder::NodeBuilder};

use super::Answer;
use crate::sandbox::{
    address::{DeviceAddress, Namespace},
    app_state::{Collection, Place, Rejected},
    network::State,
    store::Batch,
    wire::{self, WireError},
};

/// Collections of one request: more than there are.
const MOST: usize = 16;

/// Answers for each collection by itself: what has come since the version that the device has, or what became of its
/// patch.
pub(super) fn sync(state: &mut State, from: DeviceAddress, node: &Node) -> Answer {
    let sync = node.get_optional_child("sync");
    let sync = sync.ok_or(WireError::BAD_REQUEST)?;
    let mut answers = Vec::new();
    for asked in sync.get_children_by_tag("collection").take(MOST) {
        let name = wire::text(asked, "name").ok_or(WireError::BAD_REQUEST)?;
        answers.push(match Collection::of(&name) {
            Some(collection) => {
                let place = Place {
                    number: from.number,
                    collection,
                };
                answer(state, from, place, asked)?
            }
            None => refused(
                NodeBuilder::new("collection").attr("name", name),
                WireError::BAD_REQUEST,
            )
            .build(),
        });
    }
    Ok(vec![NodeBuilder::new("sync").children(answers).build()])
}

fn answer(
    state: &mut State,
    from: DeviceAddress,
    place: Place,
    asked: &Node,
) -> Result<Node, WireError> {
    let version = wire::number(asked, "version").unwrap_or(0);
    let patch = asked
        .get_optional_child("patch")
        .or_else(|| asked.get_optional_child_by_tag(&["patches", "patch"]));
    let Some(patch) = patch else {
        return shown(state, place, version, None);
    };
    let patch = wire::bytes(patch).unwrap_or_default();
    match take(state, place, version, patch)? {
        Ok(version) => {
            tell(state, from, place.collection, version);
            Ok(NodeBuilder::new("collection")
                .attr("name", place.collection.name())
                .attr("version", version)
                .build())
        }
        Err(Rejected::Behind) => shown(state, place, version, Some(WireError::CONFLICT)),
        Err(rejected) => {
            let error = match rejected {
                Rejected::Full => WireError::FULL,
                _ => WireError::BAD_REQUEST,
            };
            let collection = NodeBuilder::new("collection").attr("name", place.collection.name());
            Ok(refused(collection, error).build())
        }
    }
}

/// Takes a patch, stored before anybody hears of it. Answers with its version.
fn take(
    state: &mut State,
    place: Place,
    made_on: u64,
    patch: &[u8],
) -> Result<Result<u64, Rejected>, WireError> {
    let mut batch = Batch::default();
    let log = state.app_state.entry(place).or_default();
    let taken = match log.check(place, made_on, patch, &mut batch) {
        Ok(taken) => taken,
        Err(rejected) => return Ok(Err(rejected)),
    };
    state.commit(&batch).map_err(|_| WireError::INTERNAL)?;
    let log = state.app_state.entry(place).or_default();
    let version = log.take(taken);
    let mut batch = Batch::default();
    let folded = log.fold(place, &mut batch);
    // Without a disk it stays as it is until the next one.
    if let Some(folded) = folded
        && state.commit(&batch).is_ok()
        && let Some(log) = state.app_state.get_mut(&place)
    {
        log.adopt(folded);
    }
    Ok(Ok(version))
}

/// What has come since a version, and why that is shown if nobody asked for it.
fn shown(
    state: &mut State,
    place: Place,
    since: u64,
    error: Option<WireError>,
) -> Result<Node, WireError> {
    let media = state.media.clone();
    let log = state.app_state.entry(place).or_default();
    let head = log.head();
    let missed = log.since(since, &media).map_err(|error| {
        tracing::error!(%error, "a snapshot of the app state can't be left");
        WireError::INTERNAL
    })?;
    let mut children = Vec::new();
    let mut collection = NodeBuilder::new("collection")
        .attr("name", place.collection.name())
        .attr("version", head)
        .attr(
            "has_more_patches",
            if missed.more { "true" } else { "false" },
        );
    if let Some(error) = error {
        collection = collection.attr("type", "error");
        children.push(wire::error_node(error));
    }
    children.extend(missed.snapshot.map(|blob| wire::leaf("snapshot", blob)));
    if !missed.patches.is_empty() {
        let patches = missed.patches.into_iter();
        let patches = patches.map(|patch| wire::leaf("patch", patch));
        children.push(NodeBuilder::new("patches").children(patches).build());
    }
    if !children.is_empty() {
        collection = collection.children(children);
    }
    Ok(collection.build())
}

fn refused(collection: NodeBuilder, error: WireError) -> NodeBuilder {
    collection
        .attr("type", "error")
        .children([wire::error_node(error)])
}

/// Tells the account's other devices that there is something to fetch.
fn tell(state: &mut State, from: DeviceAddress, collection: Collection, version: u64) {
    let id = state.fresh_id();
    let Some(account) = state.accounts.get(&from.number) else {
        return;
    };
    let news = NodeBuilder::new("collection")
        .attr("name", collection.name())
        .attr("version", version)
        .build();
    let own = account.jid(Namespace::Number);
    let notification = Arc::new(wire::notification("server_sync", own, &id, vec![news]).build());
    let others = account.addresses().filter(|device| *device != from);
    let deliveries = others
        .map(|device| (device, notification.clone()))
        .collect();
    if let Err(error) = state.enqueue_where_room(deliveries, Batch::default()) {
        // They fetch it at their next login.
        tracing::error!(error.code = error.0, "nobody is told of a patch");
    }
}

impl State {
    /// Forgets the app state of an account in the batch; [`State::drop_app_state`] does it here.
    pub(in crate::sandbox) fn clear_app_state(&self, device: DeviceAddress, batch: &mut Batch) {
        for place in places(device) {
            if let Some(log) = self.app_state.get(&place) {
                log.clear(place, batch);
            }
        }
    }

    /// Forgets the app state of an account.
    pub(in crate::sandbox) fn drop_app_state(&mut self, device: DeviceAddress) {
        for place in places(device) {
            self.app_state.remove(&place);
        }
    }
}

fn places(device: DeviceAddress) -> impl Iterator<Item = Place> {
    let number = device.number;
    Collection::EVERY
        .into_iter()
        .map(move |collection| Place { number, collection })
}

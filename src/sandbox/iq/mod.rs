//! Requests of linked devices: one table from (namespace, type, child) to the answer, 501 for all else.

mod app_state;
pub mod encrypt;
mod groups;
mod media;
mod mex;
pub(super) mod picture;
mod session;
pub(super) mod usync;

use wacore_binary::Node;

use super::{
    address::DeviceAddress,
    group::GroupId,
    network::State,
    wire::{self, WireError},
};

/// What a request is answered with.
type Answer = Result<Vec<Node>, WireError>;

/// `<iq>` from a linked device.
pub fn handle(state: &mut State, from: DeviceAddress, node: &Node) {
    let (Some(id), Some(kind)) = (wire::text(node, "id"), wire::text(node, "type")) else {
        return;
    };
    if kind != "get" && kind != "set" {
        return;
    }
    let xmlns = wire::text(node, "xmlns").unwrap_or_default();
    let child = node.children().and_then(|children| children.first());
    let tag = child.map_or("", |child| child.tag.as_ref());
    let answer = match (xmlns.as_str(), kind.as_str(), tag) {
        ("w:p", "get", _) | ("urn:xmpp:ping", "get", _) => Ok(Vec::new()),
        ("passive", "set", "active" | "passive") => Ok(Vec::new()),
        ("encrypt", "set", "rotate") => encrypt::rotate(state, from, node),
        ("encrypt", "set", _) => encrypt::upload(state, from, node),
        ("encrypt", "get", "key") => encrypt::fetch(state, node),
        ("encrypt", "get", "count") => Ok(encrypt::count(state, from)),
        ("encrypt", "get", "digest") => encrypt::digest(state, from),
        ("usync", "get", "usync") => usync::answer(state, node),
        ("w:sync:app:state", "set" | "get", "sync") => app_state::sync(state, from, node),
        ("abt", "get", "props") => Ok(session::props()),
        ("blocklist", "get", _) => Ok(Vec::new()),
        ("privacy", "get", "privacy") => session::privacy(state, from),
        ("privacy", "set", "privacy") => session::set_privacy(state, from, node),
        ("urn:xmpp:whatsapp:dirty", "set", "clean") => Ok(Vec::new()),
        ("w:m", _, "media_conn") => Ok(media::connection(state)),
        ("w:profile:picture", "get", _) => picture::find(state, from, node),
        ("w:profile:picture", "set", _) => picture::set(state, from, node),
        ("w:mex", "get", "query") => mex::answer(state, from, node),
        ("w:g2", _, _) => groups::answer(state, from, &kind, node),
        ("md", "set", "remove-companion-device") => session::remove_device(state, from, node),
        _ => Err(WireError::NOT_IMPLEMENTED),
    };
    let done = answer.is_ok();
    // Some clients go by who answers; a user whom a request is about does not answer it.
    let asked = wire::jid(node, "to").filter(|to| GroupId::of(to).is_some());
    let asked = asked.unwrap_or_else(wire::server);
    let reply = match answer {
        Ok(children) => wire::iq_result(&id, asked, children),
        Err(error) => wire::iq_error(&id, asked, error),
    };
    state.push(from, reply);
    if !done {
        return;
    }
    match (xmlns.as_str(), tag) {
        ("passive", "active") => {
            state.activate(from);
            state.greet_when_due(from);
        }
        ("encrypt", "registration" | "type" | "identity" | "list" | "skey") if kind == "set" => {
            state.greet_when_due(from);
        }
        ("md", "remove-companion-device") => session::finish_removal(state, from, node),
        _ => {}
    }
}

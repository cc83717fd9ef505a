//! Prekeys: upload, fetch, count, digest. A one-time key is handed out once and never again.

use wacore::{
    iq::prekeys::OneTimePreKeyNode, iq::prekeys::SignedPreKeyNode, protocol::ProtocolNode,
};
use wacore_binary::{Jid, Node, builder::NodeBuilder};
use wacore_libsignal::protocol::PublicKey;

use super::Answer;
use crate::sandbox::{
    address::DeviceAddress,
    model::{DeviceKeys, MAX_PREKEYS},
    network::State,
    store::Batch,
    wire::{self, WireError},
};

/// Curve25519, as key type on the wire.
const KEY_TYPE: u8 = 5;

/// A device is asked for more when it falls below this.
const LOW: usize = 10;

/// The public keys to start a session with a device.
pub struct Bundle {
    /// The device's identity.
    pub identity: [u8; 32],
    /// Its lasting keys.
    pub keys: DeviceKeys,
    /// A one-time key, while there are any.
    pub one_time: Option<(u32, [u8; 32])>,
    /// The proof that it belongs to its account; empty for a phone.
    pub device_identity: Vec<u8>,
}

impl State {
    /// A bundle of a device; its one-time key is gone from the pool when this returns.
    pub fn take_bundle(&mut self, address: DeviceAddress) -> Option<Bundle> {
        let device = self.device(address)?;
        let (identity, keys) = (device.identity, device.keys.clone()?);
        let device_identity = device.device_identity.clone();
        let mut batch = Batch::default();
        let pool = self.prekeys.entry(address).or_default();
        let before = pool.available().count();
        let one_time = pool.take(address, &mut batch);
        self.commit(&batch).ok()?;
        if before == LOW {
            let id = self.fresh_id();
            let count = NodeBuilder::new("count").attr("value", LOW - 1).build();
            let notification =
                wire::notification("encrypt", wire::server(), &id, vec![count]).build();
            let _ = self.enqueue(vec![(address, notification.into())], Batch::default());
        }
        Some(Bundle {
            identity,
            keys,
            one_time,
            device_identity,
        })
    }
}

pub(super) fn upload(state: &mut State, from: DeviceAddress, node: &Node) -> Answer {
    let identity = wire::child_array::<32>(node, "identity").ok_or(WireError::NOT_ACCEPTABLE)?;
    let registration = wire::child_be(node, "registration").ok_or(WireError::NOT_ACCEPTABLE)?;
    let (signed_id, signed_public, signature) = signed_key(node, &identity)?;
    let list = node
        .get_optional_child("list")
        .ok_or(WireError::NOT_ACCEPTABLE)?;
    let keys = list
        .get_children_by_tag("key")
        .map(|key| {
            Some((
                wire::child_be(key, "id")?,
                wire::child_array::<32>(key, "value")?,
            ))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(WireError::NOT_ACCEPTABLE)?;
    if keys.len() > MAX_PREKEYS {
        return Err(WireError::NOT_ACCEPTABLE);
    }
    let account = state
        .accounts
        .get_mut(&from.number)
        .ok_or(WireError::FORBIDDEN)?;
    let device = account
        .devices
        .get_mut(&from.device)
        .ok_or(WireError::FORBIDDEN)?;
    if device.identity != identity {
        return Err(WireError::NOT_ACCEPTABLE);
    }
    device.keys = Some(DeviceKeys {
        registration,
        signed_id,
        signed_public,
        signature,
    });
    let mut batch = Batch::default();
    account.save(&mut batch);
    state
        .prekeys
        .entry(from)
        .or_default()
        .add(from, keys, &mut batch);
    state.commit(&batch).map_err(|_| WireError::INTERNAL)?;
    Ok(Vec::new())
}

/// A new signed prekey.
pub(super) fn rotate(state: &mut State, from: DeviceAddress, node: &Node) -> Answer {
    let rotate = node
        .get_optional_child("rotate")
        .ok_or(WireError::BAD_REQUEST)?;
    let account = state
        .accounts
        .get_mut(&from.number)
        .ok_or(WireError::FORBIDDEN)?;
    let device = account
        .devices
        .get_mut(&from.device)
        .ok_or(WireError::FORBIDDEN)?;
    let signed = signed_key(rotate, &device.identity)?;
    let keys = device.keys.as_mut().ok_or(WireError::NOT_ACCEPTABLE)?;
    (keys.signed_id, keys.signed_public, keys.signature) = signed;
    let mut batch = Batch::default();
    account.save(&mut batch);
    state.commit(&batch).map_err(|_| WireError::INTERNAL)?;
    Ok(Vec::new())
}

fn signed_key(node: &Node, identity: &[u8; 32]) -> Result<(u32, [u8; 32], [u8; 64]), WireError> {
    let read = || {
        let skey = node.get_optional_child("skey")?;
        let public = wire::child_array::<32>(skey, "value")?;
        let signature = wire::child_array::<64>(skey, "signature")?;
        let message = PublicKey::from_djb_public_key_bytes(&public)
            .ok()?
            .serialize();
        let signed = PublicKey::from_djb_public_key_bytes(identity)
            .ok()?
            .verify_signature(&message, &signature);
        signed.then_some((wire::child_be(skey, "id")?, public, signature))
    };
    read().ok_or(WireError::NOT_ACCEPTABLE)
}

pub(super) fn fetch(state: &mut State, node: &Node) -> Answer {
    let wanted: Vec<Jid> = node
        .get_optional_child("key")
        .into_iter()
        .flat_map(|key| key.get_children_by_tag("user"))
        .filter_map(|user| wire::jid(user, "jid"))
        .collect();
    let users: Vec<Node> = wanted
        .into_iter()
        .map(|jid| {
            let address = state
                .account_of(&jid)
                .map(|(account, _)| account.number.device(jid.device));
            match address.and_then(|address| state.take_bundle(address)) {
                Some(bundle) => bundle_node(jid, bundle),
                None => NodeBuilder::new("user")
                    .attr("jid", jid)
                    .children([wire::error_node(WireError::NOT_ACCEPTABLE)])
                    .build(),
            }
        })
        .collect();
    Ok(vec![NodeBuilder::new("list").children(users).build()])
}

fn bundle_node(jid: Jid, bundle: Bundle) -> Node {
    let keys = bundle.keys;
    let mut children = vec![
        wire::leaf("registration", keys.registration.to_be_bytes()),
        wire::leaf("type", [KEY_TYPE]),
        wire::leaf("identity", bundle.identity),
        SignedPreKeyNode::new(
            keys.signed_id,
            keys.signed_public.to_vec(),
            keys.signature.to_vec(),
        )
        .into_node(),
    ];
    if let Some((id, public)) = bundle.one_time {
        children.push(OneTimePreKeyNode::new(id, public.to_vec()).into_node());
    }
    if !bundle.device_identity.is_empty() {
        children.push(wire::leaf("device-identity", bundle.device_identity));
    }
    NodeBuilder::new("user")
        .attr("jid", jid)
        .attr("type", "result")
        .children(children)
        .build()
}

pub(super) fn count(state: &State, from: DeviceAddress) -> Vec<Node> {
    let available = state
        .prekeys
        .get(&from)
        .map_or(0, |pool| pool.available().count());
    vec![NodeBuilder::new("count").attr("value", available).build()]
}

/// What the server holds, with a hash by which the device sees whether it agrees.
pub(super) fn digest(state: &State, from: DeviceAddress) -> Answer {
    let device = state.device(from).ok_or(WireError::NOT_FOUND)?;
    let keys = device.keys.as_ref().ok_or(WireError::NOT_FOUND)?;
    let pool: Vec<(u32, [u8; 32])> = state
        .prekeys
        .get(&from)
        .map(|pool| pool.available().collect())
        .unwrap_or_default();
    let publics: Vec<&[u8]> = pool.iter().map(|(_, public)| public.as_slice()).collect();
    let hash = wacore::prekeys::compute_key_bundle_digest(
        &device.identity,
        &keys.signed_public,
        &keys.signature,
        &publics,
    );
    let ids = pool
        .iter()
        .map(|(id, _)| wire::leaf("id", &id.to_be_bytes()[1..]));
    let digest = NodeBuilder::new("digest").children([
        wire::leaf("registration", keys.registration.to_be_bytes()),
        wire::leaf("type", [KEY_TYPE]),
        wire::leaf("identity", device.identity),
        SignedPreKeyNode::new(
            keys.signed_id,
            keys.signed_public.to_vec(),
            keys.signature.to_vec(),
        )
        .into_node(),
        NodeBuilder::new("list").children(ids).build(),
        wire::leaf("hash", hash.to_vec()),
    ]);
    Ok(vec![digest.build()])
}

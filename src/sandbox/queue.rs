//! What waits for a device: stanzas in order, each until the device has confirmed it.
//!
//! Follows every change into a batch of the store. Never decides who gets what.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use wacore_binary::{BinaryError, Node, OwnedNodeRef};

use super::{
    address::DeviceAddress,
    error::SandboxError,
    store::{Batch, Records, base64_bytes},
    wire,
};

/// Stanzas kept for a device that does not come; then its peers' messages to it are refused.
const MAX_QUEUE: usize = 20_000;
const MAX_QUEUE_BYTES: usize = 64 << 20;

/// A stanza as it is stored.
#[derive(Serialize, Deserialize)]
pub struct Stored {
    #[serde(with = "base64_bytes")]
    stanza: Vec<u8>,
}

impl Stored {
    /// The stored form of a stanza.
    pub fn of(node: &Node) -> Result<Self, BinaryError> {
        let stanza = wacore_binary::marshal(node)?;
        Ok(Self { stanza })
    }
}

/// What waits for a device, in order.
#[derive(Default)]
pub struct Queue {
    entries: BTreeMap<u64, Waiting>,
    /// Positions by the id of what stands there: devices answer by id.
    by_id: HashMap<String, Vec<u64>>,
    bytes: usize,
    last: u64,
}

struct Waiting {
    node: Arc<Node>,
    size: usize,
}

/// A stanza and the device it is for. What goes to many devices as it is, is shared.
pub type Delivery = (DeviceAddress, Arc<Node>);

impl Queue {
    /// The stored queue of a device.
    pub fn load(records: &Records, device: DeviceAddress) -> Result<Self, SandboxError> {
        let mut queue = Self::default();
        for record in records.scan::<Stored>(&format!("queue/{device}/")) {
            let (position, stored) = record?;
            let size = stored.stanza.len();
            let Ok(position) = u64::from_str_radix(position, 16) else {
                continue;
            };
            if let Some(node) = decode(stored.stanza).map(Arc::new) {
                queue.insert(position, Waiting { node, size });
            }
        }
        Ok(queue)
    }

    /// How many stanzas wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when it takes no more.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX_QUEUE || self.bytes >= MAX_QUEUE_BYTES
    }

    fn insert(&mut self, position: u64, waiting: Waiting) {
        self.last = self.last.max(position);
        self.bytes += waiting.size;
        if let Some(id) = wire::text(&waiting.node, "id") {
            self.by_id.entry(id).or_default().push(position);
        }
        self.entries.insert(position, waiting);
    }

    /// Takes a confirmed stanza out.
    pub fn remove(&mut self, device: DeviceAddress, position: u64, batch: &mut Batch) {
        let Some(waiting) = self.entries.remove(&position) else {
            return;
        };
        self.bytes -= waiting.size;
        batch.delete(record(device, position));
        if let Some(id) = wire::text(&waiting.node, "id")
            && let Some(positions) = self.by_id.get_mut(&id)
        {
            positions.retain(|other| *other != position);
            if positions.is_empty() {
                self.by_id.remove(&id);
            }
        }
    }

    /// Adds a stanza. Without a batch it is not stored.
    pub fn append(
        &mut self,
        device: DeviceAddress,
        node: Arc<Node>,
        stored: &Stored,
        batch: Option<&mut Batch>,
    ) {
        let position = self.last + 1;
        if let Some(batch) = batch {
            batch.put(record(device, position), stored);
        }
        let size = stored.stanza.len();
        self.insert(position, Waiting { node, size });
    }

    /// How many stanzas with a tag wait.
    pub fn count(&self, tag: &str) -> usize {
        let waiting = self.entries.values();
        waiting.filter(|waiting| waiting.node.tag == tag).count()
    }

    /// The stanzas after a position, in order.
    pub fn after(&self, position: u64) -> impl Iterator<Item = (u64, &Arc<Node>)> {
        self.entries
            .range(position + 1..)
            .map(|(position, waiting)| (*position, &waiting.node))
    }

    /// The positions of a stanza, oldest first; those from `sender` if any are, else all with the id.
    pub fn find(&self, tag: &str, id: &str, is_sender: impl Fn(&Node) -> bool) -> Vec<u64> {
        let named: Vec<(&u64, &Node)> = self
            .by_id
            .get(id)
            .into_iter()
            .flatten()
            .filter_map(|position| Some((position, &*self.entries.get(position)?.node)))
            .filter(|(_, node)| node.tag == tag)
            .collect();
        let exact: Vec<u64> = named
            .iter()
            .filter(|(_, node)| is_sender(node))
            .map(|(position, _)| **position)
            .collect();
        if exact.is_empty() {
            named.iter().map(|(position, _)| **position).collect()
        } else {
            exact
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self, device: DeviceAddress, batch: &mut Batch) {
        for position in std::mem::take(self).entries.into_keys() {
            batch.delete(record(device, position));
        }
    }
}

fn record(device: DeviceAddress, position: u64) -> String {
    format!("queue/{device}/{position:016x}")
}

fn decode(stanza: Vec<u8>) -> Option<Node> {
    let plain = wacore_binary::util::unpack_bytes(stanza.as_slice().into()).ok()?;
    Some(OwnedNodeRef::new(plain).ok()?.to_owned_node())
}

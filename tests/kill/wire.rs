//! What the network itself saw: which messages it handed to the gateway's devices, how often, and
//! which the gateway said it has.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::interval;
use wagate::sandbox::{DeviceAddress, Direction, Sandbox, WireEntry};

/// How often the network's rings of stanzas are read, before they turn over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What went over the wire of the gateway's devices.
#[derive(Default)]
pub struct Notes {
    /// Message ids that a device acknowledged, with the index of its instance.
    pub acked: HashSet<(usize, String)>,
    /// How often each message was handed to a device.
    pub handed: HashMap<(usize, String), u32>,
    /// How often a device could not read a message and asked for it again.
    pub retries: u64,
    /// Those messages; each may come after what was written after it.
    pub asked_again: HashSet<(usize, String)>,
    /// Messages of the gateway that a reader could not read and asked it for again.
    pub asked_back: HashSet<String>,
    /// What went by about each message, for whoever wonders where one went.
    trails: HashMap<(usize, String), Vec<String>>,
}

/// The notes, shared by their writer and their readers.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<Notes>>);

impl Wire {
    /// Reads on until cancelled.
    pub async fn tap(self, network: Sandbox, devices: Vec<DeviceAddress>) {
        let mut after = vec![0; devices.len()];
        let mut ticks = interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            for (index, device) in devices.iter().enumerate() {
                for entry in network.wire_log(*device, after[index]) {
                    after[index] = entry.sequence;
                    self.with(|notes| notes.note(index, &entry));
                }
            }
        }
    }

    /// Looks at the notes.
    pub fn with<T>(&self, look: impl FnOnce(&mut Notes) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Notes {
    /// What went by about a message, a line each.
    pub fn trail(&self, instance: usize, id: &str) -> String {
        let trail = self.trails.get(&(instance, id.to_owned()));
        trail.map_or(String::new(), |lines| lines.join("\n     "))
    }

    /// Forgets everything but how often a device asked again.
    pub fn clear(&mut self) {
        self.acked.clear();
        self.handed.clear();
        self.asked_again.clear();
        self.asked_back.clear();
        self.trails.clear();
    }

    fn note(&mut self, instance: usize, entry: &WireEntry) {
        let head = entry.text.split('>').next().unwrap_or_default();
        let Some(id) = attribute(head, "id") else {
            return;
        };
        let line = format!("{} {:?} {head}>", millis(entry.time), entry.direction);
        let more = entry.text.split("<item ").skip(1);
        let named: Vec<String> = more
            .filter_map(|item| attribute(item, "id"))
            .chain(std::iter::once(id))
            .map(str::to_owned)
            .collect();
        for named in &named {
            let trail = self.trails.entry((instance, named.clone())).or_default();
            trail.push(line.clone());
        }
        match entry.direction {
            Direction::ToDevice if head.starts_with("<message ") => {
                *self.handed.entry((instance, id.to_owned())).or_default() += 1;
            }
            Direction::ToDevice
                if head.starts_with("<receipt ") && attribute(head, "type") == Some("retry") =>
            {
                self.asked_back.insert(id.to_owned());
            }
            Direction::FromDevice if head.starts_with("<receipt ") => {
                match attribute(head, "type") {
                    Some("retry" | "enc_rekey_retry") => {
                        self.retries += 1;
                        self.asked_again.insert((instance, id.to_owned()));
                    }
                    _ => {
                        let named = named.into_iter().map(|id| (instance, id));
                        self.acked.extend(named);
                    }
                }
            }
            Direction::FromDevice
                if head.starts_with("<ack ") && attribute(head, "class") == Some("message") =>
            {
                self.acked.insert((instance, id.to_owned()));
            }
            _ => {}
        }
    }
}

/// The value of an attribute in the head of a stanza.
fn attribute<'t>(head: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = head;
    loop {
        let (before, after) = rest.split_once(name)?;
        let quoted = after.strip_prefix("=\"");
        match (quoted, before.ends_with(' ') || before.is_empty()) {
            (Some(value), true) => return value.split('"').next(),
            _ => rest = after,
        }
    }
}

/// Milliseconds since the epoch: wagate's log and the network's say when, and this is what they share.
fn millis(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}

//! What went over the wire, decoded, per device: a bounded ring of the latest stanzas.

use std::{
    collections::{HashMap, VecDeque},
    fmt::{self, Write as _},
    time::{Duration, SystemTime},
};

use wacore_binary::{Node, NodeContent};

use super::{address::DeviceAddress, faults::Direction};

const ENTRIES_PER_DEVICE: usize = 500;
const MAX_DEVICES: usize = 1024;
const BYTES_PER_DEVICE: usize = 512 << 10;
const MAX_TEXT: usize = 8 << 10;

/// One stanza that went by.
#[derive(Debug, Clone)]
pub struct WireEntry {
    /// Counts up over the whole network.
    pub sequence: u64,
    /// When.
    pub time: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// The stanza as XML; long ones are cut.
    pub text: String,
    /// How many copies arrived; 0 was dropped by a fault rule.
    pub copies: usize,
    /// By how much a fault rule delayed it.
    pub delay: Duration,
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<WireEntry>,
    bytes: usize,
}

/// The XML of a stanza, as far as it is kept. What lies behind the cut is not even rendered.
struct Cut(String);

impl Cut {
    fn of(node: &Node) -> String {
        let mut cut = Self(String::new());
        if cut.node(node).is_err() {
            cut.0.push('…');
        }
        cut.0
    }

    fn node(&mut self, node: &Node) -> fmt::Result {
        write!(self, "<{}", node.tag)?;
        for (key, value) in node.attrs.iter() {
            write!(self, " {key}=\"{value}\"")?;
        }
        match &node.content {
            None => return self.write_str("/>"),
            Some(NodeContent::Nodes(children)) if children.is_empty() => {
                return self.write_str("/>");
            }
            Some(content) => {
                self.write_char('>')?;
                self.content(content)?;
            }
        }
        write!(self, "</{}>", node.tag)
    }

    fn content(&mut self, content: &NodeContent) -> fmt::Result {
        match content {
            NodeContent::Nodes(children) => children.iter().try_for_each(|child| self.node(child)),
            NodeContent::String(text) => self.write_str(text),
            NodeContent::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.chars().any(char::is_control) => self.write_str(text),
                _ => write!(self, "<!-- {} bytes -->", bytes.len()),
            },
        }
    }
}

impl fmt::Write for Cut {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MAX_TEXT - self.0.len();
        if part.len() <= room {
            self.0.push_str(part);
            return Ok(());
        }
        let cut = (0..=room).rev().find(|at| part.is_char_boundary(*at));
        self.0.push_str(&part[..cut.unwrap_or(0)]);
        Err(fmt::Error)
    }
}

/// The rings.
#[derive(Default)]
pub struct WireLog {
    rings: HashMap<DeviceAddress, Ring>,
    sequence: u64,
}

impl WireLog {
    /// Notes a stanza and what the faults made of it.
    pub fn record(
        &mut self,
        device: DeviceAddress,
        direction: Direction,
        node: &Node,
        copies: &[Duration],
    ) {
        if self.rings.len() >= MAX_DEVICES && !self.rings.contains_key(&device) {
            return;
        }
        self.sequence += 1;
        let text = Cut::of(node);
        let ring = self.rings.entry(device).or_default();
        ring.bytes += text.len();
        while ring.entries.len() >= ENTRIES_PER_DEVICE || ring.bytes > BYTES_PER_DEVICE {
            let Some(oldest) = ring.entries.pop_front() else {
                break;
            };
            ring.bytes -= oldest.text.len();
        }
        ring.entries.push_back(WireEntry {
            sequence: self.sequence,
            time: SystemTime::now(),
            direction,
            text,
            copies: copies.len(),
            delay: copies.iter().copied().max().unwrap_or_default(),
        });
    }

    /// The stanzas of a device after a sequence number, oldest first.
    pub fn read(&self, device: DeviceAddress, after: u64) -> Vec<WireEntry> {
        self.rings
            .get(&device)
            .into_iter()
            .flat_map(|ring| &ring.entries)
            .filter(|entry| entry.sequence > after)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore_binary::builder::NodeBuilder;

    #[test]
    fn the_ring_keeps_the_latest_and_cuts_the_long() {
        let device = DeviceAddress::UNREGISTERED;
        let mut log = WireLog::default();
        let mut fill = |node: &Node| {
            for _ in 0..ENTRIES_PER_DEVICE + 10 {
                log.record(device, Direction::ToDevice, node, &[Duration::ZERO]);
            }
            log.read(device, 0)
        };
        let entries = fill(&NodeBuilder::new("ack").build());
        assert_eq!(entries.len(), ENTRIES_PER_DEVICE);
        assert_eq!(entries[0].sequence, 11);
        let long = NodeBuilder::new("message")
            .string_content("ö".repeat(MAX_TEXT))
            .build();
        let entries = fill(&long);
        assert!(entries[0].text.len() <= MAX_TEXT + '…'.len_utf8());
        let bytes: usize = entries.iter().map(|entry| entry.text.len()).sum();
        assert!(bytes <= BYTES_PER_DEVICE && !entries.is_empty());
        let last = entries[entries.len() - 1].sequence;
        assert_eq!(log.read(device, last - 5).len(), 5);
    }
}

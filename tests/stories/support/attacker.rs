//! What a hostile network may say: stanzas, bytes and protobufs made from a seed.

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use wagate::sandbox::{Jid, Node, NodeBuilder};

/// Stanzas that a client handles, and some that it does not.
const TAGS: [&str; 14] = [
    "message",
    "receipt",
    "notification",
    "ack",
    "iq",
    "ib",
    "call",
    "presence",
    "chatstate",
    "status",
    "failure",
    "stream:error",
    "error",
    "no-such-stanza",
];

/// Attributes that are read somewhere.
const KEYS: [&str; 28] = [
    "from",
    "to",
    "id",
    "type",
    "t",
    "participant",
    "recipient",
    "offline",
    "count",
    "class",
    "error",
    "xmlns",
    "notify",
    "edit",
    "category",
    "sender_lid",
    "sender_pn",
    "participant_lid",
    "addressing_mode",
    "jid",
    "value",
    "v",
    "mediatype",
    "call-id",
    "call-creator",
    "reason",
    "version",
    "key-index",
];

/// Names of children, and words that attributes have.
const WORDS: [&str; 62] = [
    "enc",
    "pkmsg",
    "msg",
    "skmsg",
    "msmsg",
    "participants",
    "list",
    "item",
    "retry",
    "keys",
    "key",
    "skey",
    "identity",
    "registration",
    "device-identity",
    "plaintext",
    "unavailable",
    "offer",
    "terminate",
    "add",
    "remove",
    "update",
    "create",
    "subject",
    "set",
    "get",
    "result",
    "delete",
    "count",
    "devices",
    "device",
    "offline_preview",
    "offline",
    "dirty",
    "edge_routing",
    "thread_metadata",
    "hash",
    "encrypt",
    "account_sync",
    "server_sync",
    "w:gp2",
    "picture",
    "privacy_token",
    "mediaretry",
    "mex",
    "newsletter",
    "link_code_companion_reg",
    "pair-device",
    "ref",
    "collection",
    "usync",
    "user",
    "read",
    "played",
    "inactive",
    "peer_msg",
    "hist_sync",
    "disappearing_mode",
    "verified_name",
    "tokens",
    "text",
    "bot",
];

/// Prints the seed if the story fails.
pub struct Seed(pub u64);

impl Seed {
    /// The one asked for in the environment, or the usual one.
    pub fn choose(default: u64) -> Self {
        let asked = std::env::var("WAGATE_TEST_SEED").ok();
        Self(asked.and_then(|seed| seed.parse().ok()).unwrap_or(default))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("play it again with WAGATE_TEST_SEED={}", self.0);
        }
    }
}

/// Resident memory in MiB, where the system tells.
pub fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4 / 1024
}

/// Makes attacks on one device.
pub struct Attacker {
    random: StdRng,
    /// JIDs that mean something to the device.
    known: Vec<Jid>,
    /// Ids of real messages.
    pub ids: Vec<String>,
}

impl Attacker {
    /// The same seed attacks in the same way.
    pub fn new(seed: u64, known: Vec<Jid>) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            known,
            ids: Vec::new(),
        }
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words.choose(&mut self.random).copied().unwrap_or_default()
    }

    /// Any bytes, mostly few.
    pub fn bytes(&mut self) -> Vec<u8> {
        let most = *[0, 1, 8, 33, 200, 5_000]
            .choose(&mut self.random)
            .unwrap_or(&0);
        let mut bytes = vec![0; self.random.random_range(0..=most)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn jid(&mut self) -> Jid {
        let strange = [
            "",
            "0",
            "1",
            "15550009999",
            "status",
            "x",
            "99999999999999999999",
        ];
        match self.random.random_range(0..4) {
            0 => Jid::pn(self.pick(&strange)),
            1 => Jid::lid(self.pick(&strange)),
            _ => {
                let at = self.random.random_range(0..self.known.len());
                self.known[at].clone()
            }
        }
    }

    fn text(&mut self) -> String {
        match self.random.random_range(0..9) {
            0 => String::new(),
            1 => self.random.random::<i64>().to_string(),
            2 => self.random.random_range(0..20).to_string(),
            3 => "18446744073709551616".to_owned(),
            4 => self.jid().to_string(),
            5 => "@".repeat(self.random.random_range(1..300)),
            6 => "\u{0}ü\u{202e}💥".repeat(self.random.random_range(1..40)),
            7 if !self.ids.is_empty() => {
                let at = self.random.random_range(0..self.ids.len());
                self.ids[at].clone()
            }
            _ => self.pick(&WORDS).to_owned(),
        }
    }

    fn furnish(&mut self, mut node: NodeBuilder, depth: u32) -> Node {
        for _ in 0..self.random.random_range(0..7) {
            let key = self.pick(&KEYS);
            node = match self.random.random_range(0..2) {
                0 => node.attr(key, self.jid()),
                _ => node.attr(key, self.text()),
            };
        }
        match self.random.random_range(0..4) {
            0 => node.build(),
            1 => node.bytes(self.bytes()).build(),
            2 => node.string_content(self.text()).build(),
            _ if depth == 0 => node.build(),
            _ => {
                let children: Vec<Node> = (0..self.random.random_range(0..4))
                    .map(|_| {
                        let tag = self.pick(&WORDS);
                        self.furnish(NodeBuilder::new(tag), depth - 1)
                    })
                    .collect();
                node.children(children).build()
            }
        }
    }

    /// A stanza with the attributes that it needs to be looked at, and others over them.
    pub fn stanza(&mut self) -> Node {
        let tag = self.pick(&TAGS);
        let node = NodeBuilder::new(tag)
            .attr("from", self.jid())
            .attr("id", self.text())
            .attr("type", self.pick(&WORDS))
            .attr("class", self.pick(&TAGS))
            .attr("t", self.text());
        self.furnish(node, 3)
    }

    /// Bytes that follow protobuf's rules and nobody's schema.
    pub fn protobuf(&mut self, depth: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.random.random_range(0..5) {
            let field = self.random.random_range(1..110_u64);
            match self.random.random_range(0..6) {
                0 => {
                    varint(field << 3, &mut bytes);
                    varint(self.random.random(), &mut bytes);
                }
                1 => {
                    varint(field << 3 | 1, &mut bytes);
                    bytes.extend_from_slice(&self.random.random::<u64>().to_le_bytes());
                }
                2 => {
                    varint(field << 3 | 5, &mut bytes);
                    bytes.extend_from_slice(&self.random.random::<u32>().to_le_bytes());
                }
                3 => {
                    let text = self.text();
                    delimited(field, text.as_bytes(), &mut bytes);
                }
                4 if depth > 0 => {
                    let inner = self.protobuf(depth - 1);
                    delimited(field, &inner, &mut bytes);
                }
                _ => {
                    let inner = self.bytes();
                    delimited(field, &inner, &mut bytes);
                }
            }
        }
        bytes
    }
}

/// A protobuf field of bytes.
pub fn delimited(field: u64, content: &[u8], bytes: &mut Vec<u8>) {
    varint(field << 3 | 2, bytes);
    varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

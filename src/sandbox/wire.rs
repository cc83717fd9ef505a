//! The stanzas the server says, and reading those it hears. JIDs are always JID-typed, never text.
//!
//! Pure: no state, no sockets.

use std::time::{SystemTime, UNIX_EPOCH};

use wacore_binary::{Jid, Node, NodeContent, Server, builder::NodeBuilder};

/// Error codes of IQ replies and message acks, with the text that goes with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireError(pub u16, pub &'static str);

impl WireError {
    /// The request makes no sense.
    pub const BAD_REQUEST: Self = Self(400, "bad-request");
    /// The sender lacks the right to know this.
    pub const UNAUTHORIZED: Self = Self(401, "not-authorized");
    /// The sender may not do this.
    pub const FORBIDDEN: Self = Self(403, "forbidden");
    /// Nothing by this name.
    pub const NOT_FOUND: Self = Self(404, "item-not-found");
    /// Nobody like the sender does this here.
    pub const NOT_ALLOWED: Self = Self(405, "not-allowed");
    /// Well-formed but unusable.
    pub const NOT_ACCEPTABLE: Self = Self(406, "not-acceptable");
    /// It is so already, or has become something else meanwhile.
    pub const CONFLICT: Self = Self(409, "conflict");
    /// It was good once.
    pub const GONE: Self = Self(410, "gone");
    /// No more fit in.
    pub const FULL: Self = Self(419, "resource-limit");
    /// The message names people by the other of their two names.
    pub const STALE_ADDRESSING: Self = Self(421, "stale-addressing-mode");
    /// The sender may not write to those who do not know it, for now.
    pub const STRANGER: Self = Self(463, "stranger");
    /// Our storage failed.
    pub const INTERNAL: Self = Self(500, "internal-server-error");
    /// This network does not do that.
    pub const NOT_IMPLEMENTED: Self = Self(501, "feature-not-implemented");
    /// The recipient's queue is full.
    pub const UNAVAILABLE: Self = Self(503, "service-unavailable");
}

/// The server itself.
pub fn server() -> Jid {
    Jid::new("", Server::Pn)
}

/// Unix seconds, as in every `t`.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Text of an attribute.
pub fn text(node: &Node, key: &str) -> Option<String> {
    node.attrs.get(key).map(|value| value.as_str().into_owned())
}

/// A JID attribute, also where a client wrote it as text.
pub fn jid(node: &Node, key: &str) -> Option<Jid> {
    node.attrs.get(key)?.to_jid()
}

/// A numeric attribute.
pub fn number<T: std::str::FromStr>(node: &Node, key: &str) -> Option<T> {
    node.attrs.get(key)?.as_str().parse().ok()
}

/// True when an attribute has this value.
pub fn is(node: &Node, key: &str, value: &str) -> bool {
    node.attrs.get(key).is_some_and(|found| *found == value)
}

/// The bytes inside a node.
pub fn bytes(node: &Node) -> Option<&[u8]> {
    match &node.content {
        Some(NodeContent::Bytes(bytes)) => Some(bytes),
        Some(NodeContent::String(text)) => Some(text.as_bytes()),
        _ => None,
    }
}

/// The bytes inside a child.
pub fn child_bytes<'n>(node: &'n Node, tag: &str) -> Option<&'n [u8]> {
    bytes(node.get_optional_child(tag)?)
}

/// A fixed number of bytes inside a child.
pub fn child_array<const N: usize>(node: &Node, tag: &str) -> Option<[u8; N]> {
    child_bytes(node, tag)?.try_into().ok()
}

/// A big-endian number of up to four bytes inside a child.
pub fn child_be(node: &Node, tag: &str) -> Option<u32> {
    let bytes = child_bytes(node, tag)?;
    ((1..=4).contains(&bytes.len())).then(|| {
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte))
    })
}

/// A node with bytes in it.
pub fn leaf(tag: &'static str, content: impl Into<Vec<u8>>) -> Node {
    NodeBuilder::new(tag).bytes(content).build()
}

/// A node that is only its name.
pub fn empty(tag: &'static str) -> Node {
    NodeBuilder::new(tag).build()
}

/// The reply to a request, from whom it was sent to.
pub fn iq_result(id: &str, from: Jid, children: Vec<Node>) -> Node {
    let reply = NodeBuilder::new("iq")
        .attr("from", from)
        .attr("type", "result")
        .attr("id", id)
        .attr("t", now());
    if children.is_empty() {
        reply.build()
    } else {
        reply.children(children).build()
    }
}

/// The refusal of a request.
pub fn iq_error(id: &str, from: Jid, error: WireError) -> Node {
    NodeBuilder::new("iq")
        .attr("from", from)
        .attr("type", "error")
        .attr("id", id)
        .children([error_node(error)])
        .build()
}

/// The refusal of a request or a message on purpose; nothing else is answered.
pub fn refusal(node: &Node, code: u16, backoff: u32) -> Option<Node> {
    let id = text(node, "id")?;
    let to = jid(node, "to").unwrap_or_else(server);
    let answer = match node.tag.as_ref() {
        "iq" => {
            let mut error = NodeBuilder::new("error").attr("code", code).attr(
                "text",
                if code == 429 {
                    "rate-overlimit"
                } else {
                    "refused"
                },
            );
            if backoff > 0 {
                error = error.attr("backoff", backoff);
            }
            NodeBuilder::new("iq")
                .attr("from", to)
                .attr("type", "error")
                .attr("id", id)
                .children([error.build()])
        }
        "message" => NodeBuilder::new("ack")
            .attr("class", "message")
            .attr("id", id)
            .attr("from", to)
            .attr("t", now())
            .attr("error", code),
        _ => return None,
    };
    Some(answer.build())
}

/// `<error code text/>`
pub fn error_node(WireError(code, text): WireError) -> Node {
    NodeBuilder::new("error")
        .attr("code", code)
        .attr("text", text)
        .build()
}

/// A request of the server's own.
pub fn iq_set(id: &str, xmlns: &str, child: Node) -> Node {
    NodeBuilder::new("iq")
        .attr("from", server())
        .attr("type", "set")
        .attr("id", id)
        .attr("xmlns", xmlns)
        .attr("t", now())
        .children([child])
        .build()
}

/// A notification.
pub fn notification(kind: &str, from: Jid, id: &str, children: Vec<Node>) -> NodeBuilder {
    NodeBuilder::new("notification")
        .attr("from", from)
        .attr("type", kind)
        .attr("id", id)
        .attr("t", now())
        .children(children)
}

/// `<ib>` with one child.
pub fn ib(child: Node) -> Node {
    NodeBuilder::new("ib")
        .attr("from", server())
        .children([child])
        .build()
}

/// Ends a connection for a reason.
pub fn stream_error(code: Option<u16>, conflict: Option<&str>) -> Node {
    let mut error = NodeBuilder::new("stream:error");
    if let Some(code) = code {
        error = error.attr("code", code);
    }
    if let Some(kind) = conflict {
        let kind = kind.to_owned();
        error = error.children([NodeBuilder::new("conflict").attr("type", kind).build()]);
    }
    error.build()
}

/// How a login is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginFailure {
    /// 401 unlinked, 402 banned for a time, 403 banned, 405 outdated, 503 try later …
    pub reason: u16,
    /// What the ban is for, with 402.
    pub code: Option<u32>,
    /// Seconds until the ban ends, with 402.
    pub expire: Option<u64>,
}

impl LoginFailure {
    /// The device is not linked.
    pub const UNLINKED: Self = Self {
        reason: 401,
        code: None,
        expire: None,
    };

    /// The stanza.
    pub fn stanza(&self) -> Node {
        let mut failure = NodeBuilder::new("failure")
            .attr("reason", self.reason)
            .attr("location", "sandbox");
        if let Some(code) = self.code {
            failure = failure.attr("code", code);
        }
        if let Some(expire) = self.expire {
            failure = failure.attr("expire", expire);
        }
        failure.build()
    }
}

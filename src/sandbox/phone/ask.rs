//! Requests of a phone that wait for an answer.
//!
//! They go the same way as those of any other device. Whoever waits must not hold the phone's mind: the answer may
//! come behind a message that has to be read first.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;
use wacore_binary::{Jid, Node, builder::NodeBuilder};

use super::Phone;
use crate::sandbox::{error::SandboxError, wire};

/// How long an answer may take. They take no time, unless a fault rule says so.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who waits for which stanza.
#[derive(Default)]
pub struct Replies(Mutex<HashMap<String, oneshot::Sender<Node>>>);

impl Replies {
    /// Begins to wait for the answer with this id.
    pub fn expect(&self, id: String) -> Expected<'_> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(id.clone(), sender);
        Expected {
            replies: self,
            id,
            receiver,
        }
    }

    /// Hands a stanza to whoever waits for it.
    pub fn deliver(&self, node: &Node) {
        let waiting = wire::text(node, "id").and_then(|id| self.lock().remove(&id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(node.clone());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Node>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that will come.
pub struct Expected<'r> {
    replies: &'r Replies,
    id: String,
    receiver: oneshot::Receiver<Node>,
}

impl Expected<'_> {
    /// Waits for it. A refusal is an error.
    pub async fn reply(mut self) -> Result<Node, SandboxError> {
        let reply = tokio::time::timeout(PATIENCE, &mut self.receiver).await;
        let reply = reply.map_err(|_| SandboxError::TimedOut)?;
        let reply = reply.map_err(|_| SandboxError::Closed)?;
        let code = match reply.get_optional_child("error") {
            Some(error) => wire::number(error, "code"),
            None => wire::number(&reply, "error"),
        };
        match code {
            Some(code) => Err(SandboxError::Denied {
                code,
                text: reply
                    .get_optional_child("error")
                    .and_then(|error| wire::text(error, "text"))
                    .unwrap_or_default(),
            }),
            None => Ok(reply),
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.replies.lock().remove(&self.id);
    }
}

impl Phone {
    /// Asks the network something and waits for the answer.
    pub(super) async fn ask(
        &self,
        kind: &'static str,
        xmlns: &'static str,
        to: Jid,
        child: impl Into<Option<Node>>,
    ) -> Result<Node, SandboxError> {
        let expected = {
            let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
            let (id, connection) = {
                let mut state = network.lock();
                let link = state.links.get(&self.address());
                let link = link.ok_or(SandboxError::NotConnected(self.address()))?;
                let connection = link.connection;
                (state.fresh_id(), connection)
            };
            let expected = self.replies.expect(id.clone());
            let request = NodeBuilder::new("iq")
                .attr("to", to)
                .attr("type", kind)
                .attr("id", id)
                .attr("xmlns", xmlns)
                .children(child.into())
                .build();
            network.receive(connection, self.role(), request);
            expected
        };
        expected.reply().await
    }
}

//! Messages that a crash swallowed: WhatsApp delivers them again, and they can't be read again.
//!
//! The library may store how far a Signal session has come before it hands over what it decrypted on
//! the way. After a crash in between, the redelivered message counts as read although nobody has it,
//! and acknowledging it would lose it. Owns the way out: its sender is asked to send it anew.
//! Never decides that a message is lost: the backend does, which knows what was handed over.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use anyhow::Context as _;
use tokio::sync::Semaphore;
use wacore_binary::{Jid, JidExt as _, Node, builder::NodeBuilder};
use whatsapp_rust::{Client, RetryRequestOptions};

use super::store::DeviceBackend;

/// How long a message may be on its way through the library: it may lie in a batch of what waited
/// while we were offline, for three seconds at most, and come twice meanwhile.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// Messages that may be asked for at once; the others come here again at the next login.
const ASKED_AT_ONCE: usize = 256;

/// A message by what WhatsApp knows it by.
#[derive(Clone, Debug)]
pub(super) struct MessageKey {
    pub(super) chat: String,
    pub(super) sender: String,
    pub(super) id: String,
}

/// Asks senders to send again, once there is a client to ask through.
#[derive(Clone)]
pub(super) struct Redelivery {
    client: Arc<OnceLock<Weak<Client>>>,
    places: Arc<Semaphore>,
}

impl Default for Redelivery {
    fn default() -> Self {
        Self {
            client: Arc::default(),
            places: Arc::new(Semaphore::new(ASKED_AT_ONCE)),
        }
    }
}

impl Redelivery {
    /// From now on it asks through this client.
    pub(super) fn serve(&self, client: Weak<Client>) {
        self.client.set(client).ok();
    }

    /// Whether it can ask.
    pub(super) fn serves(&self) -> bool {
        self.client.get().is_some()
    }

    /// Asks for a message that is neither kept nor was handed over, unless it turns out that it was
    /// only on its way. Returns at once: the caller is in the middle of receiving.
    pub(super) fn ask_later(&self, backend: DeviceBackend, message: MessageKey) {
        let place = self.places.clone().try_acquire_owned();
        let (Some(client), Ok(place)) = (self.client.get().cloned(), place) else {
            return;
        };
        tokio::spawn(async move {
            let _place = place;
            tokio::time::sleep(ON_ITS_WAY).await;
            let Some(client) = client.upgrade() else {
                return;
            };
            let asked = ask(&client, &backend, &message).await;
            if let Err(error) = asked {
                // It is not acknowledged, so the next login brings it here again.
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a message that a crash swallowed can't be asked for now"
                );
            }
        });
    }
}

async fn ask(
    client: &Arc<Client>,
    backend: &DeviceBackend,
    message: &MessageKey,
) -> anyhow::Result<()> {
    if backend.is_known(message).await? {
        return Ok(());
    }
    tracing::warn!("a crash swallowed a message; its sender is asked to send it again");
    let stanza = stanza_of(message).context("the message has no good addresses")?;
    let options = RetryRequestOptions::new().with_force_include_keys(true);
    client
        .request_message_retry(&stanza.as_node_ref(), options)
        .await?;
    // It is settled once it has come, not before: until then every login brings it here again.
    Ok(())
}

/// As much of the message's stanza as names it.
fn stanza_of(message: &MessageKey) -> Option<Node> {
    let chat: Jid = message.chat.parse().ok()?;
    let sender: Jid = message.sender.parse().ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let stanza = NodeBuilder::new("message")
        .attr("id", message.id.as_str())
        .attr("t", now.ok()?.as_secs())
        .attr("type", "text");
    let one_to_one = !chat.is_group() && !chat.is_broadcast_list() && !chat.is_status_broadcast();
    let stanza = match (one_to_one, sender.to_non_ad() == chat) {
        (false, _) => stanza.attr("from", chat).attr("participant", sender),
        (true, true) => stanza.attr("from", sender),
        // Written by another device of our own account.
        (true, false) => stanza.attr("from", sender).attr("recipient", chat),
    };
    Some(stanza.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_by_where_it_came_from() {
        let stanza = |chat: &str, sender: &str| {
            let key = MessageKey {
                chat: chat.to_owned(),
                sender: sender.to_owned(),
                id: "A1".to_owned(),
            };
            let node = stanza_of(&key).unwrap();
            let attr = |name: &str| node.attrs.get(name).map(ToString::to_string);
            (attr("from"), attr("participant"), attr("recipient"))
        };
        let (one, other) = ("15550001001@s.whatsapp.net", "15550001002@s.whatsapp.net");
        let device = "15550001001:3@s.whatsapp.net";
        let group = "120363000000000001@g.us";
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(stanza(one, device), (some(device), None, None));
        assert_eq!(stanza(other, device), (some(device), None, some(other)));
        assert_eq!(stanza(group, device), (some(group), some(device), None));
    }
}

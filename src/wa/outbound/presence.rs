//! What a recipient sees while a message to it is waited for.

use std::time::Duration;

use tokio::time::timeout;
use whatsapp_rust::Client;

use super::Outbox;
use crate::domain::recipient::Recipient;

/// How long it may take to show it.
const SHOW_TIME: Duration = Duration::from_secs(5);

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wa) enum Presence {
    /// The account types.
    Composing,
    /// The account records sound.
    Recording,
}

impl Outbox {
    /// Shows a recipient what the account does. Whether it works makes no difference to the message.
    pub(in crate::wa) async fn show(
        &self,
        client: &Client,
        recipient: &Recipient,
        presence: Presence,
    ) {
        let showing = async {
            let to = self.addresses.resolve(client, recipient).await.ok()?.to;
            let chat = client.chatstate();
            match presence {
                Presence::Composing => chat.send_composing(&to).await.ok(),
                Presence::Recording => chat.send_recording(&to).await.ok(),
            }
        };
        if !matches!(timeout(SHOW_TIME, showing).await, Ok(Some(()))) {
            tracing::debug!("a presence was not shown");
        }
    }
}

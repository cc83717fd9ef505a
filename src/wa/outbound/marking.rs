//! What the account has read and played of what others wrote.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;
use whatsapp_rust::{Jid, wacore_binary::JidExt as _};

use super::Outbox;
use crate::{storage::MessageRow, wa::error::WaError};

/// How long it may take to hand over the receipts.
const MARK_TIME: Duration = Duration::from_secs(20);

impl Outbox {
    /// Tells the writers of these messages, all of one chat. WhatsApp does not confirm it.
    pub(in crate::wa) async fn mark(
        &self,
        rows: Vec<MessageRow>,
        played: bool,
    ) -> Result<(), WaError> {
        let client = self.open_client()?;
        let mut writers: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for row in rows {
            let messages = writers.entry((row.chat, row.sender)).or_default();
            messages.push(row.message_id);
        }
        for ((chat, sender), ids) in writers {
            let (Ok(chat), Ok(sender)) = (chat.parse::<Jid>(), sender.parse::<Jid>()) else {
                return Err(WaError::Unchangeable("its chat can't be written to"));
            };
            let several = chat.is_group() || chat.is_status_broadcast();
            let sender = Some(&sender).filter(|_| several);
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let telling = async {
                if played {
                    client.mark_as_played(&chat, sender, &ids).await
                } else {
                    client.mark_as_read(&chat, sender, &ids).await
                }
            };
            match timeout(MARK_TIME, telling).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "receipts were not taken");
                    return Err(WaError::Timeout("receipts were not taken".to_owned()));
                }
                Err(_) => return Err(WaError::Timeout("receipts were not taken".to_owned())),
            }
        }
        Ok(())
    }
}

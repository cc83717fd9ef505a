//! The link preview of a text, looked for before the text is stored.

use whatsapp_rust::Client;

use super::{Outbox, Outgoing, Say};
use crate::{proto::v1::message_content::Content, wa::error::WaError};

impl Outbox {
    /// Gives a text the preview of its first link, if its caller asks for that and the link has one. Who is not
    /// there is found out first.
    pub(super) async fn preview(
        &self,
        client: &Client,
        outgoing: &mut Outgoing,
    ) -> Result<(), WaError> {
        let Say::Content(content) = &mut outgoing.say else {
            return Ok(());
        };
        let Content::Text(text) = &mut **content else {
            return Ok(());
        };
        if !outgoing.fetch_preview || text.link_preview.is_some() {
            return Ok(());
        }
        if let Some(recipient) = &outgoing.recipient {
            self.addresses.resolve(client, recipient).await?;
        }
        // What is left is for the text itself.
        let time = outgoing.patience.time / 2;
        text.link_preview = self.previews.of(&text.text, time).await;
        Ok(())
    }
}

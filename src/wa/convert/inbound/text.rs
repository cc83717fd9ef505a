//! Text, with the preview of a link where there is one.

use whatsapp_rust::waproto::whatsapp as wa;

use super::{short, thumbnail, unsupported};
use crate::{
    domain::limits::{CAPTION_CHARS, LINK_CHARS, TEXT_CHARS},
    proto::v1::{self, message_content::Content},
    wa::convert::{LABEL_CHARS, is_longer},
};

/// The text, if the message is one.
pub fn text(message: &wa::Message) -> Option<Content> {
    let (kind, text, link_preview) = if let Some(text) = &message.conversation {
        ("conversation", text.as_str(), None)
    } else {
        let extended = message.extended_text_message.as_option()?;
        let text = extended.text.as_deref().unwrap_or_default();
        ("extendedTextMessage", text, preview(extended))
    };
    // No client lets its user write more.
    if is_longer(text, TEXT_CHARS) {
        return Some(unsupported(
            kind.to_owned(),
            "the text is longer than WhatsApp allows",
        ));
    }
    Some(Content::Text(v1::TextContent {
        text: text.to_owned(),
        link_preview,
    }))
}

fn preview(text: &wa::message::ExtendedTextMessage) -> Option<v1::LinkPreview> {
    let url = text.matched_text.as_ref().filter(|url| !url.is_empty())?;
    Some(v1::LinkPreview {
        url: short(Some(url), LINK_CHARS),
        title: short(text.title.as_ref(), LABEL_CHARS),
        description: short(text.description.as_ref(), CAPTION_CHARS),
        thumbnail: thumbnail(text.jpeg_thumbnail.as_ref()),
    })
}

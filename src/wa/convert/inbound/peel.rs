//! What lies in the envelopes of a message.
//!
//! WhatsApp wraps messages that disappear, that may be seen once, documents with a caption, children of albums and
//! many more in envelopes that hold another message. They nest in any order.

use whatsapp_rust::waproto::whatsapp as wa;

use crate::wa::convert::NAME_BYTES;

/// A message out of its envelopes.
#[derive(Clone, Copy)]
pub struct Peeled<'m> {
    /// The innermost message.
    pub message: &'m wa::Message,
    /// One of the envelopes says that it may be seen once.
    pub view_once: bool,
    /// What stands beside the innermost message that has something beside it.
    pub beside: Option<&'m wa::MessageContextInfo>,
}

impl<'m> Peeled<'m> {
    /// The secret that votes and answers to the message are encrypted with.
    pub fn secret(&self) -> Option<&'m [u8]> {
        self.beside?.message_secret.as_deref()
    }

    /// The album that the message belongs to.
    pub fn album(&self) -> Option<&'m str> {
        use wa::message_association::AssociationType;
        let association = self.beside?.message_association.as_option()?;
        if association.association_type != Some(AssociationType::MEDIA_ALBUM) {
            return None;
        }
        let id = association.parent_message_key.as_option()?.id.as_deref()?;
        (1..=NAME_BYTES).contains(&id.len()).then_some(id)
    }
}

/// Opens every envelope. Decoding has bounded how deep they nest.
pub fn peel(message: &wa::Message) -> Peeled<'_> {
    let mut peeled = Peeled {
        message,
        view_once: false,
        beside: message.message_context_info.as_option(),
    };
    while let Some((inner, once)) = open(peeled.message) {
        peeled.message = inner;
        peeled.view_once |= once;
        peeled.beside = inner.message_context_info.as_option().or(peeled.beside);
    }
    peeled.view_once |= says_once(peeled.message);
    peeled
}

/// The message in the outer envelope, and whether that one says "once".
fn open(message: &wa::Message) -> Option<(&wa::Message, bool)> {
    if let Some(copy) = message.device_sent_message.as_option() {
        return copy.message.as_option().map(|inner| (inner, false));
    }
    let once = [
        &message.view_once_message,
        &message.view_once_message_v2,
        &message.view_once_message_v2_extension,
    ];
    let others = [
        &message.ephemeral_message,
        &message.document_with_caption_message,
        &message.edited_message,
        &message.associated_child_message,
        &message.lottie_sticker_message,
        &message.poll_creation_message_v4,
        &message.poll_creation_option_image_message,
        &message.group_mentioned_message,
        &message.group_status_message,
        &message.group_status_message_v2,
        &message.bot_invoke_message,
        &message.bot_forwarded_message,
        &message.question_message,
        &message.question_reply_message,
        &message.spoiler_message,
    ];
    let once = once.into_iter().map(|envelope| (envelope, true));
    let others = others.into_iter().map(|envelope| (envelope, false));
    once.chain(others)
        .find_map(|(envelope, once)| Some((envelope.as_option()?.message.as_option()?, once)))
}

/// Newer clients say it in the message itself.
fn says_once(message: &wa::Message) -> bool {
    let image = message.image_message.as_option().map(|one| one.view_once);
    let video = message.video_message.as_option().map(|one| one.view_once);
    let audio = message.audio_message.as_option().map(|one| one.view_once);
    [image, video, audio].contains(&Some(Some(true)))
}

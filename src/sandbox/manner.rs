//! How a message is sent, whatever it says: to disappear, to be seen once, as passed on.

use waproto::{
    buffa::MessageField,
    whatsapp::{
        ContextInfo, Message,
        message::{ExtendedTextMessage, FutureProofMessage},
    },
};

use super::error::SandboxError;

/// Longest that a message may take to disappear: a year, in seconds.
const MAX_EPHEMERAL: u32 = 31_536_000;

/// Most that WhatsApp counts: "many times".
const MAX_FORWARDS: u32 = 127;

/// How a phone sends a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Seconds after which it disappears; 0 is never.
    pub ephemeral_seconds: u32,
    /// It may be opened only once.
    pub view_once: bool,
    /// How often it was passed on; 0 is not at all.
    pub forwarding_score: u32,
}

impl Manner {
    /// Whether there is nothing special about it.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Marks a message.
    pub(super) fn mark(&self, mut message: Message) -> Result<Message, SandboxError> {
        if self.ephemeral_seconds > MAX_EPHEMERAL {
            return Err(SandboxError::invalid("ephemeral", "must be at most a year"));
        }
        if self.forwarding_score > MAX_FORWARDS {
            return Err(SandboxError::invalid(
                "forwarding_score",
                "must be at most 127",
            ));
        }
        if self.ephemeral_seconds > 0 {
            context(&mut message, "ephemeral")?.expiration = Some(self.ephemeral_seconds);
        }
        if self.forwarding_score > 0 {
            let context = context(&mut message, "forwarding_score")?;
            context.is_forwarded = Some(true);
            context.forwarding_score = Some(self.forwarding_score);
        }
        if self.view_once {
            return once(message);
        }
        Ok(message)
    }
}

/// The message in the envelope that says that it can be seen once, if it lies in one.
pub(super) fn seen_once(message: &Message) -> Option<&Message> {
    let envelopes = [
        &message.view_once_message,
        &message.view_once_message_v2,
        &message.view_once_message_v2_extension,
    ];
    let envelope = envelopes
        .into_iter()
        .find_map(|envelope| envelope.as_option());
    envelope?.message.as_option()
}

/// Puts what can be seen once into the envelope that says so.
fn once(mut message: Message) -> Result<Message, SandboxError> {
    let marks = [
        message
            .image_message
            .as_option_mut()
            .map(|one| &mut one.view_once),
        message
            .video_message
            .as_option_mut()
            .map(|one| &mut one.view_once),
        message
            .audio_message
            .as_option_mut()
            .map(|one| &mut one.view_once),
    ];
    let mark = marks.into_iter().flatten().next();
    let mark = mark.ok_or_else(|| {
        SandboxError::invalid("view_once", "only images, videos and voice are seen once")
    })?;
    *mark = Some(true);
    let beside = message.message_context_info.take();
    Ok(Message {
        message_context_info: beside.into(),
        view_once_message_v2: MessageField::some(FutureProofMessage {
            message: MessageField::some(message),
        }),
        ..Default::default()
    })
}

/// What stands around what a message says. A bare text becomes one that can have something around it.
fn context<'m>(
    message: &'m mut Message,
    field: &'static str,
) -> Result<&'m mut ContextInfo, SandboxError> {
    if let Some(text) = message.conversation.take() {
        message.extended_text_message = MessageField::some(ExtendedTextMessage {
            text: Some(text),
            ..Default::default()
        });
    }
    macro_rules! first_of {
        ($($kind:ident),+ $(,)?) => {
            $(if message.$kind.is_set() {
                let said = message.$kind.get_or_insert_default();
                return Ok(said.context_info.get_or_insert_default());
            })+
        };
    }
    first_of!(
        extended_text_message,
        image_message,
        video_message,
        ptv_message,
        audio_message,
        document_message,
        sticker_message,
        album_message,
        location_message,
        live_location_message,
        contact_message,
        contacts_array_message,
        poll_creation_message,
        poll_creation_message_v2,
        poll_creation_message_v3,
        poll_creation_message_v5,
        poll_creation_message_v6,
        event_message,
        list_message,
        list_response_message,
        buttons_message,
        buttons_response_message,
        template_message,
        template_button_reply_message,
        interactive_message,
        interactive_response_message,
        product_message,
        order_message,
        group_invite_message,
    );
    Err(SandboxError::invalid(
        field,
        "this kind of message has nothing around it that could say so",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use waproto::whatsapp::message::{ImageMessage, ReactionMessage};

    #[test]
    fn a_message_is_marked_with_all_of_it() {
        let manner = Manner {
            ephemeral_seconds: 86_400,
            view_once: true,
            forwarding_score: 3,
        };
        let image = Message {
            image_message: MessageField::some(ImageMessage::default()),
            ..Default::default()
        };
        let marked = manner.mark(image).unwrap();
        let inner = marked.view_once_message_v2.as_option().unwrap();
        let image = inner.message.as_option().unwrap();
        let image = image.image_message.as_option().unwrap();
        let context = image.context_info.as_option().unwrap();
        assert_eq!(image.view_once, Some(true));
        assert_eq!(context.expiration, Some(86_400));
        assert_eq!(context.is_forwarded, Some(true));
        assert_eq!(context.forwarding_score, Some(3));
    }

    #[test]
    fn what_cannot_be_marked_is_refused() {
        let text = || Message {
            conversation: Some("hello".to_owned()),
            ..Default::default()
        };
        let reaction = || Message {
            reaction_message: MessageField::some(ReactionMessage::default()),
            ..Default::default()
        };
        let manner = |ephemeral_seconds, view_once, forwarding_score| Manner {
            ephemeral_seconds,
            view_once,
            forwarding_score,
        };
        assert!(manner(0, true, 0).mark(text()).is_err());
        assert!(manner(60, false, 0).mark(reaction()).is_err());
        assert!(manner(0, false, 1).mark(reaction()).is_err());
        assert!(manner(MAX_EPHEMERAL + 1, false, 0).mark(text()).is_err());
        assert!(manner(0, false, 128).mark(text()).is_err());
        assert_eq!(manner(0, false, 0).mark(text()).unwrap(), text());
    }
}

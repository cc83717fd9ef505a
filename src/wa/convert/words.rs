//! What of a message can be searched for, and what it does to others.

use crate::proto::v1::message_content::Content;

/// The words of a message; empty if it has none.
pub fn words(content: &Content) -> String {
    let mut parts: Vec<&str> = Vec::new();
    match content {
        Content::Text(text) => {
            parts.push(&text.text);
            if let Some(preview) = &text.link_preview {
                parts.extend([preview.title.as_str(), &preview.description]);
            }
        }
        Content::Image(image) => parts.push(&image.caption),
        Content::Video(video) => parts.push(&video.caption),
        Content::Document(document) => {
            parts.extend([document.caption.as_str(), &document.title]);
            parts.extend(document.media.as_ref().map(|file| file.file_name.as_str()));
        }
        Content::Location(place) => parts.extend([place.name.as_str(), &place.address]),
        Content::LiveLocation(live) => parts.push(&live.caption),
        Content::Contacts(contacts) => {
            for card in &contacts.contacts {
                parts.push(&card.name);
                parts.extend(card.phone_numbers.iter().map(String::as_str));
            }
        }
        Content::Poll(poll) => {
            parts.push(&poll.question);
            parts.extend(poll.options.iter().map(|option| option.name.as_str()));
        }
        Content::EventInvitation(event) => {
            parts.extend([event.name.as_str(), &event.description]);
        }
        Content::List(list) => parts.extend([list.title.as_str(), &list.description]),
        Content::ListReply(reply) => parts.push(&reply.title),
        Content::Buttons(buttons) => parts.extend([buttons.header.as_str(), &buttons.text]),
        Content::ButtonReply(reply) => parts.push(&reply.text),
        Content::Interactive(message) => parts.extend([message.header.as_str(), &message.body]),
        Content::InteractiveReply(reply) => parts.push(&reply.text),
        Content::Product(product) => parts.extend([product.title.as_str(), &product.text]),
        Content::Order(order) => parts.extend([order.title.as_str(), &order.text]),
        Content::GroupInvite(invite) => parts.extend([invite.subject.as_str(), &invite.caption]),
        Content::PaymentRequest(request) => parts.push(&request.note),
        Content::PaymentSent(sent) => parts.push(&sent.note),
        Content::Audio(_)
        | Content::Sticker(_)
        | Content::Album(_)
        | Content::Reaction(_)
        | Content::Edited(_)
        | Content::Deleted(_)
        | Content::PollVote(_)
        | Content::EventResponse(_)
        | Content::Pin(_)
        | Content::PaymentDeclined(_)
        | Content::PaymentCancelled(_)
        | Content::PaymentInvite(_)
        | Content::Unsupported(_) => {}
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// The id of the message that this one does something to; `None` for one that stands for itself.
pub fn target(content: &Content) -> Option<&str> {
    match content {
        Content::Reaction(reaction) => Some(&reaction.message_id),
        Content::Edited(edit) => Some(&edit.message_id),
        Content::Deleted(deletion) => Some(&deletion.message_id),
        Content::PollVote(vote) => Some(&vote.poll_message_id),
        Content::EventResponse(answer) => Some(&answer.event_message_id),
        Content::Pin(pin) => Some(&pin.message_id),
        Content::PaymentDeclined(answer) => Some(&answer.payment_id),
        Content::PaymentCancelled(answer) => Some(&answer.payment_id),
        Content::PaymentSent(sent) => Some(&*sent.payment_id).filter(|id| !id.is_empty()),
        _ => None,
    }
}

/// Whether a message stands for itself among others, even if it does something to another one: a phone shows it.
pub fn stands_alone(content: &Content) -> bool {
    matches!(content, Content::PaymentSent(_)) || target(content).is_none()
}

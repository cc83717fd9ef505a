//! What a message says, in one line.

use super::{plain, who};
use crate::proto::v1::{
    EventResponse, InteractiveContent, Media, MessageContent, Money, PollOption, PollVoteState,
    message_content::Content,
};

/// What it says; what is no text stands in brackets.
pub fn says(content: &Content) -> String {
    match content {
        Content::Text(text) => plain(&text.text),
        Content::Image(image) => with("an image", &image.caption),
        Content::Video(video) if video.gif => with("a GIF", &video.caption),
        Content::Video(video) if video.round => with("a round video", &video.caption),
        Content::Video(video) => with("a video", &video.caption),
        Content::Audio(audio) if audio.voice_note => {
            format!("[a voice note{}]", length(&audio.media))
        }
        Content::Audio(audio) => format!("[sound{}]", length(&audio.media)),
        Content::Document(document) => {
            let name = document.media.as_ref().map_or("", |file| &file.file_name);
            with(&format!("the file {}", plain(name)), &document.caption)
        }
        Content::Sticker(_) => "[a sticker]".to_owned(),
        Content::Album(album) => {
            format!("[an album of {}]", album.image_count + album.video_count)
        }
        Content::Location(place) => {
            let (latitude, longitude) = (place.latitude, place.longitude);
            with(&format!("the place {latitude}, {longitude}"), &place.name)
        }
        Content::LiveLocation(live) => with("shares where they are", &live.caption),
        Content::Contacts(contacts) => {
            let names: Vec<_> = contacts
                .contacts
                .iter()
                .map(|one| plain(&one.name))
                .collect();
            format!("[contacts: {}]", names.join(", "))
        }
        Content::Reaction(reaction) if reaction.emoji.is_empty() => {
            format!("[no longer reacts to {}]", plain(&reaction.message_id))
        }
        Content::Reaction(reaction) => {
            let emoji = plain(&reaction.emoji);
            format!("[{emoji} to {}]", plain(&reaction.message_id))
        }
        Content::Edited(edit) => {
            let now = edit.content.as_deref().map(in_words).unwrap_or_default();
            format!("[{} says now: {now}]", plain(&edit.message_id))
        }
        Content::Deleted(deleted) => match &deleted.actor {
            Some(actor) => format!("[deleted by {}]", who(actor)),
            None => format!("[{} is deleted]", plain(&deleted.message_id)),
        },
        Content::Poll(poll) => {
            let kind = if poll.quiz { "a quiz" } else { "a poll" };
            with(
                &format!("{kind}: {}", options(&poll.options)),
                &poll.question,
            )
        }
        Content::PollVote(vote) => match vote.state() {
            PollVoteState::Read if vote.options.is_empty() => "[takes a vote back]".to_owned(),
            PollVoteState::Read => format!("[votes for {}]", options(&vote.options)),
            _ => "[a vote that can't be read]".to_owned(),
        },
        Content::EventInvitation(event) => with("an invitation", &event.name),
        Content::EventResponse(answer) => match answer.response() {
            EventResponse::Going => "[will come]".to_owned(),
            EventResponse::NotGoing => "[will not come]".to_owned(),
            EventResponse::Maybe => "[may come]".to_owned(),
            EventResponse::Unspecified => "[an answer that can't be read]".to_owned(),
        },
        Content::List(list) => with("a list", &list.description),
        Content::ListReply(reply) => with("chooses", &reply.title),
        Content::Buttons(buttons) => with("buttons", &buttons.text),
        Content::ButtonReply(reply) => with("presses", &reply.text),
        Content::Interactive(InteractiveContent { body, .. }) => with("buttons", body),
        Content::InteractiveReply(reply) => with("answers", &reply.text),
        Content::Product(product) => with("a product", &product.title),
        Content::Order(order) => with("an order", &order.title),
        Content::Pin(pin) if pin.pinned => format!("[pins {}]", plain(&pin.message_id)),
        Content::Pin(pin) => format!("[unpins {}]", plain(&pin.message_id)),
        Content::GroupInvite(invite) => with("an invite", &invite.subject),
        Content::PaymentRequest(request) => {
            let amount = request.amount.as_ref();
            let amount = amount.map_or_else(|| "money".to_owned(), money);
            with(&format!("asks for {amount}"), &request.note)
        }
        Content::PaymentDeclined(one) => format!("[declines {}]", plain(&one.payment_id)),
        Content::PaymentCancelled(one) => format!("[cancels {}]", plain(&one.payment_id)),
        Content::PaymentSent(sent) => with("says that money was sent", &sent.note),
        Content::PaymentInvite(_) => "[an invitation to a payment service]".to_owned(),
        Content::Unsupported(other) => {
            format!("[{}: not supported yet]", plain(&other.original_type))
        }
    }
}

/// An amount of money, such as `BRL 10.50`, without a floating point number.
pub fn money(money: &Money) -> String {
    let places = money.exponent() as usize;
    let digits = money.minor_units.unsigned_abs().to_string();
    let digits = format!(
        "{digits:0>width$}",
        width = places.saturating_add(1).min(64)
    );
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
    let sign = if money.minor_units < 0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{} {sign}{whole}{point}{fraction}", plain(&money.currency))
}

/// The same of what may be of a newer kind.
pub fn in_words(content: &MessageContent) -> String {
    let known = content.content.as_ref();
    known.map_or_else(|| "[a newer kind of message]".to_owned(), says)
}

fn with(kind: &str, text: &str) -> String {
    match text {
        "" => format!("[{kind}]"),
        text => format!("[{kind}] {}", plain(text)),
    }
}

fn length(media: &Option<Media>) -> String {
    match media.as_ref().map_or(0, |file| file.duration_seconds) {
        0 => String::new(),
        seconds => format!(" of {seconds} s"),
    }
}

fn options(options: &[PollOption]) -> String {
    let names: Vec<_> = options.iter().map(|option| plain(&option.name)).collect();
    names.join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_its_point() {
        let shown = |minor_units, exponent| {
            money(&Money {
                currency: "BRL".to_owned(),
                minor_units,
                exponent: Some(exponent),
            })
        };
        assert_eq!(shown(1_050, 2), "BRL 10.50");
        assert_eq!(shown(5, 3), "BRL 0.005");
        assert_eq!(shown(7, 0), "BRL 7");
        assert_eq!(shown(i64::MIN, 2), "BRL -92233720368547758.08");
        assert_eq!(shown(1, u32::MAX).len(), "BRL ".len() + 65);
    }
}

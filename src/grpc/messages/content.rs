//! What a caller wants to say, within WhatsApp's limits.

mod business;
mod files;

use std::{collections::HashSet, ops::RangeInclusive};

use tonic::Status;

use crate::{
    domain::{
        limits,
        recipient::{Recipient, group_jid},
    },
    events::system_time,
    grpc::{
        groups,
        status::{self, Reason, refuse},
    },
    proto::v1::{self, message_content::Content, send_message_request},
};

/// The content, or what is wrong with it. `quoted` is the id of the message that it answers.
pub(in crate::grpc) fn checked(
    content: Option<send_message_request::Content>,
    quoted: &str,
) -> Result<Content, Status> {
    use send_message_request::Content as Asked;
    let Some(content) = content else {
        return Err(status::field_invalid(
            "content",
            "must say something, such as text",
        ));
    };
    Ok(match content {
        Asked::Text(text) => Content::Text(self::text(text)?),
        Asked::GroupInvite(invite) => Content::GroupInvite(group_invite(invite)?),
        Asked::Location(location) => Content::Location(self::location("location", location)?),
        Asked::LiveLocation(live) => Content::LiveLocation(live_location(live)?),
        Asked::Contacts(contacts) => Content::Contacts(self::contacts(contacts)?),
        Asked::Reaction(reaction) => Content::Reaction(self::reaction(reaction)?),
        Asked::Poll(poll) => Content::Poll(self::poll(poll)?),
        Asked::EventInvitation(event) => Content::EventInvitation(invitation(event)?),
        Asked::EventResponse(answer) => Content::EventResponse(response(answer)?),
        Asked::List(list) => Content::List(business::list(list)?),
        Asked::Buttons(buttons) => Content::Buttons(business::buttons(buttons)?),
        Asked::Interactive(message) => Content::Interactive(business::interactive(message)?),
        Asked::Image(image) => Content::Image(files::image(image)?),
        Asked::Video(video) => Content::Video(files::video(video)?),
        Asked::Audio(audio) => Content::Audio(files::audio(audio)?),
        Asked::Document(document) => Content::Document(files::document(document)?),
        Asked::Sticker(sticker) => Content::Sticker(files::sticker(sticker)?),
        Asked::Album(album) => Content::Album(files::album(album)?),
        Asked::ListReply(reply) => {
            business::answered(quoted)?;
            Content::ListReply(business::list_reply(reply)?)
        }
        Asked::ButtonReply(reply) => {
            business::answered(quoted)?;
            Content::ButtonReply(business::button_reply(reply)?)
        }
        Asked::InteractiveReply(reply) => {
            business::answered(quoted)?;
            Content::InteractiveReply(business::interactive_reply(reply)?)
        }
    })
}

pub(super) use files::{in_album, once};

/// Whether the server is to look for a link preview: of a text that has none, if the caller asks for it.
pub(super) fn without_preview(content: &Content, fetch: bool) -> Result<bool, Status> {
    match content {
        Content::Text(text) => Ok(fetch && text.link_preview.is_none()),
        _ if fetch => {
            let why = "must be false: only a text has a link preview";
            Err(status::field_invalid("fetch_link_preview", why))
        }
        _ => Ok(false),
    }
}

/// A text of at most so many characters. `field` names it.
pub(in crate::grpc) fn most(field: &str, text: &str, limit: usize) -> Result<(), Status> {
    let length = text.chars().count();
    if length > limit {
        return Err(status::text_too_long(
            field,
            format!("{field} has {length} characters; WhatsApp takes {limit}"),
            limit,
        ));
    }
    Ok(())
}

/// A text of 1 to so many characters.
fn some(field: &str, text: &str, limit: usize) -> Result<(), Status> {
    if text.trim().is_empty() || text.chars().count() > limit {
        let description = format!("must have 1 to {limit} characters");
        return Err(status::field_invalid(field, description));
    }
    Ok(())
}

fn small(field: &str, bytes: &[u8], limit: usize) -> Result<(), Status> {
    if bytes.len() > limit {
        let description = format!("must have at most {limit} bytes");
        return Err(status::field_invalid(field, description));
    }
    Ok(())
}

fn within(field: &str, value: f64, range: RangeInclusive<f64>) -> Result<(), Status> {
    if !range.contains(&value) {
        let description = format!("must lie between {} and {}", range.start(), range.end());
        return Err(status::field_invalid(field, description));
    }
    Ok(())
}

/// The id of another message.
fn message_id(field: &str, id: &str) -> Result<(), Status> {
    some(field, id, super::QUOTED_ID_BYTES)
}

fn text(text: v1::TextContent) -> Result<v1::TextContent, Status> {
    if text.text.trim().is_empty() {
        return Err(refuse(Reason::TextEmpty, "the text is empty")
            .field("text.text", "must not be empty")
            .into());
    }
    most("text.text", &text.text, limits::TEXT_CHARS)?;
    if let Some(preview) = &text.link_preview {
        some("text.link_preview.url", &preview.url, limits::LINK_CHARS)?;
        if !text.text.contains(&preview.url) {
            return Err(status::field_invalid(
                "text.link_preview.url",
                "must stand in the text",
            ));
        }
        some(
            "text.link_preview.title",
            &preview.title,
            limits::NAME_CHARS,
        )?;
        let description = "text.link_preview.description";
        most(description, &preview.description, limits::CAPTION_CHARS)?;
        let thumbnail = "text.link_preview.thumbnail";
        small(thumbnail, &preview.thumbnail, limits::THUMBNAIL_BYTES)?;
    }
    Ok(text)
}

fn group_invite(invite: v1::GroupInviteContent) -> Result<v1::GroupInviteContent, Status> {
    let group_id = group_jid(&invite.group_id).map_err(|why| {
        refuse(
            Reason::GroupIdInvalid,
            format!("group_invite.group_id {why}"),
        )
        .field("group_invite.group_id", why)
    })?;
    if invite.code.is_empty() {
        return Err(status::field_invalid(
            "group_invite.code",
            "must not be empty",
        ));
    }
    most(
        "group_invite.caption",
        &invite.caption,
        limits::CAPTION_CHARS,
    )?;
    Ok(v1::GroupInviteContent {
        group_id,
        subject: groups::subject("group_invite.subject", invite.subject)?,
        ..invite
    })
}

fn location(field: &str, place: v1::LocationContent) -> Result<v1::LocationContent, Status> {
    within(&format!("{field}.latitude"), place.latitude, -90.0..=90.0)?;
    within(
        &format!("{field}.longitude"),
        place.longitude,
        -180.0..=180.0,
    )?;
    most(&format!("{field}.name"), &place.name, limits::NAME_CHARS)?;
    most(
        &format!("{field}.address"),
        &place.address,
        limits::CAPTION_CHARS,
    )?;
    most(&format!("{field}.url"), &place.url, limits::LINK_CHARS)?;
    let thumbnail = format!("{field}.thumbnail");
    small(&thumbnail, &place.thumbnail, limits::THUMBNAIL_BYTES)?;
    Ok(place)
}

fn live_location(live: v1::LiveLocationContent) -> Result<v1::LiveLocationContent, Status> {
    within("live_location.latitude", live.latitude, -90.0..=90.0)?;
    within("live_location.longitude", live.longitude, -180.0..=180.0)?;
    let speed = f64::from(live.speed_mps);
    within("live_location.speed_mps", speed, 0.0..=100_000.0)?;
    let bearing = f64::from(live.bearing_degrees);
    within("live_location.bearing_degrees", bearing, 0.0..=359.0)?;
    most(
        "live_location.caption",
        &live.caption,
        limits::CAPTION_CHARS,
    )?;
    let thumbnail = "live_location.thumbnail";
    small(thumbnail, &live.thumbnail, limits::THUMBNAIL_BYTES)?;
    Ok(live)
}

fn contacts(mut contacts: v1::ContactsContent) -> Result<v1::ContactsContent, Status> {
    let limit = limits::CARDS;
    if !(1..=limit).contains(&contacts.contacts.len()) {
        return Err(status::field_invalid(
            "contacts.contacts",
            format!("must have 1 to {limit} cards"),
        ));
    }
    for (number, card) in contacts.contacts.iter_mut().enumerate() {
        let field = |name: &str| format!("contacts.contacts[{number}].{name}");
        some(&field("name"), &card.name, limits::NAME_CHARS)?;
        small(&field("vcard"), card.vcard.as_bytes(), limits::VCARD_BYTES)?;
        let limit = limits::CARD_NUMBERS;
        if card.vcard.is_empty() && !(1..=limit).contains(&card.phone_numbers.len()) {
            return Err(status::field_invalid(
                &field("phone_numbers"),
                format!("must have 1 to {limit} numbers where there is no vcard"),
            ));
        }
        if !card.vcard.is_empty() && !card.vcard.trim_start().starts_with("BEGIN:VCARD") {
            return Err(status::field_invalid(&field("vcard"), "must be a vCard"));
        }
        for phone_number in &mut card.phone_numbers {
            *phone_number = match Recipient::parse(phone_number) {
                Ok(Recipient::Number(digits)) => digits,
                Ok(_) => {
                    return Err(status::field_invalid(
                        &field("phone_numbers"),
                        "must be phone numbers",
                    ));
                }
                Err(why) => return Err(status::field_invalid(&field("phone_numbers"), why)),
            };
        }
    }
    Ok(contacts)
}

fn reaction(reaction: v1::ReactionContent) -> Result<v1::ReactionContent, Status> {
    message_id("reaction.message_id", &reaction.message_id)?;
    small(
        "reaction.emoji",
        reaction.emoji.as_bytes(),
        limits::EMOJI_BYTES,
    )?;
    let printable = |letter: char| !letter.is_control() && !letter.is_ascii_alphabetic();
    if !reaction.emoji.chars().all(printable) {
        return Err(status::field_invalid("reaction.emoji", "must be an emoji"));
    }
    Ok(v1::ReactionContent {
        message_sender: None,
        ..reaction
    })
}

fn poll(poll: v1::PollContent) -> Result<v1::PollContent, Status> {
    some("poll.question", &poll.question, limits::POLL_NAME_CHARS)?;
    let count = limits::POLL_OPTIONS;
    if !count.contains(&poll.options.len()) {
        let description = format!("must have {} to {} options", count.start(), count.end());
        return Err(status::field_invalid("poll.options", description));
    }
    let mut names = HashSet::new();
    for (number, option) in poll.options.iter().enumerate() {
        let field = format!("poll.options[{number}].name");
        some(&field, &option.name, limits::POLL_OPTION_CHARS)?;
        if !names.insert(option.name.as_str()) {
            return Err(status::field_invalid(&field, "must differ from the others"));
        }
    }
    if poll.selectable_count as usize > poll.options.len() {
        return Err(status::field_invalid(
            "poll.selectable_count",
            "must not be more than there are options",
        ));
    }
    if poll.quiz && poll.selectable_count > 1 {
        return Err(status::field_invalid(
            "poll.selectable_count",
            "must be 1 of a quiz",
        ));
    }
    if poll.quiz && !names.contains(poll.correct_option.as_str()) {
        return Err(status::field_invalid(
            "poll.correct_option",
            "must be one of the options",
        ));
    }
    if !poll.quiz && !poll.correct_option.is_empty() {
        return Err(status::field_invalid(
            "poll.correct_option",
            "is for a quiz only",
        ));
    }
    let options = poll.options.iter();
    Ok(v1::PollContent {
        options: options
            .map(|option| crate::wa::poll_option(&option.name))
            .collect(),
        selectable_count: if poll.quiz { 1 } else { poll.selectable_count },
        end_time: None,
        hides_voters: false,
        ..poll
    })
}

/// The options of a vote.
pub(super) fn choice(options: &[String]) -> Result<(), Status> {
    let mut seen = HashSet::new();
    for (number, option) in options.iter().enumerate() {
        if !seen.insert(option) {
            let field = format!("options[{number}]");
            return Err(status::field_invalid(&field, "must not be named twice"));
        }
    }
    Ok(())
}

fn invitation(event: v1::EventInvitationContent) -> Result<v1::EventInvitationContent, Status> {
    some(
        "event_invitation.name",
        &event.name,
        limits::POLL_NAME_CHARS,
    )?;
    let description = "event_invitation.description";
    most(description, &event.description, limits::DESCRIPTION_CHARS)?;
    most(
        "event_invitation.join_link",
        &event.join_link,
        limits::LINK_CHARS,
    )?;
    let start = event.start_time.as_ref().and_then(system_time);
    let Some(start) = start else {
        return Err(status::field_invalid(
            "event_invitation.start_time",
            "must say when it begins",
        ));
    };
    if let Some(end) = &event.end_time
        && system_time(end).is_none_or(|end| end <= start)
    {
        return Err(status::field_invalid(
            "event_invitation.end_time",
            "must be after the beginning",
        ));
    }
    let place = event
        .location
        .map(|place| location("event_invitation.location", place));
    Ok(v1::EventInvitationContent {
        location: place.transpose()?,
        ..event
    })
}

fn response(answer: v1::EventResponseContent) -> Result<v1::EventResponseContent, Status> {
    message_id("event_response.event_message_id", &answer.event_message_id)?;
    if answer.response() == v1::EventResponse::Unspecified {
        return Err(status::field_invalid(
            "event_response.response",
            "must be an answer",
        ));
    }
    if answer.extra_guests > limits::EXTRA_GUESTS {
        return Err(status::field_invalid(
            "event_response.extra_guests",
            format!("must be at most {}", limits::EXTRA_GUESTS),
        ));
    }
    Ok(answer)
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;

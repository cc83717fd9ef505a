use send_message_request::Content as Asked;
use tonic_types::StatusExt as _;

use super::*;

fn field(asked: Asked) -> Option<String> {
    let status = checked(Some(asked)).err()?;
    let details = status.get_error_details();
    let request = details.bad_request().expect("it names a field");
    Some(request.field_violations[0].field.clone())
}

fn refused(asked: Asked, wanted: &str) {
    assert_eq!(field(asked.clone()).as_deref(), Some(wanted), "{asked:?}");
}

fn a_poll(options: &[&str]) -> v1::PollContent {
    v1::PollContent {
        question: "Tea?".to_owned(),
        options: options
            .iter()
            .map(|name| v1::PollOption {
                name: (*name).to_owned(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

#[test]
fn a_poll_has_two_to_twelve_options_that_differ() {
    assert_eq!(field(Asked::Poll(a_poll(&["yes", "no"]))), None);
    refused(Asked::Poll(a_poll(&["yes"])), "poll.options");
    refused(Asked::Poll(a_poll(&["x"; 13])), "poll.options");
    refused(Asked::Poll(a_poll(&["x", "x"])), "poll.options[1].name");
    refused(Asked::Poll(a_poll(&["x", " "])), "poll.options[1].name");
    let more = v1::PollContent {
        selectable_count: 3,
        ..a_poll(&["x", "y"])
    };
    refused(Asked::Poll(more), "poll.selectable_count");
    let quiz = v1::PollContent {
        quiz: true,
        correct_option: "z".to_owned(),
        ..a_poll(&["x", "y"])
    };
    refused(Asked::Poll(quiz.clone()), "poll.correct_option");
    let quiz = v1::PollContent {
        correct_option: "y".to_owned(),
        ..quiz
    };
    match checked(Some(Asked::Poll(quiz))).unwrap() {
        Content::Poll(poll) => {
            assert_eq!(poll.selectable_count, 1);
            assert_eq!(poll.options[0].id.len(), 64);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn places_lie_on_the_earth() {
    let place = |latitude, longitude| v1::LocationContent {
        latitude,
        longitude,
        ..Default::default()
    };
    assert_eq!(field(Asked::Location(place(-90.0, 180.0))), None);
    refused(Asked::Location(place(90.1, 0.0)), "location.latitude");
    refused(Asked::Location(place(f64::NAN, 0.0)), "location.latitude");
    refused(Asked::Location(place(0.0, -180.1)), "location.longitude");
    let live = v1::LiveLocationContent {
        bearing_degrees: 360,
        ..Default::default()
    };
    refused(Asked::LiveLocation(live), "live_location.bearing_degrees");
}

#[test]
fn a_contact_has_a_name_and_a_number_or_a_card() {
    let card = |name: &str, vcard: &str, number: &str| {
        Asked::Contacts(v1::ContactsContent {
            contacts: vec![v1::ContactCard {
                name: name.to_owned(),
                vcard: vcard.to_owned(),
                phone_numbers: Some(number.to_owned())
                    .filter(|number| !number.is_empty())
                    .into_iter()
                    .collect(),
            }],
        })
    };
    assert_eq!(field(card("Ann", "", "+1 555 000 1111")), None);
    assert_eq!(field(card("Ann", "BEGIN:VCARD\nEND:VCARD", "")), None);
    refused(card("", "", "15550001111"), "contacts.contacts[0].name");
    refused(card("Ann", "", ""), "contacts.contacts[0].phone_numbers");
    refused(card("Ann", "", "x"), "contacts.contacts[0].phone_numbers");
    refused(card("Ann", "Ann", ""), "contacts.contacts[0].vcard");
    let none = Asked::Contacts(v1::ContactsContent::default());
    refused(none, "contacts.contacts");
}

#[test]
fn a_reaction_is_an_emoji_or_nothing() {
    let reaction = |id: &str, emoji: &str| {
        Asked::Reaction(v1::ReactionContent {
            message_id: id.to_owned(),
            emoji: emoji.to_owned(),
            ..Default::default()
        })
    };
    for emoji in ["", "👍", "👩‍👩‍👧‍👦", "1️⃣"] {
        assert_eq!(field(reaction("A", emoji)), None, "{emoji}");
    }
    refused(reaction("", "👍"), "reaction.message_id");
    refused(reaction("A", "no"), "reaction.emoji");
    refused(reaction("A", &"👍".repeat(9)), "reaction.emoji");
}

#[test]
fn a_preview_is_of_a_link_in_the_text() {
    let text = |text: &str, url: &str, title: &str| {
        Asked::Text(v1::TextContent {
            text: text.to_owned(),
            link_preview: Some(v1::LinkPreview {
                url: url.to_owned(),
                title: title.to_owned(),
                ..Default::default()
            }),
        })
    };
    let url = "https://example.com";
    assert_eq!(field(text(&format!("see {url}"), url, "Page")), None);
    refused(text("see", url, "Page"), "text.link_preview.url");
    refused(text("see", "", "Page"), "text.link_preview.url");
    refused(text(url, url, ""), "text.link_preview.title");
}

#[test]
fn an_event_ends_after_it_begins() {
    let at = |seconds| Some(pbjson_types::Timestamp { seconds, nanos: 0 });
    let event = |name: &str, start, end| {
        Asked::EventInvitation(v1::EventInvitationContent {
            name: name.to_owned(),
            start_time: start,
            end_time: end,
            ..Default::default()
        })
    };
    assert_eq!(field(event("Tea", at(10), None)), None);
    assert_eq!(field(event("Tea", at(10), at(11))), None);
    refused(event("", at(10), None), "event_invitation.name");
    refused(event("Tea", None, None), "event_invitation.start_time");
    refused(event("Tea", at(10), at(10)), "event_invitation.end_time");
    let answer = v1::EventResponseContent {
        event_message_id: "A".to_owned(),
        ..Default::default()
    };
    refused(Asked::EventResponse(answer), "event_response.response");
}

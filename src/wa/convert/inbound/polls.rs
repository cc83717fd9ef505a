//! Polls, quizzes and the envelopes of votes.

use std::time::{Duration, UNIX_EPOCH};

use whatsapp_rust::{wacore::poll::compute_option_hash, waproto::whatsapp as wa};

use super::{key_id, short};
use crate::{
    domain::limits::{LIST_ENTRIES, POLL_NAME_CHARS},
    events::timestamp,
    proto::v1::{self, message_content::Content},
};

/// A poll, in whichever of its versions.
pub fn creation(message: &wa::Message) -> Option<&wa::message::PollCreationMessage> {
    [
        &message.poll_creation_message,
        &message.poll_creation_message_v2,
        &message.poll_creation_message_v3,
        &message.poll_creation_message_v5,
        &message.poll_creation_message_v6,
    ]
    .into_iter()
    .find_map(|poll| poll.as_option())
}

/// A poll or a quiz.
pub fn poll(poll: &wa::message::PollCreationMessage) -> Content {
    use wa::message::PollType;
    let options = poll.options.iter().take(LIST_ENTRIES);
    let correct = poll.correct_answer.as_option();
    Content::Poll(v1::PollContent {
        question: short(poll.name.as_ref(), POLL_NAME_CHARS),
        options: options
            .map(|option| self::option(option.option_name.as_deref().unwrap_or_default()))
            .collect(),
        selectable_count: poll.selectable_options_count.unwrap_or_default(),
        quiz: poll.poll_type == Some(PollType::QUIZ),
        correct_option: short(
            correct.and_then(|option| option.option_name.as_ref()),
            POLL_NAME_CHARS,
        ),
        end_time: poll.end_time.and_then(millis),
        hides_voters: poll.hide_participant_name == Some(true),
    })
}

/// An option as it is shown, with what votes call it.
pub fn option(name: &str) -> v1::PollOption {
    v1::PollOption {
        name: name.chars().take(POLL_NAME_CHARS).collect(),
        id: hex::encode(compute_option_hash(name)),
    }
}

/// A vote whose poll is not known yet.
pub fn vote(update: &wa::message::PollUpdateMessage) -> Content {
    Content::PollVote(v1::PollVoteContent {
        poll_message_id: key_id(update.poll_creation_message_key.as_option()),
        state: v1::PollVoteState::PollUnknown.into(),
        ..Default::default()
    })
}

/// A time in milliseconds; some clients write seconds.
pub(super) fn millis(time: i64) -> Option<pbjson_types::Timestamp> {
    const YEAR_5138_IN_SECONDS: u64 = 100_000_000_000;
    let time = u64::try_from(time).ok().filter(|time| *time > 0)?;
    let since = if time < YEAR_5138_IN_SECONDS {
        Duration::from_secs(time)
    } else {
        Duration::from_millis(time)
    };
    UNIX_EPOCH.checked_add(since).map(timestamp)
}

//! What became of polls: who has voted for what.
//!
//! Owns which vote counts: the latest of each person, by that person's clock. Votes are kept as they came, so one
//! that came before its poll counts once the poll is there. Never stores anything.

use std::collections::HashMap;

use prost::Message as _;
use whatsapp_rust::Jid;

use super::convert::{
    inbound, outbound,
    secrets::{self, Parent},
};
use crate::{
    domain::ids::InstanceNumber,
    proto::v1::{self, message_content::Content},
    storage::{MessageRow, Result, Storage, StorageError},
};

/// Votes read at once.
const PAGE: usize = 500;

/// Most votes of a poll that are looked at: ten for each member of the biggest group.
const MOST: usize = 10_240;

/// All that is stored in answer to a poll or an invitation, in the order in which it came.
pub(super) async fn votes(
    storage: &dyn Storage,
    instance: InstanceNumber,
    poll_id: &str,
) -> Result<Vec<MessageRow>> {
    let (mut votes, mut after) = (Vec::new(), 0);
    loop {
        let page = storage
            .list_targeting(instance, poll_id, after, PAGE)
            .await?;
        let last = page.len() < PAGE;
        if let Some((number, _)) = page.last() {
            after = *number;
        }
        votes.extend(page.into_iter().map(|(_, row)| row));
        if last || votes.len() >= MOST {
            return Ok(votes);
        }
    }
}

/// What somebody had chosen, by the latest vote that could be read.
pub(super) fn latest_of(
    votes: &[MessageRow],
    sender: &str,
    other: Option<&Jid>,
) -> Vec<v1::PollOption> {
    let other = other.map(|jid| jid.to_non_ad_string());
    let votes = votes.iter().rev();
    let mut theirs =
        votes.filter(|row| row.sender == sender || Some(&row.sender) == other.as_ref());
    theirs
        .find_map(|row| match content_of(row)? {
            Content::PollVote(vote) if vote.state() == v1::PollVoteState::Read => {
                Some(vote.options)
            }
            _ => None,
        })
        .unwrap_or_default()
}

fn content_of(row: &MessageRow) -> Option<Content> {
    let known = v1::Message::decode(row.body.clone()).ok()?;
    known.content?.content
}

/// What a stored vote says, now that its poll is there; `None` if that was known, or is no vote.
pub(super) fn opened(vote: &MessageRow, poll: &Parent) -> Option<Content> {
    let known = v1::Message::decode(vote.body.clone()).ok()?;
    let mut content = known.content?.content?;
    match &content {
        Content::PollVote(vote) if vote.state() == v1::PollVoteState::PollUnknown => {}
        _ => return None,
    }
    let message = outbound::decode(&vote.raw).ok()?;
    let voters = secrets::names(&vote.sender, known.sender.as_ref());
    secrets::open(&mut content, &message, poll, &voters, Vec::new());
    Some(content)
}

/// The votes of a poll, counted; `None` where it is none.
pub(super) fn tally(poll: &MessageRow, votes: &[MessageRow]) -> Result<Option<v1::PollResults>> {
    let known = v1::Message::decode(poll.body.clone())
        .map_err(|error| StorageError::Corrupt(error.into()))?;
    let options = match known.content.and_then(|content| content.content) {
        Some(Content::Poll(poll)) => poll.options,
        _ => return Ok(None),
    };
    let parent = Parent::of(poll);
    let mut results = v1::PollResults {
        poll_message_id: poll.message_id.clone(),
        ..Default::default()
    };
    // The latest vote of each person; a person is known by either name.
    let mut latest: Vec<(i64, v1::Party, Vec<v1::PollOption>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for row in votes {
        let opened = parent.as_ref().and_then(|parent| opened_now(row, parent));
        let Some((cast_at, voter, chosen)) = opened else {
            results.unreadable_votes += u32::from(is_vote(row));
            continue;
        };
        let names = secrets::names(&row.sender, Some(&voter));
        let place = names.iter().find_map(|name| places.get(name).copied());
        let place = match place {
            Some(place) => {
                if cast_at >= latest[place].0 {
                    latest[place] = (cast_at, voter, chosen);
                }
                place
            }
            None => {
                latest.push((cast_at, voter, chosen));
                latest.len() - 1
            }
        };
        places.extend(names.into_iter().map(|name| (name, place)));
    }
    results.options = options
        .into_iter()
        .map(|option| {
            let chose = |chosen: &[v1::PollOption]| chosen.iter().any(|one| one.id == option.id);
            let voters = latest.iter().filter(|(_, _, chosen)| chose(chosen));
            v1::PollOptionResult {
                voters: voters.map(|(_, voter, _)| voter.clone()).collect(),
                option: Some(option),
            }
        })
        .collect();
    let voted = latest.iter().filter(|(_, _, chosen)| !chosen.is_empty());
    results.voter_count = u32::try_from(voted.count()).unwrap_or(u32::MAX);
    Ok(Some(results))
}

fn is_vote(row: &MessageRow) -> bool {
    matches!(content_of(row), Some(Content::PollVote(_)))
}

/// When a vote was cast, by whom, and for what.
fn opened_now(row: &MessageRow, poll: &Parent) -> Option<(i64, v1::Party, Vec<v1::PollOption>)> {
    let known = v1::Message::decode(row.body.clone()).ok()?;
    let message = outbound::decode(&row.raw).ok()?;
    let update = inbound::peel(&message)
        .message
        .poll_update_message
        .as_option()?;
    let voter = known.sender.unwrap_or_default();
    let voters = secrets::names(&row.sender, Some(&voter));
    let chosen = poll.open_vote(update.vote.as_option()?, &voters)?;
    Some((secrets::cast_at(&message), voter, chosen))
}

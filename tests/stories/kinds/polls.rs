//! Polls and invitations: votes both ways, counted, also those that come before their poll.

use std::time::Duration;

use send_message_request::Content as Asked;
use wagate::sandbox::{Direction, FaultAction, FaultMatch, FaultRule, PhonePoll};

use super::*;
use crate::support::info;

fn tea() -> Asked {
    Asked::Poll(v1::PollContent {
        question: "Tea?".to_owned(),
        options: ["yes", "no", "later"]
            .map(|name| v1::PollOption {
                name: name.to_owned(),
                ..Default::default()
            })
            .to_vec(),
        ..Default::default()
    })
}

fn names(options: &[&str]) -> Vec<String> {
    options.iter().map(|name| (*name).to_owned()).collect()
}

fn chosen(options: &[v1::PollOption]) -> Vec<&str> {
    options.iter().map(|option| option.name.as_str()).collect()
}

fn vote_of(message: &v1::Message) -> &v1::PollVoteContent {
    match content(message) {
        Content::PollVote(vote) => vote,
        other => panic!("{other:?}"),
    }
}

/// Names of the options with the number of their voters.
async fn counted(scene: &Scene, id: &str) -> (Vec<(String, usize)>, u32) {
    let request = v1::GetPollResultsRequest {
        instance: "one".to_owned(),
        message_id: id.to_owned(),
        ..Default::default()
    };
    let results = scene
        .api
        .messages()
        .get_poll_results(request)
        .await
        .unwrap();
    let results = results.into_inner().results.unwrap();
    assert_eq!(results.unreadable_votes, 0);
    let options = results.options.into_iter();
    let counted = options.map(|one| (one.option.unwrap().name, one.voters.len()));
    (counted.collect(), results.voter_count)
}

async fn vote(scene: &Scene, id: &str, options: &[&str]) -> Result<v1::Message, tonic::Status> {
    let request = v1::VotePollRequest {
        instance: "one".to_owned(),
        message_id: id.to_owned(),
        options: names(options),
        ..Default::default()
    };
    let voted = within("VotePoll", scene.api.messages().vote_poll(request)).await?;
    Ok(voted.into_inner().message.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_of_phones_are_read_and_counted() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let eve = scene.stage.phone("Eve").await;
        let (group, jid) = scene.group(by_lid, &[eve.number]).await;
        let poll = scene.say_to(&jid, tea()).await.unwrap();
        scene.seen(&scene.peer, &poll.id).await;
        scene.seen(&eve, &poll.id).await;
        let network = scene.stage.network.clone();
        let say = async |phone: Number, options: &[&str]| {
            let voted = network.vote(phone, group, &poll.id, &names(options)).await;
            voted.unwrap().id
        };

        let first = say(scene.peer.number, &["yes", "later"]).await;
        let received = scene.received(&first).await;
        assert_eq!(vote_of(&received).state(), v1::PollVoteState::Read);
        assert_eq!(chosen(&vote_of(&received).options), ["yes", "later"]);
        assert_eq!(vote_of(&received).poll_message_id, poll.id);
        let id = say(eve.number, &["no"]).await;
        scene.received(&id).await;
        vote(&scene, &poll.id, &["no"]).await.unwrap();
        let wanted = [("yes", 1), ("no", 2), ("later", 1)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(counted(&scene, &poll.id).await, (wanted.to_vec(), 3));

        // A later vote replaces the one before, and none takes it back.
        let id = say(scene.peer.number, &["no"]).await;
        let received = scene.received(&id).await;
        assert_eq!(
            chosen(&vote_of(&received).previous_options),
            ["yes", "later"]
        );
        let id = say(eve.number, &[]).await;
        let received = scene.received(&id).await;
        assert_eq!(chosen(&vote_of(&received).previous_options), ["no"]);
        let wanted = [("yes", 0), ("no", 2), ("later", 0)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(counted(&scene, &poll.id).await, (wanted.to_vec(), 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_of_the_instance_is_read_by_the_phone() {
    for by_lid in [false, true] {
        let mut scene = Scene::addressed(by_lid).await;
        let network = scene.stage.network.clone();
        let poll = PhonePoll {
            question: "Tea?".to_owned(),
            options: names(&["yes", "no"]),
            selectable: 1,
        };
        let poll = network
            .create_poll(scene.peer.number, scene.own(), poll)
            .await;
        let poll = poll.unwrap().id;
        scene.received(&poll).await;
        let voted = vote(&scene, &poll, &["yes"]).await.unwrap();
        scene.seen(&scene.peer, &voted.id).await;
        assert_eq!(
            network.read_vote(scene.peer.number, &voted.id).unwrap(),
            ["yes"]
        );
        assert_eq!(counted(&scene, &poll).await.1, 1);

        let refused = vote(&scene, &poll, &["maybe"]).await.unwrap_err();
        assert_eq!(info(&refused), "FIELD_INVALID");
        let refused = vote(&scene, &poll, &["yes", "no"]).await.unwrap_err();
        assert_eq!(info(&refused), "FIELD_INVALID");
        let own = scene.instance.phone_number.clone();
        let text = scene.peer.send(&own, "no poll").await;
        scene.received(&text).await;
        let refused = vote(&scene, &text, &["yes"]).await.unwrap_err();
        assert_eq!(info(&refused), "MESSAGE_NOT_CHANGEABLE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_comes_before_its_poll_is_kept_and_read_later() {
    let mut scene = Scene::new().await;
    let eve = scene.stage.phone("Eve").await;
    let (group, _) = scene.group(true, &[eve.number]).await;
    let network = scene.stage.network.clone();
    let Chat::Group(id) = group else {
        unreachable!()
    };
    // Both have written before, so nobody has to ask anybody for keys.
    for phone in [scene.peer.number, eve.number] {
        let said = network.send_group_text(phone, id, "hello").await.unwrap();
        scene.received(&said.id).await;
    }
    let late = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            tag: Some("message".to_owned()),
            number: Some(scene.owner.number),
            device: Some(1),
            ..Default::default()
        },
        action: FaultAction::Delay(Duration::from_secs(2)),
        skip: 0,
        count: Some(1),
    };
    network.add_fault(late).unwrap();
    let poll = PhonePoll {
        question: "Tea?".to_owned(),
        options: names(&["yes", "no"]),
        selectable: 1,
    };
    let poll = network
        .create_poll(scene.peer.number, group, poll)
        .await
        .unwrap()
        .id;
    scene.seen(&eve, &poll).await;
    let early = network
        .vote(eve.number, group, &poll, &names(&["no"]))
        .await;
    let early = early.unwrap().id;
    let received = scene.received(&early).await;
    assert_eq!(vote_of(&received).state(), v1::PollVoteState::PollUnknown);
    scene.received(&poll).await;
    let updated = scene
        .watcher
        .once("the vote once more", |event| match &event.payload {
            Some(Payload::MessageUpdated(one)) if one.message_id == early => Some(one.clone()),
            _ => None,
        })
        .await;
    let stored = scene.stored(&early).await;
    assert_eq!(stored.content, updated.content);
    assert_eq!(chosen(&vote_of(&stored).options), ["no"]);
    assert_eq!(counted(&scene, &poll).await.1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_answered() {
    let mut scene = Scene::new().await;
    let (two, _) = scene.stage.open_instance(&scene.api, "two").await;
    let event = Asked::EventInvitation(v1::EventInvitationContent {
        name: "Tea".to_owned(),
        start_time: Some(pbjson_types::Timestamp {
            seconds: 1_900_000_000,
            nanos: 0,
        }),
        ..Default::default()
    });
    let invitation = scene.say_to(&two.phone_number, event).await.unwrap();
    scene.received(&invitation.id).await;
    let answer = v1::SendMessageRequest {
        instance: "two".to_owned(),
        recipient: scene.instance.phone_number.clone(),
        content: Some(Asked::EventResponse(v1::EventResponseContent {
            event_message_id: invitation.id.clone(),
            response: v1::EventResponse::Going.into(),
            extra_guests: 2,
        })),
        ..Default::default()
    };
    let sent = scene.api.messages().send_message(answer).await.unwrap();
    let sent = sent.into_inner().message.unwrap();
    let received = scene.received(&sent.id).await;
    assert_eq!(content(&received), content(&sent));
    match content(&received) {
        Content::EventResponse(answer) => {
            assert_eq!(answer.response(), v1::EventResponse::Going);
            assert_eq!(answer.extra_guests, 2);
        }
        other => panic!("{other:?}"),
    }
}

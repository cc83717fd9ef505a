//! Kinds of message between wagate and somebody else's client: what either says, the other understands.

use serde_json::json;
use wagate::proto::v1::{
    self, event::Payload, message_content::Content, send_message_request::Content as Asked,
};

use super::Companion;
use crate::support::{Api, Library, Stage, Watcher, within};

/// An instance and a client, each with the other's number.
pub(super) struct Pair {
    stage: Stage,
    pub(super) api: Api,
    pub(super) watcher: Watcher,
    instance: v1::Instance,
    pub(super) other: Companion,
}

fn text(text: &str) -> Asked {
    Asked::Text(v1::TextContent {
        text: text.to_owned(),
        ..Default::default()
    })
}

fn names(options: &[v1::PollOption]) -> Vec<&str> {
    options.iter().map(|one| &*one.name).collect()
}

impl Pair {
    pub(super) async fn on(library: Library) -> Option<Self> {
        let program = library.install().await?;
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (instance, _) = stage.open_instance(&api, "one").await;
        let other = Companion::paired(&stage, program, false).await;
        let watcher = Watcher::from_earliest(&api).await;
        Some(Self {
            stage,
            api,
            watcher,
            instance,
            other,
        })
    }

    pub(super) async fn leave(self) {
        self.other.client.stop().await;
        self.stage.network.shutdown().await;
    }

    /// wagate says something to the client.
    pub(super) async fn say(&self, content: Asked) -> String {
        self.send(self.request(content)).await
    }

    /// wagate says something that can be opened once.
    pub(super) async fn say_once(&self, content: Asked) -> String {
        let request = v1::SendMessageRequest {
            view_once: true,
            ..self.request(content)
        };
        self.send(request).await
    }

    fn request(&self, content: Asked) -> v1::SendMessageRequest {
        v1::SendMessageRequest {
            instance: "one".to_owned(),
            recipient: self.other.number.clone(),
            content: Some(content),
            ..Default::default()
        }
    }

    async fn send(&self, request: v1::SendMessageRequest) -> String {
        let sent = within("SendMessage", self.api.messages().send_message(request)).await;
        let sent = sent.unwrap().into_inner().message.unwrap();
        assert!(sent.status() >= v1::MessageStatus::Sent, "{sent:?}");
        sent.id
    }

    /// wagate asks the client for 10.50 reais.
    async fn ask_for_money(&self) -> String {
        let request = v1::RequestPaymentRequest {
            instance: "one".to_owned(),
            recipient: self.other.number.clone(),
            amount: Some(v1::Money {
                currency: "BRL".to_owned(),
                minor_units: 1_050,
                exponent: None,
            }),
            note: "for tea".to_owned(),
            ..Default::default()
        };
        let mut payments = self.api.payments();
        let asked = payments.request_payment(request);
        let asked = within("RequestPayment", asked).await.unwrap();
        asked.into_inner().payment.unwrap().id
    }

    /// The client says something that is no text to wagate, and wagate hears it.
    pub(super) async fn hear(&mut self, kind: &str, what: serde_json::Value) -> (String, Content) {
        let id = self
            .other
            .client
            .say(&self.instance.phone_number, kind, what)
            .await;
        let content = self.received(&id).await;
        (id, content)
    }

    async fn received(&mut self, id: &str) -> Content {
        let message = self
            .watcher
            .once("a message", |event| match &event.payload {
                Some(Payload::MessageReceived(one)) => {
                    one.message.clone().filter(|one| one.id == id)
                }
                _ => None,
            })
            .await;
        let sender = message.sender.unwrap().phone_number;
        assert_eq!(sender, self.other.number);
        message.content.unwrap().content.unwrap()
    }

    /// The client writes a text, and wagate hears it.
    async fn written(&mut self, text: &str) -> String {
        let to = self.instance.phone_number.clone();
        let id = self.other.client.send(&to, text).await;
        self.received(&id).await;
        id
    }
}

async fn places_and_cards(library: Library) {
    let Some(mut pair) = Pair::on(library).await else {
        return;
    };
    let place = v1::LocationContent {
        latitude: 1.5,
        longitude: -2.5,
        name: "Tower".to_owned(),
        ..Default::default()
    };
    let id = pair.say(Asked::Location(place)).await;
    let seen = json!({"id": id, "latitude": 1.5, "longitude": -2.5, "name": "Tower"});
    pair.other.client.until_content("location", seen).await;
    let place = json!({"latitude": 3.25, "longitude": 4.5, "name": "Bridge"});
    match pair.hear("location", place).await.1 {
        Content::Location(place) => {
            assert_eq!((place.latitude, place.longitude), (3.25, 4.5));
            assert_eq!(place.name, "Bridge");
        }
        other => panic!("{other:?}"),
    }

    let card = v1::ContactCard {
        name: "Ann".to_owned(),
        phone_numbers: vec!["15550009999".to_owned()],
        ..Default::default()
    };
    let contacts = vec![card];
    let id = pair
        .say(Asked::Contacts(v1::ContactsContent { contacts }))
        .await;
    let seen = json!({"id": id, "name": "Ann"});
    let seen = pair.other.client.until_content("contact", seen).await;
    let vcard = seen["vcard"].as_str().unwrap().to_owned();
    assert!(vcard.contains("waid=15550009999"), "{vcard}");
    match pair
        .hear("contact", json!({"name": "Ann", "vcard": vcard}))
        .await
        .1
    {
        Content::Contacts(contacts) => {
            assert_eq!(contacts.contacts[0].phone_numbers, ["15550009999"]);
        }
        other => panic!("{other:?}"),
    }
    pair.leave().await;
}

async fn reactions_edits_and_deletions(library: Library) {
    let Some(mut pair) = Pair::on(library).await else {
        return;
    };
    let theirs = pair.written("hello").await;
    for emoji in ["👍", ""] {
        pair.say(Asked::Reaction(v1::ReactionContent {
            message_id: theirs.clone(),
            emoji: emoji.to_owned(),
            ..Default::default()
        }))
        .await;
        let seen = json!({"about": theirs, "emoji": emoji});
        pair.other.client.until_content("reaction", seen).await;
    }
    let ours = pair.say(text("hello yourself")).await;
    pair.other.client.until_text("hello yourself").await;
    for emoji in ["❤️", ""] {
        let reaction = json!({"id": ours, "emoji": emoji});
        match pair.hear("reaction", reaction).await.1 {
            Content::Reaction(reaction) => {
                assert_eq!(
                    (reaction.message_id, &*reaction.emoji),
                    (ours.clone(), emoji)
                );
            }
            other => panic!("{other:?}"),
        }
    }

    let edit = v1::EditMessageRequest {
        instance: "one".to_owned(),
        message_id: ours.clone(),
        text: "hello again".to_owned(),
        ..Default::default()
    };
    pair.api.messages().edit_message(edit).await.unwrap();
    let seen = json!({"about": ours, "text": "hello again"});
    pair.other.client.until_content("edit", seen).await;
    let revoke = v1::RevokeMessageRequest {
        instance: "one".to_owned(),
        message_id: ours.clone(),
        ..Default::default()
    };
    pair.api.messages().revoke_message(revoke).await.unwrap();
    let seen = json!({"about": ours});
    pair.other.client.until_content("revoke", seen).await;

    let to = pair.instance.phone_number.clone();
    let edit = json!({"id": theirs, "text": "hello, once more"});
    pair.other.client.say(&to, "edit", edit).await;
    let updated = pair
        .watcher
        .once("message.updated", |event| match &event.payload {
            Some(Payload::MessageUpdated(one)) if one.message_id == theirs => Some(one.clone()),
            _ => None,
        })
        .await;
    match updated.content.unwrap().content.unwrap() {
        Content::Text(text) => assert_eq!(text.text, "hello, once more"),
        other => panic!("{other:?}"),
    }
    pair.other
        .client
        .say(&to, "revoke", json!({"id": theirs}))
        .await;
    let deleted = pair
        .watcher
        .once("message.deleted", |event| match &event.payload {
            Some(Payload::MessageDeleted(one)) if one.message_id == theirs => Some(one.clone()),
            _ => None,
        })
        .await;
    assert_eq!(deleted.actor.unwrap().phone_number, pair.other.number);
    pair.leave().await;
}

async fn polls(library: Library) {
    let Some(mut pair) = Pair::on(library).await else {
        return;
    };
    let options = ["yes", "no"].map(|name| v1::PollOption {
        name: name.to_owned(),
        ..Default::default()
    });
    let ours = pair
        .say(Asked::Poll(v1::PollContent {
            question: "Tea?".to_owned(),
            options: options.to_vec(),
            selectable_count: 1,
            ..Default::default()
        }))
        .await;
    let seen = json!({"id": ours, "question": "Tea?", "options": ["yes", "no"]});
    pair.other.client.until_content("poll", seen).await;
    // Baileys has no way to vote.
    if library == Library::Whatsmeow {
        let vote = json!({"id": ours, "options": ["no"]});
        match pair.hear("vote", vote).await.1 {
            Content::PollVote(vote) => {
                assert_eq!(vote.poll_message_id, ours);
                assert_eq!(names(&vote.options), ["no"]);
            }
            other => panic!("{other:?}"),
        }
    }

    let asked = json!({"question": "Milk?", "options": ["a lot", "none"]});
    let (theirs, poll) = pair.hear("poll", asked).await;
    match poll {
        Content::Poll(poll) => {
            assert_eq!(poll.question, "Milk?");
            assert_eq!(names(&poll.options), ["a lot", "none"]);
        }
        other => panic!("{other:?}"),
    }
    for options in [vec!["none".to_owned()], Vec::new()] {
        let vote = v1::VotePollRequest {
            instance: "one".to_owned(),
            message_id: theirs.clone(),
            options: options.clone(),
            ..Default::default()
        };
        pair.api.messages().vote_poll(vote).await.unwrap();
        let seen = pair
            .other
            .client
            .until_content("vote", json!({"about": theirs}));
        let seen = seen.await["options"].clone();
        // Go says nothing for an empty list.
        let seen: Vec<String> = serde_json::from_value(seen).unwrap_or_default();
        assert_eq!(seen, options);
    }
    pair.leave().await;
}

async fn money(library: Library) {
    let Some(mut pair) = Pair::on(library).await else {
        return;
    };
    let to = pair.instance.phone_number.clone();
    let settled = |wanted: v1::PaymentState| {
        move |event: &v1::Event| {
            let payment = match event.payload.clone()? {
                Payload::PaymentDeclined(one) => one.payment?,
                Payload::PaymentCancelled(one) => one.payment?,
                _ => return None,
            };
            (payment.state() == wanted).then_some(payment.id)
        }
    };
    let ours = pair.ask_for_money().await;
    let seen = json!({
        "id": ours, "currency": "BRL", "thousandths": 10_500, "note": "for tea",
        "value": 1_050, "divisor": 100,
    });
    let seen = pair.other.client.until_content("payment_request", seen);
    seen.await;
    let decline = json!({"id": ours});
    pair.other.client.say(&to, "decline_payment", decline).await;
    let declined = settled(v1::PaymentState::Declined);
    let declined = pair.watcher.once("payment.declined", declined).await;
    assert_eq!(declined, ours);

    let ask = json!({
        "currency": "JPY", "thousandths": 7_000, "note": "for cake", "payer": to,
    });
    let (theirs, asked) = pair.hear("payment_request", ask.clone()).await;
    match asked {
        Content::PaymentRequest(asked) => {
            let amount = asked.amount.unwrap();
            assert_eq!((&*amount.currency, amount.minor_units), ("JPY", 7));
            assert_eq!(asked.note, "for cake");
            assert_eq!(asked.payer.unwrap().phone_number, to);
        }
        other => panic!("{other:?}"),
    }
    let decline = v1::DeclinePaymentRequest {
        instance: "one".to_owned(),
        payment_id: theirs.clone(),
        ..Default::default()
    };
    let declined = pair.api.payments().decline_payment(decline).await;
    assert_eq!(
        declined.unwrap().into_inner().payment.unwrap().state(),
        v1::PaymentState::Declined
    );
    let seen = json!({"about": theirs});
    pair.other
        .client
        .until_content("decline_payment", seen)
        .await;

    let (theirs, _) = pair.hear("payment_request", ask).await;
    let cancel = json!({"id": theirs});
    pair.other.client.say(&to, "cancel_payment", cancel).await;
    let cancelled = settled(v1::PaymentState::Cancelled);
    let cancelled = pair.watcher.once("payment.cancelled", cancelled).await;
    assert_eq!(cancelled, theirs);
    let ours = pair.ask_for_money().await;
    let cancel = v1::CancelPaymentRequest {
        instance: "one".to_owned(),
        payment_id: ours.clone(),
        ..Default::default()
    };
    pair.api.payments().cancel_payment(cancel).await.unwrap();
    let seen = json!({"about": ours});
    pair.other
        .client
        .until_content("cancel_payment", seen)
        .await;
    pair.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_and_wagate_ask_for_money() {
    money(Library::Baileys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_and_wagate_ask_for_money() {
    money(Library::Whatsmeow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_and_wagate_share_places_and_cards() {
    places_and_cards(Library::Baileys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_and_wagate_share_places_and_cards() {
    places_and_cards(Library::Whatsmeow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_and_wagate_react_edit_and_delete() {
    reactions_edits_and_deletions(Library::Baileys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_and_wagate_react_edit_and_delete() {
    reactions_edits_and_deletions(Library::Whatsmeow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_and_wagate_ask_polls() {
    polls(Library::Baileys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_and_wagate_ask_polls() {
    polls(Library::Whatsmeow).await;
}

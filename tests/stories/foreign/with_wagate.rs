//! A group that wagate and somebody else's client run together: what either does, both and the network see alike.

use std::time::Duration;

use serde_json::json;
use wagate::proto::v1::{
    self, GroupParticipantChange as Change, GroupRole, ParticipantAction, ParticipantOutcome,
    event::Payload, message_content::Content, send_message_request,
};

use super::{Companion, named, number};
use crate::support::{
    Api, Library, Stage, Watcher,
    groups::{id, members, outcomes},
    within,
};

/// How often it is looked whether wagate has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The instance as an admin of the group, and the client beside it.
struct Pair {
    stage: Stage,
    api: Api,
    watcher: Watcher,
    instance: v1::Instance,
    other: Companion,
    group: String,
}

impl Pair {
    /// The network, wagate and the client say the same of the group.
    async fn agreed(&mut self) {
        let network = self.stage.network.group(id(&self.group)).unwrap();
        let mut wanted: Vec<_> = network
            .members
            .iter()
            .map(|(number, member)| {
                let admin = member.rank != wagate::sandbox::Rank::Member;
                (number.to_string(), admin)
            })
            .collect();
        wanted.sort();
        let description = network.description.map(|known| known.text);
        let description = description.unwrap_or_default();
        // Changes close upon one another are looked at once more when it is quiet.
        let known = within("wagate's view of the group", async {
            loop {
                let known = self.api.group("one", &self.group).await.unwrap();
                if members(&known) == wanted
                    && known.subject == network.subject.text
                    && known.description == description
                    && (known.announce, known.locked) == (network.announce, network.locked)
                {
                    return known;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
        .await;
        let shown = json!({"group": self.group});
        let shown = self.other.client.act("show", shown).await.unwrap();
        assert_eq!(shown["subject"], known.subject);
        assert_eq!(shown["description"], known.description);
        assert_eq!(shown["announce"], known.announce);
        assert_eq!(shown["locked"], known.locked);
        let mut members: Vec<_> = shown["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let number = one["number"].as_str().unwrap().to_owned();
                (number, one["rank"] != "member")
            })
            .collect();
        members.sort();
        assert_eq!(members, wanted);
    }

    /// The client does something that wagate hears of as a change of this field.
    async fn client_changes(&mut self, what: &str, mut how: serde_json::Value, field: &str) {
        how["group"] = self.group.clone().into();
        self.other.client.act(what, how).await.unwrap();
        let (instance, by) = (&self.instance.id, &self.other.number);
        self.watcher
            .once(&format!("a change of {field}"), |event| {
                let Some(Payload::GroupUpdated(told)) = &event.payload else {
                    return None;
                };
                let theirs = told.actor.as_ref()?.phone_number == *by;
                let changed = told.changed_fields.iter().any(|one| one == field);
                (event.instance == *instance && theirs && changed).then_some(())
            })
            .await;
        self.agreed().await;
    }

    /// The client changes a member, and wagate hears of it.
    async fn client_members(&mut self, change: &str, told: Change, whom: wagate::sandbox::Number) {
        let how = json!({"group": self.group, "change": change, "members": [whom.to_string()]});
        self.other.client.act("members", how).await.unwrap();
        let heard = self
            .watcher
            .until_members(&self.instance.id, told, whom)
            .await;
        assert_eq!(
            heard.actor.unwrap().phone_number,
            self.other.number,
            "{change}"
        );
        self.agreed().await;
    }

    /// Texts both ways; wagate answers with a mention and a quote, and so does the client.
    async fn talk(&mut self, when: &str) {
        let question = format!("{when}: who comes?");
        let asked = self.other.client.send(&self.group, &question).await;
        let received = self
            .watcher
            .until_received(&self.instance.id, &question)
            .await;
        assert_eq!(received.id, asked);
        let sender = received.sender.as_ref().unwrap();
        assert_eq!(sender.phone_number, self.other.number);
        assert!(!sender.lid.is_empty());
        let chat = received.chat.as_ref().unwrap();
        assert_eq!(
            (&*chat.id, chat.kind()),
            (&*self.group, v1::ChatKind::Group)
        );

        let request = v1::SendMessageRequest {
            instance: "one".to_owned(),
            recipient: self.group.clone(),
            content: Some(send_message_request::Content::Text(v1::TextContent {
                text: format!("{when}: you do, @{}", self.other.number),
                link_preview: None,
            })),
            quoted_message_id: asked.clone(),
            mentions: Some(v1::MentionOptions {
                mentioned: vec![self.other.number.clone()],
                ..Default::default()
            }),
            ..Default::default()
        };
        let answer = self.api.messages().send_message(request).await.unwrap();
        let answer = answer.into_inner().message.unwrap();
        let begins = format!("{when}: you do");
        let heard = self
            .other
            .client
            .until("message", |event| {
                let text = event["text"].as_str();
                text.is_some_and(|text| text.starts_with(&begins))
            })
            .await;
        assert_eq!(heard["id"], answer.id);
        assert_eq!(heard["quotes"], asked);
        let own = self.stage.network.phone(self.other.owner.number).unwrap();
        assert_eq!(heard["mentions"], json!([own.lid.jid().to_string()]));

        let text = format!("{when}: so do you");
        let me = self.instance_lid();
        let quotes = Some(answer.id.as_str());
        self.other
            .client
            .send_answering(&self.group, &text, &[me], quotes)
            .await;
        let received = self.watcher.until_received(&self.instance.id, &text).await;
        let quoted = received.quoted.unwrap();
        assert_eq!(quoted.id, answer.id);
        let mentioned = received.mentions.unwrap().parties;
        assert_eq!(mentioned.len(), 1);
        assert_eq!(mentioned[0].phone_number, self.instance.phone_number);
        let Some(Content::Text(said)) = received.content.unwrap().content else {
            panic!("no text");
        };
        assert_eq!(said.text, text);
    }

    fn instance_lid(&self) -> String {
        let number = self.instance.phone_number.parse().unwrap();
        let phone = self.stage.network.phone(number).unwrap();
        phone.lid.jid().to_string()
    }
}

async fn wagate_and(library: Library) {
    let Some(program) = library.install().await else {
        return;
    };
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let other = Companion::paired(&stage, program, false).await;
    let dora = stage.phone_with(named("Dora", false)).await;
    let emil = stage.phone_with(named("Emil", true)).await;
    let watcher = Watcher::from_earliest(&api).await;

    // wagate creates, and the client is in it.
    let members = [other.owner.number, dora.number];
    let group = api.create_group("one", "Tea", &members).await.id;
    let mut pair = Pair {
        stage,
        api,
        watcher,
        instance,
        other,
        group,
    };
    let told = pair.other.client.until_change(&pair.group, "create").await;
    assert_eq!(told["by"], owner.number.to_string());
    pair.agreed().await;
    pair.talk("created").await;

    // wagate changes it; the client hears who did what.
    let change = v1::UpdateGroupRequest {
        subject: "Tea & cake".to_owned(),
        description: "At five".to_owned(),
        ..Default::default()
    };
    let fields = ["subject", "description"];
    let (api, jid) = (pair.api.clone(), pair.group.clone());
    api.update_group("one", &jid, &fields, change)
        .await
        .unwrap();
    for (what, text) in [("subject", "Tea & cake"), ("description", "At five")] {
        let told = pair.other.client.until_change(&jid, what).await;
        assert_eq!(told["text"], text);
        assert_eq!(told["by"], owner.number.to_string());
    }
    pair.agreed().await;

    // The client becomes an admin and changes it in turn.
    let client = [pair.other.owner.number];
    for (action, change) in [
        (ParticipantAction::Promote, "promote"),
        (ParticipantAction::Demote, "demote"),
        (ParticipantAction::Promote, "promote"),
    ] {
        let results = api.participants("one", &jid, action, &client).await;
        assert_eq!(outcomes(&results.unwrap()), [ParticipantOutcome::Done]);
        let told = pair.other.client.until_change(&jid, change).await;
        assert_eq!(told["members"], json!([pair.other.number]));
        pair.agreed().await;
    }
    pair.client_changes("subject", json!({"text": "Coffee"}), "subject")
        .await;
    pair.client_changes("description", json!({"text": "At six"}), "description")
        .await;
    pair.client_changes("announce", json!({"on": true}), "announce")
        .await;
    pair.talk("only admins").await;
    pair.client_changes("announce", json!({"on": false}), "announce")
        .await;
    pair.client_changes("locked", json!({"on": true}), "locked")
        .await;
    pair.client_changes("picture", json!({"jpeg": "/9j/4AAQSkZJRg=="}), "picture_id")
        .await;
    for (change, told) in [
        ("add", Change::Add),
        ("promote", Change::Promote),
        ("demote", Change::Demote),
        ("remove", Change::Remove),
    ] {
        pair.client_members(change, told, emil.number).await;
    }

    // Whoever comes by a link, and whoever leaves, either side tells alike.
    let link = api.invite_link("one", &jid).await.unwrap();
    let leave = json!({"group": jid});
    pair.other.client.act("leave", leave).await.unwrap();
    pair.watcher
        .until_members(&pair.instance.id, Change::Leave, client[0])
        .await;
    let code = link.rsplit('/').next().unwrap().to_owned();
    let joined = pair.other.client.act("join", json!({"code": code})).await;
    assert_eq!(joined.unwrap()["group"], jid);
    pair.watcher
        .until_members(&pair.instance.id, Change::Join, client[0])
        .await;
    pair.agreed().await;
    pair.talk("back by a link").await;

    // The client is given the group, and wagate comes back by its link.
    let promote = ParticipantAction::Promote;
    api.participants("one", &jid, promote, &client)
        .await
        .unwrap();
    pair.other.client.until_change(&jid, "promote").await;
    api.leave("one", &jid).await.unwrap();
    let told = pair.other.client.until("group", |event| {
        event["what"] == "remove" && event["members"] == json!([owner.number.to_string()])
    });
    assert_eq!(told.await["by"], owner.number.to_string());
    let invite = json!({"group": jid, "reset": true});
    let fresh = pair.other.client.act("invite", invite).await.unwrap();
    let spent = api.join("one", &link).await.unwrap_err();
    assert_eq!(crate::support::info(&spent), "INVITE_REVOKED");
    let fresh = fresh["code"].as_str().unwrap().to_owned();
    let joined = within("the way back", api.join("one", &fresh)).await;
    let joined = joined.unwrap().group.unwrap();
    assert_eq!((&*joined.id, joined.own_role()), (&*jid, GroupRole::Member));
    pair.agreed().await;
    pair.talk("the other way round").await;

    // A phone hears both.
    let text = "from wagate";
    api.send("one", &jid, text).await.unwrap();
    assert_eq!(pair.other.client.until_text(text).await, number(&owner));
    dora.until_text(text).await;
    pair.other.client.stop().await;
    pair.stage.network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_and_wagate_run_a_group() {
    wagate_and(Library::Baileys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_and_wagate_run_a_group() {
    wagate_and(Library::Whatsmeow).await;
}

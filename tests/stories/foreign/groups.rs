//! Groups that Baileys and whatsmeow run, each as owner, admin and member, with phones among them: what one does,
//! the other and the network see alike.

use serde_json::{Value, json};
use wagate::sandbox::{
    GroupId, GroupSetting, GroupText, InboxMessage, MemberChange, NewGroup, Rank, SandboxError,
};

use super::{Companion, named, number};
use crate::support::{Library, Stage, TestPhone, within};

/// Two clients and the group they are in.
struct Circle {
    stage: Stage,
    owner: Companion,
    other: Companion,
    group: String,
    id: GroupId,
}

impl Circle {
    /// What both clients and the network say of the group, which is the same.
    async fn agreed(&mut self) -> Value {
        let known = self.stage.network.group(self.id).unwrap();
        let members: Vec<Value> = known
            .members
            .iter()
            .map(|(number, member)| {
                let rank = match member.rank {
                    Rank::Owner => "superadmin",
                    Rank::Admin => "admin",
                    Rank::Member => "member",
                };
                json!({"number": number.to_string(), "rank": rank})
            })
            .collect();
        let network = json!({
            "subject": known.subject.text,
            "description": known.description.map(|known| known.text).unwrap_or_default(),
            "announce": known.announce,
            "locked": known.locked,
            "by_lid": known.lid_addressed,
            "members": members,
        });
        for client in [&mut self.owner, &mut self.other] {
            let mut shown = client
                .client
                .act("show", json!({"group": self.group}))
                .await
                .unwrap();
            let shown = shown.as_object_mut().unwrap();
            shown.retain(|key, _| key != "event" && key != "do");
            assert_eq!(Value::Object(shown.clone()), network);
        }
        network
    }

    /// The owner does something, and both hear of it, the owner included.
    async fn owner_does(&mut self, what: &str, how: Value, heard: &str) -> Value {
        let by = self.owner.number.clone();
        let mut how = how;
        how["group"] = self.group.clone().into();
        self.owner.client.act(what, how).await.unwrap();
        let mut last = Value::Null;
        for client in [&mut self.owner, &mut self.other] {
            last = client.client.until_change(&self.group, heard).await;
            assert_eq!(last["by"], by, "{heard}");
        }
        last
    }
}

fn in_group(message: &InboxMessage, id: GroupId) {
    assert_eq!(message.group, Some(id));
}

async fn everybody_reads(circle: &mut Circle, phones: &[&TestPhone], when: &str) {
    let group = circle.group.clone();
    let text = format!("{when}: the owner");
    let sent = circle.owner.client.send(&group, &text).await;
    assert_eq!(
        circle.other.client.until_text(&text).await,
        number(&circle.owner.owner)
    );
    circle.owner.client.until_delivered(&sent).await;
    for phone in phones
        .iter()
        .copied()
        .chain([&circle.owner.owner, &circle.other.owner])
    {
        let message = phone.until_text(&text).await;
        assert_eq!(message.id, sent);
        in_group(&message, circle.id);
    }
    let text = format!("{when}: the other");
    circle.other.client.send(&group, &text).await;
    assert_eq!(
        circle.owner.client.until_text(&text).await,
        number(&circle.other.owner)
    );
    for phone in phones {
        in_group(&phone.until_text(&text).await, circle.id);
        let text = format!("{when}: phone {}", phone.number);
        let network = &circle.stage.network;
        let sent = network.send_group_text(phone.number, circle.id, text.as_str());
        within("a phone's text", sent).await.unwrap();
        for client in [&mut circle.owner, &mut circle.other] {
            assert_eq!(client.client.until_text(&text).await, number(phone));
        }
    }
}

async fn clients_run_a_group(first: Library, second: Library) {
    let (Some(one), Some(two)) = (first.install().await, second.install().await) else {
        return;
    };
    let stage = Stage::new().await;
    let mut owner = Companion::paired(&stage, one, false).await;
    let mut other = Companion::paired(&stage, two, false).await;
    let (dora, emil) = (
        stage.phone_with(named("Dora", false)).await,
        stage.phone_with(named("Emil", false)).await,
    );

    // Created by a client, with a phone and a client in it.
    let members = [dora.number.to_string(), other.number.clone()];
    let created = json!({"subject": "Tea", "members": members});
    let created = owner.client.act("create", created).await.unwrap();
    let group = created["group"].as_str().unwrap().to_owned();
    for client in [&mut owner, &mut other] {
        let told = client.client.until_change(&group, "create").await;
        assert_eq!(
            (told["by"].as_str(), told["text"].as_str()),
            (Some(&*owner_number(&stage, &group)), Some("Tea"))
        );
    }
    let id = group.parse().unwrap();
    let mut circle = Circle {
        stage,
        owner,
        other,
        group,
        id,
    };
    circle.agreed().await;
    everybody_reads(&mut circle, &[&dora], "created").await;

    // Who comes later reads what comes later.
    let whom = json!([emil.number.to_string()]);
    let add = json!({"change": "add", "members": whom});
    let heard = circle.owner_does("members", add.clone(), "add").await;
    assert_eq!(heard["members"], whom);
    circle.agreed().await;
    everybody_reads(&mut circle, &[&dora, &emil], "with Emil").await;
    let again = json!({"group": circle.group, "change": "add", "members": whom});
    let again = circle.owner.client.act("members", again).await.unwrap();
    assert_eq!(again["outcomes"], json!([409]));

    // A member asks in vain for what admins do, until it is one.
    let other_number = json!([circle.other.number.clone()]);
    let silence = json!({"group": circle.group, "on": true});
    let refused = circle.other.client.act("announce", silence.clone()).await;
    assert_eq!(refused.unwrap_err(), 403);
    let promote = json!({"change": "promote", "members": other_number});
    circle.owner_does("members", promote, "promote").await;
    circle.agreed().await;
    circle.other.client.act("announce", silence).await.unwrap();
    for client in [&mut circle.owner, &mut circle.other] {
        let told = client.client.until_change(&circle.group, "announce").await;
        assert_eq!(told["on"], true);
    }
    let network = circle.stage.network.clone();
    let silenced = network.send_group_text(dora.number, id, "may I?").await;
    assert!(matches!(
        silenced,
        Err(SandboxError::Denied { code: 405, .. })
    ));
    circle.agreed().await;
    circle
        .owner_does("announce", json!({"on": false}), "announce")
        .await;

    // Words and pictures.
    circle
        .owner_does("subject", json!({"text": "Tea & cake"}), "subject")
        .await;
    for text in ["At five", "At six", ""] {
        let told = circle
            .owner_does("description", json!({"text": text}), "description")
            .await;
        assert_eq!(told["text"], text);
        assert_eq!(circle.agreed().await["description"], text);
    }
    circle
        .owner_does("locked", json!({"on": true}), "locked")
        .await;
    let jpeg = json!({"group": circle.group, "jpeg": "/9j/4AAQSkZJRg=="});
    circle.owner.client.act("picture", jpeg).await.unwrap();
    assert!(network.group(id).unwrap().picture.is_some());
    let subject = GroupSetting::Subject("Mine".to_owned());
    let refused = network.set_group(dora.number, id, subject).await;
    assert!(matches!(
        refused,
        Err(SandboxError::Denied { code: 403, .. })
    ));

    // Phones change things, too.
    let (admin, whom_to) = (circle.owner.owner.number, [circle.other.owner.number]);
    let demote = network.change_members(admin, id, MemberChange::Demote, &whom_to);
    assert_eq!(demote.await.unwrap()[0].code, 200);
    for client in [&mut circle.owner, &mut circle.other] {
        let told = client.client.until_change(&circle.group, "demote").await;
        assert_eq!(told["members"], other_number);
    }
    circle.agreed().await;

    // Mentions and quotes as they were sent.
    let lid = network
        .phone(circle.owner.owner.number)
        .unwrap()
        .lid
        .jid()
        .to_string();
    let asked = network
        .send_group_text(dora.number, id, "who comes?")
        .await
        .unwrap();
    circle.other.client.until_text("who comes?").await;
    circle.owner.client.until_text("who comes?").await;
    circle
        .other
        .client
        .send_answering(
            &circle.group,
            "you do",
            std::slice::from_ref(&lid),
            Some(&asked.id),
        )
        .await;
    let answer = circle
        .owner
        .client
        .until("message", |event| event["text"] == "you do")
        .await;
    assert_eq!(answer["mentions"], json!([lid]));
    assert_eq!(answer["quotes"], asked.id);
    let text = GroupText {
        mentions: vec![lid.clone()],
        quoted_id: Some(answer["id"].as_str().unwrap().to_owned()),
        ..GroupText::from("so do I")
    };
    dora.until_text("you do").await;
    network
        .send_group_text(dora.number, id, text)
        .await
        .unwrap();
    let answer_id = answer["id"].clone();
    let answer = circle
        .owner
        .client
        .until("message", |event| event["text"] == "so do I")
        .await;
    assert_eq!(
        (&answer["mentions"], &answer["quotes"]),
        (&json!([lid]), &answer_id)
    );

    // Who lacks a key asks for it, whichever side that is.
    let text = GroupText {
        withheld_from: vec![
            circle.owner.owner.companion(),
            circle.other.owner.companion(),
        ],
        ..GroupText::from("without a key")
    };
    network
        .send_group_text(dora.number, id, text)
        .await
        .unwrap();
    for client in [&mut circle.owner, &mut circle.other] {
        let author = client.client.until_text("without a key").await;
        assert_eq!(author, number(&dora));
    }
    for client in [&mut circle.owner, &mut circle.other] {
        let device = client.owner.companion();
        network
            .forget_sender_key(dora.number, id, device)
            .await
            .unwrap();
        let text = format!("a key is lost: {}", client.number);
        let sent = client.client.send(&circle.group, &text).await;
        assert_eq!(dora.until_text(&text).await.id, sent);
    }

    // Out by decision, in by invitation, out by will.
    circle
        .owner_does(
            "members",
            json!({"change": "remove", "members": whom}),
            "remove",
        )
        .await;
    let invite = json!({"group": circle.group, "reset": false});
    let code = circle.owner.client.act("invite", invite).await.unwrap()["code"].clone();
    let told = circle
        .owner_does("invite", json!({"reset": true}), "invite")
        .await;
    let fresh = told["text"].clone();
    assert_ne!(code, fresh);
    circle
        .other
        .client
        .act("leave", json!({"group": circle.group}))
        .await
        .unwrap();
    for client in [&mut circle.owner, &mut circle.other] {
        let told = client.client.until("group", |event| {
            event["what"] == "remove" && event["members"] == other_number
        });
        assert_eq!(told.await["by"], other_number[0]);
    }
    let gone = circle
        .other
        .client
        .act("show", json!({"group": circle.group}))
        .await;
    assert_eq!(gone.unwrap_err(), 403);
    let spent = circle.other.client.act("join", json!({"code": code})).await;
    assert_eq!(spent.unwrap_err(), 410);
    let joined = circle
        .other
        .client
        .act("join", json!({"code": fresh}))
        .await
        .unwrap();
    assert_eq!(joined["group"], circle.group);
    let told = circle.owner.client.until_change(&circle.group, "add").await;
    assert_eq!(
        (&told["by"], &told["members"]),
        (&other_number[0], &other_number)
    );
    circle.agreed().await;
    everybody_reads(&mut circle, &[&dora], "in the end").await;

    circle.owner.client.stop().await;
    circle.other.client.stop().await;
    circle.stage.network.shutdown().await;
}

fn owner_number(stage: &Stage, group: &str) -> String {
    let group = stage.network.group(group.parse().unwrap()).unwrap();
    group.creator.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_runs_a_group_with_whatsmeow_in_it() {
    clients_run_a_group(Library::Baileys, Library::Whatsmeow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_runs_a_group_with_baileys_in_it() {
    clients_run_a_group(Library::Whatsmeow, Library::Baileys).await;
}

/// Groups from before hidden identities.
#[tokio::test(flavor = "multi_thread")]
async fn clients_talk_in_a_group_by_number() {
    let (Some(baileys), Some(whatsmeow)) = (
        Library::Baileys.install().await,
        Library::Whatsmeow.install().await,
    ) else {
        return;
    };
    let stage = Stage::new().await;
    let owner = Companion::paired(&stage, baileys, false).await;
    let other = Companion::paired(&stage, whatsmeow, true).await;
    let dora = stage.phone_with(named("Dora", false)).await;
    let new = NewGroup {
        subject: "Tea".to_owned(),
        members: vec![owner.owner.number, other.owner.number],
        number_addressed: true,
    };
    let (id, _) = stage.network.create_group(dora.number, new).await.unwrap();
    let mut circle = Circle {
        stage,
        owner,
        other,
        group: id.jid().to_string(),
        id,
    };
    for client in [&mut circle.owner, &mut circle.other] {
        let told = client.client.until_change(&circle.group, "create").await;
        assert_eq!(told["by"], dora.number.to_string());
    }
    circle.agreed().await;
    everybody_reads(&mut circle, &[&dora], "by number").await;
    circle.owner.client.stop().await;
    circle.other.client.stop().await;
    circle.stage.network.shutdown().await;
}

//! Groups: talk in both address forms, changes and who hears of them.

use wacore::{stanza::groups::GroupNotificationAction as Action, types::events::GroupUpdate};
use whatsapp_rust::features::{
    GroupCreateOptions, GroupDescription, GroupParticipantOptions, GroupSubject, MemberAddMode,
    MembershipApprovalMode, PreviousDescription,
};

use super::*;

impl Gateway {
    /// The next change of a group that `wanted` picks.
    pub async fn group_update<T>(
        &self,
        what: &str,
        wanted: impl Fn(&GroupUpdate) -> Option<T>,
    ) -> T {
        let pick = |event: &Event| match event {
            Event::GroupUpdate(update) => wanted(update),
            _ => None,
        };
        self.events.next(what, pick).await
    }
}

pub fn new_group(subject: &str, members: &[Number], by_lid: bool) -> NewGroup {
    NewGroup {
        subject: subject.to_owned(),
        members: members.to_vec(),
        number_addressed: !by_lid,
    }
}

/// Ada, Bob and Eve.
pub async fn trio(sandbox: &Sandbox) -> (Number, Number, Number) {
    let (ada, bob) = (phone(sandbox, "Ada").await, phone(sandbox, "Bob").await);
    (ada, bob, phone(sandbox, "Eve").await)
}

/// A group called Tea that names its members by hidden identity.
pub async fn tea(sandbox: &Sandbox, owner: Number, members: &[Number]) -> GroupId {
    let new = new_group("Tea", members, true);
    sandbox.create_group(owner, new).await.unwrap().0
}

async fn talk(by_lid: bool) {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = (
        phone(&sandbox, "Ada").await,
        phone(&sandbox, "Bob").await,
        lid_phone(&sandbox, "Eve").await,
    );
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let (group, refused) = sandbox
        .create_group(bob, new_group("Tea", &[ada, eve], by_lid))
        .await
        .unwrap();
    assert!(refused.is_empty());
    let created = gateway
        .group_update("the new group", |update| match &update.action {
            Action::Create { .. } => Some(update.clone()),
            _ => None,
        })
        .await;
    assert_eq!(created.group_jid, group.jid());
    assert_eq!(created.is_lid_addressing_mode, by_lid);

    for round in 0..3 {
        let text = format!("hello {round}");
        let sent = sandbox
            .send_group_text(bob, group, text.as_str())
            .await
            .unwrap();
        let received = gateway.received(&text).await;
        assert_eq!(received.id, sent.id);
        assert_eq!(received.chat, group.jid());
        assert_eq!(received.sender.is_lid(), by_lid);
        let at_eve = seen(&sandbox, eve, |message| message.id == sent.id).await;
        assert_eq!((at_eve.group, at_eve.chat), (Some(group), bob));
        assert_eq!(at_eve.by_lid, by_lid);

        let text = format!("answer {round}");
        let id = gateway.send(group.jid(), &text).await;
        for reader in [ada, bob, eve] {
            let answer = seen(&sandbox, reader, |message| message.id == id).await;
            assert_eq!(answer.text.as_deref(), Some(text.as_str()));
            assert_eq!((answer.group, answer.sender), (Some(group), device));
            assert_eq!(answer.push_name, "Ada");
        }
        // Everybody confirms, by name.
        let mut readers = Vec::new();
        while readers.len() < 2 {
            let pick = |event: &Event| match event {
                Event::Receipt(receipt)
                    if receipt.message_ids.iter().any(|found| **found == *id) =>
                {
                    Some(receipt.source.sender.to_non_ad())
                }
                _ => None,
            };
            let reader = gateway.events.next("a delivery receipt", pick).await;
            readers.push(sandbox.resolve(&reader.to_string()).unwrap());
        }
        readers.sort();
        assert_eq!(readers, [bob, eve]);
    }
    until("nothing waits for the device", || {
        sandbox.phone(ada).unwrap().companions[0].queued == 0
    })
    .await;
    assert!(gateway.unexpected().is_empty());
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_talks_by_lid() {
    talk(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_talks_by_number() {
    talk(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_creates_and_runs_a_group() {
    let sandbox = sandbox().await;
    let (ada, bob, eve) = trio(&sandbox).await;
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let (other, _) = Gateway::paired(&sandbox, bob).await;
    let client = gateway.client();
    let groups = client.groups();
    let created = groups
        .create_group(
            GroupCreateOptions::new("Chess")
                .with_participant(GroupParticipantOptions::new(bob.jid())),
        )
        .await
        .unwrap()
        .metadata;
    let (group, jid) = (GroupId::of(&created.id).unwrap(), created.id.clone());
    assert_eq!(created.subject, "Chess");
    assert_eq!(created.participants.len(), 2);
    assert_eq!(sandbox.group(group).unwrap().rank(ada), Some(Rank::Owner));
    for gateway in [&gateway, &other] {
        gateway
            .group_update("the new group", |update| {
                matches!(update.action, Action::Create { .. }).then_some(())
            })
            .await;
    }
    // Each change is heard by both, with who did it.
    let lid = sandbox.phone(ada).unwrap().lid.jid();
    let heard = async |what: &str, wanted: &(dyn Fn(&Action) -> bool + Sync)| {
        for gateway in [&gateway, &other] {
            let update = gateway
                .group_update(what, |update| {
                    wanted(&update.action).then(|| update.clone())
                })
                .await;
            assert_eq!(update.participant.as_ref(), Some(&lid), "{what}");
            assert_eq!(update.participant_pn, Some(ada.jid()), "{what}");
        }
    };
    let subject = GroupSubject::new("Chess club").unwrap();
    groups.set_subject(jid.clone(), subject).await.unwrap();
    heard(
        "the subject",
        &|action| matches!(action, Action::Subject { subject, .. } if subject == "Chess club"),
    )
    .await;
    for text in [Some("Tuesdays"), Some("Wednesdays"), None] {
        let description = text.map(|text| GroupDescription::new(text).unwrap());
        groups
            .set_description(jid.clone(), description, PreviousDescription::Resolve)
            .await
            .unwrap();
        heard("the description", &|action| {
            matches!(action, Action::Description { description, .. } if description.as_deref() == text)
        })
        .await;
    }
    groups.set_announce(jid.clone(), true).await.unwrap();
    heard("announce", &|action| matches!(action, Action::Announce)).await;
    groups.set_announce(jid.clone(), false).await.unwrap();
    heard("no announce", &|action| {
        matches!(action, Action::NotAnnounce)
    })
    .await;
    groups.set_locked(jid.clone(), true).await.unwrap();
    heard("locked", &|action| matches!(action, Action::Locked { .. })).await;
    groups.set_ephemeral(jid.clone(), 86_400).await.unwrap();
    heard("the timer", &|action| {
        matches!(
            action,
            Action::Ephemeral {
                expiration: 86_400,
                ..
            }
        )
    })
    .await;
    groups
        .set_membership_approval(jid.clone(), MembershipApprovalMode::On)
        .await
        .unwrap();
    heard("approval", &|action| {
        matches!(action, Action::MembershipApprovalMode { enabled: true })
    })
    .await;
    groups
        .set_member_add_mode(&jid, MemberAddMode::AdminAdd)
        .await
        .unwrap();
    heard(
        "who adds",
        &|action| matches!(action, Action::MemberAddMode { mode } if mode == "admin_add"),
    )
    .await;

    let added = groups
        .add_participants(jid.clone(), &[eve.jid()])
        .await
        .unwrap();
    assert!(added[0].is_ok());
    assert_eq!(added[0].phone_number, Some(eve.jid()));
    heard("an addition", &|action| {
        matches!(action, Action::Add { participants, .. } if participants[0].phone_number == Some(eve.jid()))
    })
    .await;
    let again = groups
        .add_participants(jid.clone(), &[eve.jid()])
        .await
        .unwrap();
    assert_eq!(again[0].error.as_deref(), Some("409"));
    let unknown = Number::from(15_550_009_999).jid();
    let stranger = groups
        .add_participants(jid.clone(), &[unknown])
        .await
        .unwrap();
    assert_eq!(stranger[0].error.as_deref(), Some("404"));
    groups
        .promote_participants(jid.clone(), &[eve.jid()])
        .await
        .unwrap();
    heard("a promotion", &|action| {
        matches!(action, Action::Promote { .. })
    })
    .await;
    groups
        .demote_participants(jid.clone(), &[eve.jid()])
        .await
        .unwrap();
    heard("a demotion", &|action| {
        matches!(action, Action::Demote { .. })
    })
    .await;
    groups
        .remove_participants(jid.clone(), &[eve.jid()])
        .await
        .unwrap();
    heard("a removal", &|action| {
        matches!(action, Action::Remove { .. })
    })
    .await;
    assert_eq!(sandbox.group(group).unwrap().rank(eve), None);

    let known = groups.get_metadata(&jid).await.unwrap();
    assert_eq!(known.subject, "Chess club");
    assert!(known.is_locked && !known.is_announcement && known.membership_approval);
    assert_eq!(known.ephemeral.unwrap().expiration, Some(86_400));
    assert_eq!(known.participants.len(), 2);
    assert_eq!(groups.get_participating().await.unwrap().len(), 1);

    // The other one is no admin.
    let others = other.client();
    let refused = others.groups().set_announce(jid.clone(), true).await;
    assert!(refused.unwrap_err().to_string().contains("403"));
    others.groups().leave(jid.clone()).await.unwrap();
    for gateway in [&gateway, &other] {
        gateway
            .group_update("a leaving", |update| {
                let self_removed = matches!(&update.action, Action::Remove { .. })
                    && update.participant_pn == Some(bob.jid());
                self_removed.then_some(())
            })
            .await;
    }
    let refused = others.groups().get_metadata(&jid).await;
    assert!(refused.unwrap_err().to_string().contains("403"));
    gateway.stop().await;
    other.stop().await;
    sandbox.shutdown().await;
}

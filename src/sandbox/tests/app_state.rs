//! What the devices of an account share: who comes first, who is told, and how newcomers catch up.

use wacore::appstate::patch_decode::WAPatchName;
use waproto::whatsapp::MessageKey;
use whatsapp_rust::sync_task::MajorSyncTask;

use super::*;
use crate::sandbox::app_state::{Collection, Place};

/// Starts with a chat of two phones: the first one's companions come later.
async fn chat(texts: usize) -> (Sandbox, Number, Chat, Vec<String>) {
    let sandbox = sandbox().await;
    let (ann, ben) = (phone(&sandbox, "Ann").await, phone(&sandbox, "Ben").await);
    let mut ids = Vec::new();
    for number in 0..texts {
        let sent = sandbox.send_text(ben, ann, &number.to_string()).await;
        ids.push(sent.unwrap().id);
    }
    for id in &ids {
        seen(&sandbox, ann, |message| message.id == *id).await;
    }
    (sandbox, ann, Chat::User(ben), ids)
}

impl Gateway {
    async fn star(&self, chat: Chat, id: &str, starred: bool) {
        let Chat::User(with) = chat else { panic!() };
        let client = self.client();
        let actions = client.chat_actions();
        loop {
            let done = match starred {
                true => actions.star_message(&with.jid(), None, id, false).await,
                false => actions.unstar_message(&with.jid(), None, id, false).await,
            };
            match done {
                Ok(()) => return,
                // It gives up when others were faster a few times.
                Err(error) => assert!(error.to_string().contains("conflicting"), "{error}"),
            }
        }
    }

    /// The next star of a message that it hears of.
    async fn starred(&self, id: &str) -> bool {
        self.shared("a star", |event| match event {
            Event::StarUpdate(star) if star.message_id == id => {
                Some(star.action.starred == Some(true))
            }
            _ => None,
        })
        .await
    }

    /// The next thing of this kind that another device did.
    async fn shared<T>(&self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let heard = self.events.next(what, |event| match event {
                Event::AppStateSyncFailed(failed) if !failed.skipped.is_empty() => Some(None),
                event => pick(event).map(Some),
            });
            if let Some(heard) = heard.await {
                return heard;
            }
            // It drops the news that come while it still reads an answer from before.
            let task = MajorSyncTask::AppStateSync {
                name: WAPatchName::RegularHigh,
                full_sync: false,
            };
            self.client().process_sync_task(task).await;
        }
    }
}

/// Waits until a phone shows exactly these messages as starred.
async fn until_starred(sandbox: &Sandbox, phone: Number, wanted: &[&str]) {
    let mut wanted: Vec<&str> = wanted.to_vec();
    wanted.sort_unstable();
    let search = async {
        loop {
            let marks = sandbox.message_marks(phone).await.unwrap();
            let starred = marks.iter().filter(|mark| mark.starred);
            let mut ids: Vec<&str> = starred.map(|mark| &*mark.message_id).collect();
            ids.sort_unstable();
            if ids == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_device_stars_all_of_the_account_show() {
    let (sandbox, ann, ben, ids) = chat(2).await;
    let (one, _) = Gateway::paired(&sandbox, ann).await;
    let (other, _) = Gateway::paired(&sandbox, ann).await;

    one.star(ben, &ids[0], true).await;
    assert!(other.starred(&ids[0]).await);
    until_starred(&sandbox, ann, &[&ids[0]]).await;

    sandbox.star_message(ann, ben, &ids[1], true).await.unwrap();
    assert!(one.starred(&ids[1]).await && other.starred(&ids[1]).await);
    other.star(ben, &ids[0], false).await;
    until_starred(&sandbox, ann, &[&ids[1]]).await;

    sandbox
        .delete_message_for_me(ann, ben, &ids[1], true)
        .await
        .unwrap();
    let deleted = |event: &Event| match event {
        Event::DeleteMessageForMeUpdate(one) => Some(one.clone()),
        _ => None,
    };
    for companion in [&one, &other] {
        let deletion = companion.shared("a deletion", deleted).await;
        assert_eq!(deletion.message_id, ids[1]);
        assert_eq!(deletion.action.delete_media, Some(true));
    }
    let marks = sandbox.message_marks(ann).await.unwrap();
    let mark = marks.iter().find(|mark| mark.message_id == ids[1]).unwrap();
    assert!(mark.deleted && mark.starred && !mark.from_me);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_race_lose_nothing() {
    let (sandbox, ann, ben, ids) = chat(12).await;
    let (one, _) = Gateway::paired(&sandbox, ann).await;
    let (other, _) = Gateway::paired(&sandbox, ann).await;
    let first = async {
        for id in &ids[..4] {
            one.star(ben, id, true).await;
        }
    };
    let second = async {
        for id in &ids[4..8] {
            other.star(ben, id, true).await;
        }
    };
    let third = async {
        for id in &ids[8..] {
            sandbox.star_message(ann, ben, id, true).await.unwrap();
        }
    };
    tokio::join!(first, second, third);
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    until_starred(&sandbox, ann, &all).await;
    for id in &all {
        assert!(one.starred(id).await && other.starred(id).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_long_past_is_learnt_from_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let network = sandbox_in(Some(folder.path())).await;
    let (ann, ben) = (phone(&network, "Ann").await, phone(&network, "Ben").await);
    let sent = network.send_text(ben, ann, "one").await.unwrap();
    let other = network.send_text(ben, ann, "two").await.unwrap();
    seen(&network, ann, |message| message.id == other.id).await;
    let chat = Chat::User(ben);
    for time in 0..230 {
        let starred = time % 2 == 0;
        let id = if time < 3 { &other.id } else { &sent.id };
        network.star_message(ann, chat, id, starred).await.unwrap();
    }
    until_starred(&network, ann, &[&other.id]).await;
    let listen = network.address();
    network.shutdown().await;
    let network = sandbox_at(listen, Some(folder.path())).await;
    // The phone forgot, and knows again. That a client does, too, is a story: this one wants real certificates.
    until_starred(&network, ann, &[&other.id]).await;
    network
        .star_message(ann, chat, &sent.id, true)
        .await
        .unwrap();
    until_starred(&network, ann, &[&sent.id, &other.id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_was_off_catches_up_and_a_new_installation_begins_anew() {
    let (sandbox, ann, ben, ids) = chat(1).await;
    let (one, _) = Gateway::paired(&sandbox, ann).await;
    sandbox.switch_phone(ann, false).await.unwrap();
    one.star(ben, &ids[0], true).await;
    assert!(sandbox.message_marks(ann).await.unwrap().is_empty());
    let off = sandbox.star_message(ann, ben, &ids[0], false).await;
    assert!(matches!(off, Err(SandboxError::NotConnected(_))));
    sandbox.switch_phone(ann, true).await.unwrap();
    until_starred(&sandbox, ann, &[&ids[0]]).await;

    sandbox.reinstall_phone(ann).await.unwrap();
    until_starred(&sandbox, ann, &[]).await;
    sandbox.star_message(ann, ben, &ids[0], true).await.unwrap();
    let (again, _) = Gateway::paired(&sandbox, ann).await;
    assert!(again.starred(&ids[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_believes_no_patch_that_is_not_sealed_with_its_key() {
    let (sandbox, ann, ben, ids) = chat(1).await;
    let phone = sandbox.network.find_phone(ann).unwrap();
    let key = MessageKey {
        remote_jid: Some("15550009999@s.whatsapp.net".to_owned()),
        id: Some(ids[0].clone()),
        ..Default::default()
    };
    phone.star(&key, true).await.unwrap();
    until_starred(&sandbox, ann, &[&ids[0]]).await;
    // Another account's key seals another account's patch.
    let Chat::User(ben) = ben else { panic!() };
    let stranger = sandbox.network.find_phone(ben).unwrap();
    stranger.star(&key, true).await.unwrap();
    {
        let mut state = sandbox.network.lock();
        let collection = Collection::RegularHigh;
        let place = |number| Place { number, collection };
        let foreign = state.app_state.remove(&place(ben)).unwrap();
        state.app_state.insert(place(ann), foreign);
    }
    sandbox
        .network
        .find_phone(ann)
        .unwrap()
        .forget_mirror()
        .await;
    let marks = sandbox.message_marks(ann).await;
    assert!(matches!(marks, Err(SandboxError::Crypto(_))), "{marks:?}");
}

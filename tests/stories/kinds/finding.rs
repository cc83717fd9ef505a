//! Messages are listed by chat and found by their words.

use super::*;
use crate::support::info;

async fn list(scene: &Scene, chat: &str, token: &str, actions: bool) -> v1::ListMessagesResponse {
    let request = v1::ListMessagesRequest {
        instance: "one".to_owned(),
        chat: chat.to_owned(),
        include_actions: actions,
        page_size: 2,
        page_token: token.to_owned(),
        starred_only: false,
    };
    let listed = scene.api.messages().list_messages(request).await.unwrap();
    listed.into_inner()
}

async fn search(scene: &Scene, query: &str, chat: &str) -> Vec<String> {
    let request = v1::SearchMessagesRequest {
        instance: "one".to_owned(),
        query: query.to_owned(),
        chat: chat.to_owned(),
        ..Default::default()
    };
    let found = scene.api.messages().search_messages(request).await.unwrap();
    let found = found.into_inner().messages.into_iter();
    found
        .map(|message| text_of(message.content.as_ref().unwrap()).to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_listed_page_by_page_by_either_name() {
    let mut scene = Scene::addressed(true).await;
    let own = scene.instance.phone_number.clone();
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        let id = scene.peer.send(&own, text).await;
        scene.received(&id).await;
        ids.push(id);
    }
    ids.push(scene.say(text("three")).await.id);
    let network = scene.stage.network.clone();
    let reaction = network
        .react(scene.peer.number, scene.own(), &ids[0], "👍")
        .await;
    let reaction = reaction.unwrap().id;
    let lid = scene.received(&reaction).await.sender.unwrap().lid;
    let other = scene.stage.phone("Other").await;
    let elsewhere = other.send(&own, "elsewhere").await;
    scene.received(&elsewhere).await;

    let number = scene.peer.number.to_string();
    for chat in [&number, &lid] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = list(&scene, chat, &token, false).await;
            assert!(page.messages.len() <= 2);
            listed.extend(page.messages.into_iter().map(|message| message.id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        listed.sort();
        let mut wanted = ids.clone();
        wanted.sort();
        assert_eq!(listed, wanted, "{chat}");
        let newest = list(&scene, chat, "", true).await.messages;
        assert!(
            newest.iter().any(|message| message.id == reaction),
            "{chat}"
        );
    }
    let request = v1::ListMessagesRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let refused = scene
        .api
        .messages()
        .list_messages(request)
        .await
        .unwrap_err();
    assert_eq!(info(&refused), "FIELD_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_found_also_after_an_edit_and_not_after_a_deletion() {
    let mut scene = Scene::new().await;
    let own = scene.instance.phone_number.clone();
    let id = scene.peer.send(&own, "Café at noon").await;
    scene.received(&id).await;
    scene.say(text("tea at noon")).await;
    let number = scene.peer.number.to_string();
    assert_eq!(search(&scene, "NOON", "").await.len(), 2);
    assert_eq!(search(&scene, "noon cafe", &number).await, ["Café at noon"]);
    assert_eq!(search(&scene, "caf", "").await, ["Café at noon"]);
    assert!(search(&scene, "noon", "15550009999").await.is_empty());
    assert!(search(&scene, "\"noon OR tea\"", "").await.is_empty());

    let network = scene.stage.network.clone();
    let (phone, chat) = (scene.peer.number, scene.own());
    let edit = network.edit(phone, chat, &id, "Bar at nine").await.unwrap();
    scene.updated(&edit.id).await;
    assert!(search(&scene, "cafe", "").await.is_empty());
    assert_eq!(search(&scene, "bar", "").await, ["Bar at nine"]);
    network.revoke(phone, chat, &id).await.unwrap();
    scene.deleted(&id).await;
    assert!(search(&scene, "bar", "").await.is_empty());

    let request = v1::SearchMessagesRequest {
        instance: "one".to_owned(),
        query: "\"*".to_owned(),
        ..Default::default()
    };
    let refused = scene.api.messages().search_messages(request).await;
    assert_eq!(info(&refused.unwrap_err()), "FIELD_INVALID");
}

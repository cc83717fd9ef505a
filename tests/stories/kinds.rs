//! Every kind of message, both ways, and what is done to messages: reactions, edits, deletions, votes.

mod business;
mod doing;
mod filled;
mod finding;
mod marks;
mod order;
mod payments;
mod polls;
mod saying;
mod waiting;

use futures::StreamExt as _;
use wagate::{
    proto::v1::{self, event::Payload, message_content::Content, send_message_request},
    sandbox::{Chat, InboxMessage, NewGroup, Number, PhoneOptions},
};
use waproto::{buffa::Message as _, whatsapp as wa};

use crate::support::{Api, Stage, TestPhone, Watcher, within};

/// An instance, its owner's phone and another one.
struct Scene {
    stage: Stage,
    api: Api,
    instance: v1::Instance,
    owner: TestPhone,
    peer: TestPhone,
    watcher: Watcher,
}

impl Scene {
    async fn new() -> Self {
        Self::addressed(false).await
    }

    async fn addressed(by_lid: bool) -> Self {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (instance, owner) = stage.open_instance(&api, "one").await;
        let peer = stage
            .phone_with(PhoneOptions {
                push_name: "Peer".to_owned(),
                lid_addressed: by_lid,
                ..Default::default()
            })
            .await;
        let watcher = Watcher::from_earliest(&api).await;
        Self {
            stage,
            api,
            instance,
            owner,
            peer,
            watcher,
        }
    }

    /// Says something to the peer.
    async fn say(&self, content: send_message_request::Content) -> v1::Message {
        let to = self.peer.number.to_string();
        self.say_to(&to, content).await.unwrap()
    }

    async fn say_to(
        &self,
        to: &str,
        content: send_message_request::Content,
    ) -> Result<v1::Message, tonic::Status> {
        let request = v1::SendMessageRequest {
            instance: "one".to_owned(),
            recipient: to.to_owned(),
            content: Some(content),
            ..Default::default()
        };
        let sent = within("SendMessage", self.api.messages().send_message(request)).await?;
        Ok(sent.into_inner().message.unwrap())
    }

    async fn stored(&self, id: &str) -> v1::Message {
        let request = v1::GetMessageRequest {
            instance: "one".to_owned(),
            message_id: id.to_owned(),
            ..Default::default()
        };
        let found = self.api.messages().get_message(request).await.unwrap();
        found.into_inner().message.unwrap()
    }

    /// The message as the instance received it.
    async fn received(&mut self, id: &str) -> v1::Message {
        self.watcher
            .once("a message", |event| match &event.payload {
                Some(Payload::MessageReceived(one)) => {
                    one.message.clone().filter(|one| one.id == id)
                }
                _ => None,
            })
            .await
    }

    /// What a message says now, by the change of this id.
    async fn updated(&mut self, edit_id: &str) -> v1::MessageUpdated {
        self.watcher
            .once("message.updated", |event| match &event.payload {
                Some(Payload::MessageUpdated(one)) if one.edit_id == edit_id => Some(one.clone()),
                _ => None,
            })
            .await
    }

    /// The deletion of a message.
    async fn deleted(&mut self, id: &str) -> v1::MessageDeleted {
        self.watcher
            .once("message.deleted", |event| match &event.payload {
                Some(Payload::MessageDeleted(one)) if one.message_id == id => Some(one.clone()),
                _ => None,
            })
            .await
    }

    /// The message as a phone has it.
    async fn seen(&self, phone: &TestPhone, id: &str) -> (InboxMessage, wa::Message) {
        let inbox = self.stage.network.inbox(phone.number, 0).unwrap();
        let mut inbox = Box::pin(inbox);
        let found = within("a message in an inbox", async {
            loop {
                let message = inbox.next().await.expect("the inbox stays open");
                if message.id == id {
                    return message;
                }
            }
        })
        .await;
        let message = wa::Message::decode_from_slice(&found.message).unwrap();
        (found, message)
    }

    fn own(&self) -> Chat {
        Chat::User(self.owner.number)
    }

    /// A group of the peer with the instance and others; answers with its JID too.
    async fn group(&mut self, by_lid: bool, others: &[Number]) -> (Chat, String) {
        let mut members = vec![self.owner.number];
        members.extend(others);
        let new = NewGroup {
            subject: "Tea".to_owned(),
            members,
            number_addressed: !by_lid,
        };
        let network = &self.stage.network;
        let (group, _) = network.create_group(self.peer.number, new).await.unwrap();
        let jid = group.jid().to_string();
        self.watcher
            .once("group.created", |event| match &event.payload {
                Some(Payload::GroupCreated(one)) => {
                    one.group.as_ref().filter(|one| one.id == jid).map(|_| ())
                }
                _ => None,
            })
            .await;
        (Chat::Group(group), jid)
    }
}

fn text(text: &str) -> send_message_request::Content {
    send_message_request::Content::Text(v1::TextContent {
        text: text.to_owned(),
        ..Default::default()
    })
}

fn content(message: &v1::Message) -> &Content {
    let content = message.content.as_ref().expect("it says something");
    content.content.as_ref().expect("it is of a kind")
}

fn text_of(content: &v1::MessageContent) -> &str {
    match content.content.as_ref() {
        Some(Content::Text(text)) => &text.text,
        other => panic!("{other:?}"),
    }
}

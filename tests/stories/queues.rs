//! Mailing lists: everybody gets one, whatever happens, and the log says how far it is.

mod deaths;
mod holding;
mod lists;

use wagate::{
    proto::v1::{
        self, CreateQueueRequest, QueueItem, QueueItemState, QueueMessage, QueuePacing,
        QueueRecipient, event::Payload, queue_message::Content,
    },
    sandbox::PhoneOptions,
};

use crate::support::{Api, Stage, TestPhone, Watcher};

/// A list of people that says a text, without a pace of its own.
pub fn list(instance: &str, text: &str, to: Vec<QueueRecipient>) -> CreateQueueRequest {
    let text = v1::TextContent {
        text: text.to_owned(),
        ..Default::default()
    };
    CreateQueueRequest {
        instance: instance.to_owned(),
        name: "news".to_owned(),
        recipients: to,
        message: Some(QueueMessage {
            content: Some(Content::Text(text)),
            ..Default::default()
        }),
        pacing: Some(QueuePacing {
            messages_per_minute: Some(0),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn to(recipient: impl ToString, name: &str) -> QueueRecipient {
    QueueRecipient {
        recipient: recipient.to_string(),
        variables: [("name".to_owned(), name.to_owned())].into(),
    }
}

/// So many phones that answer nothing.
pub async fn crowd(stage: &Stage, count: usize) -> Vec<TestPhone> {
    let mut phones = Vec::with_capacity(count);
    for _ in 0..count {
        let options = PhoneOptions {
            dormant: true,
            ..Default::default()
        };
        phones.push(stage.phone_with(options).await);
    }
    phones
}

impl Api {
    pub async fn create_queue(&self, request: CreateQueueRequest) -> v1::CreateQueueResponse {
        let created = self.queues().create_queue(request).await;
        created.unwrap().into_inner()
    }

    pub async fn queue(&self, instance: &str, queue_id: &str) -> v1::Queue {
        let request = v1::GetQueueRequest {
            instance: instance.to_owned(),
            queue_id: queue_id.to_owned(),
        };
        let found = self.queues().get_queue(request).await.unwrap();
        found.into_inner().queue.unwrap()
    }

    /// Every recipient of a list in a state.
    pub async fn queue_items(
        &self,
        instance: &str,
        queue_id: &str,
        state: QueueItemState,
    ) -> Vec<QueueItem> {
        let mut items = Vec::new();
        let mut request = v1::ListQueueItemsRequest {
            instance: instance.to_owned(),
            queue_id: queue_id.to_owned(),
            state: state.into(),
            page_size: 50,
            ..Default::default()
        };
        loop {
            let page = self.queues().list_queue_items(request.clone()).await;
            let page = page.unwrap().into_inner();
            items.extend(page.items);
            if page.next_page_token.is_empty() {
                return items;
            }
            request.page_token = page.next_page_token;
        }
    }

    pub async fn pause_queue(&self, instance: &str, queue_id: &str) -> v1::Queue {
        let request = v1::PauseQueueRequest {
            instance: instance.to_owned(),
            queue_id: queue_id.to_owned(),
            ..Default::default()
        };
        let paused = self.queues().pause_queue(request).await.unwrap();
        paused.into_inner().queue.unwrap()
    }

    pub async fn resume_queue(&self, instance: &str, queue_id: &str) -> v1::Queue {
        let request = v1::ResumeQueueRequest {
            instance: instance.to_owned(),
            queue_id: queue_id.to_owned(),
            ..Default::default()
        };
        let resumed = self.queues().resume_queue(request).await.unwrap();
        resumed.into_inner().queue.unwrap()
    }
}

impl Watcher {
    /// Waits until a list is done.
    pub async fn until_completed(&mut self, queue_id: &str) -> v1::Queue {
        self.once("send.completed", |event| match &event.payload {
            Some(Payload::SendCompleted(done)) => {
                done.queue.clone().filter(|queue| queue.id == queue_id)
            }
            _ => None,
        })
        .await
    }

    /// Waits until a list has come so far.
    pub async fn until_progress(&mut self, queue_id: &str, progress: u32) {
        self.once("send.progress", |event| match &event.payload {
            Some(Payload::SendProgress(one)) => {
                (one.queue_id == queue_id && one.progress >= progress).then_some(())
            }
            _ => None,
        })
        .await;
    }

    /// Every percent that a list was told to have come to.
    pub fn progress(&self, queue_id: &str) -> Vec<u32> {
        let told = self.seen.iter().filter_map(|event| match &event.payload {
            Some(Payload::SendProgress(one)) if one.queue_id == queue_id => Some(one.progress),
            _ => None,
        });
        told.collect()
    }

    /// The types of the events that are about lists, but for progress.
    pub fn queue_events(&self) -> Vec<&str> {
        let types = self.seen.iter().map(|event| event.r#type.as_str());
        let about = |one: &&str| one.starts_with("queue.") || one.starts_with("send.");
        types
            .filter(about)
            .filter(|one| *one != "send.progress")
            .collect()
    }
}

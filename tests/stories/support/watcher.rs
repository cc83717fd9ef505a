//! A subscriber with a memory.

use tonic::{Status, Streaming};
use wagate::proto::v1::{
    self, event::Payload, message_content::Content, subscribe_response::Frame,
};

use super::{Api, BUDGET, within};

/// Reads a stream frame by frame and checks what every stream promises.
pub struct Watcher {
    stream: Streaming<v1::SubscribeResponse>,
    waiting: std::collections::VecDeque<v1::Event>,
    delivered: u64,
    /// Cursor of the newest frame.
    pub cursor: String,
    /// Everything seen so far.
    pub seen: Vec<v1::Event>,
    /// What the stream said at its opening.
    pub opened: v1::StreamOpened,
}

impl Watcher {
    /// Everything of the log from its beginning.
    pub async fn from_earliest(api: &Api) -> Self {
        Self::open(
            api,
            v1::SubscribeRequest {
                start: Some(v1::subscribe_request::Start::Position(
                    v1::StartPosition::Earliest.into(),
                )),
                ..Default::default()
            },
        )
        .await
        .unwrap()
    }

    /// Everything after a cursor.
    pub async fn after(api: &Api, cursor: &str) -> Self {
        Self::open(
            api,
            v1::SubscribeRequest {
                start: Some(v1::subscribe_request::Start::AfterCursor(cursor.to_owned())),
                ..Default::default()
            },
        )
        .await
        .unwrap()
    }

    pub async fn open(api: &Api, request: v1::SubscribeRequest) -> Result<Self, Status> {
        let mut stream = within("Subscribe", api.events().subscribe(request))
            .await?
            .into_inner();
        let first = within("the first frame", stream.message())
            .await?
            .expect("a stream begins with a frame");
        let Some(Frame::Opened(opened)) = first.frame else {
            panic!("the first frame is {first:?}");
        };
        Ok(Self {
            stream,
            waiting: Default::default(),
            delivered: 0,
            cursor: first.cursor,
            seen: Vec::new(),
            opened,
        })
    }

    /// The next frame; `None` at a good end.
    pub async fn frame(&mut self) -> Result<Option<v1::SubscribeResponse>, Status> {
        let frame = within("a frame", self.stream.message()).await?;
        if let Some(frame) = &frame {
            assert!(!frame.cursor.is_empty(), "every frame has a cursor");
            self.cursor.clone_from(&frame.cursor);
            if let Some(Frame::Batch(batch)) = &frame.frame {
                assert_eq!(batch.delivery_sequence_first, self.delivered + 1);
                assert!(!batch.events.is_empty());
                self.delivered += batch.events.len() as u64;
            }
        }
        Ok(frame)
    }

    /// The next event; `None` at a good end.
    pub async fn event(&mut self) -> Result<Option<v1::Event>, Status> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.seen.push(event.clone());
                return Ok(Some(event));
            }
            match self.frame().await? {
                None => return Ok(None),
                Some(frame) => {
                    if let Some(Frame::Batch(batch)) = frame.frame {
                        self.waiting.extend(batch.events);
                    }
                }
            }
        }
    }

    /// Reads on until an event is the one.
    pub async fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&v1::Event) -> Option<T>,
    ) -> T {
        let found = tokio::time::timeout(BUDGET, async {
            loop {
                let event = match self.event().await {
                    Ok(Some(event)) => event,
                    Ok(None) => panic!("the stream ended before {what}"),
                    Err(status) => panic!("the stream failed before {what}: {status:?}"),
                };
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        })
        .await;
        match found {
            Ok(found) => found,
            Err(_) => panic!("waited too long for {what}; seen: {:#?}", self.told()),
        }
    }

    /// The same for what may have been seen already: two things that nothing puts in order.
    pub async fn once<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&v1::Event) -> Option<T>,
    ) -> T {
        match self.seen.iter().find_map(&mut wanted) {
            Some(found) => found,
            None => self.until(what, wanted).await,
        }
    }

    /// What was seen, a line each.
    fn told(&self) -> Vec<String> {
        let line = |event: &v1::Event| {
            let payload = event.payload.as_ref().map(|payload| format!("{payload:?}"));
            let payload: String = payload.unwrap_or_default().chars().take(300).collect();
            format!("{} {payload}", event.instance_number)
        };
        self.seen.iter().map(line).collect()
    }

    /// Reads on until the instance is in a state; returns why.
    pub async fn until_state(
        &mut self,
        instance: &str,
        state: v1::InstanceState,
    ) -> v1::ConnectionUpdated {
        self.until(&format!("{state:?}"), |event| match &event.payload {
            Some(Payload::ConnectionUpdated(update))
                if event.instance == instance && update.state() == state =>
            {
                Some(update.clone())
            }
            _ => None,
        })
        .await
    }

    /// Waits until a text has arrived at the instance.
    pub async fn until_received(&mut self, instance: &str, text: &str) -> v1::Message {
        self.once(&format!("the text {text:?}"), |event| {
            match &event.payload {
                Some(Payload::MessageReceived(received)) if event.instance == instance => {
                    let message = received.message.clone()?;
                    (text_of(&message) == Some(text)).then_some(message)
                }
                _ => None,
            }
        })
        .await
    }

    /// Waits until the status of a message has been this.
    pub async fn until_status(&mut self, message_id: &str, status: v1::MessageStatus) {
        self.once(&format!("{status:?}"), |event| match &event.payload {
            Some(Payload::MessageStatus(update))
                if update.message_id == message_id && update.status() == status =>
            {
                Some(())
            }
            _ => None,
        })
        .await
    }

    /// The texts that arrived at an instance so far, in order.
    pub fn received_texts(&self, instance: &str) -> Vec<String> {
        self.seen
            .iter()
            .filter(|event| event.instance == instance)
            .filter_map(|event| match &event.payload {
                Some(Payload::MessageReceived(received)) => {
                    text_of(received.message.as_ref()?).map(str::to_owned)
                }
                _ => None,
            })
            .collect()
    }
}

pub fn text_of(message: &v1::Message) -> Option<&str> {
    match message.content.as_ref()?.content.as_ref()? {
        Content::Text(text) => Some(&text.text),
        _ => None,
    }
}

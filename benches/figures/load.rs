//! Callers and subscribers: what this program does to the processes it measures.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use bytes::{Buf as _, Bytes};
use http::uri::PathAndQuery;
use prost::{
    Message as _,
    encoding::{DecodeContext, decode_key, decode_varint, skip_field},
};
use tonic::{
    Request, Streaming,
    client::Grpc,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use wagate::proto::v1::{
    self, SubscribeRequest, SubscribeResponse, event::Payload, message_content::Content,
    subscribe_request::Start, subscribe_response::Frame,
};

use super::{child, raw::Verbatim};

/// Where a server of ours is and how to be let in.
#[derive(Clone, Debug)]
pub struct Server {
    address: String,
    key: AsciiMetadataValue,
}

/// Nobody waits longer than this for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .with_context(|| format!("waited too long for {what}"))
}

/// Connects without a key.
pub async fn connect(address: &str) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect()
        .await?)
}

impl Server {
    /// As it told of itself when it was ready.
    pub fn of(ready: &serde_json::Value) -> anyhow::Result<Self> {
        Self::with_key(ready, child::text(ready, "key")?)
    }

    /// The same with a key known from before.
    pub fn with_key(ready: &serde_json::Value, key: &str) -> anyhow::Result<Self> {
        Ok(Self {
            address: child::text(ready, "address")?.to_owned(),
            key: format!("Bearer {key}").parse()?,
        })
    }

    /// A connection.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        connect(&self.address).await
    }

    /// A request that shows the key.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.key.clone());
        request
    }

    /// Opens a subscription and waits until the server says so.
    pub async fn subscribe(
        &self,
        channel: Channel,
        asked: SubscribeRequest,
    ) -> anyhow::Result<Streaming<Bytes>> {
        let request = self.request(Bytes::from(asked.encode_to_vec()));
        let mut stream = stream(channel, request, "/wagate.v1.EventService/Subscribe").await?;
        let frame = within("the first frame", stream.message()).await??;
        let frame = SubscribeResponse::decode(frame.context("no frame")?)?;
        match frame.frame {
            Some(Frame::Opened(_)) => Ok(stream),
            other => bail!("the first frame is {other:?}"),
        }
    }
}

/// Opens a stream of bytes.
pub async fn stream(
    channel: Channel,
    request: Request<Bytes>,
    path: &'static str,
) -> anyhow::Result<Streaming<Bytes>> {
    let mut client = Grpc::new(channel).max_decoding_message_size(64 << 20);
    client.ready().await?;
    let path = PathAndQuery::from_static(path);
    let response = client.server_streaming(request, path, Verbatim).await?;
    Ok(response.into_inner())
}

/// A subscription that begins with what comes next, of received messages only.
pub fn received_from_now() -> SubscribeRequest {
    SubscribeRequest {
        event_types: vec!["message.received".to_owned()],
        ..from(v1::StartPosition::Latest)
    }
}

/// A subscription to everything.
pub fn from(start: v1::StartPosition) -> SubscribeRequest {
    SubscribeRequest {
        start: Some(Start::Position(start.into())),
        batch: Some(v1::BatchOptions {
            max_events: 500,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// How many events a frame holds, found without decoding them.
fn events_in(mut frame: Bytes) -> anyhow::Result<usize> {
    const BATCH: u32 = 4;
    const EVENTS: u32 = 1;
    let mut count = 0;
    while frame.has_remaining() {
        let (field, wire) = decode_key(&mut frame)?;
        if field != BATCH {
            skip_field(wire, field, &mut frame, DecodeContext::default())?;
            continue;
        }
        let length = decode_varint(&mut frame)? as usize;
        let mut batch = frame.split_to(length);
        while batch.has_remaining() {
            let (field, wire) = decode_key(&mut batch)?;
            skip_field(wire, field, &mut batch, DecodeContext::default())?;
            count += usize::from(field == EVENTS);
        }
    }
    Ok(count)
}

/// Reads until so many events were there; says when the first and the last came.
pub async fn read_events(
    stream: &mut Streaming<Bytes>,
    count: usize,
) -> anyhow::Result<(Instant, Instant)> {
    let (first, last, _) = read_events_after(stream, 0, count).await?;
    Ok((first, last))
}

/// The same, without the first so many: says when the next of them and the last came, and how many
/// came after that next.
pub async fn read_events_after(
    stream: &mut Streaming<Bytes>,
    skipped: usize,
    count: usize,
) -> anyhow::Result<(Instant, Instant, usize)> {
    let (mut seen, mut first) = (0, None);
    while seen < count {
        let frame = within("events", stream.message()).await??;
        seen += events_in(frame.context("the stream has ended")?)?;
        if seen > skipped {
            first.get_or_insert_with(|| (Instant::now(), seen));
        }
    }
    let (first, before) = first.context("no event was wanted")?;
    Ok((first, Instant::now(), seen - before))
}

/// Reads so many items of a stream that has one event in each.
pub async fn read_items(stream: &mut Streaming<Bytes>, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        let item = within("items", stream.message()).await??;
        item.context("the stream has ended")?;
    }
    Ok(())
}

/// Reads so many events; says how long after it occurred each came, in microseconds, sorted.
pub async fn latencies(
    stream: &mut Streaming<Bytes>,
    count: usize,
    occurred: fn(&v1::Event) -> Option<SystemTime>,
) -> anyhow::Result<Vec<f64>> {
    let mut took = Vec::with_capacity(count);
    while took.len() < count {
        let frame = within("events", stream.message()).await??;
        let now = SystemTime::now();
        let frame = SubscribeResponse::decode(frame.context("the stream has ended")?)?;
        if let Some(Frame::Batch(batch)) = frame.frame {
            took.extend(
                batch
                    .events
                    .iter()
                    .filter_map(occurred)
                    .filter_map(|time| now.duration_since(time).ok())
                    .map(|took| took.as_secs_f64() * 1e6),
            );
        }
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// When an event says it occurred.
pub fn occur_time(event: &v1::Event) -> Option<SystemTime> {
    wagate::events::system_time(event.occur_time.as_ref()?)
}

/// When the text of a received message says it was sent.
pub fn told_time(event: &v1::Event) -> Option<SystemTime> {
    let Payload::MessageReceived(received) = event.payload.as_ref()? else {
        return None;
    };
    match received
        .message
        .as_ref()?
        .content
        .as_ref()?
        .content
        .as_ref()?
    {
        Content::Text(text) => time_of(&text.text),
        _ => None,
    }
}

/// The time in a text that [`text_of_now`] made.
pub fn time_of(text: &str) -> Option<SystemTime> {
    let nanos = text.parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_nanos(nanos))
}

/// A text that tells when it was written.
pub fn text_of_now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos().to_string()
}

/// Sends so many texts, so many at a time, from these instances to these numbers in turn; says how long
/// each took, in microseconds, sorted.
pub async fn send(
    server: &Server,
    instances: &[String],
    recipients: &[String],
    count: usize,
    at_once: usize,
) -> anyhow::Result<Vec<f64>> {
    let channels = {
        let mut channels = Vec::new();
        for _ in 0..4 {
            channels.push(server.connect().await?);
        }
        channels
    };
    let (instances, recipients): (Arc<[String]>, Arc<[String]>) =
        (instances.into(), recipients.into());
    let callers: Vec<_> = (0..at_once)
        .map(|caller| {
            let (server, channel) = (server.clone(), channels[caller % channels.len()].clone());
            let (instances, recipients) = (instances.clone(), recipients.clone());
            tokio::spawn(async move {
                let mut client = v1::message_service_client::MessageServiceClient::new(channel);
                let mut took = Vec::new();
                for turn in (caller..count).step_by(at_once) {
                    let request = v1::SendMessageRequest {
                        instance: instances[turn % instances.len()].clone(),
                        recipient: recipients[(turn / instances.len()) % recipients.len()].clone(),
                        content: Some(v1::send_message_request::Content::Text(v1::TextContent {
                            text: "a text of the usual length, give or take a few".to_owned(),
                            link_preview: None,
                        })),
                        ..Default::default()
                    };
                    let begun = Instant::now();
                    client.send_message(server.request(request)).await?;
                    took.push(begun.elapsed().as_secs_f64() * 1e6);
                }
                anyhow::Ok(took)
            })
        })
        .collect();
    let mut took = Vec::with_capacity(count);
    for caller in callers {
        took.extend(caller.await??);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

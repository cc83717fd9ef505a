//! A caller of the gateway that takes its death as a matter of course.

use std::time::Duration;

use tokio::sync::watch;
use tonic::{
    Code, Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use wagate::proto::v1::{
    self, event_service_client::EventServiceClient, instance_service_client::InstanceServiceClient,
    message_service_client::MessageServiceClient,
};

use crate::gateway::Door;

/// Shows the key on every call.
#[derive(Clone)]
pub struct Key(AsciiMetadataValue);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Connection = InterceptedService<Channel, Key>;

/// A connection to one life of the gateway.
#[derive(Clone)]
pub struct Api {
    connection: Connection,
}

impl Api {
    /// Dials when first used.
    pub fn new(door: &Door) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{}", door.address))?
            .connect_timeout(Duration::from_secs(5))
            .connect_lazy();
        let key = Key(format!("Bearer {}", door.key).parse()?);
        Ok(Self {
            connection: InterceptedService::new(channel, key),
        })
    }

    /// A connection to the gateway, once it serves.
    pub async fn ready(door: &mut watch::Receiver<Option<Door>>) -> anyhow::Result<Self> {
        let door = door.wait_for(Option::is_some).await?.clone();
        let door = door.ok_or_else(|| anyhow::anyhow!("wagate is gone"))?;
        Self::new(&door)
    }

    pub fn instances(&self) -> InstanceServiceClient<Connection> {
        InstanceServiceClient::new(self.connection.clone())
    }

    pub fn messages(&self) -> MessageServiceClient<Connection> {
        MessageServiceClient::new(self.connection.clone())
    }

    pub fn events(&self) -> EventServiceClient<Connection> {
        EventServiceClient::new(self.connection.clone())
    }

    /// Every event after a cursor, or all there are.
    pub async fn read_log(&self, after: Option<&str>) -> Result<(Vec<v1::Event>, String), Status> {
        use v1::list_events_request::Start;
        let mut events = Vec::new();
        let mut start = match after {
            Some(cursor) => Start::AfterCursor(cursor.to_owned()),
            None => Start::Position(v1::StartPosition::Earliest.into()),
        };
        loop {
            let request = v1::ListEventsRequest {
                start: Some(start),
                page_size: 500,
                ..Default::default()
            };
            let page = self.events().list_events(request).await?.into_inner();
            events.extend(page.events);
            if page.caught_up {
                return Ok((events, page.next_cursor));
            }
            start = Start::AfterCursor(page.next_cursor);
        }
    }
}

/// What a client would meet with a retry: the gateway is dead, dying, starting or logging in.
pub fn passes_by_itself(status: &Status) -> bool {
    match status.code() {
        // A refusal with a reason is the gateway's word; one without is the connection's.
        Code::Unavailable => true,
        Code::Unknown | Code::Cancelled | Code::Internal => {
            status.get_details_error_info().is_none()
        }
        _ => false,
    }
}

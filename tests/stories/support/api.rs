//! A caller of the gateway.

use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;
use wagate::proto::{
    sandbox_v1::sandbox_service_client::SandboxServiceClient,
    v1::{
        self, api_key_service_client::ApiKeyServiceClient, call_service_client::CallServiceClient,
        contact_service_client::ContactServiceClient, event_service_client::EventServiceClient,
        group_service_client::GroupServiceClient, instance_service_client::InstanceServiceClient,
        media_service_client::MediaServiceClient, message_service_client::MessageServiceClient,
        payment_service_client::PaymentServiceClient, queue_service_client::QueueServiceClient,
    },
};

/// Shows a key on every call.
#[derive(Clone)]
pub struct Key(Option<AsciiMetadataValue>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

type Connection = InterceptedService<Channel, Key>;

/// A caller with a key, or without one.
#[derive(Clone)]
pub struct Api {
    connection: Connection,
}

impl Api {
    pub async fn connect(address: std::net::SocketAddr, key: Option<&str>) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self::over(endpoint, key).await
    }

    /// One that takes little at a time: what it does not read, the server keeps.
    pub async fn connect_narrow(address: std::net::SocketAddr, key: Option<&str>) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(65_535);
        Self::over(endpoint, key).await
    }

    async fn over(endpoint: Endpoint, key: Option<&str>) -> Self {
        let channel = endpoint.connect().await.unwrap();
        let key = key.map(|key| format!("Bearer {key}").parse().unwrap());
        Self {
            connection: InterceptedService::new(channel, Key(key)),
        }
    }

    pub fn instances(&self) -> InstanceServiceClient<Connection> {
        InstanceServiceClient::new(self.connection.clone())
    }

    pub fn messages(&self) -> MessageServiceClient<Connection> {
        MessageServiceClient::new(self.connection.clone())
    }

    pub fn calls(&self) -> CallServiceClient<Connection> {
        CallServiceClient::new(self.connection.clone())
    }

    pub fn contacts(&self) -> ContactServiceClient<Connection> {
        ContactServiceClient::new(self.connection.clone())
    }

    pub fn media(&self) -> MediaServiceClient<Connection> {
        MediaServiceClient::new(self.connection.clone())
    }

    pub fn payments(&self) -> PaymentServiceClient<Connection> {
        PaymentServiceClient::new(self.connection.clone())
    }

    pub fn groups(&self) -> GroupServiceClient<Connection> {
        GroupServiceClient::new(self.connection.clone())
    }

    pub fn events(&self) -> EventServiceClient<Connection> {
        EventServiceClient::new(self.connection.clone())
    }

    pub fn queues(&self) -> QueueServiceClient<Connection> {
        QueueServiceClient::new(self.connection.clone())
    }

    /// What health says of the whole server.
    pub async fn is_serving(&self) -> bool {
        let request = HealthCheckRequest::default();
        let mut health = HealthClient::new(self.connection.clone());
        let response = health.check(request).await.unwrap().into_inner();
        response.status() == ServingStatus::Serving
    }

    pub fn keys(&self) -> ApiKeyServiceClient<Connection> {
        ApiKeyServiceClient::new(self.connection.clone())
    }

    pub fn sandbox(&self) -> SandboxServiceClient<Connection> {
        SandboxServiceClient::new(self.connection.clone())
    }

    /// Creates an instance in the sandbox.
    pub async fn create(&self, name: &str) -> v1::Instance {
        let request = v1::CreateInstanceRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let response = self.instances().create_instance(request).await.unwrap();
        response.into_inner().instance.unwrap()
    }

    pub async fn instance(&self, name: &str) -> v1::Instance {
        let request = v1::GetInstanceRequest {
            instance: name.to_owned(),
        };
        let response = self.instances().get_instance(request).await.unwrap();
        response.into_inner().instance.unwrap()
    }

    pub async fn send(&self, instance: &str, to: &str, text: &str) -> Result<v1::Message, Status> {
        self.send_as(instance, to, text, "").await
    }

    pub async fn send_as(
        &self,
        instance: &str,
        to: &str,
        text: &str,
        request_id: &str,
    ) -> Result<v1::Message, Status> {
        let request = v1::SendMessageRequest {
            instance: instance.to_owned(),
            recipient: to.to_owned(),
            content: Some(v1::send_message_request::Content::Text(v1::TextContent {
                text: text.to_owned(),
                ..Default::default()
            })),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        let response = self.messages().send_message(request).await?;
        Ok(response.into_inner().message.unwrap())
    }
}

/// The reason of an error.
pub fn info(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("an error without a reason: {status:?}"));
    assert_eq!(info.domain, "wagate");
    info.reason.clone()
}

/// The field that an error names.
pub fn violated_field(status: &Status) -> String {
    let details = status.get_error_details();
    let request = details
        .bad_request()
        .unwrap_or_else(|| panic!("an error that names no field: {status:?}"));
    request.field_violations[0].field.clone()
}

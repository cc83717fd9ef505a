//! CallService: turns calls away.

use std::sync::Arc;

use tonic::{Request, Response, Status, codec::CompressionEncoding};

use super::{access, status};
use crate::{
    domain::permission::Permission,
    proto::v1::{
        self,
        call_service_server::{CallService, CallServiceServer},
    },
    storage::Storage,
    wa::Registry,
};

/// Longest id of a call: far longer than WhatsApp's.
const ID_BYTES: usize = 256;

/// The service.
pub struct Calls {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
}

impl Calls {
    /// The service, on this store and these sessions.
    pub fn server(storage: Arc<dyn Storage>, registry: Arc<Registry>) -> CallServiceServer<Self> {
        CallServiceServer::new(Self { storage, registry })
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    }
}

#[tonic::async_trait]
impl CallService for Calls {
    async fn reject_call(
        &self,
        request: Request<v1::RejectCallRequest>,
    ) -> Result<Response<v1::RejectCallResponse>, Status> {
        let caller = access::permit(&request, Permission::CallsWrite)?;
        let asked = request.into_inner();
        let row =
            access::instance(self.storage.as_ref(), &caller, "instance", &asked.instance).await?;
        if asked.call_id.is_empty() {
            return Err(status::field_invalid("call_id", "must not be empty"));
        }
        if asked.call_id.len() > ID_BYTES {
            return Err(status::field_invalid("call_id", "is too long"));
        }
        let call = self.registry.reject_call(row.number, asked.call_id).await?;
        Ok(Response::new(v1::RejectCallResponse { call: Some(call) }))
    }
}

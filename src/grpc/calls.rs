//! CallService: turns calls away.

use std::sync::Arc;

use tonic::{Request, Response, Status, codec::CompressionEncoding};

use super::{
    access,
    requests::{Requests, mark_of},
    status,
};
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
    requests: Requests,
}

impl Calls {
    /// The service, on this store and these sessions.
    pub fn server(storage: Arc<dyn Storage>, registry: Arc<Registry>) -> CallServiceServer<Self> {
        CallServiceServer::new(Self {
            requests: Requests::new(storage.clone()),
            storage,
            registry,
        })
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
        let (storage, write) = (self.storage.as_ref(), Permission::CallsWrite);
        let (caller, row, asked) =
            access::called(storage, request, write, |asked| &asked.instance).await?;
        if asked.call_id.is_empty() {
            return Err(status::field_invalid("call_id", "must not be empty"));
        }
        if asked.call_id.len() > ID_BYTES {
            return Err(status::field_invalid("call_id", "is too long"));
        }
        let mark = mark_of!(caller, row, asked, "RejectCall")?;
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            let call = registry.reject_call(row.number, asked.call_id).await?;
            Ok(v1::RejectCallResponse { call: Some(call) })
        });
        Ok(Response::new(done.await?))
    }
}

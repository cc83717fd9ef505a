//! InstanceService: each method reads its request, asks the registry or the store, and answers.

use std::{pin::Pin, sync::Arc, time::SystemTime};

use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, codec::CompressionEncoding};

use super::{
    access, page, qr,
    requests::{NO_INSTANCE, Requests, mark_of},
    status,
};
use crate::{
    auth::Caller,
    domain::{
        ids::{InstanceId, InstanceName, InstanceNumber},
        limits,
        permission::Permission,
        recipient::Recipient,
    },
    events::timestamp,
    proto::v1::{
        self,
        instance_service_server::{InstanceService, InstanceServiceServer},
        pair_instance_response::Step,
    },
    storage::{InstanceChange, InstanceRow, Network, NewInstance, Storage},
    wa::{PairStep, PairingMethod, RefusedReason, Registry, instance_resource},
};

const LIST: &str = "ListInstances";

/// The method that pairs.
pub const PAIR: &str = "/wagate.v1.InstanceService/PairInstance";

/// The service.
pub struct Instances {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
    requests: Requests,
}

impl Instances {
    /// The service, on this store and these sessions.
    pub fn server(
        storage: Arc<dyn Storage>,
        registry: Arc<Registry>,
    ) -> InstanceServiceServer<Self> {
        InstanceServiceServer::new(Self {
            requests: Requests::new(storage.clone()),
            storage,
            registry,
        })
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
    }

    /// The instance that a request names, if the caller may do this with it.
    async fn named<T>(
        &self,
        request: &Request<T>,
        permission: Permission,
        name: &str,
    ) -> Result<(Caller, InstanceRow), Status> {
        let caller = access::permit(request, permission)?;
        let row = access::instance(self.storage.as_ref(), &caller, "instance", name).await?;
        Ok((caller, row))
    }
}

#[tonic::async_trait]
impl InstanceService for Instances {
    async fn create_instance(
        &self,
        request: Request<v1::CreateInstanceRequest>,
    ) -> Result<Response<v1::CreateInstanceResponse>, Status> {
        let caller = access::permit(&request, Permission::InstancesWrite)?;
        if caller.instances().is_some() {
            // A key that is bound to instances has no business with others.
            return Err(status::permission_denied(Permission::InstancesWrite));
        }
        let asked = request.into_inner();
        let mark = mark_of!(caller, asked, "CreateInstance")?;
        let name = Some(asked.name.as_str())
            .filter(|name| !name.is_empty())
            .map(|name| InstanceName::parse(name).map_err(|why| status::field_invalid("name", why)))
            .transpose()?;
        let network = match v1::Network::try_from(asked.network) {
            Ok(v1::Network::Unspecified) => None,
            Ok(v1::Network::Whatsapp) => Some(Network::WhatsApp),
            Ok(v1::Network::Sandbox) => Some(Network::Sandbox),
            Err(_) => return Err(status::field_invalid("network", "is not a known network")),
        };
        let new = NewInstance {
            id: InstanceId::generate(),
            name,
            // The registry decides where the caller names none.
            network: network.unwrap_or(Network::WhatsApp),
            show_online: asked.show_online,
            create_time: SystemTime::now(),
        };
        let row = self.registry.create(network, new, mark).await?;
        Ok(Response::new(v1::CreateInstanceResponse {
            instance: Some(instance_resource(&row)),
        }))
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Result<Response<v1::GetInstanceResponse>, Status> {
        let name = &request.get_ref().instance;
        let (_, row) = self
            .named(&request, Permission::InstancesRead, name)
            .await?;
        Ok(Response::new(v1::GetInstanceResponse {
            instance: Some(instance_resource(&row)),
        }))
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Result<Response<v1::ListInstancesResponse>, Status> {
        let caller = access::permit(&request, Permission::InstancesRead)?;
        let asked = request.into_inner();
        let size = page::size(asked.page_size)?;
        let after = page::after(LIST, &asked.page_token)?
            .map(|key| key.parse().map_err(|_| status::page_token_invalid()))
            .transpose()?
            .map(InstanceNumber);
        let only = caller.instances().map(|bound| bound.to_vec());
        let rows = self.storage.list_instances(after, only, size + 1).await?;
        let (rows, next_page_token) = page::cut(LIST, rows, size, |last| last.number.to_string());
        Ok(Response::new(v1::ListInstancesResponse {
            instances: rows.iter().map(instance_resource).collect(),
            next_page_token,
        }))
    }

    async fn update_instance(
        &self,
        request: Request<v1::UpdateInstanceRequest>,
    ) -> Result<Response<v1::UpdateInstanceResponse>, Status> {
        let name = &request.get_ref().instance;
        let (caller, row) = self
            .named(&request, Permission::InstancesWrite, name)
            .await?;
        let asked = request.into_inner();
        let mark = mark_of!(caller, row, asked, "UpdateInstance")?;
        let mut change = InstanceChange::default();
        let mask = asked.update_mask.map(|mask| mask.paths).unwrap_or_default();
        if mask.is_empty() {
            return Err(status::field_invalid(
                "update_mask",
                "must name what to change: name, show_online, reject_calls, reject_calls_text",
            ));
        }
        for path in mask {
            match path.as_str() {
                "name" => {
                    let name = InstanceName::parse(&asked.name);
                    change.name = Some(name.map_err(|why| status::field_invalid("name", why))?);
                }
                "show_online" => change.show_online = Some(asked.show_online),
                "reject_calls" => change.reject_calls = Some(asked.reject_calls),
                "reject_calls_text" => {
                    let text = asked.reject_calls_text.clone();
                    change.reject_calls_text = Some(answer_text(text)?);
                }
                _ => {
                    return Err(status::field_invalid(
                        "update_mask",
                        "may name only name, show_online, reject_calls and reject_calls_text",
                    ));
                }
            }
        }
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            let row = registry.change(row.number, change).await?;
            Ok(v1::UpdateInstanceResponse {
                instance: Some(instance_resource(&row)),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn delete_instance(
        &self,
        request: Request<v1::DeleteInstanceRequest>,
    ) -> Result<Response<v1::DeleteInstanceResponse>, Status> {
        let caller = access::permit(&request, Permission::InstancesWrite)?;
        let asked = request.into_inner();
        // As the caller names it, and of no instance: afterwards nobody knows which one that was.
        let mark = mark_of!(caller, asked, "DeleteInstance")?;
        let (storage, registry) = (self.storage.clone(), self.registry.clone());
        let done = self.requests.once(NO_INSTANCE, mark, async move {
            let name = &asked.instance;
            let row = access::instance(storage.as_ref(), &caller, "instance", name).await?;
            registry.delete(row.number).await?;
            Ok(v1::DeleteInstanceResponse {})
        });
        Ok(Response::new(done.await?))
    }

    async fn connect_instance(
        &self,
        request: Request<v1::ConnectInstanceRequest>,
    ) -> Result<Response<v1::ConnectInstanceResponse>, Status> {
        let name = &request.get_ref().instance;
        let (caller, row) = self
            .named(&request, Permission::InstancesWrite, name)
            .await?;
        let asked = request.into_inner();
        let mark = mark_of!(caller, row, asked, "ConnectInstance")?;
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            let row = registry.connect(row.number).await?;
            Ok(v1::ConnectInstanceResponse {
                instance: Some(instance_resource(&row)),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn disconnect_instance(
        &self,
        request: Request<v1::DisconnectInstanceRequest>,
    ) -> Result<Response<v1::DisconnectInstanceResponse>, Status> {
        let name = &request.get_ref().instance;
        let (caller, row) = self
            .named(&request, Permission::InstancesWrite, name)
            .await?;
        let asked = request.into_inner();
        let mark = mark_of!(caller, row, asked, "DisconnectInstance")?;
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            let row = registry.disconnect(row.number).await?;
            Ok(v1::DisconnectInstanceResponse {
                instance: Some(instance_resource(&row)),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn restart_instance(
        &self,
        request: Request<v1::RestartInstanceRequest>,
    ) -> Result<Response<v1::RestartInstanceResponse>, Status> {
        let name = &request.get_ref().instance;
        let (caller, row) = self
            .named(&request, Permission::InstancesWrite, name)
            .await?;
        let asked = request.into_inner();
        let mark = mark_of!(caller, row, asked, "RestartInstance")?;
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            let row = registry.restart(row.number).await?;
            Ok(v1::RestartInstanceResponse {
                instance: Some(instance_resource(&row)),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn logout_instance(
        &self,
        request: Request<v1::LogoutInstanceRequest>,
    ) -> Result<Response<v1::LogoutInstanceResponse>, Status> {
        let name = &request.get_ref().instance;
        let (caller, row) = self
            .named(&request, Permission::InstancesWrite, name)
            .await?;
        let asked = request.into_inner();
        let mark = mark_of!(caller, row, asked, "LogoutInstance")?;
        let registry = self.registry.clone();
        let done = self.requests.once(row.number, mark, async move {
            let row = registry.logout(row.number).await?;
            Ok(v1::LogoutInstanceResponse {
                instance: Some(instance_resource(&row)),
            })
        });
        Ok(Response::new(done.await?))
    }

    type PairInstanceStream =
        Pin<Box<dyn Stream<Item = Result<v1::PairInstanceResponse, Status>> + Send>>;

    async fn pair_instance(
        &self,
        request: Request<v1::PairInstanceRequest>,
    ) -> Result<Response<Self::PairInstanceStream>, Status> {
        let name = &request.get_ref().instance;
        let (_, row) = self
            .named(&request, Permission::InstancesPair, name)
            .await?;
        let asked = request.into_inner();
        let method = if asked.phone_number.is_empty() {
            PairingMethod::Qr
        } else {
            match Recipient::parse(&asked.phone_number) {
                Ok(Recipient::Number(number)) => PairingMethod::Code(number),
                Ok(Recipient::Lid(_) | Recipient::Group(_)) => {
                    return Err(status::field_invalid(
                        "phone_number",
                        "must be a phone number",
                    ));
                }
                Err(why) => return Err(status::field_invalid("phone_number", why)),
            }
        };
        let steps = self.registry.pair(row.number, method).await?;
        let steps = ReceiverStream::new(steps).map(|step| {
            Ok(v1::PairInstanceResponse {
                step: Some(shown(step)?),
            })
        });
        Ok(Response::new(Box::pin(steps)))
    }
}

/// What is written to those whose calls are rejected: a text that can be sent, or nothing.
fn answer_text(text: String) -> Result<String, Status> {
    const FIELD: &str = "reject_calls_text";
    if !text.is_empty() && text.trim().is_empty() {
        return Err(status::field_invalid(
            FIELD,
            "must say something or be empty",
        ));
    }
    let limit = limits::TEXT_CHARS;
    if text.chars().count() > limit {
        let sentence = format!("the text is longer than WhatsApp takes: {limit} characters");
        return Err(status::text_too_long(FIELD, sentence, limit));
    }
    Ok(text)
}

fn shown(step: PairStep) -> Result<Step, Status> {
    Ok(match step {
        PairStep::Qr { text, expire_time } => {
            let png = qr::png(&text).map_err(|error| {
                tracing::error!(%error, "a QR can't be drawn");
                status::internal()
            })?;
            Step::QrCode(v1::QrCode {
                text,
                png: png.into(),
                expire_time: Some(timestamp(expire_time)),
            })
        }
        PairStep::Code { code, expire_time } => Step::PairingCode(v1::PairingCode {
            code,
            expire_time: Some(timestamp(expire_time)),
        }),
        PairStep::Paired(row) => Step::Paired(v1::Paired {
            instance: Some(instance_resource(&row)),
        }),
        PairStep::Expired => Step::Expired(v1::PairingExpired {}),
        PairStep::Refused(reason, detail) => {
            use v1::PairingRefusedReason as Told;
            let reason = match reason {
                RefusedReason::Rejected => Told::Rejected,
                RefusedReason::PasskeyRequired => Told::PasskeyRequired,
                RefusedReason::RateLimited => Told::RateLimited,
                RefusedReason::PhoneNumberRefused => Told::PhoneNumberRefused,
                RefusedReason::Outdated => Told::Outdated,
                RefusedReason::Unreachable => Told::Unreachable,
                RefusedReason::Cancelled => Told::Cancelled,
            };
            Step::Refused(v1::PairingRefused {
                reason: reason.into(),
                detail,
            })
        }
    })
}

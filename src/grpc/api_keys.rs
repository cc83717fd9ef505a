//! ApiKeyService.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::{
    auth::{Caller, Keys, NewKey},
    domain::{
        ids::{ApiKeyId, InstanceNumber},
        permission::Permission,
    },
    events::timestamp,
    grpc::{
        access, page,
        requests::{NO_INSTANCE, Requests, mark_of},
        status::{self, Reason, refuse},
    },
    proto::v1::{self, api_key_service_server::ApiKeyService},
    storage::{ApiKeyRow, RevokeOutcome, Storage},
};

const INSTANCES_MAX: usize = 1_000;
const LIST: &str = "ListApiKeys";

/// The service.
pub(super) struct ApiKeys {
    pub storage: Arc<dyn Storage>,
    pub keys: Keys,
    pub requests: Requests,
}

#[tonic::async_trait]
impl ApiKeyService for ApiKeys {
    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        let caller = access::permit(&request, Permission::KeysWrite)?;
        let request = request.into_inner();
        if request.display_name.trim().is_empty() {
            return Err(status::field_invalid("display_name", "must not be empty"));
        }
        access::label("display_name", &request.display_name)?;
        let mark = mark_of!(caller, request, "CreateApiKey")?;
        let permissions = permissions(&caller, &request.permissions)?;
        let instances = self.instances(&caller, &request.instances).await?;
        let new = NewKey {
            display_name: request.display_name,
            permissions,
            instances,
        };
        // Beside the answer, which is remembered: the secret is not.
        let (tell, told) = oneshot::channel();
        let (keys, storage) = (self.keys.clone(), self.storage.clone());
        let done = self.requests.once(NO_INSTANCE, mark, async move {
            let (row, secret) = keys.create(new).await?;
            tracing::info!(api_key = %row.id, "an API key was created");
            tell.send(secret.reveal()).ok();
            Ok(v1::CreateApiKeyResponse {
                api_key: Some(shown(storage.as_ref(), row).await?),
                secret: String::new(),
            })
        });
        let answer = done.await?;
        Ok(Response::new(v1::CreateApiKeyResponse {
            secret: told.await.unwrap_or_default(),
            ..answer
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        let caller = access::permit(&request, Permission::KeysWrite)?;
        let request = request.into_inner();
        let size = page::size(request.page_size)?;
        let after = page::after(LIST, &request.page_token)?
            .map(|key| ApiKeyId::parse(&key).ok_or_else(status::page_token_invalid))
            .transpose()?;
        let rows = self.storage.list_api_keys(after, size + 1).await?;
        let key = |last: &ApiKeyRow| last.id.as_str().to_owned();
        let (rows, next_page_token) = page::cut(LIST, rows, size, key);
        let mut api_keys = Vec::with_capacity(rows.len());
        for row in rows {
            if caller.covers(&row.instances) {
                api_keys.push(shown(self.storage.as_ref(), row).await?);
            }
        }
        Ok(Response::new(v1::ListApiKeysResponse {
            api_keys,
            next_page_token,
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        let caller = access::permit(&request, Permission::KeysWrite)?;
        let asked = request.into_inner();
        let mark = mark_of!(caller, asked, "RevokeApiKey")?;
        let text = asked.api_key_id;
        if text.is_empty() {
            return Err(status::field_invalid("api_key_id", "must not be empty"));
        }
        let id = ApiKeyId::parse(&text).ok_or_else(|| not_found(&text))?;
        self.storage
            .lookup_api_key(&id)
            .await?
            .filter(|row| caller.covers(&row.instances))
            .ok_or_else(|| not_found(&text))?;
        let (keys, storage) = (self.keys.clone(), self.storage.clone());
        let done = self.requests.once(NO_INSTANCE, mark, async move {
            match keys.revoke(&id).await? {
                RevokeOutcome::Revoked(row) => {
                    tracing::info!(api_key = %row.id, "an API key was revoked");
                    Ok(v1::RevokeApiKeyResponse {
                        api_key: Some(shown(storage.as_ref(), row).await?),
                    })
                }
                RevokeOutcome::Missing => Err(not_found(&text)),
                RevokeOutcome::LastAdmin => Err(refuse(
                    Reason::ApiKeyLastAdmin,
                    "this is the last key that may manage keys; create another one first",
                )
                .into()),
            }
        });
        done.await.map(Response::new)
    }
}

fn not_found(api_key_id: &str) -> Status {
    refuse(
        Reason::ApiKeyNotFound,
        format!("no API key has the id {api_key_id:?}"),
    )
    .field("api_key_id", "must be the id of an API key")
    .into()
}

impl ApiKeys {
    /// The instances that a new key is bound to.
    async fn instances(
        &self,
        caller: &Caller,
        texts: &[String],
    ) -> Result<Vec<InstanceNumber>, Status> {
        if texts.len() > INSTANCES_MAX {
            let description = format!("must name at most {INSTANCES_MAX}");
            return Err(status::field_invalid("instances", description));
        }
        let mut numbers = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let field = format!("instances[{index}]");
            let row = access::instance(&*self.storage, caller, &field, text).await?;
            if !numbers.contains(&row.number) {
                numbers.push(row.number);
            }
        }
        if !caller.covers(&numbers) {
            return Err(refuse(
                Reason::PermissionDenied,
                "a key that is bound to instances can't make one that is not",
            )
            .with("permission", Permission::KeysWrite)
            .field("instances", "must not be empty")
            .into());
        }
        Ok(numbers)
    }
}

/// A key as callers see it.
async fn shown(storage: &dyn Storage, row: ApiKeyRow) -> Result<v1::ApiKey, Status> {
    let mut instances = Vec::with_capacity(row.instances.len());
    if !row.instances.is_empty() {
        let limit = row.instances.len();
        let found = storage
            .list_instances(None, Some(row.instances.clone()), limit)
            .await?;
        let ids: HashMap<_, _> = found.into_iter().map(|one| (one.number, one.id)).collect();
        // A deleted instance stays in the list by its number: an empty list would mean all.
        instances.extend(row.instances.iter().map(|number| match ids.get(number) {
            Some(id) => id.to_string(),
            None => format!("deleted-{number}"),
        }));
    }
    Ok(v1::ApiKey {
        id: row.id.to_string(),
        display_name: row.display_name,
        permissions: row.permissions.iter().map(ToString::to_string).collect(),
        instances,
        create_time: Some(timestamp(row.create_time)),
        revoke_time: row.revoke_time.map(timestamp),
    })
}

/// The permissions of a new key: known ones, and none that the caller lacks.
fn permissions(caller: &Caller, texts: &[String]) -> Result<Vec<Permission>, Status> {
    if texts.is_empty() {
        return Err(status::field_invalid("permissions", "must not be empty"));
    }
    let mut permissions = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let Some(permission) = Permission::parse(text) else {
            let valid = Permission::EVERY.map(Permission::as_str).join(", ");
            let field = format!("permissions[{index}]");
            let description = format!("must be one of {valid}");
            return Err(status::field_invalid(&field, description));
        };
        if !caller.may(permission) {
            return Err(status::permission_denied(permission));
        }
        if !permissions.contains(&permission) {
            permissions.push(permission);
        }
    }
    Ok(permissions)
}

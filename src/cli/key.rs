//! `wagate key …`: one call each.

use clap::{Args, Subcommand};

use super::{connection::Gateway, failure::Failure, format, output::Output};
use crate::proto::v1::{
    ApiKey, CreateApiKeyRequest, CreateApiKeyResponse, ListApiKeysRequest, ListApiKeysResponse,
    RevokeApiKeyRequest,
};

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Creates a key and prints its secret, this once.
    Create(Create),
    /// Lists all keys, the revoked ones too.
    List,
    /// Revokes a key for good.
    Revoke(Revoke),
}

/// Arguments of `key create`.
#[derive(Debug, Args)]
pub struct Create {
    /// What to call it.
    display_name: String,
    /// What it may do, such as `events:read`; `*` is everything. Repeat it, or put commas between.
    #[arg(
        long = "permission",
        required = true,
        value_delimiter = ',',
        value_name = "PERMISSION"
    )]
    permissions: Vec<String>,
    /// Name or id of an instance to bind it to; repeat it for more. Default: all, later ones too.
    #[arg(long = "instance", value_delimiter = ',', value_name = "INSTANCE")]
    instances: Vec<String>,
}

/// Arguments of `key revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Its id, as `key list` shows it.
    id: String,
}

impl Key {
    /// Does it.
    pub async fn run(self, gateway: &Gateway, output: &mut Output) -> Result<(), Failure> {
        let mut client = gateway.api_keys();
        match self {
            Self::Create(create) => {
                let request = CreateApiKeyRequest {
                    display_name: create.display_name,
                    permissions: create.permissions,
                    instances: create.instances,
                    ..Default::default()
                };
                let answer = client.create_api_key(request).await?.into_inner();
                output.show(&answer, created)
            }
            Self::List => {
                let mut all = ListApiKeysResponse::default();
                loop {
                    let request = ListApiKeysRequest {
                        page_token: std::mem::take(&mut all.next_page_token),
                        ..ListApiKeysRequest::default()
                    };
                    let page = client.list_api_keys(request).await?.into_inner();
                    all.api_keys.extend(page.api_keys);
                    all.next_page_token = page.next_page_token;
                    if all.next_page_token.is_empty() {
                        break;
                    }
                }
                output.show(&all, |all| listed(&all.api_keys))
            }
            Self::Revoke(Revoke { id }) => {
                let request = RevokeApiKeyRequest {
                    api_key_id: id,
                    ..Default::default()
                };
                let answer = client.revoke_api_key(request).await?.into_inner();
                output.show(&answer, |answer| {
                    answer
                        .api_key
                        .as_ref()
                        .map(|key| format!("{}: revoked", format::plain(&key.display_name)))
                        .unwrap_or_default()
                })
            }
        }
    }
}

fn created(answer: &CreateApiKeyResponse) -> String {
    let key = answer.api_key.clone().unwrap_or_default();
    format!(
        "{}\n\nShown this once; only its hash is kept.",
        format::fields(&[
            ("name", format::plain(&key.display_name)),
            ("id", format::plain(&key.id)),
            ("may", format::plain(&key.permissions.join(", "))),
            ("instances", instances(&key)),
            ("secret", format::plain(&answer.secret)),
        ])
    )
}

fn listed(keys: &[ApiKey]) -> String {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            vec![
                format::plain(&key.id),
                format::plain(&key.display_name),
                format::plain(&key.permissions.join(",")),
                instances(key),
                format::time(key.create_time.as_ref()),
                format::time(key.revoke_time.as_ref()),
            ]
        })
        .collect();
    let head = ["ID", "NAME", "MAY", "INSTANCES", "CREATED", "REVOKED"];
    format::table(&head, &rows)
}

fn instances(key: &ApiKey) -> String {
    match key.instances.is_empty() {
        true => "all".to_owned(),
        false => format::plain(&key.instances.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_shows_its_secret_and_a_list_does_not() {
        let key = ApiKey {
            id: "0123456789abcdef".into(),
            display_name: "reader".into(),
            permissions: vec!["events:read".into()],
            ..ApiKey::default()
        };
        let text = created(&CreateApiKeyResponse {
            api_key: Some(key.clone()),
            secret: "hush".into(),
        });
        assert!(text.contains("secret:    hush"), "{text}");
        assert!(text.contains("instances: all"), "{text}");
        assert!(listed(&[key]).starts_with("ID                NAME    MAY"));
    }
}

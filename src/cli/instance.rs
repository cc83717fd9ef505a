//! `wagate instance …`: one call each, but for `pair`, which is a conversation.

use clap::{Args, Subcommand, ValueEnum};

use super::{
    connection::Gateway,
    failure::Failure,
    format,
    output::Output,
    pairing::{self, Pair},
};
use crate::proto::v1::{
    ConnectInstanceRequest, CreateInstanceRequest, DeleteInstanceRequest,
    DisconnectInstanceRequest, GetInstanceRequest, Instance as Shown, ListInstancesRequest,
    ListInstancesResponse, LogoutInstanceRequest, Network,
};

/// What to do with instances.
#[derive(Debug, Subcommand)]
pub enum Instance {
    /// Creates an instance, not yet linked to a phone.
    Create(Create),
    /// Lists all instances that the key may see.
    List,
    /// Shows one instance.
    Show(Named),
    /// Links an instance to a phone, by QR or by a code.
    Pair(Pair),
    /// Opens the connection of a linked instance.
    Connect(Named),
    /// Closes the connection and keeps the credentials.
    Disconnect(Named),
    /// Unlinks the instance from its phone. Messages and events stay.
    Logout(Named),
    /// Removes an instance with everything that belongs to it.
    Delete(Named),
}

/// An instance that exists.
#[derive(Debug, Args)]
pub struct Named {
    /// Name or id.
    instance: String,
}

/// Arguments of `instance create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name: a–z, 0–9, `-` and `_`. Default: the server invents one.
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    /// Network for life. Default: the server's.
    #[arg(long)]
    network: Option<NetworkName>,
    /// Show the account as online while connected; its phone then stops notifying.
    #[arg(long)]
    show_online: bool,
    /// Makes it safe to repeat this command for 24 hours.
    #[arg(long, default_value = "", hide_default_value = true)]
    request_id: String,
}

/// A network, as people write it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum NetworkName {
    /// WhatsApp itself.
    Whatsapp,
    /// The loopback network of `wagate sandbox`.
    Sandbox,
}

impl Instance {
    /// Does it.
    pub async fn run(self, gateway: &Gateway, output: &mut Output) -> Result<(), Failure> {
        let mut client = gateway.instances();
        match self {
            Self::Create(create) => {
                let answer = client.create_instance(create.request()).await?.into_inner();
                output.show(&answer, |answer| shown(answer.instance.as_ref()))
            }
            Self::List => {
                let mut all = ListInstancesResponse::default();
                loop {
                    let request = ListInstancesRequest {
                        page_token: std::mem::take(&mut all.next_page_token),
                        ..ListInstancesRequest::default()
                    };
                    let page = client.list_instances(request).await?.into_inner();
                    all.instances.extend(page.instances);
                    all.next_page_token = page.next_page_token;
                    if all.next_page_token.is_empty() {
                        break;
                    }
                }
                output.show(&all, |all| format::instances(&all.instances))
            }
            Self::Show(Named { instance }) => {
                let request = GetInstanceRequest { instance };
                let answer = client.get_instance(request).await?.into_inner();
                output.show(&answer, |answer| shown(answer.instance.as_ref()))
            }
            Self::Pair(pair) => pairing::run(client, pair, output).await,
            Self::Connect(Named { instance }) => {
                let request = ConnectInstanceRequest {
                    instance,
                    ..Default::default()
                };
                let answer = client.connect_instance(request).await?.into_inner();
                output.show(&answer, |answer| state(answer.instance.as_ref()))
            }
            Self::Disconnect(Named { instance }) => {
                let request = DisconnectInstanceRequest {
                    instance,
                    ..Default::default()
                };
                let answer = client.disconnect_instance(request).await?.into_inner();
                output.show(&answer, |answer| state(answer.instance.as_ref()))
            }
            Self::Logout(Named { instance }) => {
                let request = LogoutInstanceRequest {
                    instance,
                    ..Default::default()
                };
                let answer = client.logout_instance(request).await?.into_inner();
                output.show(&answer, |answer| state(answer.instance.as_ref()))
            }
            Self::Delete(Named { instance }) => {
                let request = DeleteInstanceRequest {
                    instance: instance.clone(),
                    ..Default::default()
                };
                let answer = client.delete_instance(request).await?.into_inner();
                output.show(&answer, |_| {
                    format!("{}: deleted", format::plain(&instance))
                })
            }
        }
    }
}

impl Create {
    fn request(self) -> CreateInstanceRequest {
        let network = match self.network {
            None => Network::Unspecified,
            Some(NetworkName::Whatsapp) => Network::Whatsapp,
            Some(NetworkName::Sandbox) => Network::Sandbox,
        };
        CreateInstanceRequest {
            name: self.name,
            network: network.into(),
            show_online: self.show_online,
            request_id: self.request_id,
        }
    }
}

fn shown(instance: Option<&Shown>) -> String {
    instance.map(format::instance).unwrap_or_default()
}

/// The state alone: what an act changed.
fn state(instance: Option<&Shown>) -> String {
    instance
        .map(|one| {
            format!(
                "{}: {}",
                format::plain(&one.name),
                format::state(one.state())
            )
        })
        .unwrap_or_default()
}

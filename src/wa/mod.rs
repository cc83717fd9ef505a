//! The only room of the gateway that names `whatsapp_rust`, `wacore` and `waproto`.
//!
//! Owns the WhatsApp clients: one task per instance ([`session`]) holds one client of the library
//! ([`link`]) on our storage ([`store`]). Messages enter by one door ([`hook`]) and leave by another
//! ([`outbound`]); [`convert`] is where WhatsApp's types become ours. Lets no type of the library
//! out, and knows nothing of gRPC or SQL.

mod addresses;
mod amending;
mod app_state;
#[doc(hidden)]
pub mod bench;
mod calls;
mod contacts;
mod convert;
mod error;
mod groups;
mod hook;
mod http;
mod link;
mod media;
mod networks;
mod once;
mod outbound;
mod pairing;
mod payments;
mod polls;
mod queues;
mod redelivery;
mod registry;
mod session;
mod store;
mod supervision;

pub use app_state::{AppState, AppStateFault};
pub use convert::{
    inbound::poll_option,
    rows::{
        contact as contact_resource, instance as instance_resource, message as message_resource,
    },
};
pub use error::{WaError, network_name};
pub use groups::{
    GroupEdit, GroupFault, GroupRefusal, GroupSetting, Groups, Invite, Mentions, NewGroup, Picture,
    Somebody, invite_code,
};
pub use media::{Fetcher, Passage, Uploads, fetch_all as fetch_media};
pub use networks::{NetworksConfig, SandboxPeer};
pub use outbound::{
    Activity, OutboxPlace, Outgoing, Patience, PaymentDemand, PaymentReply, Progress, Say, Timing,
    Unconfirmed,
};
pub use pairing::{PairStep, PairingMethod, RefusedReason};
pub use payments::resource as payment_resource;
pub use queues::{
    NewList, content_of, filled, has_places, listed, new_item, queue_item_resource, queue_resource,
};
pub use registry::Registry;

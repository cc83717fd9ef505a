//! One thin file per service, and the server around them.
//!
//! Owns the translation between the wire and the other rooms: requests into words of the domain,
//! errors into `Status` (in `status.rs` only), the layers every call passes, health, reflection and
//! the drain at the end. Never holds a rule of the business, SQL, or text of a driver's error.

pub mod access;
mod api_keys;
pub mod calls;
mod codec;
pub mod contacts;
mod deadline;
pub mod ending;
mod events;
mod filter;
pub mod groups;
mod incoming;
pub mod instances;
mod layers;
pub mod media;
pub mod messages;
pub mod page;
pub mod payments;
mod qr;
pub mod queues;
mod rates;
mod requests;
pub mod server;
pub mod status;
mod subscribe;
mod tls;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use incoming::ConnectionLimits;
pub use rates::RateLimit;
pub use subscribe::StreamLimits;
pub use tls::TlsFiles;

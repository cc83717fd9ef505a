//! The only room of the gateway that names whatsapp_rust, wacore and waproto.

pub mod store;

//! The state of WhatsApp devices, as plain keys and values.

/// One device's rows.
pub trait DeviceStorage: Send + Sync + 'static {}

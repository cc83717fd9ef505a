//! The one place where the parts are put together.

use crate::config::Config;

/// Runs the gateway until it is told to stop.
pub async fn serve(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("this build has no gateway")
}

/// Runs the gateway and the loopback network in one process until it is told to stop. With `demo`,
/// two phones and an instance talk to each other first.
pub async fn sandbox(_config: Config, _demo: bool) -> anyhow::Result<()> {
    anyhow::bail!("this build has no sandbox")
}

//! wagate as it is, in a process of its own, on the network of the run.

use serde_json::{Value, json};
use wagate::{
    app::Gateway,
    config::{Config, Role, Sources},
    lifecycle::Shutdown,
};

use super::child;

pub async fn play(with: Value) -> anyhow::Result<()> {
    let mut sources = Sources::default();
    let text = |name| child::text(&with, name).map(str::to_owned);
    for (key, value) in [
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("storage.data_dir", text("folder")?),
        ("sessions.default_network", "sandbox".to_owned()),
        // The bare library has no such limit, and this network needs none.
        ("sessions.max_handshakes", "1000".to_owned()),
        ("sandbox.url", text("url")?),
        ("sandbox.static_key", text("static_key")?),
    ] {
        sources.argument(key, Some(&value));
    }
    let config = Config::load(sources, Role::Gateway)?;
    let peer = config
        .sandbox
        .external()?
        .map(|peer| wagate::wa::SandboxPeer {
            url: peer.url,
            static_key: peer.static_key,
        });
    let gateway = Gateway::start(&config, peer, None, Shutdown::new()).await?;
    let ready = json!({
        "address": gateway.address.to_string(),
        "key": gateway.first_key,
    });
    child::obey(ready, async |_| Ok(json!({}))).await?;
    gateway.stop().await
}

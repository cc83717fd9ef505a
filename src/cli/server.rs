//! `wagate serve` and `wagate sandbox`: arguments over the settings. What they run is in `app`.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, ConfigError, Role, Sources};

/// Apart from `wagate serve`'s, so that one never opens the other's database.
const SANDBOX_DATA: &str = "wagate-data/sandbox";

/// What both can be told.
#[derive(Debug, Args)]
struct Overrides {
    /// Settings file, TOML. Without it: the defaults. WAGATE_<SECTION>__<KEY> variables go over it.
    #[arg(long, env = "WAGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the gRPC server listens, such as 127.0.0.1:50051.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder of the database.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
}

impl Overrides {
    fn sources(&self) -> Sources {
        let mut sources = Sources::from_environment();
        sources.file.clone_from(&self.config);
        sources.argument("server.listen", self.listen.as_deref());
        sources.argument("storage.data_dir", self.data_dir.as_deref());
        sources
    }
}

/// Arguments of `wagate serve`.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    overrides: Overrides,
}

impl Serve {
    /// The settings to run with.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::load(self.overrides.sources(), Role::Gateway)
    }
}

/// Arguments of `wagate sandbox`.
#[derive(Debug, Args)]
pub struct Sandbox {
    #[command(flatten)]
    overrides: Overrides,
    /// Where the WhatsApp network listens, such as 127.0.0.1:50052.
    #[arg(long, value_name = "ADDRESS")]
    network_listen: Option<String>,
    /// Start empty: no phones, no instance, no conversation.
    #[arg(long)]
    no_demo: bool,
}

impl Sandbox {
    /// The settings to run with.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut sources = self.overrides.sources();
        sources.preset("storage.data_dir", SANDBOX_DATA);
        sources.preset("sessions.default_network", "sandbox");
        sources.argument("sandbox.network_listen", self.network_listen.as_deref());
        Config::load(sources, Role::Sandbox)
    }

    /// Whether to show a conversation first.
    pub fn demo(&self) -> bool {
        !self.no_demo
    }
}

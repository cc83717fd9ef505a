//! `wagate serve` and `wagate sandbox`: arguments over the settings. What they run is in `app`.

use std::path::PathBuf;

use clap::Args;

use super::{
    connection::Target,
    demo::{self, INSTANCE},
    failure::Failure,
    output::Output,
};
use crate::{
    app::{self, SandboxGateway},
    config::{self, Config, ConfigError, Role, Sources},
    lifecycle::Shutdown,
    telemetry::{self, Filter},
};

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
    fn config(&self) -> Result<Config, ConfigError> {
        Config::load(self.overrides.sources(), Role::Gateway)
    }

    /// Runs the gateway until it is told to stop.
    pub async fn run(&self) -> Result<(), Failure> {
        let config = self.config()?;
        log_as(&config, Filter::News)?;
        #[cfg(debug_assertions)]
        if let Some(wanted) = config::crash_point() {
            crate::crash_points::arm(&wanted).map_err(anyhow::Error::from)?;
        }
        Ok(app::serve(config).await?)
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
    fn config(&self) -> Result<Config, ConfigError> {
        let mut sources = self.overrides.sources();
        sources.preset("storage.data_dir", SANDBOX_DATA);
        sources.preset("sessions.default_network", "sandbox");
        sources.argument("sandbox.network_listen", self.network_listen.as_deref());
        Config::load(sources, Role::Sandbox)
    }

    /// Runs the network and the gateway until told to stop, with a conversation first.
    pub async fn run(&self, json: bool) -> Result<(), Failure> {
        let config = self.config()?;
        // What it shows is its news.
        log_as(&config, Filter::Warnings)?;
        let shutdown = Shutdown::new();
        shutdown.obey_signals(app::end_after(&config))?;
        let running = SandboxGateway::start(&config, shutdown.clone()).await?;
        let about = About::of(&running);
        let mut output = Output::stdio(json);
        output.remark(&about.banner());
        let serving = running.run();
        tokio::pin!(serving);
        if !self.no_demo {
            tokio::select! {
                ended = &mut serving => return Ok(ended?),
                shown = about.demo(&mut output) => {
                    if let Err(failure) = shown
                        && !shutdown.has_begun()
                    {
                        // The server is good without the show.
                        failure.report(json);
                    }
                }
            }
        } else {
            output.remark(&about.first_steps());
        }
        Ok(serving.await?)
    }
}

/// What a user of a running sandbox needs to know.
struct About {
    endpoint: String,
    network: String,
    key: String,
    key_file: PathBuf,
    program: String,
}

impl About {
    fn of(running: &SandboxGateway) -> Self {
        Self {
            endpoint: format!("http://{}", running.gateway.address),
            network: running.network.ws_url(),
            key: running.key.clone(),
            key_file: running.key_file.clone(),
            program: config::program(),
        }
    }

    fn banner(&self) -> String {
        format!(
            "wagate {version}: gateway and WhatsApp network in one process, no phone needed\n\n  \
             gRPC     {endpoint}\n  \
             network  {network}\n  \
             API key  {key}  (kept in {file})\n",
            version = env!("CARGO_PKG_VERSION"),
            endpoint = self.endpoint,
            network = self.network,
            key = self.key,
            file = self.key_file.display(),
        )
    }

    async fn demo(&self, output: &mut Output) -> Result<(), Failure> {
        let gateway = Target::new(&self.endpoint, Some(&self.key))
            .connect()
            .await?;
        demo::run(&gateway, output, |peer| {
            format!(
                "{}  {program} send {INSTANCE} {} \"Hi from the terminal\"\n  {program} events --from earliest\n{}",
                self.exports(),
                peer.number,
                self.grpcurl(),
                program = self.program,
            )
        })
        .await
    }

    fn first_steps(&self) -> String {
        format!(
            "{}  {program} instance create first\n  {program} instance list\n{}",
            self.exports(),
            self.grpcurl(),
            program = self.program,
        )
    }

    fn exports(&self) -> String {
        format!(
            "\nIt stays up; Ctrl-C ends it. Try in another terminal:\n\n  \
             export WAGATE_ENDPOINT={} WAGATE_API_KEY={}\n",
            self.endpoint, self.key
        )
    }

    fn grpcurl(&self) -> String {
        format!(
            "  grpcurl -plaintext -H \"authorization: Bearer $WAGATE_API_KEY\" {} list\n",
            self.endpoint.trim_start_matches("http://"),
        )
    }
}

/// Starts logging as the settings say, or by default like this.
fn log_as(config: &Config, default: Filter<'_>) -> anyhow::Result<()> {
    let format = match config.log.format {
        config::LogFormat::Text => telemetry::Format::Text,
        config::LogFormat::Json => telemetry::Format::Json,
    };
    let filter = match config.log.filter.as_str() {
        "" => default,
        directives => Filter::Asked(directives),
    };
    telemetry::init(format, filter)
}

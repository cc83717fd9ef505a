//! What can be set: one commented default file, a file of the operator over it, the environment
//! over both, the command line over all.
//!
//! Owns reading and checking, all of it before a port is bound. Never is read after start-up, and
//! `std::env` is named nowhere else.

mod media;
mod quantity;
mod sections;
mod server;

use std::{collections::BTreeMap, env, path::PathBuf};

use ::config::{Environment, File, FileFormat};
use serde::Deserialize;

pub use media::{Egress, Media, MediaStore, Secret};
pub use sections::{Events, ExternalSandbox, Log, LogFormat, Network, Sandbox, Sessions, Storage};
pub use server::{Server, TlsPair};

/// Every setting with its default and its explanation.
pub const DEFAULTS: &str = include_str!("default.toml");

const PREFIX: &str = "WAGATE_";
const SEPARATOR: &str = "__";

/// The moment at which a debug build is to die, for tests: see `crash_points`.
#[cfg(debug_assertions)]
pub fn crash_point() -> Option<String> {
    env::var("WAGATE_CRASH_POINT").ok()
}

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where callers reach us.
    pub server: Server,
    /// Where things are kept.
    pub storage: Storage,
    /// Files in and out.
    pub media: Media,
    /// URLs that callers give.
    pub egress: Egress,
    /// The event log and its readers.
    pub events: Events,
    /// The instances' connections.
    pub sessions: Sessions,
    /// The loopback network.
    pub sandbox: Sandbox,
    /// What is logged, and how.
    pub log: Log,
}

/// Why the settings can't be used. The text says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file, a variable or an argument can't be read, or names what does not exist.
    #[error("{0}")]
    Read(#[from] ::config::ConfigError),
    /// A variable looks like a setting and is none.
    #[error(
        "{found} is not read: two underscores go between section and key. Did you mean {meant}?"
    )]
    Variable {
        /// The variable.
        found: String,
        /// What was probably meant.
        meant: String,
    },
    /// A value is not allowed, alone or beside others.
    #[error("[{section}] {why}")]
    Section {
        /// Which section.
        section: &'static str,
        /// What is wrong and what to do.
        why: String,
    },
}

impl ConfigError {
    fn section(section: &'static str, why: impl Into<String>) -> Self {
        Self::Section {
            section,
            why: why.into(),
        }
    }
}

/// Who asks: a few rules depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The gateway alone.
    Gateway,
    /// The gateway and the loopback network in one process.
    Sandbox,
}

/// Where settings come from, besides the defaults; later ones win.
#[derive(Debug, Default)]
pub struct Sources {
    /// Other defaults than those of the file that is compiled in, by dotted key.
    pub presets: Vec<(&'static str, String)>,
    /// The operator's file.
    pub file: Option<PathBuf>,
    /// Variables, as in the environment.
    pub variables: BTreeMap<String, String>,
    /// Arguments: a dotted key such as `server.listen`, and its value.
    pub arguments: Vec<(&'static str, String)>,
}

impl Sources {
    /// The environment of this process. Variables that are not UTF-8 are none of ours.
    pub fn from_environment() -> Self {
        let variables = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        Self {
            variables,
            ..Self::default()
        }
    }

    /// Gives a setting another default.
    pub fn preset(&mut self, key: &'static str, value: &str) {
        self.presets.push((key, value.to_owned()));
    }

    /// Sets what an argument says, if it was given.
    pub fn argument(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.arguments.push((key, value.to_owned()));
        }
    }
}

/// How this program was called, for hints that can be pasted.
pub fn program() -> String {
    let name = env::args_os()
        .next()
        .and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "wagate".to_owned())
}

impl Config {
    /// Reads all sources and checks everything that can be checked without binding a port.
    pub fn load(sources: Sources, role: Role) -> Result<Self, ConfigError> {
        let defaults = File::from_str(DEFAULTS, FileFormat::Toml);
        let mut presets = ::config::Config::builder();
        for (key, value) in sources.presets {
            presets = presets.set_override(key, value)?;
        }
        let mut builder = ::config::Config::builder()
            .add_source(defaults.clone())
            .add_source(presets.build()?);
        if let Some(path) = sources.file {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        let variables = settings_among(sources.variables, defaults)?;
        let environment = Environment::with_prefix(PREFIX.trim_end_matches('_'))
            .prefix_separator("_")
            .separator(SEPARATOR)
            .source(Some(variables.into_iter().collect()));
        builder = builder.add_source(environment);
        for (key, value) in sources.arguments {
            builder = builder.set_override(key, value)?;
        }
        let config: Self = builder.build()?.try_deserialize()?;
        config.validate(role)?;
        Ok(config)
    }

    fn validate(&self, role: Role) -> Result<(), ConfigError> {
        self.server.validate()?;
        self.storage.validate()?;
        self.media.validate(self.server.allow_plaintext_remote)?;
        self.egress.validate()?;
        self.events.validate()?;
        self.sessions.validate()?;
        self.sandbox.validate()?;
        self.log.validate()?;
        // `wagate serve` opens no network of its own, so only this role can open one too far.
        if role == Role::Sandbox {
            self.sandbox
                .validate_network(self.server.allow_plaintext_remote)?;
        }
        let homeless = self.sessions.default_network == Network::Sandbox
            && self.sandbox.url.is_empty()
            && role == Role::Gateway;
        if homeless {
            return Err(ConfigError::section(
                "sessions",
                "default_network = \"sandbox\" needs [sandbox] url and static_key; `wagate sandbox` needs neither",
            ));
        }
        Ok(())
    }
}

/// The variables that are settings. Others with our prefix are left alone: the command line has
/// some, and a container platform may invent more. One that only lacks an underscore is refused.
fn settings_among(
    variables: BTreeMap<String, String>,
    defaults: File<::config::FileSourceString, FileFormat>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let known: BTreeMap<String, BTreeMap<String, ::config::Value>> = ::config::Config::builder()
        .add_source(defaults)
        .build()?
        .try_deserialize()?;
    for (section, keys) in &known {
        for key in keys.keys() {
            let (section, key) = (section.to_uppercase(), key.to_uppercase());
            let found = format!("{PREFIX}{section}_{key}");
            if variables.contains_key(&found) {
                let meant = format!("{PREFIX}{section}{SEPARATOR}{key}");
                return Err(ConfigError::Variable { found, meant });
            }
        }
    }
    let is_setting = |name: &String| {
        name.strip_prefix(PREFIX)
            .is_some_and(|key| key.contains(SEPARATOR))
    };
    Ok(variables
        .into_iter()
        .filter(|(name, _)| is_setting(name))
        .collect())
}

#[cfg(test)]
mod tests;

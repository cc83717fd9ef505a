//! `[media]`: files in and out. `[egress]`: URLs that callers give.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{ConfigError, quantity};
use crate::egress::Cidr;

/// Where bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaStore {
    /// In a folder.
    Folder,
    /// In a bucket.
    S3,
}

/// A setting that is not to be printed.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Its text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_empty() { "none" } else { "set" })
    }
}

/// Files in and out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// Where bytes lie.
    pub store: MediaStore,
    /// The folder; empty is one in the data folder.
    pub folder: PathBuf,
    /// Name of the bucket.
    pub s3_bucket: String,
    /// Address of the server; empty is Amazon's.
    pub s3_endpoint: String,
    /// Region of the bucket.
    pub s3_region: String,
    /// Id of the access key.
    pub s3_access_key: String,
    /// Secret of the access key.
    pub s3_secret_key: Secret,
    /// Most bytes of an image.
    #[serde(deserialize_with = "quantity::size")]
    pub image_limit: u64,
    /// Most bytes of a video.
    #[serde(deserialize_with = "quantity::size")]
    pub video_limit: u64,
    /// Most bytes of an audio.
    #[serde(deserialize_with = "quantity::size")]
    pub audio_limit: u64,
    /// Most bytes of a document.
    #[serde(deserialize_with = "quantity::size")]
    pub document_limit: u64,
    /// Most bytes of a sticker.
    #[serde(deserialize_with = "quantity::size")]
    pub sticker_limit: u64,
    /// How long an upload waits for a message.
    #[serde(deserialize_with = "quantity::duration")]
    pub upload_age: Duration,
    /// How long the bytes of a message are kept.
    #[serde(deserialize_with = "quantity::duration")]
    pub retention_age: Duration,
    /// Most transfers in at a time.
    pub transfers: usize,
    /// How long an upload may stand still.
    #[serde(deserialize_with = "quantity::duration")]
    pub stall_timeout: Duration,
    /// How long a URL may take.
    #[serde(deserialize_with = "quantity::duration")]
    pub url_timeout: Duration,
    /// Where links are served; empty is nowhere.
    pub link_listen: String,
    /// What links begin with; empty is the address of `link_listen`.
    pub link_base: String,
    /// How long a link holds.
    #[serde(deserialize_with = "quantity::duration")]
    pub link_age: Duration,
}

impl Media {
    pub(super) fn validate(&self, allow_remote: bool) -> Result<(), ConfigError> {
        let check = |good: bool, why: &str| match good {
            true => Ok(()),
            false => Err(ConfigError::section("media", why)),
        };
        if self.store == MediaStore::S3 {
            let set = !self.s3_bucket.is_empty()
                && !self.s3_access_key.is_empty()
                && !self.s3_secret_key.reveal().is_empty();
            check(
                set,
                "store = \"s3\" needs s3_bucket, s3_access_key and s3_secret_key",
            )?;
            let endpoint = &self.s3_endpoint;
            check(
                endpoint.is_empty()
                    || endpoint.starts_with("https://")
                    || endpoint.starts_with("http://"),
                "s3_endpoint must look like https://s3.example.com",
            )?;
        }
        let sizes = 1..=1_u64 << 40;
        for (name, limit) in [
            ("image_limit", self.image_limit),
            ("video_limit", self.video_limit),
            ("audio_limit", self.audio_limit),
            ("document_limit", self.document_limit),
            ("sticker_limit", self.sticker_limit),
        ] {
            check(
                sizes.contains(&limit),
                &format!("{name} must be 1B to 1TiB"),
            )?;
        }
        let second = Duration::from_secs(1);
        let ages = 60 * second..=3_660 * 86_400 * second;
        for (name, age) in [
            ("upload_age", self.upload_age),
            ("retention_age", self.retention_age),
        ] {
            check(
                ages.contains(&age),
                &format!("{name} must be 1m to ten years (3660d)"),
            )?;
        }
        check(
            (second..=7 * 86_400 * second).contains(&self.link_age),
            "link_age must be 1s to 7d",
        )?;
        check(
            (1..=1_000).contains(&self.transfers),
            "transfers must be 1 to 1000",
        )?;
        for (name, patience) in [
            ("stall_timeout", self.stall_timeout),
            ("url_timeout", self.url_timeout),
        ] {
            check(
                (Duration::from_millis(100)..=3_600 * second).contains(&patience),
                &format!("{name} must be 100ms to 1h"),
            )?;
        }
        let Some(listen) = self.link_address()? else {
            return Ok(());
        };
        check(
            listen.ip().is_loopback() || allow_remote,
            "link_listen can be reached from other machines, and media would cross the network unencrypted. \
             Listen on loopback with something in front that encrypts; or, if that is elsewhere, set \
             [server] allow_plaintext_remote = true",
        )?;
        let base = &self.link_base;
        check(
            base.is_empty() || base.starts_with("https://") || base.starts_with("http://"),
            "link_base must look like https://media.example.com",
        )
    }

    /// Where links are served, if they are.
    pub fn link_address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.link_listen.is_empty() {
            return Ok(None);
        }
        let address = self.link_listen.parse().map_err(|_| {
            ConfigError::section(
                "media",
                "link_listen must be an address with a port, such as 127.0.0.1:8080",
            )
        })?;
        Ok(Some(address))
    }
}

/// URLs that callers give.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Networks that may be called besides the public internet, with commas between them.
    pub allow_networks: String,
}

impl Egress {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.allowed().map(drop)
    }

    /// The networks.
    pub fn allowed(&self) -> Result<Vec<Cidr>, ConfigError> {
        let texts = self.allow_networks.split(',').map(str::trim);
        texts
            .filter(|text| !text.is_empty())
            .map(|text| {
                text.parse()
                    .map_err(|why| ConfigError::section("egress", format!("allow_networks: {why}")))
            })
            .collect()
    }
}

//! Links that open one media for a while, for consumers that need a URL.
//!
//! Pure but for reading the clock. A link is signed with a key that lies in the data folder, so it holds over
//! restarts and nobody can make one; it names the instance, the media, the part and its end, and all four are
//! signed.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use crate::{
    domain::ids::{InstanceNumber, MediaId},
    private_files,
};

/// The path below which media are served.
pub const ROUTE: &str = "/media";

/// Which bytes a link opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of the media.
    Whole,
    /// Its thumbnail.
    Thumbnail,
}

impl Part {
    /// Its name in a link.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Thumbnail => "thumbnail",
        }
    }

    /// The part with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Whole, Self::Thumbnail]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Not one of ours.
    #[error("the link is not valid")]
    Invalid,
    /// One of ours whose time is over.
    #[error("the link has expired")]
    Expired,
}

/// A link's query, as it came.
#[derive(Clone, Debug)]
pub struct Query {
    /// Name of the part.
    pub part: String,
    /// Seconds since 1970.
    pub expires: u64,
    /// URL-safe base64.
    pub signature: String,
}

impl Query {
    /// Reads it; `None` if it is not that of a link.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |wanted: &str| {
            let mut pairs = url::form_urlencoded::parse(text.as_bytes());
            let found = pairs.find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.into_owned())
        };
        Some(Self {
            part: value("part")?,
            expires: value("expires")?.parse().ok()?,
            signature: value("signature")?,
        })
    }
}

/// Makes and checks links.
pub struct Links {
    key: [u8; 64],
    base: String,
    age: Duration,
}

impl Links {
    /// Links below this address that hold for this long, signed with the key in this file, which is made
    /// if there is none.
    pub fn open(key_file: &Path, base: &str, age: Duration) -> io::Result<Self> {
        let key = match fs::read_to_string(key_file) {
            Ok(text) => {
                let mut key = [0; 64];
                hex::decode_to_slice(text.trim(), &mut key).map_err(|_| {
                    let text = format!("{} holds no key of links", key_file.display());
                    io::Error::new(io::ErrorKind::InvalidData, text)
                })?;
                key
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key: [u8; 64] = rand::random();
                private_files::write_line(key_file, &hex::encode(key))?;
                key
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            key,
            base: base.trim_end_matches('/').to_owned(),
            age,
        })
    }

    /// A link, and until when it holds.
    pub fn link(&self, instance: InstanceNumber, id: MediaId, part: Part) -> (String, SystemTime) {
        let end = SystemTime::now() + self.age;
        let expires = seconds(end);
        let signature = self
            .mac(instance, id, part, expires)
            .finalize()
            .into_bytes();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        let (base, part) = (&self.base, part.as_str());
        let url = format!(
            "{base}{ROUTE}/{instance}/{id}?part={part}&expires={expires}&signature={signature}"
        );
        (url, UNIX_EPOCH + Duration::from_secs(expires))
    }

    /// What a link opens.
    pub fn check(
        &self,
        instance: &str,
        id: &str,
        query: &Query,
    ) -> Result<(InstanceNumber, MediaId, Part), LinkError> {
        let invalid = LinkError::Invalid;
        let instance = InstanceNumber(instance.parse().map_err(|_| invalid)?);
        let id = MediaId(Uuid::try_parse(id).map_err(|_| invalid)?);
        let part = Part::parse(&query.part).ok_or(invalid)?;
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(&query.signature)
            .map_err(|_| invalid)?;
        self.mac(instance, id, part, query.expires)
            .verify_slice(&signature)
            .map_err(|_| invalid)?;
        if query.expires < seconds(SystemTime::now()) {
            return Err(LinkError::Expired);
        }
        Ok((instance, id, part))
    }

    fn mac(&self, instance: InstanceNumber, id: MediaId, part: Part, expires: u64) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.key.into());
        // No field can hold the separator.
        let signed = format!("media-link\n{instance}\n{id}\n{}\n{expires}", part.as_str());
        mac.update(signed.as_bytes());
        mac
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(url: &str) -> Query {
        Query::parse(url.split_once('?').unwrap().1).unwrap()
    }

    #[test]
    fn a_link_opens_what_it_names_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let open = |age| Links::open(&file, "http://media.example/", age).unwrap();
        let links = open(Duration::from_secs(60));
        let (instance, id) = (InstanceNumber(3), MediaId::generate());
        let (url, end) = links.link(instance, id, Part::Whole);
        assert!(url.starts_with(&format!("http://media.example/media/3/{id}?part=whole")));
        assert!(end > SystemTime::now());
        let good = query(&url);
        let id = id.to_string();
        // A restart does not end it.
        let links = open(Duration::from_secs(60));
        assert_eq!(links.check("3", &id, &good).unwrap().0, instance);
        let changed = |change: fn(&mut Query)| {
            let mut query = good.clone();
            change(&mut query);
            links.check("3", &id, &query)
        };
        let invalid = Err(LinkError::Invalid);
        assert_eq!(changed(|query| query.expires += 1), invalid);
        assert_eq!(
            changed(|query| query.part = "thumbnail".to_owned()),
            invalid
        );
        assert_eq!(changed(|query| query.signature.truncate(10)), invalid);
        assert_eq!(changed(|query| query.signature.clear()), invalid);
        assert_eq!(links.check("4", &id, &good), invalid);
        let other = MediaId::generate().to_string();
        assert_eq!(links.check("3", &other, &good), invalid);
        // Signed by nobody's key.
        let elsewhere = folder.path().join("other");
        let strange = Links::open(&elsewhere, "http://x", Duration::from_secs(60)).unwrap();
        assert_eq!(strange.check("3", &id, &good), invalid);
    }

    #[test]
    fn a_link_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let links = Links::open(&file, "", Duration::ZERO).unwrap();
        let (instance, id) = (InstanceNumber(3), MediaId::generate());
        let past = seconds(SystemTime::now()) - 1;
        let signature = links.mac(instance, id, Part::Whole, past).finalize();
        let query = Query {
            part: "whole".to_owned(),
            expires: past,
            signature: BASE64_URL_SAFE_NO_PAD.encode(signature.into_bytes()),
        };
        let checked = links.check("3", &id.to_string(), &query);
        assert_eq!(checked, Err(LinkError::Expired));
    }
}

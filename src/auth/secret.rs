//! What a caller shows: `wg_<16 hexadecimal digits of the key's id>_<43 characters>`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};

use crate::domain::ids::ApiKeyId;

const PREFIX: &str = "wg_";

/// Headers that hold nothing but the secret.
const PLAIN_HEADERS: [&str; 2] = ["apikey", "x-api-key"];

/// The secret of a key. Printed only by `reveal`.
#[derive(Clone)]
pub struct Secret {
    id: ApiKeyId,
    bytes: [u8; 32],
}

impl Secret {
    /// A new one with a new id.
    pub fn generate() -> Self {
        let id = hex::encode(rand::random::<[u8; 8]>());
        Self {
            id: ApiKeyId::parse(&id).expect("eight bytes are sixteen digits"),
            bytes: rand::random(),
        }
    }

    /// The secret in a text, if it has the shape of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, encoded) = text.strip_prefix(PREFIX)?.split_once('_')?;
        Some(Self {
            id: ApiKeyId::parse(id)?,
            bytes: BASE64.decode(encoded).ok()?.try_into().ok()?,
        })
    }

    /// The secret that a call brought: `None` where it brought none, `Some(None)` where it is
    /// no secret of ours.
    pub(super) fn of_call(headers: &HeaderMap) -> Option<Option<Self>> {
        let value = match headers.get(AUTHORIZATION) {
            Some(value) => bearer(value),
            None => {
                let plain = PLAIN_HEADERS.iter().find_map(|name| headers.get(*name))?;
                plain.to_str().ok()
            }
        };
        Some(value.and_then(|text| Self::parse(text.trim())))
    }

    /// The id of the key.
    pub fn id(&self) -> &ApiKeyId {
        &self.id
    }

    /// The text that a caller sends. Show it once and keep it nowhere.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, BASE64.encode(self.bytes))
    }

    /// What is kept of it.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.bytes).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{PREFIX}{}_***", self.id)
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_survives_its_text_and_is_not_printed() {
        let secret = Secret::generate();
        let text = secret.reveal();
        assert_eq!(text.len(), 3 + 16 + 1 + 43);
        let parsed = Secret::parse(&text).unwrap();
        assert_eq!(parsed.digest(), secret.digest());
        assert_eq!(parsed.id(), secret.id());
        assert!(!format!("{secret:?}").contains(&text[20..]));
    }

    #[test]
    fn all_three_headers_are_read() {
        let secret = Secret::generate().reveal();
        let call = |name: &'static str, value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            Secret::of_call(&headers)
        };
        for found in [
            call("authorization", format!("Bearer {secret}")),
            call("authorization", format!("bearer  {secret}")),
            call("apikey", secret.clone()),
            call("x-api-key", secret.clone()),
        ] {
            assert_eq!(found.unwrap().unwrap().reveal(), secret);
        }
        assert!(call("authorization", secret.clone()).unwrap().is_none());
        assert!(call("apikey", "wrong".to_owned()).unwrap().is_none());
        assert!(Secret::of_call(&HeaderMap::new()).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = Secret::parse(&text);
        }
    }
}

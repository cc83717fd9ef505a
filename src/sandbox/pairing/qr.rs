//! The text of a QR code, as a phone reads it.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::sandbox::error::SandboxError;

/// What some clients put in front, for phones' camera apps.
const LINK: &str = "https://wa.me/settings/linked_devices#";

/// `reference,noise key,identity,ADV secret[,client type…]`
pub(super) struct QrCode {
    pub reference: String,
    pub noise_key: [u8; 32],
    pub identity: [u8; 32],
    pub adv_secret: [u8; 32],
}

impl QrCode {
    pub(super) fn parse(text: &str) -> Result<Self, SandboxError> {
        let text = text.trim();
        let text = text.strip_prefix(LINK).unwrap_or(text);
        let mut parts = text.split(',');
        let reference = parts.next().filter(|reference| !reference.is_empty());
        let mut key =
            || -> Option<[u8; 32]> { BASE64_STANDARD.decode(parts.next()?).ok()?.try_into().ok() };
        match (reference, key(), key(), key()) {
            (Some(reference), Some(noise_key), Some(identity), Some(adv_secret)) => Ok(Self {
                reference: reference.to_owned(),
                noise_key,
                identity,
                adv_secret,
            }),
            _ => Err(SandboxError::invalid(
                "qr",
                "expected the text of a WhatsApp QR code: a reference and three keys, separated by commas",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_shape_is_read() {
        let key = BASE64_STANDARD.encode([7; 32]);
        for text in [
            format!("2@abc,{key},{key},{key}"),
            format!("2@abc,{key},{key},{key},1\n"),
            format!("{LINK}2@abc,{key},{key},{key},1,https://faq"),
        ] {
            assert_eq!(QrCode::parse(&text).unwrap().reference, "2@abc", "{text}");
        }
        for text in [
            "",
            "2@abc",
            &format!(",{key},{key},{key}"),
            &format!("2@abc,{key},{key},x"),
        ] {
            assert!(QrCode::parse(text).is_err(), "{text}");
        }
    }
}

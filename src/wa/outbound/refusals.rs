//! Why WhatsApp refuses a message, in words.
//!
//! WhatsApp says a number and publishes none of them. Never decides what becomes of the message.

use crate::wa::convert::label;

/// What a code of WhatsApp means, as far as anybody outside it knows, with the code behind it.
pub(super) fn reason(code: &str) -> String {
    let meaning = match code {
        "400" | "479" | "487" | "488" | "489" | "490" | "491" => "it is not as WhatsApp wants it",
        "401" | "403" | "405" => "the account may not write there",
        "404" | "410" => "WhatsApp knows no such recipient",
        "406" => "WhatsApp does not accept it for this recipient",
        "421" => "the group has begun to name its members differently",
        "429" => "the account writes too much",
        "463" => "the account may not write to people who do not know it, for now",
        "475" => "the account has begun too many new chats",
        "500" | "503" => "WhatsApp can't take it now",
        _ => "WhatsApp refused it",
    };
    format!("{meaning} ({})", label(code))
}

/// A limit of WhatsApp on what the account may send, beside which nothing is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// It may not write to people who do not know it.
    Strangers,
    /// It has begun too many chats.
    NewChats,
    /// It writes too much.
    Rate,
}

impl Limit {
    /// The limit that a code tells of.
    pub(super) fn of(code: &str) -> Option<Self> {
        match code {
            "463" => Some(Self::Strangers),
            "475" => Some(Self::NewChats),
            "429" => Some(Self::Rate),
            _ => None,
        }
    }
}

/// Whether a message was refused, for this reason, only because of a limit.
pub(in crate::wa) fn is_limit(reason: &str) -> bool {
    let code = reason
        .strip_suffix(')')
        .and_then(|rest| rest.rsplit_once('('));
    code.is_some_and(|(_, code)| Limit::of(code).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_told() {
        for code in ["463", "479", "503", "599", ""] {
            let reason = reason(code);
            assert!(reason.ends_with(&format!("({code})")), "{reason}");
            assert!(reason.len() > code.len() + 3);
        }
        assert!(is_limit(&reason("463")) && is_limit(&reason("429")));
        assert!(!is_limit(&reason("479")) && !is_limit("") && !is_limit("(463"));
        assert!(reason(&"9".repeat(9_000)).len() < 2_000);
    }
}

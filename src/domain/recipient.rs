//! Whom a message goes to, as callers write it.

use std::fmt;

/// A recipient that messages can go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// A phone number, digits only: still to be resolved by WhatsApp.
    Number(String),
    /// A hidden identity: the digits before `@lid`.
    Lid(String),
    /// A group: what stands before `@g.us`.
    Group(String),
}

impl Recipient {
    /// The recipient in a caller's text, or why it is none. Takes digits, `+` and the usual
    /// separators of printed numbers, `…@s.whatsapp.net`, `…@c.us`, `…@lid` and `…@g.us`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("must not be empty");
        }
        match text.rsplit_once('@') {
            None => {
                let bare = text.strip_prefix('+').unwrap_or(text);
                let digits = bare.replace([' ', '-', '.', '(', ')'], "");
                number(&digits).map(Self::Number)
            }
            Some((user, "s.whatsapp.net" | "c.us")) => number(user).map(Self::Number),
            Some((user, "lid")) => digits(user, 20).map(Self::Lid),
            Some((user, "g.us")) => group(user).map(Self::Group),
            Some((_, "newsletter")) => Err("channels can't be written to yet"),
            Some((_, "broadcast")) => Err("status and broadcasts can't be written to yet"),
            Some(_) => Err("is no JID of a person or a group"),
        }
    }
}

/// A text that `parse` takes back.
impl fmt::Display for Recipient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => out.write_str(number),
            Self::Lid(user) => write!(out, "{user}@lid"),
            Self::Group(user) => write!(out, "{user}@g.us"),
        }
    }
}

/// The JID of a group in a caller's text, or why it is none.
pub fn group_jid(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    match text.rsplit_once('@') {
        Some((user, "g.us")) => group(user).map(|user| format!("{user}@g.us")),
        _ if text.is_empty() => Err("must not be empty"),
        _ => Err("must be the JID of a group, `…@g.us`"),
    }
}

/// The older groups are named by their founder's number and a time, with a dash between.
fn group(user: &str) -> Result<String, &'static str> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let named = match user.split_once('-') {
        Some((founder, time)) => digits(founder) && digits(time),
        None => digits(user),
    };
    if !named || user.len() > 40 {
        return Err("is not the JID of a group");
    }
    Ok(user.to_owned())
}

fn number(text: &str) -> Result<String, &'static str> {
    if text.len() < 5 {
        return Err("is too short for a phone number with its country code");
    }
    // E.164 allows 15.
    let number = digits(text, 15)?;
    if number.starts_with('0') {
        return Err("must start with the country code");
    }
    Ok(number)
}

fn digits(text: &str, most: usize) -> Result<String, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("is neither a phone number nor a JID");
    }
    if text.len() > most {
        return Err("has too many digits");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_spellings_are_taken() {
        let number = Ok(Recipient::Number("15550001111".to_owned()));
        for text in [
            "15550001111",
            "+15550001111",
            " +1 (555) 000-1111 ",
            "15550001111@s.whatsapp.net",
            "15550001111@c.us",
        ] {
            assert_eq!(Recipient::parse(text), number, "{text}");
        }
        assert_eq!(
            Recipient::parse("900001@lid"),
            Ok(Recipient::Lid("900001".to_owned()))
        );
        for group in ["120363000000000001", "15550001111-1600000000"] {
            let jid = format!("{group}@g.us");
            assert_eq!(
                Recipient::parse(&jid),
                Ok(Recipient::Group(group.to_owned()))
            );
            assert_eq!(group_jid(&jid), Ok(jid));
        }
    }

    #[test]
    fn all_else_is_refused() {
        for text in [
            "",
            "  ",
            "abc",
            "1234",
            "0015550001111",
            "1234567890123456",
            "@lid",
            "x@lid",
            "15550001111:2@s.whatsapp.net",
            "-2@g.us",
            "1-@g.us",
            "1-2-3@g.us",
            "@g.us",
            "12x@g.us",
            "status@broadcast",
            "15550001111@example.com",
            "+",
        ] {
            assert!(Recipient::parse(text).is_err(), "{text}");
            assert!(group_jid(text).is_err(), "{text}");
        }
    }
}

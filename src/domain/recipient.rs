//! Whom a message goes to, as callers write it.

/// A recipient that messages can go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// A phone number, digits only: still to be resolved by WhatsApp.
    Number(String),
    /// A hidden identity: the digits before `@lid`.
    Lid(String),
}

impl Recipient {
    /// The recipient in a caller's text, or why it is none. Takes digits, `+` and the usual
    /// separators of printed numbers, `…@s.whatsapp.net`, `…@c.us` and `…@lid`.
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
            Some((_, "g.us")) => Err("groups can't be written to yet"),
            Some((_, "newsletter")) => Err("channels can't be written to yet"),
            Some((_, "broadcast")) => Err("status and broadcasts can't be written to yet"),
            Some(_) => Err("is no JID of a person"),
        }
    }
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
            "1-2@g.us",
            "status@broadcast",
            "15550001111@example.com",
            "+",
        ] {
            assert!(Recipient::parse(text).is_err(), "{text}");
        }
    }
}

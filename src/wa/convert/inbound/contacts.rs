//! Contact cards.

use whatsapp_rust::waproto::whatsapp as wa;

use super::short;
use crate::{
    domain::limits::{CARD_NUMBERS, LIST_ENTRIES, VCARD_BYTES},
    proto::v1::{self, message_content::Content},
    wa::convert::LABEL_CHARS,
};

/// One card.
pub fn contact(contact: &wa::message::ContactMessage) -> Content {
    Content::Contacts(v1::ContactsContent {
        contacts: vec![card(contact)],
    })
}

/// Several.
pub fn contacts(contacts: &wa::message::ContactsArrayMessage) -> Content {
    let contacts = contacts.contacts.iter().take(LIST_ENTRIES);
    Content::Contacts(v1::ContactsContent {
        contacts: contacts.map(card).collect(),
    })
}

fn card(contact: &wa::message::ContactMessage) -> v1::ContactCard {
    let vcard = contact.vcard.as_deref().unwrap_or_default();
    // What is longer carries a picture that nobody asked for, or worse.
    let vcard = if vcard.len() <= VCARD_BYTES {
        vcard
    } else {
        ""
    };
    v1::ContactCard {
        name: short(contact.display_name.as_ref(), LABEL_CHARS),
        phone_numbers: numbers(vcard),
        vcard: vcard.to_owned(),
    }
}

/// The numbers of a vCard: the account's where WhatsApp names it, else what is written.
fn numbers(vcard: &str) -> Vec<String> {
    let mut numbers: Vec<String> = Vec::new();
    for line in vcard.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        // `TEL`, `item1.TEL;waid=15550001111;type=CELL`, …
        let mut parts = name.split(';');
        let property = parts.next().unwrap_or_default();
        let property = property.rsplit('.').next().unwrap_or_default();
        if !property.eq_ignore_ascii_case("TEL") {
            continue;
        }
        let account = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case("waid").then_some(value)
        });
        let digits: String = account
            .unwrap_or(value)
            .chars()
            .filter(char::is_ascii_digit)
            .take(20)
            .collect();
        if !digits.is_empty() && !numbers.contains(&digits) {
            numbers.push(digits);
        }
        if numbers.len() == CARD_NUMBERS {
            break;
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn numbers_are_found_however_they_are_written() {
        let vcard = "BEGIN:VCARD\r\nFN:Ann\r\nitem1.TEL;waid=15550001111:+1 (555) 000-1111\r\n\
                     tel;type=CELL:+1 555-000-2222\r\nTEL:15550001111\r\nTELX:1\r\nEND:VCARD";
        assert_eq!(numbers(vcard), ["15550001111", "15550002222"]);
        assert!(numbers("TEL:").is_empty());
        assert!(numbers("").is_empty());
    }
}

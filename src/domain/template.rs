//! Texts with places that each recipient fills: `{{name}}`.
//!
//! A name is whatever stands between two pairs of braces, without the spaces around it, if it has 1 to 64
//! characters and no brace; anything else stays as it is written.

use std::collections::BTreeMap;

use super::limits::QUEUE_VARIABLE_CHARS;

/// What fills the places, by name.
pub type Variables = BTreeMap<String, String>;

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Variable(&'t str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut found, mut rest, mut from) = (Vec::new(), text, 0);
    while let Some(open) = rest[from..].find("{{").map(|at| at + from) {
        let inner = &rest[open + 2..];
        let Some(close) = inner.find("}}") else { break };
        let name = inner[..close].trim();
        if !is_name(name) {
            from = open + 1;
            continue;
        }
        if open > 0 {
            found.push(Piece::Text(&rest[..open]));
        }
        found.push(Piece::Variable(name));
        rest = &inner[close + 2..];
        from = 0;
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest));
    }
    found
}

/// Whether a place may be called so.
pub fn is_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=QUEUE_VARIABLE_CHARS).contains(&length)
        && name.trim() == name
        && !name.contains(['{', '}'])
}

/// The text with its places filled, or the name of the first that nothing fills.
pub fn fill(text: &str, variables: &Variables) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        filled.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Variable(name) => variables.get(name).ok_or(name)?,
        });
    }
    Ok(filled)
}

/// Whether there is a place in the text.
pub fn has_places(text: &str) -> bool {
    let is_place = |piece: &Piece<'_>| matches!(piece, Piece::Variable(_));
    pieces(text).iter().any(is_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Variables {
        let pairs = [("name", "Ann"), ("first name", "Ann B."), ("empty", "")];
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn places_are_filled() {
        for (text, wanted) in [
            ("", ""),
            ("plain", "plain"),
            ("{{name}}", "Ann"),
            ("Hi {{ name }}!", "Hi Ann!"),
            ("{{name}}{{name}}", "AnnAnn"),
            ("{{first name}}", "Ann B."),
            ("{{{name}}}", "{Ann}"),
            ("a {{}} b {{name", "a {{}} b {{name"),
            ("{{a{b}} {{name}}", "{{a{b}} Ann"),
            ("é{{name}}é", "éAnné"),
            ("{{empty}}", ""),
        ] {
            let filled = fill(text, &ann());
            assert_eq!(filled.as_deref(), Ok(wanted), "{text}");
            let changed = text != wanted;
            assert_eq!(has_places(text), changed, "{text}");
        }
    }

    #[test]
    fn what_nothing_fills_is_named() {
        assert_eq!(fill("{{name}} {{age}}", &ann()), Err("age".to_owned()));
    }

    #[test]
    fn a_value_is_not_looked_into() {
        let variables = [("a".to_owned(), "{{b}}".to_owned())].into();
        assert_eq!(fill("{{a}}", &variables).as_deref(), Ok("{{b}}"));
    }

    #[test]
    fn a_long_name_is_none() {
        let text = format!("{{{{{}}}}}", "x".repeat(QUEUE_VARIABLE_CHARS + 1));
        assert_eq!(fill(&text, &ann()), Ok(text.clone()));
        assert!(!is_name(" a") && !is_name("") && is_name("ä b"));
    }
}

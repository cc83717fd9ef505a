//! The link of a text that a preview is made of.
//!
//! Pure: a text in, a part of it out.

use url::Url;

use crate::domain::limits::LINK_CHARS;

/// What stands after a link rather than at its end.
const AFTER: &str = ".,;:!?'\"*_~…»”’";

/// Brackets that may be a part of a link only as a pair.
const BRACKETS: [(char, char); 3] = [('(', ')'), ('[', ']'), ('{', '}')];

/// The first http or https link, as it stands in the text.
pub fn first(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at);
        let scheme = before
            .rfind(|letter: char| !letter.is_ascii_alphanumeric())
            .map_or(0, |at| {
                at + before[at..].chars().next().map_or(1, char::len_utf8)
            });
        let begun = &rest[scheme..];
        if is_web(&before[scheme..])
            && let Some(link) = whole(begun)
        {
            return Some(link);
        }
        rest = &after["://".len()..];
    }
    None
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// The link that a text begins with, without what stands after it.
fn whole(text: &str) -> Option<&str> {
    let ends = |letter: char| {
        letter.is_whitespace() || letter.is_control() || matches!(letter, '<' | '>' | '"' | '`')
    };
    let mut link = text.split(ends).next().unwrap_or_default();
    while let Some(last) = link.chars().next_back() {
        let open = BRACKETS.iter().find(|(_, close)| *close == last);
        let alone = open.is_some_and(|(open, close)| {
            link.matches(*close).count() > link.matches(*open).count()
        });
        if !alone && !AFTER.contains(last) {
            break;
        }
        link = &link[..link.len() - last.len_utf8()];
    }
    let url = Url::parse(link).ok()?;
    let fits = url.has_host() && link.chars().count() <= LINK_CHARS;
    fits.then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_link_is_found() {
        for (text, link) in [
            ("https://example.com", "https://example.com"),
            (
                "look: https://example.com/a?b=c#d now",
                "https://example.com/a?b=c#d",
            ),
            ("HTTP://EXAMPLE.COM/A.", "HTTP://EXAMPLE.COM/A"),
            ("(see https://example.com/x)", "https://example.com/x"),
            (
                "https://example.com/x_(y), too",
                "https://example.com/x_(y)",
            ),
            ("\"https://example.com/\"", "https://example.com/"),
            ("<https://example.com/>", "https://example.com/"),
            (
                "ftp://example.com http://example.org!",
                "http://example.org",
            ),
            ("http:// https://example.com", "https://example.com"),
            ("größe:https://example.com/ä und", "https://example.com/ä"),
            ("→http://example.com", "http://example.com"),
            (
                "*http://example.com*\nhttp://other.example",
                "http://example.com",
            ),
        ] {
            assert_eq!(first(text), Some(link), "{text}");
        }
    }

    #[test]
    fn what_is_no_link_is_not_found() {
        let long = format!("https://example.com/{}", "x".repeat(LINK_CHARS));
        for text in [
            "",
            "no link",
            "example.com",
            "://",
            "https://",
            "https:///",
            "xhttps://example.com",
            "file:///etc/passwd",
            "http:example.com",
            &long,
        ] {
            assert_eq!(first(text), None, "{text}");
        }
    }
}

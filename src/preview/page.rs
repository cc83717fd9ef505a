//! What a page says of itself: Open Graph, else what Twitter reads, else its title and description.
//!
//! Pure: the bytes of a page in, a few short texts out. Pages are UTF-8; what is not is left out.

use std::collections::HashMap;

use html5gum::{DefaultEmitter, Token, Tokenizer};
use url::Url;

use crate::domain::limits::{CAPTION_CHARS, LINK_CHARS, NAME_CHARS};

/// By which names a page tells its title, …
const TITLES: [&str; 2] = ["og:title", "twitter:title"];

/// … its description, …
const DESCRIPTIONS: [&str; 3] = ["og:description", "twitter:description", "description"];

/// … and where its picture is; those before count before those after.
const PICTURES: [&str; 5] = [
    "og:image:secure_url",
    "og:image",
    "og:image:url",
    "twitter:image",
    "twitter:image:src",
];

/// See the module.
pub struct Page {
    /// Where it came from.
    url: Url,
    /// What it says under the names above; the first of a name counts.
    told: HashMap<&'static str, String>,
    /// What a browser shows as its title.
    title: String,
}

impl Page {
    /// Reads a page, or its beginning.
    pub fn read(html: &[u8], url: Url) -> Self {
        let mut page = Self {
            url,
            told: HashMap::new(),
            title: String::new(),
        };
        // Of scripts and titles the tokenizer must know that no tags are in them.
        let mut emitter = DefaultEmitter::default();
        emitter.naively_switch_states(true);
        let mut in_title = false;
        for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
            match token {
                Token::StartTag(tag) => match &**tag.name {
                    b"meta" => {
                        let attribute = |name: &[u8]| {
                            let value = tag.attributes.get(name)?;
                            std::str::from_utf8(value).ok()
                        };
                        let name = attribute(b"property").or_else(|| attribute(b"name"));
                        if let (Some(name), Some(value)) = (name, attribute(b"content")) {
                            page.hear(name, value);
                        }
                    }
                    b"title" => in_title = page.title.is_empty(),
                    b"body" => break,
                    _ => {}
                },
                Token::EndTag(tag) => match &**tag.name {
                    b"title" => in_title = false,
                    b"head" => break,
                    _ => {}
                },
                Token::String(text) if in_title => {
                    if let Ok(text) = std::str::from_utf8(&text) {
                        page.title.push_str(text);
                    }
                }
                _ => {}
            }
        }
        page
    }

    fn hear(&mut self, name: &str, value: &str) {
        let names = TITLES.iter().chain(&DESCRIPTIONS).chain(&PICTURES);
        let known = names
            .copied()
            .find(|known| known.eq_ignore_ascii_case(name));
        if let Some(known) = known.filter(|_| !value.trim().is_empty()) {
            self.told.entry(known).or_insert_with(|| value.to_owned());
        }
    }

    fn first(&self, names: &[&str]) -> Option<&str> {
        let told = names.iter().find_map(|name| self.told.get(*name));
        told.map(String::as_str)
    }

    /// Its title, in one line.
    pub fn title(&self) -> Option<String> {
        let title = self.first(&TITLES).unwrap_or(&self.title);
        line(title, NAME_CHARS)
    }

    /// Its description, in one line.
    pub fn description(&self) -> Option<String> {
        line(self.first(&DESCRIPTIONS)?, CAPTION_CHARS)
    }

    /// Where its picture is.
    pub fn picture(&self) -> Option<String> {
        let picture = self.url.join(self.first(&PICTURES)?.trim()).ok()?;
        let fits = matches!(picture.scheme(), "http" | "https");
        (fits && picture.as_str().len() <= LINK_CHARS).then(|| picture.into())
    }
}

/// A text without breaks and what can't be printed, and no longer than so many characters.
fn line(text: &str, most: usize) -> Option<String> {
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    let cut = line
        .char_indices()
        .nth(most)
        .map_or(line.len(), |(at, _)| at);
    let line = line[..cut].trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(html: &str) -> Page {
        Page::read(
            html.as_bytes(),
            Url::parse("https://example.com/a/b").unwrap(),
        )
    }

    #[test]
    fn open_graph_counts_before_the_rest() {
        let page = page(
            r#"<!doctype html><html><head>
            <script>document.write('<meta property="og:title" content="a script">')</script>
            <title>A &amp; B
               of the browser</title><meta name=description content="for search">
            <META Property="OG:Title" CONTENT="Tea &quot;&amp;&quot; cake">
            <meta property="og:title" content="another">
            <meta property="og:description" content="  At
            five  ">
            <meta property="og:image" content="../tea.png?a=1&amp;b=2">
            <meta name="twitter:title" content="a bird">
            </head><body><meta property="og:image:secure_url" content="https://example.org/of-a-reader.png">"#,
        );
        assert_eq!(page.title().unwrap(), "Tea \"&\" cake");
        assert_eq!(page.description().unwrap(), "At five");
        assert_eq!(
            page.picture().unwrap(),
            "https://example.com/tea.png?a=1&b=2"
        );
    }

    #[test]
    fn a_title_is_enough() {
        let found = page("<title>Größe <b>&lt;1</title><svg><title>of a picture</title></svg>");
        assert_eq!(found.title().unwrap(), "Größe <b><1");
        assert_eq!((found.description(), found.picture()), (None, None));
        for html in [
            "",
            "no page",
            "<title> \n </title>",
            "<meta property='og:title' content=' '>",
            "<meta property='og:title'",
            "<body><title>late</title>",
        ] {
            assert_eq!(page(html).title(), None, "{html}");
        }
    }

    #[test]
    fn what_is_too_long_or_wrong_is_cut_or_left_out() {
        let long = "ä".repeat(5_000);
        let html = format!(
            "<title>{long}</title><meta name=description content='{long}'>\
             <meta property=og:image content='javascript:alert(1)'>"
        );
        let found = page(&html);
        assert_eq!(found.title().unwrap().chars().count(), NAME_CHARS);
        assert_eq!(found.description().unwrap().chars().count(), CAPTION_CHARS);
        assert_eq!(found.picture(), None);
        let far = format!("<meta property=og:image content='https://example.com/{long}'>");
        assert_eq!(page(&far).picture(), None);
        // Another encoding than UTF-8.
        let url = Url::parse("https://example.com").unwrap();
        let found = Page::read(
            b"<title>Gr\xf6\xdfe</title><meta name=description content=x>",
            url,
        );
        assert_eq!(found.title(), None);
        assert_eq!(found.description().unwrap(), "x");
    }
}

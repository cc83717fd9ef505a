//! What a mailing list says: to and from the content of a message, and filled for a recipient.

use crate::{
    domain::template::{self, Variables},
    proto::v1::{message_content::Content, queue_message::Content as Listed},
};

/// Every kind that a list can say.
macro_rules! kinds {
    ($($kind:ident),+ $(,)?) => {
        /// What a list says, as the content of a message.
        pub fn content_of(listed: Listed) -> Content {
            match listed {
                $(Listed::$kind(said) => Content::$kind(said),)+
            }
        }

        /// The content of a message, as a list says it; `None` for what no list can say.
        pub fn listed(content: Content) -> Option<Listed> {
            match content {
                $(Content::$kind(said) => Some(Listed::$kind(said)),)+
                _ => None,
            }
        }
    };
}

kinds!(
    Text,
    GroupInvite,
    Location,
    LiveLocation,
    Contacts,
    Poll,
    EventInvitation,
    List,
    Buttons,
    Interactive,
    Image,
    Video,
    Audio,
    Document,
    Sticker,
);

/// The texts that may have places to fill.
fn texts(content: &mut Content) -> Vec<&mut String> {
    match content {
        Content::Text(text) => vec![&mut text.text],
        Content::GroupInvite(invite) => vec![&mut invite.caption],
        Content::LiveLocation(live) => vec![&mut live.caption],
        Content::Image(image) => vec![&mut image.caption],
        Content::Video(video) => vec![&mut video.caption],
        Content::Document(document) => vec![&mut document.caption],
        Content::List(list) => vec![&mut list.title, &mut list.description, &mut list.footer],
        Content::Buttons(said) => vec![&mut said.header, &mut said.text, &mut said.footer],
        Content::Interactive(said) => vec![&mut said.header, &mut said.body, &mut said.footer],
        _ => Vec::new(),
    }
}

/// Whether recipients get different texts.
pub fn has_places(content: &Content) -> bool {
    let mut content = content.clone();
    let texts = texts(&mut content);
    texts.iter().any(|text| template::has_places(text))
}

/// The content for one recipient, or the name of the variable that is missing.
pub fn filled(content: &Content, variables: &Variables) -> Result<Content, String> {
    let mut content = content.clone();
    for text in texts(&mut content) {
        *text = template::fill(text, variables)?;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    #[test]
    fn texts_and_captions_are_filled() {
        let variables: Variables = [("name".to_owned(), "Ann".to_owned())].into();
        let text = |text: &str| {
            Content::Text(v1::TextContent {
                text: text.to_owned(),
                ..Default::default()
            })
        };
        assert!(has_places(&text("Hi {{name}}")) && !has_places(&text("Hi")));
        assert_eq!(filled(&text("Hi {{name}}"), &variables), Ok(text("Hi Ann")));
        assert_eq!(filled(&text("{{age}}"), &variables), Err("age".to_owned()));
        let image = |caption: &str| {
            Content::Image(v1::ImageContent {
                caption: caption.to_owned(),
                ..Default::default()
            })
        };
        assert_eq!(filled(&image("{{name}}"), &variables), Ok(image("Ann")));
        assert_eq!(listed(text("a")).map(content_of), Some(text("a")));
        assert_eq!(listed(Content::Reaction(Default::default())), None);
    }
}

//! What the stories of this folder prove of each kind of message, as docs/messages.md tells it.

use Library::{Baileys, Whatsmeow};

use crate::support::Library;

const PAGE: &str = include_str!("../../../docs/messages.md");

/// The stories, by their text: that a story of a name is there.
const STORIES: [&str; 4] = [
    include_str!("../foreign.rs"),
    include_str!("files.rs"),
    include_str!("kinds.rs"),
    include_str!("with_wagate.rs"),
];

/// Something that one side says and the other understands.
struct Covered {
    /// The field of `MessageContent`, in backticks, or what goes around a message.
    what: &'static str,
    /// Of the tests that prove it, what stands behind the library's name.
    story: &'static str,
    /// Who shows it when wagate says it.
    shown_by: &'static [Library],
    /// Whose wagate understands.
    understood_from: &'static [Library],
}

const BOTH: &[Library] = &[Baileys, Whatsmeow];

const fn both(what: &'static str, story: &'static str) -> Covered {
    Covered {
        what,
        story,
        shown_by: BOTH,
        understood_from: BOTH,
    }
}

const COVERED: [Covered; 19] = [
    both("`text`", "by_number"),
    both("a quote", "and_wagate_run_a_group"),
    both("a mention", "and_wagate_run_a_group"),
    both("`image`", "and_wagate_exchange_files"),
    both("`video`", "and_wagate_exchange_files"),
    both("`audio`, a voice note", "and_wagate_exchange_files"),
    both("`document`", "and_wagate_exchange_files"),
    both("`sticker`", "and_wagate_exchange_files"),
    both("`view_once`", "and_wagate_exchange_files"),
    both("`location`", "and_wagate_share_places_and_cards"),
    both("`contacts`", "and_wagate_share_places_and_cards"),
    both("`reaction`", "and_wagate_react_edit_and_delete"),
    both("`edited`", "and_wagate_react_edit_and_delete"),
    both("`deleted`", "and_wagate_react_edit_and_delete"),
    both("`poll`", "and_wagate_ask_polls"),
    Covered {
        what: "`poll_vote`",
        story: "and_wagate_ask_polls",
        shown_by: BOTH,
        // Baileys has no way to vote.
        understood_from: &[Whatsmeow],
    },
    both("`payment_request`", "and_wagate_ask_for_money"),
    both("`payment_declined`", "and_wagate_ask_for_money"),
    both("`payment_cancelled`", "and_wagate_ask_for_money"),
];

fn prefix(library: Library) -> &'static str {
    match library {
        Baileys => "baileys",
        Whatsmeow => "whatsmeow",
    }
}

#[test]
fn the_page_tells_what_other_clients_have_confirmed() {
    let mut table = "| what | to Baileys | from Baileys | to whatsmeow | from whatsmeow |\n\
                     |---|---|---|---|---|\n"
        .to_owned();
    for one in &COVERED {
        table += &format!("| {} |", one.what);
        for library in BOTH {
            for proven in [one.shown_by, one.understood_from] {
                let cell = if proven.contains(library) {
                    "yes"
                } else {
                    "no"
                };
                table += &format!(" {cell} |");
            }
        }
        table += "\n";
    }
    assert!(
        PAGE.contains(&table),
        "docs/messages.md lacks this:\n{table}"
    );
}

#[test]
fn what_is_covered_has_its_stories() {
    for one in &COVERED {
        for library in one.shown_by.iter().chain(one.understood_from) {
            let story = format!("async fn {}_{}(", prefix(*library), one.story);
            let found = STORIES.iter().any(|text| text.contains(&story));
            assert!(found, "{} is proven by no {story:?}", one.what);
        }
    }
}

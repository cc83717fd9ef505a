//! What businesses send and what is answered: lists, buttons, templates, products, orders.

use whatsapp_rust::{Jid, waproto::whatsapp as wa};

use super::{long, media, short, thumbnail};
use crate::{
    domain::limits::{DESCRIPTION_CHARS, LINK_CHARS, LIST_ENTRIES},
    proto::v1::{self, message_content::Content},
    wa::convert::{LABEL_CHARS, NAME_BYTES, ids::Names},
};

fn name(text: &Option<String>) -> String {
    short(text.as_ref(), LABEL_CHARS)
}

/// A list to choose from.
pub fn list(list: &wa::message::ListMessage) -> Content {
    let mut room = LIST_ENTRIES;
    let mut sections = Vec::new();
    for section in list.sections.iter().take(LIST_ENTRIES) {
        let rows: Vec<_> = section.rows.iter().take(room).collect();
        room -= rows.len();
        sections.push(v1::ListSection {
            title: name(&section.title),
            rows: rows
                .into_iter()
                .map(|row| v1::ListRow {
                    id: name(&row.row_id),
                    title: name(&row.title),
                    description: short(row.description.as_ref(), DESCRIPTION_CHARS),
                })
                .collect(),
        });
    }
    Content::List(v1::ListContent {
        title: name(&list.title),
        description: long(list.description.as_ref()),
        button_text: name(&list.button_text),
        footer: name(&list.footer_text),
        sections,
    })
}

/// What was chosen from a list.
pub fn list_reply(reply: &wa::message::ListResponseMessage) -> Content {
    let chosen = reply.single_select_reply.as_option();
    Content::ListReply(v1::ListReplyContent {
        row_id: chosen
            .map(|row| name(&row.selected_row_id))
            .unwrap_or_default(),
        title: name(&reply.title),
        description: short(reply.description.as_ref(), DESCRIPTION_CHARS),
    })
}

/// Text with buttons.
pub fn buttons(message: &wa::message::ButtonsMessage) -> Content {
    use wa::message::buttons_message::Header;
    let header = match &message.header {
        Some(Header::Text(text)) => short(Some(text), LABEL_CHARS),
        _ => String::new(),
    };
    let buttons = message.buttons.iter().take(LIST_ENTRIES);
    Content::Buttons(v1::ButtonsContent {
        header,
        text: long(message.content_text.as_ref()),
        footer: name(&message.footer_text),
        buttons: buttons
            .map(|button| v1::ReplyButton {
                id: name(&button.button_id),
                text: button
                    .button_text
                    .as_option()
                    .map(|text| name(&text.display_text))
                    .unwrap_or_default(),
            })
            .collect(),
    })
}

/// The button that was pressed.
pub fn button_reply(reply: &wa::message::ButtonsResponseMessage) -> Content {
    use wa::message::buttons_response_message::Response;
    let text = match &reply.response {
        Some(Response::SelectedDisplayText(text)) => short(Some(text), LABEL_CHARS),
        None => String::new(),
    };
    Content::ButtonReply(v1::ButtonReplyContent {
        button_id: name(&reply.selected_button_id),
        text,
        index: 0,
    })
}

/// The button of a template that was pressed.
pub fn template_reply(reply: &wa::message::TemplateButtonReplyMessage) -> Content {
    Content::ButtonReply(v1::ButtonReplyContent {
        button_id: name(&reply.selected_id),
        text: name(&reply.selected_display_text),
        index: reply.selected_index.unwrap_or_default(),
    })
}

/// Text with the buttons of a business.
pub fn interactive(message: &wa::message::InteractiveMessage) -> v1::InteractiveContent {
    use wa::message::interactive_message::InteractiveMessage;
    let header = message.header.as_option();
    let body = message.body.as_option();
    let footer = message.footer.as_option();
    let buttons = match &message.interactive_message {
        Some(InteractiveMessage::NativeFlowMessage(flow)) => flow
            .buttons
            .iter()
            .take(LIST_ENTRIES)
            .map(|button| v1::InteractiveButton {
                name: name(&button.name),
                params_json: long(button.button_params_json.as_ref()),
            })
            .collect(),
        _ => Vec::new(),
    };
    v1::InteractiveContent {
        header: header.map(|one| name(&one.title)).unwrap_or_default(),
        body: long(body.and_then(|one| one.text.as_ref())),
        footer: footer.map(|one| name(&one.text)).unwrap_or_default(),
        buttons,
    }
}

/// A template, shown like the newer kind.
pub fn template(message: &wa::message::TemplateMessage) -> Option<v1::InteractiveContent> {
    use wa::message::template_message::{Format, hydrated_four_row_template::Title};
    let template = match &message.format {
        Some(Format::InteractiveMessageTemplate(newer)) => return Some(interactive(newer)),
        Some(Format::HydratedFourRowTemplate(template)) => template,
        _ => message.hydrated_template.as_option()?,
    };
    let header = match &template.title {
        Some(Title::HydratedTitleText(text)) => short(Some(text), LABEL_CHARS),
        _ => String::new(),
    };
    let buttons = template.hydrated_buttons.iter().take(LIST_ENTRIES);
    Some(v1::InteractiveContent {
        header,
        body: long(template.hydrated_content_text.as_ref()),
        footer: name(&template.hydrated_footer_text),
        buttons: buttons.filter_map(template_button).collect(),
    })
}

fn template_button(button: &wa::HydratedTemplateButton) -> Option<v1::InteractiveButton> {
    use wa::hydrated_template_button::HydratedButton;
    let (kind, params) = match button.hydrated_button.as_ref()? {
        HydratedButton::QuickReplyButton(one) => (
            "quick_reply",
            serde_json::json!({
                "display_text": name(&one.display_text),
                "id": name(&one.id),
            }),
        ),
        HydratedButton::UrlButton(one) => (
            "cta_url",
            serde_json::json!({
                "display_text": name(&one.display_text),
                "url": short(one.url.as_ref(), LINK_CHARS),
            }),
        ),
        HydratedButton::CallButton(one) => (
            "cta_call",
            serde_json::json!({
                "display_text": name(&one.display_text),
                "phone_number": name(&one.phone_number),
            }),
        ),
    };
    Some(v1::InteractiveButton {
        name: kind.to_owned(),
        params_json: params.to_string(),
    })
}

/// What came of a button of a business.
pub fn interactive_reply(reply: &wa::message::InteractiveResponseMessage) -> Content {
    use wa::message::interactive_response_message::InteractiveResponseMessage;
    let text = reply.body.as_option().and_then(|body| body.text.as_ref());
    let mut content = v1::InteractiveReplyContent {
        text: long(text),
        ..Default::default()
    };
    if let Some(InteractiveResponseMessage::NativeFlowResponseMessage(flow)) =
        &reply.interactive_response_message
    {
        content.name = name(&flow.name);
        content.params_json = long(flow.params_json.as_ref());
    }
    Content::InteractiveReply(content)
}

/// A product.
pub fn product(message: &wa::message::ProductMessage, names: &Names) -> Content {
    let mut content = v1::ProductContent {
        seller: seller(message.business_owner_jid.as_deref(), names),
        text: long(message.body.as_ref()),
        ..Default::default()
    };
    if let Some(product) = message.product.as_option() {
        content.product_id = name(&product.product_id);
        content.title = name(&product.title);
        content.description = short(product.description.as_ref(), DESCRIPTION_CHARS);
        content.currency = name(&product.currency_code);
        content.price_thousandths = product.price_amount1000.unwrap_or_default();
        content.sale_price_thousandths = product.sale_price_amount1000.unwrap_or_default();
        content.url = short(product.url.as_ref(), LINK_CHARS);
        content.retailer_id = name(&product.retailer_id);
        content.image = product.product_image.as_option().map(media::picture);
    }
    Content::Product(content)
}

/// An order.
pub fn order(order: &wa::message::OrderMessage, names: &Names) -> Content {
    let count = order.item_count.and_then(|count| count.try_into().ok());
    Content::Order(v1::OrderContent {
        order_id: name(&order.order_id),
        title: name(&order.order_title),
        item_count: count.unwrap_or_default(),
        text: long(order.message.as_ref()),
        seller: seller(order.seller_jid.as_deref(), names),
        currency: name(&order.total_currency_code),
        total_thousandths: order.total_amount1000.unwrap_or_default(),
        thumbnail: thumbnail(order.thumbnail.as_ref()),
    })
}

fn seller(jid: Option<&str>, names: &Names) -> Option<v1::Party> {
    let jid: Jid = jid?.parse().ok()?;
    let fits = (1..=NAME_BYTES).contains(&jid.user.len());
    (fits && (jid.is_pn() || jid.is_lid())).then(|| names.party(&jid, ""))
}

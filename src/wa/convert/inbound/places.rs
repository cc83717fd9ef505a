//! Places: where something is, and where somebody is.

use whatsapp_rust::waproto::whatsapp as wa;

use super::{long, short, thumbnail};
use crate::{
    domain::limits::{CAPTION_CHARS, LINK_CHARS},
    proto::v1::{self, message_content::Content},
    wa::convert::LABEL_CHARS,
};

/// A number of degrees that lie within bounds; anything else is 0.
fn degrees(value: Option<f64>, most: f64) -> f64 {
    value
        .filter(|degrees| degrees.abs() <= most)
        .unwrap_or_default()
}

/// A place.
pub fn place(location: &wa::message::LocationMessage) -> v1::LocationContent {
    v1::LocationContent {
        latitude: degrees(location.degrees_latitude, 90.0),
        longitude: degrees(location.degrees_longitude, 180.0),
        name: short(location.name.as_ref(), LABEL_CHARS),
        address: short(location.address.as_ref(), CAPTION_CHARS),
        url: short(location.url.as_ref(), LINK_CHARS),
        thumbnail: thumbnail(location.jpeg_thumbnail.as_ref()),
    }
}

/// A place, or where somebody is: old clients say both in one kind.
pub fn location(location: &wa::message::LocationMessage) -> Content {
    if location.is_live != Some(true) {
        return Content::Location(place(location));
    }
    let place = place(location);
    Content::LiveLocation(v1::LiveLocationContent {
        latitude: place.latitude,
        longitude: place.longitude,
        accuracy_meters: location.accuracy_in_meters.unwrap_or_default(),
        speed_mps: finite(location.speed_in_mps),
        bearing_degrees: location
            .degrees_clockwise_from_magnetic_north
            .unwrap_or_default(),
        caption: long(location.comment.as_ref()),
        thumbnail: place.thumbnail,
        ..Default::default()
    })
}

/// Where somebody is.
pub fn live_location(live: &wa::message::LiveLocationMessage) -> Content {
    Content::LiveLocation(v1::LiveLocationContent {
        latitude: degrees(live.degrees_latitude, 90.0),
        longitude: degrees(live.degrees_longitude, 180.0),
        accuracy_meters: live.accuracy_in_meters.unwrap_or_default(),
        speed_mps: finite(live.speed_in_mps),
        bearing_degrees: live
            .degrees_clockwise_from_magnetic_north
            .unwrap_or_default(),
        caption: long(live.caption.as_ref()),
        sequence_number: live
            .sequence_number
            .and_then(|number| number.try_into().ok())
            .unwrap_or_default(),
        time_offset_seconds: live.time_offset.unwrap_or_default(),
        thumbnail: thumbnail(live.jpeg_thumbnail.as_ref()),
    })
}

/// A number that JSON has too.
fn finite(value: Option<f32>) -> f32 {
    value.filter(|value| value.is_finite()).unwrap_or_default()
}

//! A media as callers see it.

use crate::{
    domain::{ids::InstanceId, media::MediaState},
    events::timestamp,
    proto::v1,
    storage::media::MediaRow,
};

use super::links::{Links, Part};

/// The resource of a row, with links where this server makes any.
pub fn resource(row: &MediaRow, instance: InstanceId, links: Option<&Links>) -> v1::Media {
    let link = |part, there: bool| {
        let links = links.filter(|_| there)?;
        Some(links.link(row.instance, row.id, part))
    };
    let whole = link(Part::Whole, row.state == MediaState::Ready);
    let thumbnail = link(Part::Thumbnail, !row.thumbnail.is_empty());
    let end = whole.as_ref().or(thumbnail.as_ref()).map(|(_, end)| *end);
    v1::Media {
        mime_type: row.mime_type.clone(),
        size_bytes: row.size,
        sha256: row.sha256.clone(),
        file_name: row.file_name.clone(),
        width: row.width,
        height: row.height,
        duration_seconds: row.duration,
        thumbnail: row.thumbnail.clone(),
        state: row.state as i32,
        id: row.id.to_string(),
        instance_id: instance.to_string(),
        kind: row.kind as i32,
        url: whole.map(|(url, _)| url).unwrap_or_default(),
        thumbnail_url: thumbnail.map(|(url, _)| url).unwrap_or_default(),
        url_expire_time: end.map(timestamp),
        create_time: Some(timestamp(row.create_time)),
        expire_time: row.expire_time.map(timestamp),
    }
}

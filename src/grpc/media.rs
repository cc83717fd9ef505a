//! MediaService: reads what a caller says of a file, hands the bytes on in either direction.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding};
use uuid::Uuid;

use super::{
    access,
    requests::{Requests, mark_of},
    status::field_invalid,
};
use crate::{
    domain::{ids::MediaId, media::MediaKind, permission::Permission},
    media::{Bytestream, Media, MediaError, NewMedia, is_mime_type, links::Links, resource},
    proto::v1::{
        self, download_media_response,
        media_service_server::{MediaService, MediaServiceServer},
        upload_media_request,
    },
    storage::{InstanceRow, Storage, media::MediaRow},
};

/// Bytes of a chunk on its way out.
const CHUNK: usize = 256 << 10;

/// Longest name of a file.
const FILE_NAME_BYTES: usize = 255;

/// The service.
pub struct MediaFiles {
    storage: Arc<dyn Storage>,
    media: Arc<Media>,
    links: Option<Arc<Links>>,
    requests: Requests,
}

impl MediaFiles {
    /// The service, on this store and these media. Files hardly shrink, so nothing is packed on its way out.
    pub fn server(
        storage: Arc<dyn Storage>,
        media: Arc<Media>,
        links: Option<Arc<Links>>,
    ) -> MediaServiceServer<Self> {
        MediaServiceServer::new(Self {
            requests: Requests::new(storage.clone()),
            storage,
            media,
            links,
        })
        .accept_compressed(CompressionEncoding::Gzip)
    }

    async fn found<T>(
        &self,
        request: &Request<T>,
        instance: &str,
        media_id: &str,
    ) -> Result<(InstanceRow, MediaRow), Status> {
        let caller = access::permit(request, Permission::MediaRead)?;
        let instance =
            access::instance(self.storage.as_ref(), &caller, "instance", instance).await?;
        let media = self.row(&instance, media_id).await?;
        Ok((instance, media))
    }

    async fn row(&self, instance: &InstanceRow, media_id: &str) -> Result<MediaRow, Status> {
        let id = Uuid::try_parse(media_id)
            .map_err(|_| field_invalid("media_id", "must be the id of a media"))?;
        Ok(self.media.find(instance.number, MediaId(id)).await?)
    }

    fn resource(&self, instance: &InstanceRow, row: &MediaRow) -> v1::Media {
        resource(row, instance.id, self.links.as_deref())
    }
}

#[tonic::async_trait]
impl MediaService for MediaFiles {
    async fn upload_media(
        &self,
        request: Request<Streaming<v1::UploadMediaRequest>>,
    ) -> Result<Response<v1::UploadMediaResponse>, Status> {
        let caller = access::permit(&request, Permission::MediaWrite)?;
        let mut parts = request.into_inner();
        let Some(upload_media_request::Part::Metadata(told)) = next_part(&self.media, &mut parts)
            .await?
            .and_then(|first| first.part)
        else {
            return Err(field_invalid("metadata", "must come first"));
        };
        let instance = access::instance(
            self.storage.as_ref(),
            &caller,
            "metadata.instance",
            &told.instance,
        )
        .await?;
        let new = new_media(&instance, &told)?;
        let media = self.media.clone();
        let mark = mark_of!(caller, instance, told, "UploadMedia")?;
        let kept = self.requests.once(instance.number, mark, async move {
            let row = match told.url.is_empty() {
                true => media.take(new, chunks(parts)).await?,
                false if next_part(&media, &mut parts).await?.is_some() => {
                    return Err(field_invalid("metadata.url", "goes without chunks"));
                }
                false => media.fetch(new, &told.url).await?,
            };
            // The rest is read anew: a link of today would be dead for a retry.
            Ok(v1::Media {
                id: row.id.to_string(),
                ..Default::default()
            })
        });
        let row = self.row(&instance, &kept.await?.id).await?;
        Ok(Response::new(v1::UploadMediaResponse {
            media: Some(self.resource(&instance, &row)),
        }))
    }

    type DownloadMediaStream = BoxStream<'static, Result<v1::DownloadMediaResponse, Status>>;

    async fn download_media(
        &self,
        request: Request<v1::DownloadMediaRequest>,
    ) -> Result<Response<Self::DownloadMediaStream>, Status> {
        let asked = request.get_ref();
        let (instance, row) = self
            .found(&request, &asked.instance, &asked.media_id)
            .await?;
        let (start, length) = (asked.offset, asked.length);
        let end = match length {
            0 => row.size.max(start),
            length => start.saturating_add(length),
        };
        let bytes = self.media.read(&row, start..end).await?;
        let media = self.resource(&instance, &row);
        let first = download_media_response::Part::Media(media);
        let rest = even(bytes).map(|chunk| Ok(download_media_response::Part::Chunk(chunk?)));
        let parts = stream::iter([Ok(first)])
            .chain(rest)
            .map(|part| part.map(|part| v1::DownloadMediaResponse { part: Some(part) }));
        Ok(Response::new(parts.boxed()))
    }

    async fn get_media(
        &self,
        request: Request<v1::GetMediaRequest>,
    ) -> Result<Response<v1::GetMediaResponse>, Status> {
        let asked = request.get_ref();
        let (instance, row) = self
            .found(&request, &asked.instance, &asked.media_id)
            .await?;
        Ok(Response::new(v1::GetMediaResponse {
            media: Some(self.resource(&instance, &row)),
        }))
    }
}

/// The next part of an upload, if it comes in time.
async fn next_part(
    media: &Media,
    parts: &mut Streaming<v1::UploadMediaRequest>,
) -> Result<Option<v1::UploadMediaRequest>, Status> {
    match timeout(media.stall_timeout(), parts.message()).await {
        Ok(part) => part,
        Err(_) => Err(MediaError::Stalled.into()),
    }
}

/// What the metadata say, if they can be true.
fn new_media(instance: &InstanceRow, told: &v1::UploadMediaMetadata) -> Result<NewMedia, Status> {
    let kind = match told.kind {
        0 => None,
        number => Some(
            MediaKind::from_number(number)
                .ok_or_else(|| field_invalid("metadata.kind", "must be a kind of media"))?,
        ),
    };
    if !told.mime_type.is_empty() && !is_mime_type(&told.mime_type) {
        return Err(field_invalid(
            "metadata.mime_type",
            "must look like image/jpeg",
        ));
    }
    let name = &told.file_name;
    file_name("metadata.file_name", name)?;
    let sha256 = match told.sha256.len() {
        0 => None,
        _ => Some(
            <[u8; 32]>::try_from(&told.sha256[..])
                .map_err(|_| field_invalid("metadata.sha256", "must have 32 bytes"))?,
        ),
    };
    Ok(NewMedia {
        instance: instance.number,
        kind,
        mime_type: told.mime_type.clone(),
        only_hint: false,
        file_name: name.clone(),
        size: (told.size_bytes > 0).then_some(told.size_bytes),
        sha256,
    })
}

/// The name of a file, if it can be one. `field` names it.
pub(super) fn file_name(field: &str, name: &str) -> Result<(), Status> {
    let illegal = |letter: char| letter.is_control() || letter == '/' || letter == '\\';
    if name.len() > FILE_NAME_BYTES || name.chars().any(illegal) {
        return Err(field_invalid(
            field,
            "must have at most 255 bytes, printable and without slashes",
        ));
    }
    Ok(())
}

/// The bytes that a caller sends.
fn chunks(
    parts: Streaming<v1::UploadMediaRequest>,
) -> impl Stream<Item = Result<Bytes, MediaError>> + Send {
    parts.map(|part| match part.map(|part| part.part) {
        Ok(Some(upload_media_request::Part::Chunk(chunk))) => Ok(chunk),
        Ok(_) => Err(MediaError::OutOfTurn),
        Err(status) => {
            tracing::debug!(%status, "an upload broke off");
            Err(MediaError::BrokenOff)
        }
    })
}

/// The same bytes in chunks that are as large as they may be.
fn even(bytes: Bytestream) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let begin = (bytes, BytesMut::new());
    stream::try_unfold(begin, |(mut bytes, mut kept)| async move {
        while kept.len() < CHUNK {
            match bytes.next().await {
                Some(more) => kept.extend_from_slice(&more?),
                None if kept.is_empty() => return Ok(None),
                None => break,
            }
        }
        let chunk = kept.split_to(kept.len().min(CHUNK)).freeze();
        Ok::<_, Status>(Some((chunk, (bytes, kept))))
    })
}

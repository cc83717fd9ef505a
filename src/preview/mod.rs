//! Link previews: what the page that a text links to says of itself.
//!
//! Owns how much of a page is read and how long that may take. Looks at what anybody may look at, through the
//! guarded client. Keeps nothing, and never fails: what can't be had in time is left out, and a text goes without
//! a preview rather than late.

mod link;
mod page;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use crate::{
    domain::limits,
    egress::{Bounds, Egress, EgressError, Fetched},
    media::Media,
    proto::v1::LinkPreview,
};
use page::Page;

/// Pages that are looked at at once; each keeps its beginning and its picture in memory.
const AT_ONCE: usize = 8;

/// How long a page may take, waiting for its turn included, …
const PAGE_TIME: Duration = Duration::from_secs(4);

/// … and then its picture.
const PICTURE_TIME: Duration = Duration::from_secs(3);

/// Bytes of a page that are read: what it says of itself stands at its beginning.
const PAGE_BYTES: usize = 512 << 10;

/// Most bytes of a picture.
const PICTURE_BYTES: usize = 4 << 20;

const REDIRECTS: usize = 3;

/// Where the part of a page ends that is about the page.
const END: &[u8] = b"</head";

/// See the module.
pub struct Previews {
    egress: Egress,
    media: Arc<Media>,
    free: Semaphore,
}

/// Why there is no preview; for our log.
#[derive(Debug, thiserror::Error)]
enum NoPreview {
    #[error("it took too long")]
    Slow,
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error("the link leads to no page")]
    NoPage,
    #[error("the page has no title")]
    NoTitle,
}

impl Previews {
    /// Through this client; pictures are made small where the media's are.
    pub fn new(egress: Egress, media: Arc<Media>) -> Arc<Self> {
        Arc::new(Self {
            egress,
            media,
            free: Semaphore::new(AT_ONCE),
        })
    }

    /// The preview of the first link of a text, if it has one that leads somewhere. Takes no longer than `time`.
    pub async fn of(&self, text: &str, time: Duration) -> Option<LinkPreview> {
        let url = link::first(text)?;
        match self.look(url, Instant::now() + time).await {
            Ok(preview) => Some(preview),
            Err(why) => {
                tracing::debug!(%why, "a text goes without a link preview");
                None
            }
        }
    }

    async fn look(&self, url: &str, over: Instant) -> Result<LinkPreview, NoPreview> {
        let until = over.min(Instant::now() + PAGE_TIME);
        let turn = timeout_at(until, self.free.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(NoPreview::Slow);
        };
        let page = timeout_at(until, self.page(url)).await;
        let page = page.map_err(|_| NoPreview::Slow)??;
        let title = page.title().ok_or(NoPreview::NoTitle)?;
        let thumbnail = match page.picture() {
            Some(picture) => {
                let until = over.min(Instant::now() + PICTURE_TIME);
                self.picture(&picture, until).await
            }
            None => Bytes::new(),
        };
        Ok(LinkPreview {
            url: url.to_owned(),
            title,
            description: page.description().unwrap_or_default(),
            thumbnail,
        })
    }

    async fn page(&self, url: &str) -> Result<Page, NoPreview> {
        let fetched = self.egress.fetch(url, bounds(PAGE_TIME)).await?;
        if !is_page(&fetched) {
            return Err(NoPreview::NoPage);
        }
        let base = fetched.url.clone();
        let beginning = beginning(fetched, PAGE_BYTES, Some(END)).await?;
        Ok(Page::read(&beginning, base))
    }

    /// A small picture of that at a URL; empty where there is none.
    async fn picture(&self, url: &str, until: Instant) -> Bytes {
        let fetched = async {
            let fetched = self.egress.fetch(url, bounds(PICTURE_TIME)).await?;
            beginning(fetched, PICTURE_BYTES, None).await
        };
        let bytes = match timeout_at(until, fetched).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a link preview goes without its picture");
                return Bytes::new();
            }
            Err(_) => return Bytes::new(),
        };
        let small = timeout_at(until, self.media.thumbnail(bytes)).await;
        let small = small.unwrap_or_default();
        match small.len() <= limits::THUMBNAIL_BYTES {
            true => small,
            false => Bytes::new(),
        }
    }
}

/// How much is read is decided on the way.
fn bounds(time: Duration) -> Bounds {
    Bounds {
        bytes: u64::MAX,
        time,
        redirects: REDIRECTS,
    }
}

fn is_page(fetched: &Fetched) -> bool {
    let kind = fetched.content_type.as_deref().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    ["text/html", "application/xhtml+xml"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

/// The first bytes, no further than the end that is looked for.
async fn beginning(
    fetched: Fetched,
    most: usize,
    end: Option<&[u8]>,
) -> Result<Bytes, EgressError> {
    let mut body = fetched.into_stream();
    let mut bytes = BytesMut::new();
    while bytes.len() < most
        && let Some(chunk) = body.next().await.transpose()?
    {
        // The end may be cut in two.
        let seen = bytes.len().saturating_sub(END.len());
        bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
        let new = &bytes[seen..];
        if end.is_some_and(|end| {
            new.windows(end.len())
                .any(|at| at.eq_ignore_ascii_case(end))
        }) {
            break;
        }
    }
    Ok(bytes.freeze())
}

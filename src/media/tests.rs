//! The way in and out, on a real folder and a real database.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use futures::{TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{
    domain::ids::InstanceId,
    egress::Guard,
    storage::{NameOutcome, Network, NewInstance, sqlite::SqliteStorage},
};

const CHUNK: usize = 64 << 10;
const HOUR: Duration = Duration::from_secs(3_600);

struct Place {
    folder: TempDir,
    storage: Arc<SqliteStorage>,
    media: Arc<Media>,
    instance: InstanceNumber,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wagate.db");
        let storage = SqliteStorage::open(&file, Default::default())
            .await
            .unwrap();
        let config = MediaConfig {
            place: super::Place::Folder(folder.path().join("media")),
            limits: SizeLimits {
                image: 1 << 20,
                video: 1 << 20,
                audio: 1 << 20,
                document: 32 << 20,
                sticker: 1 << 20,
            },
            upload_age: HOUR,
            retention_age: 2 * HOUR,
            transfers: 4,
            url_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_millis(300),
        };
        let egress = Egress::new(Guard::default());
        let media = Media::open(storage.clone(), egress, config).unwrap();
        let new = NewInstance {
            id: InstanceId::generate(),
            name: None,
            network: Network::Sandbox,
            show_online: false,
            create_time: SystemTime::now(),
        };
        let created = storage.create_instance(new, None, Box::new(|_| Vec::new()));
        let NameOutcome::Done(row) = created.await.unwrap() else {
            panic!("the instance was not created");
        };
        Self {
            folder,
            storage,
            media,
            instance: row.number,
        }
    }

    fn document(&self) -> NewMedia {
        NewMedia {
            instance: self.instance,
            kind: Some(MediaKind::Document),
            mime_type: String::new(),
            only_hint: false,
            file_name: String::new(),
            size: None,
            sha256: None,
        }
    }

    async fn take(&self, new: NewMedia, bytes: &[u8]) -> Result<MediaRow, MediaError> {
        let chunks: Vec<_> = bytes.chunks(CHUNK).map(Bytes::copy_from_slice).collect();
        self.media.take(new, stream::iter(chunks).map(Ok)).await
    }

    async fn bytes(&self, row: &MediaRow, range: Range<u64>) -> Vec<u8> {
        let bytes = self.media.read(row, range).await.unwrap();
        bytes.try_collect::<Vec<_>>().await.unwrap().concat()
    }

    fn files(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).unwrap();
            entries
                .map(|entry| entry.unwrap().path())
                .map(|path| if path.is_dir() { count(&path) } else { 1 })
                .sum()
        }
        count(&self.folder.path().join("media"))
    }

    /// Waits until nothing is left, neither rows nor files.
    async fn until_clean(&self) {
        let far = SystemTime::now() + 1_000 * HOUR;
        let started = std::time::Instant::now();
        loop {
            let rows = self.storage.list_expired_media(far, 10).await.unwrap();
            if rows.is_empty() && self.files() == 0 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{rows:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn what_goes_in_comes_out() {
    let place = Place::new().await;
    // Less than a part of the object store, and more than two.
    for length in [1, 100_000, 12 << 20] {
        let bytes = noise(length);
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        let new = NewMedia {
            size: Some(length as u64),
            sha256: Some(hash),
            file_name: "noise".to_owned(),
            ..place.document()
        };
        let row = place.take(new, &bytes).await.unwrap();
        assert_eq!((row.state, row.size), (MediaState::Ready, length as u64));
        assert_eq!(row.sha256, &hash[..]);
        assert_eq!(row.mime_type, "application/octet-stream");
        let row = place.media.find(place.instance, row.id).await.unwrap();
        let end = row.size;
        assert!(place.bytes(&row, 0..end).await == bytes, "{length}");
        let middle = end / 2..end - end / 4;
        let expected = &bytes[middle.start as usize..middle.end as usize];
        assert!(place.bytes(&row, middle).await == expected, "{length}");
        let beyond = place.media.read(&row, 0..end + 1).await;
        assert!(matches!(beyond.err(), Some(MediaError::Range { .. })));
    }
}

#[tokio::test]
async fn what_fails_leaves_nothing() {
    let place = Place::new().await;
    let bytes = noise(7 << 20);
    let size = bytes.len() as u64;
    let declared = |size| NewMedia {
        size: Some(size),
        ..place.document()
    };
    let failed = place.take(declared(size - 1), &bytes).await.unwrap_err();
    assert!(
        matches!(failed, MediaError::SizeMismatch { .. }),
        "{failed:?}"
    );
    let failed = place.take(declared(size + 1), &bytes).await.unwrap_err();
    assert!(
        matches!(failed, MediaError::SizeMismatch { received, .. } if received == size),
        "{failed:?}"
    );
    let failed = place.take(declared(33 << 20), &bytes).await.unwrap_err();
    assert!(matches!(failed, MediaError::TooLarge { .. }), "{failed:?}");
    let new = NewMedia {
        sha256: Some([1; 32]),
        ..place.document()
    };
    let failed = place.take(new, &bytes).await.unwrap_err();
    assert!(matches!(failed, MediaError::HashMismatch), "{failed:?}");
    let failed = place.take(place.document(), b"").await.unwrap_err();
    assert!(matches!(failed, MediaError::Empty), "{failed:?}");
    let failed = place.take(place.document(), &noise(33 << 20)).await;
    assert!(
        matches!(failed, Err(MediaError::TooLarge { .. })),
        "{failed:?}"
    );

    // One that breaks off, one that stands still, one that nobody waits for any more.
    let some = || {
        stream::iter(
            noise(6 << 20)
                .chunks(CHUNK)
                .map(Bytes::copy_from_slice)
                .map(Ok)
                .collect::<Vec<_>>(),
        )
    };
    let broken = some().chain(stream::iter([Err(MediaError::BrokenOff)]));
    let failed = place
        .media
        .take(place.document(), broken)
        .await
        .unwrap_err();
    assert!(matches!(failed, MediaError::BrokenOff), "{failed:?}");
    let still = some().chain(stream::pending());
    let failed = place.media.take(place.document(), still).await.unwrap_err();
    assert!(matches!(failed, MediaError::Stalled), "{failed:?}");
    let taken = AtomicUsize::new(0);
    let left = some().inspect(|_| {
        taken.fetch_add(1, Ordering::Relaxed);
    });
    {
        let mut taking = Box::pin(
            place
                .media
                .take(place.document(), left.chain(stream::pending())),
        );
        while taken.load(Ordering::Relaxed) < 90 {
            assert!(futures::poll!(&mut taking).is_pending());
            tokio::task::yield_now().await;
        }
    }
    place.until_clean().await;
}

#[tokio::test]
async fn bytes_are_what_they_are_declared_to_be() {
    let place = Place::new().await;
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(40, 20)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let png = png.into_inner();
    let new = |kind, mime_type: &str| NewMedia {
        kind,
        mime_type: mime_type.to_owned(),
        ..place.document()
    };
    let row = place.take(new(None, ""), &png).await.unwrap();
    assert_eq!((row.kind, &*row.mime_type), (MediaKind::Image, "image/png"));
    assert_eq!((row.width, row.height), (40, 20));
    assert!(!row.thumbnail.is_empty());
    // As a document it is not looked into.
    let row = place
        .take(new(Some(MediaKind::Document), "text/plain"), &png)
        .await;
    assert_eq!(row.unwrap().mime_type, "text/plain");
    for (kind, mime_type, bytes) in [
        (None, "image/jpeg", &png[..]),
        (Some(MediaKind::Video), "", &png),
        (Some(MediaKind::Sticker), "", &png),
        (Some(MediaKind::Image), "", b"no picture at all"),
        (
            Some(MediaKind::Image),
            "image/png",
            b"<!doctype html><script>",
        ),
        (Some(MediaKind::Image), "image/png", &png[..png.len() / 2]),
        (Some(MediaKind::Audio), "application/pdf", b"%PDF-1.7"),
    ] {
        let failed = place.take(new(kind, mime_type), bytes).await;
        assert!(
            matches!(failed, Err(MediaError::TypeMismatch { .. })),
            "{kind:?} {mime_type}: {failed:?}"
        );
    }
}

#[tokio::test]
async fn what_nobody_needs_goes() {
    let place = Place::new().await;
    let unsent = place.take(place.document(), b"unsent").await.unwrap();
    let sent = place.take(place.document(), b"sent").await.unwrap();
    let chat = "15550001111@s.whatsapp.net";
    let kept = place.media.keep(place.instance, sent.id, chat, "M1");
    kept.await.unwrap();
    let sweep = async |after| place.media.sweep(SystemTime::now() + after).await.unwrap();
    assert_eq!(sweep(HOUR / 2).await, 0);
    assert_eq!(sweep(HOUR + HOUR / 2).await, 1);
    let find = async |row: &MediaRow| place.media.find(place.instance, row.id).await;
    assert!(matches!(find(&unsent).await, Err(MediaError::NotFound)));
    let row = find(&sent).await.unwrap();
    assert_eq!(place.bytes(&row, 0..4).await, b"sent");
    // What a message has is remembered for ever, though it is gone.
    assert_eq!(sweep(3 * HOUR).await, 1);
    let row = find(&sent).await.unwrap();
    assert_eq!(row.state, MediaState::Gone);
    let read = place.media.read(&row, 0..4).await;
    assert!(matches!(
        read.err(),
        Some(MediaError::NotReady(MediaState::Gone))
    ));
    assert_eq!(sweep(1_000 * HOUR).await, 0);
    assert_eq!(place.files(), 0);
}

#[tokio::test]
async fn a_deleted_instance_takes_its_bytes_along() {
    let place = Place::new().await;
    let row = place.take(place.document(), b"bytes").await.unwrap();
    place
        .storage
        .delete_instance(place.instance, Box::new(|_| Vec::new()))
        .await
        .unwrap();
    let found = place.media.find(place.instance, row.id).await;
    assert!(matches!(found, Err(MediaError::NotFound)));
    assert_eq!(place.media.sweep(SystemTime::now()).await.unwrap(), 1);
    assert_eq!(place.files(), 0);
    let late = place.take(place.document(), b"late").await;
    assert!(matches!(late, Err(MediaError::NotFound)));
}

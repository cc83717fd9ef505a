//! Size and thumbnail of a picture.
//!
//! Pure but for the time it takes: callers run it where blocking is allowed. Memory is bounded by what the
//! decoder may take, so a small file that claims to be huge costs nothing.

use std::io::Cursor;

use bytes::Bytes;
use image::{DynamicImage, ImageReader, Limits, codecs::jpeg::JpegEncoder, imageops::FilterType};

/// The longest side of a thumbnail, in pixels: what WhatsApp's own clients make.
const THUMBNAIL_SIDE: u32 = 100;
const THUMBNAIL_QUALITY: u8 = 60;

/// The longest side of a picture that is looked into.
const MOST_SIDE: u32 = 30_000;

/// Most memory of one picture while a thumbnail is made. A larger one has none.
const MOST_MEMORY: u64 = 160 << 20;

/// What a picture shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// A small JPEG; empty where none could be made.
    pub thumbnail: Bytes,
}

/// Looks into a picture; `None` if it is none.
pub fn inspect(bytes: &[u8]) -> Option<Picture> {
    let reader = || {
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .ok()?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MOST_SIDE);
        limits.max_image_height = Some(MOST_SIDE);
        limits.max_alloc = Some(MOST_MEMORY);
        reader.limits(limits);
        Some(reader)
    };
    let (width, height) = reader()?.into_dimensions().ok()?;
    let decoded = reader()?.decode();
    let thumbnail = match decoded {
        Ok(image) => thumbnail(&image),
        // Too large to be decoded is still a picture; one that is broken is not.
        Err(image::ImageError::Limits(_)) => Bytes::new(),
        Err(_) => return None,
    };
    Some(Picture {
        width,
        height,
        thumbnail,
    })
}

fn thumbnail(image: &DynamicImage) -> Bytes {
    let small = match image.width().max(image.height()) <= THUMBNAIL_SIDE {
        true => image.clone(),
        false => image.resize(THUMBNAIL_SIDE, THUMBNAIL_SIDE, FilterType::Triangle),
    };
    let mut jpeg = Vec::new();
    // JPEG knows no transparency.
    let written = JpegEncoder::new_with_quality(&mut jpeg, THUMBNAIL_QUALITY)
        .encode_image(&DynamicImage::ImageRgb8(small.to_rgb8()));
    match written {
        Ok(()) => jpeg.into(),
        Err(error) => {
            tracing::debug!(%error, "a thumbnail could not be made");
            Bytes::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::*;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = DynamicImage::new_rgb8(320, 200);
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn pictures_have_a_size_and_a_thumbnail() {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::Gif,
            ImageFormat::WebP,
        ] {
            let picture = inspect(&encoded(format)).unwrap();
            assert_eq!((picture.width, picture.height), (320, 200), "{format:?}");
            let small = image::load_from_memory(&picture.thumbnail).unwrap();
            assert_eq!((small.width(), small.height()), (100, 63), "{format:?}");
            assert!(picture.thumbnail.starts_with(b"\xff\xd8\xff"));
        }
    }

    #[test]
    fn what_is_broken_is_no_picture() {
        let png = encoded(ImageFormat::Png);
        assert_eq!(inspect(&png[..png.len() / 2]), None);
        assert_eq!(inspect(b"\x89PNG\r\n\x1a\n"), None);
        assert_eq!(inspect(b""), None);
    }
}

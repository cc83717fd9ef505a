//! Pictures of groups, as WhatsApp wants them: a square JPEG of at most 640 pixels a side.

use std::io::Cursor;

use image::{
    DynamicImage, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder, imageops::FilterType,
};

use super::errors::GroupFault;
use crate::domain::limits::{PICTURE_BYTES, PICTURE_SIDE};

/// Longest side of what is sent.
const SIDE: u32 = 640;

/// Quality of what is sent, of 100.
const QUALITY: u8 = 85;

/// Memory that one picture may take while it is read.
const MEMORY: u64 = 128 << 20;

/// A picture ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture(Vec<u8>);

impl Picture {
    /// Reads a JPEG or PNG, cuts it to a square and makes it small. Takes a while: not for the tasks
    /// of the runtime.
    pub fn read(bytes: &[u8]) -> Result<Self, GroupFault> {
        let invalid = GroupFault::PictureInvalid;
        if bytes.len() > PICTURE_BYTES {
            return Err(invalid);
        }
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|_| invalid)?;
        if !matches!(reader.format(), Some(ImageFormat::Jpeg | ImageFormat::Png)) {
            return Err(invalid);
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(PICTURE_SIDE);
        limits.max_image_height = Some(PICTURE_SIDE);
        limits.max_alloc = Some(MEMORY);
        reader.limits(limits);
        let picture = reader.decode().map_err(|_| invalid)?;
        let square = small_square(picture).to_rgb8();
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
            .encode_image(&square)
            .map_err(|_| invalid)?;
        Ok(Self(jpeg))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

fn small_square(picture: DynamicImage) -> DynamicImage {
    let (width, height) = (picture.width(), picture.height());
    let side = width.min(height);
    let square = picture.crop_imm((width - side) / 2, (height - side) / 2, side, side);
    if side > SIDE {
        square.resize_exact(SIDE, SIDE, FilterType::Triangle)
    } else {
        square
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(width, height)
            .write_to(&mut bytes, format)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn pictures_become_small_square_jpegs() {
        for (width, height, format, side) in [
            (900, 700, ImageFormat::Png, 640),
            (900, 300, ImageFormat::Jpeg, 300),
            (1, 1, ImageFormat::Png, 1),
        ] {
            let sent = Picture::read(&picture(width, height, format)).unwrap();
            let read = image::load_from_memory_with_format(&sent.0, ImageFormat::Jpeg).unwrap();
            assert_eq!((read.width(), read.height()), (side, side));
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let huge = picture(PICTURE_SIDE + 1, 1, ImageFormat::Png);
        let mut cut = picture(100, 100, ImageFormat::Png);
        cut.truncate(60);
        for bytes in [
            &b"no picture"[..],
            b"",
            b"GIF89a\x01\x00\x01\x00",
            &huge,
            &cut,
            &vec![0; PICTURE_BYTES + 1],
        ] {
            assert_eq!(Picture::read(bytes), Err(GroupFault::PictureInvalid));
        }
    }
}

//! What a file of sound or film tells of itself: how long it plays, how large its picture is, whether it moves.
//!
//! Reads a few parts of it and decodes nothing. What a broken or a strange file does not tell is unknown, never an
//! error: it is sent all the same.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;

use super::{Media, MediaError};
use crate::{domain::media::MediaKind, storage::media::MediaRow};

/// Bytes of the beginning that are looked at.
const HEAD: u64 = 512;

/// Bytes of the end in which the last page of an Ogg file begins: one page has less than 64 KiB.
const TAIL: u64 = 64 << 10;

/// Parts of an MP4 file that are passed over until the one that describes it.
const BOXES: usize = 64;

/// The largest such description that is read. It has an entry for every frame.
const DESCRIPTION: u64 = 4 << 20;

/// Opus counts time in this, whatever it was recorded in.
const OPUS_RATE: u64 = 48_000;

/// What a file tells; 0 is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// In pixels, of a film.
    pub width: u32,
    /// In pixels, of a film.
    pub height: u32,
    /// In seconds, rounded up.
    pub duration: u32,
    /// It is Opus in Ogg.
    pub is_opus: bool,
    /// It is a WebP that moves.
    pub is_animated: bool,
}

impl Media {
    /// What a media that is here tells of itself.
    pub async fn format(&self, row: &MediaRow) -> Result<Format, MediaError> {
        if row.kind == MediaKind::Document {
            return Ok(Format::default());
        }
        let head = self.part(row, 0..HEAD).await?;
        if let Some(skipped) = opus_begins(&head) {
            let tail = self
                .part(row, row.size.saturating_sub(TAIL)..row.size)
                .await?;
            return Ok(Format {
                duration: opus_length(&tail, skipped).unwrap_or_default(),
                is_opus: true,
                ..Default::default()
            });
        }
        if head.get(4..8) == Some(b"ftyp") {
            return Ok(match self.description(row).await? {
                Some(described) => film(&described).unwrap_or_default(),
                None => Format::default(),
            });
        }
        Ok(Format {
            is_animated: is_animated(&head),
            ..Default::default()
        })
    }

    /// Some bytes of it, as many as there are.
    async fn part(&self, row: &MediaRow, range: Range<u64>) -> Result<Bytes, MediaError> {
        let end = range.end.min(row.size);
        let bytes = self.read(row, range.start.min(end)..end).await?;
        let bytes: BytesMut = bytes.try_collect().await?;
        Ok(bytes.freeze())
    }

    /// The contents of the `moov` box, wherever it lies.
    async fn description(&self, row: &MediaRow) -> Result<Option<Bytes>, MediaError> {
        let mut at = 0;
        for _ in 0..BOXES {
            let head = self.part(row, at..at.saturating_add(16)).await?;
            let Some(found) = Box::parse(&head, row.size.saturating_sub(at)) else {
                return Ok(None);
            };
            if found.name == *b"moov" {
                let fits = found.size <= DESCRIPTION;
                let range = at + found.head..at.saturating_add(found.size);
                return match fits {
                    true => self.part(row, range).await.map(Some),
                    false => Ok(None),
                };
            }
            at = at.saturating_add(found.size);
        }
        Ok(None)
    }
}

/// How many samples at the beginning are not played, if it is Opus in Ogg.
fn opus_begins(head: &[u8]) -> Option<u64> {
    if !head.starts_with(b"OggS") {
        return None;
    }
    let segments = usize::from(*head.get(26)?);
    let packet = head.get(27 + segments..)?.strip_prefix(b"OpusHead")?;
    number(packet.get(2..4)?.iter().rev())
}

/// The length of an Ogg file by its last page that has a time.
fn opus_length(tail: &[u8], skipped: u64) -> Option<u32> {
    let mut rest = tail;
    while let Some(at) = rest.windows(4).rposition(|mark| mark == b"OggS") {
        let time = number(rest.get(at + 6..at + 14).unwrap_or_default().iter().rev());
        // A page on which no packet ends has none.
        if let Some(time) = time.filter(|time| (1..u64::MAX).contains(time)) {
            let samples = time.saturating_sub(skipped);
            return samples.div_ceil(OPUS_RATE).try_into().ok();
        }
        rest = &rest[..at];
    }
    None
}

/// Bytes as a number, the most significant first; `None` if there are none or too many.
fn number<'b>(bytes: impl ExactSizeIterator<Item = &'b u8>) -> Option<u64> {
    let fits = (1..=8).contains(&bytes.len());
    fits.then(|| bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn is_animated(head: &[u8]) -> bool {
    let webp = head.starts_with(b"RIFF") && head.get(8..16) == Some(b"WEBPVP8X");
    webp && head.get(20).is_some_and(|flags| flags & 0x02 != 0)
}

/// A part of an MP4 file.
struct Box {
    name: [u8; 4],
    /// Of its head and its contents.
    size: u64,
    /// Bytes of its head.
    head: u64,
}

impl Box {
    /// The one that begins here; `left` is all that is left of what it lies in.
    fn parse(bytes: &[u8], left: u64) -> Option<Self> {
        let name = bytes.get(4..8)?.try_into().ok()?;
        let (size, head) = match number(bytes.get(..4)?.iter())? {
            0 => (left, 8),
            1 => (number(bytes.get(8..16)?.iter())?, 16),
            size => (size, 8),
        };
        ((head..=left).contains(&size)).then_some(Self { name, size, head })
    }
}

/// The contents of the first box with this name.
fn inner<'b>(bytes: &'b [u8], name: &[u8; 4]) -> Option<&'b [u8]> {
    boxes(bytes).find_map(|(found, contents)| (found == *name).then_some(contents))
}

fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let found = Box::parse(bytes, bytes.len() as u64)?;
        let (whole, rest) = bytes.split_at_checked(usize::try_from(found.size).ok()?)?;
        bytes = rest;
        Some((found.name, whole.get(usize::try_from(found.head).ok()?..)?))
    })
}

/// What a film's description tells.
fn film(moov: &[u8]) -> Option<Format> {
    let header = inner(moov, b"mvhd")?;
    let (rate, length) = match header.first()? {
        0 => (header.get(12..16)?, header.get(16..20)?),
        _ => (header.get(20..24)?, header.get(24..32)?),
    };
    let (rate, length) = (number(rate.iter())?, number(length.iter())?);
    let duration = match rate {
        0 => 0,
        // More than a day is a file that does not know, as one that is streamed.
        rate => Some(length.div_ceil(rate)).filter(|seconds| *seconds <= 86_400)?,
    };
    let tracks = boxes(moov).filter(|(name, _)| name == b"trak");
    let (width, height) = tracks
        .filter_map(|(_, track)| side_lengths(inner(track, b"tkhd")?))
        .next()
        .unwrap_or_default();
    Some(Format {
        width,
        height,
        duration: duration.try_into().ok()?,
        ..Default::default()
    })
}

/// Width and height of a track that has a picture, as it is shown: phones film lying down and note the turn.
fn side_lengths(header: &[u8]) -> Option<(u32, u32)> {
    let matrix = match header.first()? {
        0 => 40,
        _ => 52,
    };
    let turned = header.get(matrix..matrix + 4)? == [0; 4];
    let side = |at: usize| -> Option<u32> {
        let pixels = number(header.get(at..at + 2)?.iter())?;
        u32::try_from(pixels).ok()
    };
    let (width, height) = (side(matrix + 36)?, side(matrix + 40)?);
    let sides = match turned {
        true => (height, width),
        false => (width, height),
    };
    (width > 0 && height > 0).then_some(sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(time: u64, packet: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0\0".to_vec();
        page.extend(time.to_le_bytes());
        page.extend([0; 12]);
        page.extend([1, u8::try_from(packet.len()).unwrap()]);
        page.extend(packet);
        page
    }

    #[test]
    fn opus_tells_how_long_it_is() {
        let first = page(0, b"OpusHead\x01\x01\x38\x01\x80\xbb\0\0\0\0\0");
        assert_eq!(opus_begins(&first), Some(312));
        let mut file = first.clone();
        file.extend(page(48_000 * 3 + 312, b"sound"));
        file.extend(page(u64::MAX, b"sound"));
        assert_eq!(opus_length(&file, 312), Some(3));
        file.extend(page(48_000 * 3 + 313, b"sound"));
        assert_eq!(opus_length(&file, 312), Some(4));
        assert_eq!(opus_length(&first, 312), None);
        assert_eq!(opus_begins(&page(0, b"\x01vorbis")), None);
        for end in 0..first.len() {
            opus_begins(&first[..end]);
            opus_length(&first[..end], 0);
        }
    }

    fn boxed(name: &[u8; 4], contents: &[u8]) -> Vec<u8> {
        let size = u32::try_from(contents.len() + 8).unwrap();
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend(name);
        bytes.extend(contents);
        bytes
    }

    fn movie(turned: bool) -> Vec<u8> {
        let mut header = vec![0; 100];
        header[12..16].copy_from_slice(&1_000_u32.to_be_bytes());
        header[16..20].copy_from_slice(&2_500_u32.to_be_bytes());
        let mut track = vec![0; 84];
        if !turned {
            track[40..44].copy_from_slice(&0x1_0000_u32.to_be_bytes());
        }
        track[76..80].copy_from_slice(&(640_u32 << 16).to_be_bytes());
        track[80..84].copy_from_slice(&(480_u32 << 16).to_be_bytes());
        let sound = boxed(b"trak", &boxed(b"tkhd", &[0; 84]));
        let picture = boxed(b"trak", &boxed(b"tkhd", &track));
        [boxed(b"mvhd", &header), sound, picture].concat()
    }

    #[test]
    fn a_film_tells_its_length_and_its_sides() {
        let seen = film(&movie(false)).unwrap();
        assert_eq!((seen.width, seen.height, seen.duration), (640, 480, 3));
        let seen = film(&movie(true)).unwrap();
        assert_eq!((seen.width, seen.height), (480, 640));
        let whole = movie(false);
        for end in 0..whole.len() {
            film(&whole[..end]);
        }
        // A box that claims to be nothing, and one that claims to be everything.
        assert!(Box::parse(b"\0\0\0\x04free", 100).is_none());
        assert!(Box::parse(b"\xff\xff\xff\xfffree", 100).is_none());
        assert!(Box::parse(b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff", 100).is_none());
    }

    #[test]
    fn a_sticker_tells_whether_it_moves() {
        let still = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0";
        let moving = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x12\0\0\0";
        assert!(is_animated(moving) && !is_animated(still) && !is_animated(b"RIFF"));
    }
}

//! What media are and what becomes of them.

/// What a media is to WhatsApp. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum MediaKind {
    /// A still picture.
    Image = 1,
    /// A film, also one that plays like a GIF.
    Video = 2,
    /// Sound, also a voice note.
    Audio = 3,
    /// Any file.
    Document = 4,
    /// A WebP that is a sticker.
    Sticker = 5,
}

impl MediaKind {
    /// All there are.
    pub const EVERY: [Self; 5] = [
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::Document,
        Self::Sticker,
    ];

    /// The kind with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::EVERY.into_iter().find(|one| *one as i32 == number)
    }

    /// Its name in settings and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Document => "document",
            Self::Sticker => "sticker",
        }
    }

    /// The kind that a file of this type is sent as, unless somebody says otherwise.
    pub fn of(mime_type: &str) -> Self {
        match mime_type.split('/').next().unwrap_or_default() {
            "image" => Self::Image,
            "video" => Self::Video,
            "audio" => Self::Audio,
            _ => Self::Document,
        }
    }
}

/// Where the bytes of a media are. But for `Writing` the numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum MediaState {
    /// On their way in, or left behind by somebody who went away: nobody is shown it.
    Writing = 0,
    /// With WhatsApp, to be fetched.
    Pending = 1,
    /// Here.
    Ready = 2,
    /// No longer with WhatsApp; the phone was asked to upload them again.
    ExpiredAsked = 3,
    /// Nowhere any more.
    Gone = 4,
}

impl MediaState {
    /// All there are.
    pub const EVERY: [Self; 5] = [
        Self::Writing,
        Self::Pending,
        Self::Ready,
        Self::ExpiredAsked,
        Self::Gone,
    ];

    /// The state with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::EVERY.into_iter().find(|one| *one as i32 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_follows_from_a_type() {
        for (mime_type, kind) in [
            ("image/png", MediaKind::Image),
            ("video/mp4", MediaKind::Video),
            ("audio/ogg; codecs=opus", MediaKind::Audio),
            ("application/pdf", MediaKind::Document),
            ("", MediaKind::Document),
        ] {
            assert_eq!(MediaKind::of(mime_type), kind, "{mime_type}");
        }
    }
}

//! What bytes are, by how they begin.
//!
//! Pure. Names only what it is sure of: a file that nobody can tell is `None`, never a guess.

/// How many bytes of the beginning decide.
pub(super) const NEEDED: usize = 64;

/// The type of a file that begins like this.
pub(super) fn sniff(head: &[u8]) -> Option<&'static str> {
    let at = |from: usize, mark: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(mark));
    let starts = |mark: &[u8]| at(0, mark);
    Some(match () {
        () if starts(b"\xff\xd8\xff") => "image/jpeg",
        () if starts(b"\x89PNG\r\n\x1a\n") => "image/png",
        () if starts(b"GIF87a") || starts(b"GIF89a") => "image/gif",
        () if starts(b"RIFF") && at(8, b"WEBP") => "image/webp",
        () if starts(b"RIFF") && at(8, b"WAVE") => "audio/wav",
        () if starts(b"RIFF") && at(8, b"AVI ") => "video/x-msvideo",
        () if at(4, b"ftyp") => brand(head),
        () if starts(b"\x1a\x45\xdf\xa3") => "video/webm",
        () if starts(b"OggS") => "audio/ogg",
        () if starts(b"fLaC") => "audio/flac",
        () if starts(b"#!AMR") => "audio/amr",
        () if starts(b"ID3") => "audio/mpeg",
        () if is_mpeg_audio(head) => "audio/mpeg",
        () if is_adts(head) => "audio/aac",
        () if starts(b"%PDF-") => "application/pdf",
        () if starts(b"PK\x03\x04") => "application/zip",
        () if is_html(head) => "text/html",
        () => return None,
    })
}

/// ISO media files say in their brand what they are.
fn brand(head: &[u8]) -> &'static str {
    match head.get(8..12).unwrap_or_default() {
        b"M4A " | b"M4B " | b"M4P " => "audio/mp4",
        b"qt  " => "video/quicktime",
        b"heic" | b"heix" | b"mif1" | b"msf1" => "image/heic",
        b"avif" | b"avis" => "image/avif",
        brand if brand.starts_with(b"3gp") || brand.starts_with(b"3g2") => "video/3gpp",
        _ => "video/mp4",
    }
}

/// Eleven bits of synchronisation, then a layer that is not reserved.
fn is_mpeg_audio(head: &[u8]) -> bool {
    matches!(head, [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 != 0 && second & 0x18 != 0x08)
}

/// Twelve bits of synchronisation, layer 0.
fn is_adts(head: &[u8]) -> bool {
    matches!(head, [0xff, second, ..] if second & 0xf6 == 0xf0)
}

fn is_html(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let begins = |mark: &[u8]| {
        text.get(..mark.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(mark))
    };
    begins(b"<!doctype html") || begins(b"<html")
}

/// Whether bytes that are surely of the type `found` may pass as what their owner declares.
pub(super) fn agrees(declared: &str, found: &str) -> bool {
    let essence = essence(declared);
    if essence == found || essence == "application/octet-stream" {
        return true;
    }
    let family = |one: &str| match one {
        "audio/mp3" | "audio/mpeg3" => "audio/mpeg",
        "image/jpg" | "image/pjpeg" => "image/jpeg",
        "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => "audio/wav",
        "application/ogg" | "video/ogg" | "audio/opus" => "audio/ogg",
        // One container, whatever is in it.
        "audio/mp4" | "audio/x-m4a" | "audio/m4a" | "video/quicktime" | "video/3gpp"
        | "audio/3gpp" | "video/x-m4v" => "video/mp4",
        "audio/webm" | "video/x-matroska" | "audio/x-matroska" => "video/webm",
        "audio/aacp" | "audio/x-aac" => "audio/aac",
        "audio/x-flac" => "audio/flac",
        "image/heif" => "image/heic",
        _ => "",
    };
    let same = |one: &str, other: &str| !one.is_empty() && one == other;
    let (declared_family, found_family) = (family(&essence), family(found));
    same(declared_family, found)
        || same(declared_family, found_family)
        || same(found_family, &essence)
        // Office files, applications and the like are zips with a name of their own.
        || (found == "application/zip" && essence.starts_with("application/"))
        || (found == "text/html" && essence.starts_with("text/"))
        || (found == "text/html" && essence.contains("xml"))
}

/// A type without its parameters, in lower case.
pub(super) fn essence(mime_type: &str) -> String {
    let essence = mime_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Whether a text has the form of a type: `family/name`, perhaps with parameters.
pub fn is_mime_type(text: &str) -> bool {
    let essence = essence(text);
    let token = |part: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.bytes().all(legal)
    };
    let formed = essence
        .split_once('/')
        .is_some_and(|(family, name)| token(family) && token(name));
    let parameters_are_text = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    formed && text.len() <= 255 && parameters_are_text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_beginning() {
        for (head, found) in [
            (&b"\xff\xd8\xff\xe0"[..], "image/jpeg"),
            (b"\x89PNG\r\n\x1a\n....", "image/png"),
            (b"GIF89a", "image/gif"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
            (b"\0\0\0\x18ftypmp42", "video/mp4"),
            (b"\0\0\0\x18ftypM4A ", "audio/mp4"),
            (b"\0\0\0\x18ftyp3gp5", "video/3gpp"),
            (b"\0\0\0\x18ftypheic", "image/heic"),
            (b"\x1a\x45\xdf\xa3", "video/webm"),
            (b"OggS\0", "audio/ogg"),
            (b"ID3\x03", "audio/mpeg"),
            (b"\xff\xfb\x90\x00", "audio/mpeg"),
            (b"\xff\xf1\x50\x80", "audio/aac"),
            (b"%PDF-1.7", "application/pdf"),
            (b"PK\x03\x04", "application/zip"),
            (b" <!DOCTYPE html>", "text/html"),
        ] {
            assert_eq!(sniff(head), Some(found));
        }
        for head in [
            &b""[..],
            b"hello",
            b"\xff",
            b"RIFF",
            b"\0\0\0\x18fty",
            b"\xff\xff",
        ] {
            assert!(
                !matches!(sniff(head), Some("image/jpeg" | "video/mp4")),
                "{head:?}"
            );
        }
    }

    #[test]
    fn a_declared_type_may_be_another_name_of_the_same() {
        for (declared, found) in [
            ("image/png", "image/png"),
            ("IMAGE/PNG; x=y", "image/png"),
            ("image/jpg", "image/jpeg"),
            ("audio/ogg; codecs=opus", "audio/ogg"),
            ("video/quicktime", "video/mp4"),
            ("audio/mp4", "video/mp4"),
            ("video/mp4", "audio/mp4"),
            ("application/octet-stream", "image/png"),
            (
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                "application/zip",
            ),
        ] {
            assert!(agrees(declared, found), "{declared} {found}");
        }
        for (declared, found) in [
            ("image/png", "image/jpeg"),
            ("image/jpeg", "text/html"),
            ("video/mp4", "image/png"),
            ("image/png", "application/zip"),
            ("application/pdf", "text/html"),
        ] {
            assert!(!agrees(declared, found), "{declared} {found}");
        }
    }

    #[test]
    fn types_have_a_form() {
        for good in ["image/png", "audio/ogg; codecs=opus", "application/vnd.a+b"] {
            assert!(is_mime_type(good), "{good}");
        }
        for bad in ["", "image", "image/", "/png", "a b/c", "image/png\r\nx: y"] {
            assert!(!is_mime_type(bad), "{bad}");
        }
    }
}

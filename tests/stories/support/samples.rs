//! Files of every kind, small and made on the spot.

/// Bytes that are nothing in particular.
pub fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// A picture of 300 by 200 pixels.
pub fn png() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(300, 200)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// A sticker.
pub fn webp() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgba8(512, 512)
        .write_to(&mut bytes, image::ImageFormat::WebP)
        .unwrap();
    bytes.into_inner()
}

/// The beginning of a film, and a film's worth of nothing.
pub fn mp4() -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom".to_vec();
    bytes.extend(noise(50_000));
    bytes
}

/// Two pages of Opus in Ogg that claim to play for three seconds.
pub fn opus() -> Vec<u8> {
    let page = |time: u64, packet: &[u8]| {
        let mut page = b"OggS\0\0".to_vec();
        page.extend(time.to_le_bytes());
        page.extend([0; 12]);
        page.extend([1, u8::try_from(packet.len()).unwrap()]);
        page.extend(packet);
        page
    };
    let mut bytes = page(0, b"OpusHead\x01\x01\x38\x01\x80\xbb\0\0\0\0\0");
    bytes.extend(page(3 * 48_000 + 312, b"no sound at all"));
    bytes
}

//! A QR as a picture.

use std::io::Cursor;

use image::{ImageFormat, Luma};
use qrcode::{Color, EcLevel, QrCode};

/// Pixels of a module: large enough for a phone to read from a screen.
const MODULE: u32 = 8;

/// Modules of white around it, as the standard wants.
const QUIET_ZONE: u32 = 4;

/// The text as a black-on-white PNG.
pub(super) fn png(text: &str) -> anyhow::Result<Vec<u8>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)?;
    let width = u32::try_from(code.width())?;
    let side = (width + 2 * QUIET_ZONE) * MODULE;
    let picture = image::ImageBuffer::from_fn(side, side, |x, y| {
        let module = |at: u32| {
            (at / MODULE)
                .checked_sub(QUIET_ZONE)
                .filter(|at| *at < width)
        };
        let dark = match (module(x), module(y)) {
            (Some(x), Some(y)) => code[(x as usize, y as usize)] == Color::Dark,
            _ => false,
        };
        Luma([if dark { 0_u8 } else { 255 }])
    });
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

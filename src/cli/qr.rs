//! A QR in the terminal: two modules per character, by half blocks.

use qrcode::{Color, EcLevel, QrCode};

/// Blank modules around it. The norm wants four; phones are content with two, and it has to fit
/// into 80 columns.
const QUIET: usize = 2;

/// Draws a text. With `colours`, black on white whatever the terminal's own colours are; without,
/// for a light drawing on a dark ground. `None` where the text is too long for a QR.
pub fn draw(text: &str, colours: bool) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let width = code.width();
    let modules = code.to_colors();
    let is_dark = |row: usize, column: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < width);
        match (inside(row), inside(column)) {
            (Some(row), Some(column)) => modules[row * width + column] == Color::Dark,
            _ => false,
        }
    };
    let side = width + 2 * QUIET;
    let mut lines = Vec::with_capacity(side.div_ceil(2));
    for row in (0..side).step_by(2) {
        let blocks: String = (0..side)
            .map(|column| block(is_dark(row, column), is_dark(row + 1, column)))
            .collect();
        lines.push(match colours {
            // Fixed entries of the 256 colours: themes leave them alone.
            true => format!("\u{1b}[38;5;231;48;5;16m{blocks}\u{1b}[0m"),
            false => blocks,
        });
    }
    Some(lines.join("\n"))
}

/// The character that is light where the module is.
fn block(upper_dark: bool, lower_dark: bool) -> char {
    match (upper_dark, lower_dark) {
        (false, false) => '█',
        (false, true) => '▀',
        (true, false) => '▄',
        (true, true) => ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_where_it_belongs() {
        let text = "2@ref,bm9pc2U=,aWRlbnRpdHk=,YWR2,1";
        let code = QrCode::with_error_correction_level(text, EcLevel::L).expect("short");
        let drawing = draw(text, false).expect("short");
        let rows: Vec<Vec<char>> = drawing.lines().map(|line| line.chars().collect()).collect();
        let side = code.width() + 2 * QUIET;
        assert_eq!(rows.len(), side.div_ceil(2));
        assert!(rows.iter().all(|row| row.len() == side));
        for row in 0..code.width() {
            for column in 0..code.width() {
                let (y, x) = (row + QUIET, column + QUIET);
                let lower = y % 2 == 1;
                let light = match rows[y / 2][x] {
                    '█' => true,
                    '▀' => !lower,
                    '▄' => lower,
                    ' ' => false,
                    other => panic!("{other:?} in the drawing"),
                };
                let dark = code[(column, row)] == Color::Dark;
                assert_eq!(light, !dark, "row {row}, column {column}");
            }
        }
        let quiet = |row: &Vec<char>| row.iter().all(|c| *c == '█');
        assert!(quiet(&rows[0]), "a light border all around");
        assert!(rows.iter().all(|row| row[..QUIET] == ['█', '█']));
    }

    #[test]
    fn colours_do_not_depend_on_the_theme() {
        let drawing = draw("x", true).expect("short");
        assert!(drawing.lines().all(|line| line.ends_with("\u{1b}[0m")));
    }

    #[test]
    fn a_real_one_fits_into_a_terminal() {
        let text = format!("2@{},{}", "r".repeat(92), "k".repeat(138));
        let drawing = draw(&text, false).expect("fits");
        let widest = drawing.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|columns| columns <= 80), "{widest:?}");
    }

    #[test]
    fn a_novel_is_no_qr() {
        assert_eq!(draw(&"x".repeat(5_000), false), None);
    }
}

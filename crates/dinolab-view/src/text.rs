//! Text in pictures, in a fixed font of 8 × 8 pixels.

use font8x8::legacy::BASIC_LEGACY;

use crate::picture::Rgb;

/// Pixels along the side of a glyph at scale 1.
pub(crate) const GLYPH_SIDE: usize = 8;

/// Returns the width in pixels of a text drawn at `scale`.
pub fn text_width(text: &str, scale: usize) -> usize {
    text.chars().count() * GLYPH_SIDE * scale
}

/// Draws `text` with its upper left corner at column `x`, row `y`, clipped to the picture. Each
/// pixel of the font becomes a square of `scale × scale`; characters beyond ASCII become question
/// marks.
pub fn draw_text(
    picture: &mut Rgb,
    text: &str,
    (x, y): (isize, isize),
    scale: usize,
    colour: [u8; 3],
) {
    for (place, letter) in text.chars().enumerate() {
        let code = u8::try_from(letter).ok().filter(u8::is_ascii);
        let rows = BASIC_LEGACY[usize::from(code.unwrap_or(b'?'))];
        for (row, bits) in rows.into_iter().enumerate() {
            for column in (0..GLYPH_SIDE).filter(|column| bits >> column & 1 == 1) {
                let left = x + ((place * GLYPH_SIDE + column) * scale) as isize;
                let top = y + (row * scale) as isize;
                fill(picture, (left, top), scale, colour);
            }
        }
    }
}

fn fill(picture: &mut Rgb, (left, top): (isize, isize), side: usize, colour: [u8; 3]) {
    let inside = |start: isize, limit: usize| {
        let end = (start + side as isize).clamp(0, limit as isize);
        start.clamp(0, limit as isize) as usize..end as usize
    };
    let columns = inside(left, picture.width);
    for row in inside(top, picture.height) {
        let at = (row * picture.width + columns.start) * 3;
        let pixels = &mut picture.data[at..at + columns.len() * 3];
        for pixel in pixels.chunks_exact_mut(3) {
            pixel.copy_from_slice(&colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_where_it_should_be() {
        let mut picture = Rgb::filled(20, 12, [0; 3]);
        draw_text(&mut picture, "I", (2, 3), 1, [9, 9, 9]);
        let lit: Vec<(usize, usize)> = (0..12)
            .flat_map(|y| (0..20).map(move |x| (x, y)))
            .filter(|&(x, y)| picture.pixel(x, y) == [9, 9, 9])
            .collect();
        assert!(lit.len() > 8);
        assert!(
            lit.iter()
                .all(|&(x, y)| (2..10).contains(&x) && (3..11).contains(&y))
        );
        // Twice as large is four times the area; outside nothing happens.
        let mut large = Rgb::filled(40, 40, [0; 3]);
        draw_text(&mut large, "I", (0, 0), 2, [9, 9, 9]);
        assert_eq!(
            large.data.iter().filter(|&&v| v == 9).count(),
            lit.len() * 12
        );
        draw_text(&mut large, "Ié", (-90, 38), 3, [9, 9, 9]);
        assert_eq!(text_width("Ié", 3), 48);
    }
}

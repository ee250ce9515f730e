//! Resizing a part of an image that does not begin and end with whole pixels.

use super::check::check;
use super::{CropBox, Filter, Resizer};
use crate::decode::Scaled;
use crate::{Image, Result, Size};

/// A part of a side, in pixels from the first one that it touches.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    /// The first pixel that it touches.
    first: usize,
    /// Pixels that it touches.
    len: usize,
    start: f64,
    end: f64,
}

impl Span {
    /// From `start` to `end`, within a side of `of` pixels.
    fn new(start: f64, end: f64, of: usize) -> Self {
        let first = start.max(0.0) as usize;
        let last = (end.ceil() as usize).min(of);
        Self {
            first,
            len: last.saturating_sub(first),
            start: start - first as f64,
            end: end.min(of as f64) - first as f64,
        }
    }
}

impl Resizer {
    /// [`Resizer::resize_planes`] of an image that may have fewer pixels than its file; `crop` is in
    /// pixels of the file. A pixel that is only partly inside counts for its part.
    ///
    /// # Errors
    /// As [`Resizer::resize_planes`].
    pub fn resize_scaled(
        &mut self,
        scaled: &Scaled,
        crop: CropBox,
        size: Size,
        filter: Filter,
        flip: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let image = &scaled.image;
        if scaled.scale == 1 {
            return self.resize_planes(image, crop, size, filter, flip, out);
        }
        let (left, top) = scaled.place((crop.left, crop.top));
        let (right, bottom) = scaled.place((
            crop.left.saturating_add(crop.width),
            crop.top.saturating_add(crop.height),
        ));
        let across = Span::new(left, right, image.width);
        let down = Span::new(top, bottom, image.height);
        self.resize_part(image, (across, down), size, filter, flip, out)
    }

    fn resize_part(
        &mut self,
        image: &Image,
        (across, down): (Span, Span),
        size: Size,
        filter: Filter,
        flip: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let touched = CropBox {
            top: down.first,
            left: across.first,
            height: down.len,
            width: across.len,
        };
        check(image, touched, size)?;
        let set = |weights: &mut super::weights::FilterWeights, span: Span, to| {
            weights.set_part((span.start, span.end), span.len, to, filter);
        };
        set(&mut self.across, across, size.width);
        set(&mut self.down, down, size.height);
        self.run(image, touched, size, flip, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_touch_what_they_touch() {
        let whole = |first, len, start, end| Span {
            first,
            len,
            start,
            end,
        };
        assert_eq!(Span::new(2.25, 5.5, 9), whole(2, 4, 0.25, 3.5));
        assert_eq!(Span::new(3.0, 5.0, 9), whole(3, 2, 0.0, 2.0));
        assert_eq!(Span::new(0.75, 0.875, 9), whole(0, 1, 0.75, 0.875));
        // What lies outside is left out, or there is nothing.
        assert_eq!(Span::new(7.5, 12.0, 9), whole(7, 2, 0.5, 2.0));
        assert_eq!(Span::new(12.0, 13.0, 9).len, 0);
    }
}

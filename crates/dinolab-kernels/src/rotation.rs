//! Rotary position embeddings: queries and keys turned by angles that depend on a token's place.

use rayon::prelude::*;

use crate::parallel::light_step;
use crate::simd::{fma, multiversioned};
use crate::token_layout::TokenLayout;

/// The rotation of each token of a matrix `[R, D]` (Su et al., arXiv 2104.09864).
///
/// Within each head of width `w`, the values `i` and `i + w/2` are a point that is turned by the angle
/// `i` of the token's place. Tokens without a place, such as the class token, stay as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    head_width: usize,
    /// Of each place, `w/2` cosines and `w/2` sines.
    table: Vec<f32>,
    /// The place of each row.
    places: Vec<u32>,
}

impl Rotation {
    /// The place of a token that is not turned.
    pub const NOWHERE: u32 = u32::MAX;

    /// From a `table` `[P, w]` of the cosines and then the sines of each place, for heads of width
    /// `head_width` = `w`, and the place of each row, below `P` or [`Rotation::NOWHERE`].
    ///
    /// # Panics
    /// If the head's width is odd, or the sizes do not fit each other.
    pub fn new(head_width: usize, table: Vec<f32>, places: Vec<u32>) -> Self {
        assert!(head_width > 0 && head_width.is_multiple_of(2));
        assert!(table.len().is_multiple_of(head_width));
        let count = table.len() / head_width;
        let known = |place: &u32| *place == Self::NOWHERE || (*place as usize) < count;
        assert!(places.iter().all(known), "places in the table");
        Self {
            head_width,
            table,
            places,
        }
    }

    /// The width of a head, `w`.
    pub fn head_width(&self) -> usize {
        self.head_width
    }

    /// Cosines and sines of each place, `[P, w]`.
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// The place of each row.
    pub fn places(&self) -> &[u32] {
        &self.places
    }
}

/// Which way tokens are turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// By the angles.
    Forward,
    /// Back, which is the gradient's way.
    Back,
}

/// Turns the first `columns` of the rows `[R′, width]` that take part in `layout`, if it has a rotation.
pub(crate) fn rotate(
    x: &mut [f32],
    width: usize,
    columns: usize,
    layout: &TokenLayout,
    turn: Turn,
) {
    let Some(rotation) = layout.rotation() else {
        return;
    };
    let head = rotation.head_width;
    assert!(columns.is_multiple_of(head) && columns <= width);
    let step = light_step(width);
    let blocks = x.par_chunks_mut(step * width).enumerate();
    blocks.for_each(|(block, rows)| {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            let place = rotation.places[layout.place(block * step + i).0];
            if place != Rotation::NOWHERE {
                let angles = &rotation.table[place as usize * head..][..head];
                let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
                turn_heads(&mut row[..columns], angles, sign);
            }
        }
    });
}

multiversioned! {
    /// Turns each head of a row by `angles`, cosines and then sines, the sines times `sign`.
    fn turn_heads(row: &mut [f32], angles: &[f32], sign: f32) {
        let (cosines, sines) = angles.split_at(angles.len() / 2);
        for head in row.chunks_exact_mut(angles.len()) {
            let (a, b) = head.split_at_mut(cosines.len());
            for (((a, b), cosine), sine) in a.iter_mut().zip(b).zip(cosines).zip(sines) {
                let (x, y, sine) = (*a, *b, sign * sine);
                *a = fma::<FMA>(x, *cosine, -(y * sine));
                *b = fma::<FMA>(y, *cosine, x * sine);
            }
        }
    }
}

//! Undoing of horizontal prediction.

use super::directory::Order;
use super::layout::{Layout, Predictor};

/// Restores rows of `stride` bytes in place.
pub(super) fn undo(layout: &Layout, rows: &mut [u8], stride: usize) {
    let (samples, bytes) = (layout.chunk_samples(), layout.bits / 8);
    match layout.predictor {
        Predictor::None => {}
        Predictor::Whole => {
            for row in rows.chunks_exact_mut(stride) {
                add(row, samples, bytes, layout.order);
            }
        }
        Predictor::Float => {
            let mut planes = vec![0; stride];
            for row in rows.chunks_exact_mut(stride) {
                add(row, samples, 1, layout.order);
                planes.copy_from_slice(row);
                join(&planes, row, bytes, layout.order);
            }
        }
    }
}

/// Adds to each number the one `samples` before it.
fn add(row: &mut [u8], samples: usize, bytes: usize, order: Order) {
    if bytes == 1 {
        for i in samples..row.len() {
            row[i] = row[i].wrapping_add(row[i - samples]);
        }
        return;
    }
    let step = samples * bytes;
    for at in (step..row.len()).step_by(bytes) {
        let before = order.number(&row[at - step..][..bytes]);
        let number = &mut row[at..at + bytes];
        let sum = order.number(number).wrapping_add(before);
        match order {
            Order::Little => number.copy_from_slice(&sum.to_le_bytes()[..bytes]),
            Order::Big => number.copy_from_slice(&sum.to_be_bytes()[8 - bytes..]),
        }
    }
}

/// All highest bytes of numbers, then all next ones, and so on, to numbers.
fn join(planes: &[u8], row: &mut [u8], bytes: usize, order: Order) {
    let count = planes.len() / bytes;
    for (i, number) in row.chunks_exact_mut(bytes).enumerate() {
        for (k, byte) in number.iter_mut().enumerate() {
            let plane = match order {
                Order::Big => k,
                Order::Little => bytes - 1 - k,
            };
            *byte = planes[plane * count + i];
        }
    }
}

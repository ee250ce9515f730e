//! Targets of patches.

use dinolab_data::Mask;

use crate::random_view::Placement;

/// Counts the pixels of each class in each patch of a view: `[h · w, classes]`.
///
/// The view is the part `at` of the mask, divided into `grid` = (h, w) patches. Each pixel counts
/// once, for the patch that its centre lies in; void pixels are ignored.
pub fn patch_targets(mask: &Mask, at: Placement, grid: (usize, usize), classes: usize) -> Vec<f32> {
    let (h, w) = grid;
    let mut counts = vec![0f32; h * w * classes];
    let crop = at.crop;
    for y in 0..crop.height {
        let row = &mask.data[(crop.top + y) * mask.width + crop.left..][..crop.width];
        // The centre (y + ½) · h / height, rounded down.
        let patch_row = (2 * y + 1) * h / (2 * crop.height);
        for (x, &class) in row.iter().enumerate() {
            if class == Mask::VOID || usize::from(class) >= classes {
                continue;
            }
            let column = (2 * x + 1) * w / (2 * crop.width);
            let column = if at.flip { w - 1 - column } else { column };
            counts[(patch_row * w + column) * classes + usize::from(class)] += 1.0;
        }
    }
    counts
}

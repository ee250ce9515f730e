//! Stochastic depth and patch dropout.

use dinolab_nn::position::Rope;
use dinolab_nn::vit::DropPath;
use dinolab_train::dropout::{Dropout, Dropped, rates};
use proptest::prelude::*;

#[test]
fn rates_rise_with_depth() {
    assert_eq!(rates(0.3, 4), [0.0, 0.3 * 1.0 / 3.0, 0.3 * 2.0 / 3.0, 0.3]);
    assert_eq!(rates(0.3, 1), [0.0], "the first block never drops");
}

#[test]
fn survivors_make_up_for_the_dropped() {
    let rates = rates(0.5, 3);
    let draw = |seed, step| Dropout::new(seed, 3, 0.5, 0.0).draw(step, 4, 0..1000);
    let masks = draw(1, 7);
    assert!(masks.factors(0, 0).is_none() && masks.factors(0, 1).is_none());
    for block in [1, 2] {
        let keep = 1.0 - rates[block];
        for branch in [0, 1] {
            let factors = masks.factors(block, branch).unwrap();
            assert_eq!(factors.len(), 4000);
            assert!(
                factors
                    .iter()
                    .all(|&f| f == 0.0 || f == (1.0 / keep) as f32)
            );
            // 4000 draws: four deviations of the mean are at most 0.064.
            let mean = factors.iter().sum::<f32>() / 4000.0;
            assert!((mean - 1.0).abs() < 0.064, "block {block}: {mean}");
        }
    }
    // Branches, steps and seeds draw for themselves.
    assert_ne!(masks.factors(2, 0), masks.factors(2, 1));
    for other in [draw(1, 8), draw(2, 7)] {
        assert_ne!(masks.factors(2, 0), other.factors(2, 0));
    }
}

#[test]
fn patches_are_dropped_at_their_rate_and_each_is_kept_once() {
    let draw = |rate| Dropout::new(0, 1, 0.0, rate).draw(0, 2, 0..3);
    let dropped = draw(0.25);
    assert!(dropped.factors(0, 0).is_none());
    let kept = dropped.kept_patches(0, 6, 8).unwrap();
    assert_eq!(kept.len(), 6 * 6);
    for places in kept.chunks(6) {
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]) && places[5] < 8);
    }
    assert_ne!(kept[..6], kept[6..12]);
    // Local views, and rates too small for a patch.
    assert!(dropped.kept_patches(1, 6, 8).is_none());
    assert!(draw(0.05).kept_patches(0, 6, 8).is_none());
    assert_eq!(draw(0.99).kept_patches(0, 6, 8).unwrap().len(), 6);
}

/// The coordinates of a size of views move together, in every part of a batch; other steps and sizes move
/// otherwise.
#[test]
fn coordinates_move_by_step_and_size() {
    let rope = Rope {
        shift: 0.5,
        rescale: 2.0,
        ..Rope::default()
    };
    let dropout = Dropout::new(3, 3, 0.0, 0.0).with_rope(Some(rope));
    let change = |step, images, size| dropout.draw(step, 2, images).coordinates(size).unwrap();
    assert_eq!(change(7, 0..4, 0), change(7, 2..4, 0));
    assert_ne!(change(7, 0..4, 0), change(7, 0..4, 1));
    assert_ne!(change(7, 0..4, 0), change(8, 0..4, 0));
    let still = Dropout::new(3, 3, 0.0, 0.0);
    assert_eq!(still.draw(7, 2, 0..4).coordinates(0), None);
    let unmoved = still.with_rope(Some(Rope::default()));
    assert_eq!(unmoved.draw(7, 2, 0..4).coordinates(0), None);
}

proptest! {
    #[test]
    fn draws_do_not_depend_on_the_cut(images in 2usize..20, cut in 1usize..19, views in 1usize..5, step: u64) {
        prop_assume!(cut < images);
        let dropout = Dropout::new(3, 3, 0.4, 0.5);
        let draw = |range: std::ops::Range<usize>| {
            let count = range.len();
            let dropped: Dropped = dropout.draw(step, views, range);
            let factors = dropped.factors(2, 1).unwrap_or_else(|| vec![1.0; views * count]);
            (factors, dropped.kept_patches(0, views * count, 4).unwrap())
        };
        let (whole, first, rest) = (draw(0..images), draw(0..cut), draw(cut..images));
        for view in 0..views {
            let row = &whole.0[view * images..][..images];
            prop_assert_eq!(&row[..cut], &first.0[view * cut..][..cut]);
            prop_assert_eq!(&row[cut..], &rest.0[view * (images - cut)..][..images - cut]);
            let row = &whole.1[2 * view * images..][..2 * images];
            prop_assert_eq!(&row[..2 * cut], &first.1[2 * view * cut..][..2 * cut]);
            let left = images - cut;
            prop_assert_eq!(&row[2 * cut..], &rest.1[2 * view * left..][..2 * left]);
        }
    }
}

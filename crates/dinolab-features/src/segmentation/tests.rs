use dinolab_data::augment::CropBox;
use dinolab_data::{Mask, Size};
use proptest::prelude::*;

use super::*;
use crate::random_view::Placement;

fn whole(mask: &Mask) -> Placement {
    Placement {
        crop: CropBox {
            top: 0,
            left: 0,
            height: mask.height,
            width: mask.width,
        },
        flip: false,
    }
}

#[test]
fn patches_count_their_pixels() {
    let mask = Mask {
        width: 4,
        height: 3,
        data: vec![0, 0, 1, 1, 0, Mask::VOID, 1, 2, 2, 2, 2, 2],
    };
    let at = whole(&mask);
    // The middle row's centre lies on the border of the two rows and goes to the lower one.
    let counts = patch_targets(&mask, at, (2, 2), 3);
    assert_eq!(counts, [2., 0., 0., 0., 2., 0., 1., 0., 2., 0., 1., 3.]);
    let mirrored = patch_targets(&mask, Placement { flip: true, ..at }, (2, 2), 3);
    assert_eq!(mirrored, [0., 2., 0., 2., 0., 0., 0., 1., 3., 1., 0., 2.]);
    let crop = CropBox {
        top: 1,
        left: 2,
        height: 2,
        width: 2,
    };
    let part = patch_targets(&mask, Placement { crop, flip: false }, (1, 1), 3);
    assert_eq!(part, [0., 1., 3.]);
    // More patches than pixels: some see none.
    let fine = patch_targets(&mask, Placement { crop, flip: false }, (4, 1), 3);
    assert_eq!(fine.iter().sum::<f32>(), 4.0);
}

proptest! {
    #[test]
    fn no_pixel_is_lost(width in 1usize..20, height in 1usize..20, h in 1usize..6, w in 1usize..6, flip: bool) {
        let data: Vec<u8> = (0..width * height).map(|i| (i % 5) as u8).collect();
        let mask = Mask { width, height, data };
        let counts = patch_targets(&mask, Placement { flip, ..whole(&mask) }, (h, w), 5);
        for class in 0..5 {
            let wanted = mask.data.iter().filter(|&&v| usize::from(v) == class).count();
            let found: f32 = counts.iter().skip(class).step_by(5).sum();
            prop_assert_eq!(found as usize, wanted);
        }
    }
}

#[test]
fn logits_grow_bilinearly() {
    // Class 0 says 0 everywhere; class 1 rises from -3 to 1 along a line of two patches. Enlarged
    // to eight pixels its values are -3, -3, -2.5, -1.5, -0.5, 0.5, 1, 1.
    let logits = [0.0, -3.0, 0.0, 1.0];
    let map = class_map(&logits, (1, 2), 2, Size::new(2, 8)).unwrap();
    assert_eq!(map[..8], [0, 0, 0, 0, 0, 1, 1, 1]);
    assert_eq!(map[8..], map[..8]);
    // Equal logits are the lower class.
    assert_eq!(
        class_map(&[1.0, 1.0], (1, 1), 2, Size::square(1)).unwrap(),
        [0]
    );
    assert!(class_map(&logits, (1, 1), 2, Size::square(2)).is_err());
    assert!(class_map(&[], (0, 0), 2, Size::square(2)).is_err());
    assert!(class_map(&[0.0; 300], (1, 1), 300, Size::square(1)).is_err());
}

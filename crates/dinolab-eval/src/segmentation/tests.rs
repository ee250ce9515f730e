use dinolab_data::augment::CropBox;
use dinolab_data::shapes::Shapes;
use dinolab_data::{Mask, Size, Source};
use proptest::prelude::*;

use super::*;
use crate::random_view::Placement;

#[test]
fn iou_by_hand() {
    let mut meter = IouMeter::new(4);
    assert_eq!((meter.mean(), meter.pixel_accuracy()), (None, None));
    meter
        .add(&[0, 0, 1, 1, Mask::VOID, Mask::VOID], &[0, 1, 1, 1, 3, 0])
        .unwrap();
    // Pooled over images, not averaged.
    meter.add(&[0, 1, 1, 1], &[0, 0, 0, 2]).unwrap();
    // Class 0: hit 2, shown 3, predicted 4; class 1: hit 2, shown 5, predicted 3; class 2: never
    // shown, predicted once; class 3: predicted on void only.
    assert_eq!(
        meter.iou(),
        [Some(2.0 / 5.0), Some(2.0 / 6.0), Some(0.0), None]
    );
    assert!((meter.mean().unwrap() - (0.4 + 1.0 / 3.0) / 3.0).abs() < 1e-12);
    assert_eq!(meter.pixel_accuracy(), Some(0.5));
    let mut twice = meter.clone();
    twice.merge(&meter);
    assert_eq!(twice.iou(), meter.iou());
    assert!(meter.add(&[0], &[0, 1]).is_err());
    assert!(meter.add(&[4], &[0]).is_err());
    assert!(meter.add(&[0], &[4]).is_err());
    assert!(meter.add(&[Mask::VOID], &[200]).is_ok());
}

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

#[test]
fn shapes_masks_become_classes() {
    let shapes = Shapes::new(3, 20);
    let masks = ClassMasks {
        source: &shapes,
        rule: MaskRule::ObjectOfLabel,
        classes: 17,
    };
    for index in 0..20 {
        let label = shapes.label(index).unwrap() as u8;
        let (object, class) = (
            shapes.mask(index).unwrap().unwrap(),
            masks.mask(index).unwrap(),
        );
        for (o, c) in object.data.iter().zip(&class.data) {
            assert_eq!(*c, o * (label + 1));
        }
    }
    let few = ClassMasks {
        classes: 2,
        ..masks
    };
    let odd = (0..20).find(|&i| shapes.label(i).unwrap() > 0).unwrap();
    assert!(few.mask(odd).unwrap_err().to_string().contains("class"));
}

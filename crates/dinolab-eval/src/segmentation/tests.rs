use dinolab_data::shapes::Shapes;
use dinolab_data::{Mask, Source};

use super::*;
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

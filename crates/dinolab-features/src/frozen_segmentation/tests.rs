use std::sync::Arc;

use dinolab_data::{Mask, Source};
use dinolab_nn::init::Init;
use dinolab_nn::{Vit, VitConfig, device};

use super::*;
use dinolab_eval::segmentation::MaskRule;

/// Images whose left part is dark and whose right part is bright, and masks that say so.
struct Halves;

impl Source for Halves {
    fn len(&self) -> usize {
        12
    }
    fn name(&self, index: usize) -> String {
        format!("halves/{index}")
    }
    fn label(&self, _: usize) -> Option<usize> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn image(&self, index: usize) -> dinolab_data::Result<dinolab_data::Image> {
        let mut image = dinolab_data::Image::new(32, 24, 3);
        if index == 11 {
            return Err(dinolab_data::Error::BadImage {
                name: self.name(index),
                reason: "is broken".into(),
            });
        }
        for (i, v) in image.data.iter_mut().enumerate() {
            let bright = i / 3 % 32 >= 8 * (1 + index % 3);
            *v = if bright { 200 } else { 30 };
        }
        Ok(image)
    }
    fn mask(&self, index: usize) -> dinolab_data::Result<Option<Mask>> {
        let data = (0..32 * 24).map(|i| u8::from(i % 32 >= 8 * (1 + index % 3)));
        Ok(Some(Mask {
            width: 32,
            height: 24,
            data: data.collect(),
        }))
    }
}

fn vit() -> Vit {
    let config = VitConfig {
        width: 24,
        depth: 2,
        heads: 2,
        mlp_ratio: 2,
        ..VitConfig::named("vit_tiny", 4, 32).unwrap()
    };
    Vit::new(&config, &mut Init::new(1), &device::by_name("cpu").unwrap()).unwrap()
}

#[test]
fn a_linear_layer_learns_what_tokens_tell() {
    let halves: Arc<dyn Source> = Arc::new(Halves);
    let masks = ClassMasks {
        source: &*halves,
        rule: MaskRule::Classes,
        classes: 2,
    };
    let settings = FrozenSegmentation {
        size: 32,
        epochs: 20,
        batch_size: 2,
        ..Default::default()
    };
    let run = |settings: &FrozenSegmentation| {
        let mut told = Vec::new();
        let mut done = 0;
        let runs = settings
            .run(
                &vit(),
                &Preprocess::default(),
                (masks, &[0, 1, 2, 3, 4, 5, 11]),
                (masks, &[6, 7, 8, 9]),
                &[1e-6, 0.1],
                &mut |now| done = now,
                &mut |name, reason| told.push((name, reason)),
            )
            .unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].0, "halves/11");
        (runs, done)
    };
    let (runs, _) = run(&settings);
    assert_eq!(SegmentationRun::best_of(&runs).unwrap().lr, runs[1].lr);
    assert!(
        runs[1].meter.mean().unwrap() > 0.95,
        "{:?}",
        runs[1].meter.iou()
    );
    assert!(runs[1].loss < 0.2);
    // Tokens that are not kept are computed again, to the same end.
    let (again, _) = run(&FrozenSegmentation {
        cache_bytes: 20_000,
        ..settings.clone()
    });
    assert_eq!(again[1].classifier, runs[1].classifier);
    assert_eq!(again[1].meter, runs[1].meter);
    // The size must be of whole patches.
    let odd = FrozenSegmentation {
        size: 30,
        ..settings
    };
    let refused = odd.run(
        &vit(),
        &Preprocess::default(),
        (masks, &[0]),
        (masks, &[1]),
        &[0.1],
        &mut |_| {},
        &mut |_, _| {},
    );
    assert!(refused.unwrap_err().to_string().contains("patch size"));
}

//! Several processes make a batch together.

use std::sync::Arc;

use dinolab_data::augment::MultiCrop;
use dinolab_data::loader::ImageCrops;
use dinolab_data::shapes::Shapes;
use dinolab_data::{Error, Loader, LoaderConfig, Share, Size};

fn loader(batch_size: usize, share: Share) -> Result<Loader, Error> {
    let crops = MultiCrop {
        global_size: Size::square(32),
        local_size: Size::square(16),
        local_views: 2,
        ..MultiCrop::default()
    };
    let config = LoaderConfig {
        batch_size,
        share,
        workers: 2,
        ..LoaderConfig::default()
    };
    Loader::new(Arc::new(Shapes::new(0, 40)), crops, config)
}

/// The images of six batches, over two epochs, from the second one of the first.
fn images(batch_size: usize, share: Share) -> Vec<Vec<ImageCrops>> {
    let loader = loader(batch_size, share).unwrap();
    let batches = loader.train_batches(0, 1, 3, 6);
    batches.map(|batch| batch.unwrap().images).collect()
}

#[test]
fn the_shares_of_all_processes_are_the_batches_of_one() {
    let whole = images(12, Share::default());
    assert_eq!(whole.len(), 6);
    for of in [2, 3, 4, 12] {
        let shares: Vec<_> = (0..of).map(|rank| images(12, Share { rank, of })).collect();
        for (number, batch) in whole.iter().enumerate() {
            let together: Vec<_> = shares
                .iter()
                .flat_map(|share| share[number].clone())
                .collect();
            assert!(together == *batch, "batch {number} of {of} processes");
        }
    }
}

#[test]
fn a_batch_that_does_not_divide_is_refused() {
    for share in [Share { rank: 0, of: 5 }, Share { rank: 3, of: 3 }] {
        let Err(error) = loader(12, share) else {
            panic!("{share:?} is taken");
        };
        assert!(
            matches!(
                error,
                Error::BadSetting {
                    field: "batch-size",
                    ..
                }
            ),
            "{error}"
        );
    }
}

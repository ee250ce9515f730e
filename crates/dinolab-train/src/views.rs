//! The views of a batch on the device.

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_data::{Crops, Size};

/// The views of a batch, without gradients.
pub struct Views {
    /// Images in the batch, `B`.
    pub batch: usize,
    /// Global views `[2·B, C, Gh, Gw]`, view-major.
    pub global: Tensor<4>,
    /// Local views `[L·B, C, Sh, Sw]`, view-major, if there are any.
    pub local: Option<Tensor<4>>,
}

impl Views {
    /// Crops as tensors on the plain (not gradient-recording) `device`.
    pub fn new(crops: &Crops, device: &Device) -> Self {
        let (b, c) = (crops.batch(), crops.channels);
        let tensor = |data: Vec<f32>, views: usize, size: Size| {
            let shape = [views * b, c, size.height, size.width];
            Tensor::from_data(TensorData::new(data, shape), device)
        };
        Self {
            batch: b,
            global: tensor(crops.global(), 2, crops.global_size),
            local: (crops.local_views > 0)
                .then(|| tensor(crops.local(), crops.local_views, crops.local_size)),
        }
    }

    /// [`Views::new`], cut into `shards` parts with the same number of images, one after the other.
    ///
    /// # Panics
    /// If the images do not divide.
    pub fn shards(crops: &Crops, shards: usize, device: &Device) -> Vec<Self> {
        let whole = Self::new(crops, device);
        if shards == 1 {
            return vec![whole];
        }
        assert!(
            whole.batch.is_multiple_of(shards),
            "images divide into shards"
        );
        let batch = whole.batch / shards;
        let cut = |views: &Tensor<4>, shard: usize| {
            let [rows, channels, height, width] = views.dims();
            let count = rows / whole.batch;
            let views = views
                .clone()
                .reshape([count, whole.batch, channels, height, width]);
            let own = views.narrow(1, shard * batch, batch);
            own.reshape([count * batch, channels, height, width])
        };
        let shard = |shard| Self {
            batch,
            global: cut(&whole.global, shard),
            local: whole.local.as_ref().map(|local| cut(local, shard)),
        };
        (0..shards).map(shard).collect()
    }

    /// Number of views of each image, `V`.
    pub fn count(&self) -> usize {
        let local = self.local.as_ref().map_or(0, |local| local.dims()[0]);
        2 + local / self.batch.max(1)
    }

    /// The views by size, the global ones first, for a network that records gradients.
    pub fn recorded(&self) -> Vec<Tensor<4>> {
        let all = [Some(&self.global), self.local.as_ref()];
        all.into_iter()
            .flatten()
            .map(|views| Tensor::from_inner(views.clone()))
            .collect()
    }
}

//! Losses that look at all images of a step.

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::{Ranks, host};
use crate::Result;

/// Rows of all images of a step: of this process' shards, and of those of the others. A loss of them is
/// computed by each process; its gradient goes back through each shard by itself.
pub struct Gathered {
    /// The rows, `[V·B, F]`, view-major with the batch's images in their order; a loss of them is
    /// differentiated.
    pub rows: Tensor<2>,
    /// Those of this process' shards, each `[V·b, F]`, with the graph that made them.
    own: Vec<Tensor<2>>,
    /// The place of the first shard's first image.
    first: usize,
    views: usize,
}

impl Ranks {
    /// Rows of all shards, `[V·B, F]`, from those of this process' shards, each `[V·b, F]`, view-major
    /// and without gradients.
    ///
    /// # Errors
    /// [`crate::Error::Ranks`].
    pub fn gather(&self, own: Vec<Tensor<2>>, views: usize) -> Result<Tensor<2>> {
        let own = joined(own, views);
        if self.size() == 1 {
            return Ok(own);
        }
        let ([_, width], device) = (own.dims(), own.device());
        let bytes: Vec<u8> = host(own)
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let all = self.comm.all_gather(&bytes)?;
        let part = |bytes: Vec<u8>| rows(&bytes, width, &device);
        Ok(joined(all.into_iter().map(part).collect(), views))
    }

    /// Rows of all shards, `[ΣR, F]`, from those of this process' shards, each `[R, F]` or none, one shard's after
    /// the other's; `None` if there are none at all.
    ///
    /// # Errors
    /// [`crate::Error::Ranks`].
    pub(crate) fn gather_some(
        &self,
        own: Vec<Option<Tensor<2>>>,
        width: usize,
        device: &Device,
    ) -> Result<Option<Tensor<2>>> {
        let own: Vec<_> = own.into_iter().flatten().collect();
        let own = (!own.is_empty()).then(|| joined(own, 1));
        if self.size() == 1 {
            return Ok(own);
        }
        let own = own.map(host).unwrap_or_default();
        let bytes: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.comm.all_gather(&bytes)?.concat();
        Ok((!all.is_empty()).then(|| rows(&all, width, device)))
    }

    /// The rows of this process' shards, with `sizes` rows each, out of those of all, `[V·B, F]`.
    pub(crate) fn own_rows(
        &self,
        all: Tensor<2>,
        views: usize,
        sizes: impl ExactSizeIterator<Item = usize>,
    ) -> Vec<Tensor<2>> {
        let own = sizes.len();
        let cut = |(shard, rows): (usize, usize)| {
            let images = rows / views;
            let first = (self.rank() * own + shard) * images;
            of_images(all.clone(), views, first, images)
        };
        sizes.enumerate().map(cut).collect()
    }

    /// Rows of all shards for a loss, from those of this process' shards with their graphs.
    ///
    /// # Errors
    /// [`crate::Error::Ranks`].
    pub fn gather_recorded(&self, own: Vec<Tensor<2>>, views: usize) -> Result<Gathered> {
        let plain = own.iter().map(|rows| rows.clone().without_autodiff());
        let rows = self.gather(plain.collect(), views)?;
        let images = own[0].dims()[0] / views;
        Ok(Gathered {
            rows: Tensor::from_inner(rows).require_grad(),
            first: self.rank() * own.len() * images,
            own,
            views,
        })
    }
}

impl Gathered {
    /// Takes the rows' gradient out of `gradients`, those of a loss, and goes on with it through each
    /// of this process' shards: `then` is given the gradients of one after the other.
    ///
    /// # Errors
    /// Those of `then`.
    ///
    /// # Panics
    /// If the loss does not depend on the rows.
    pub fn backward(
        self,
        gradients: &mut Gradients,
        mut then: impl FnMut(Gradients) -> Result<()>,
    ) -> Result<()> {
        let grad = self.rows.grad_remove(gradients);
        let grad = grad.expect("a loss of the rows");
        let mut first = self.first;
        for own in self.own {
            let images = own.dims()[0] / self.views;
            let part = of_images(grad.clone(), self.views, first, images);
            first += images;
            // A frozen backbone has recorded nothing: there is no gradient beyond the rows.
            let own = match own.is_tracked() {
                true => own,
                false => own.require_grad(),
            };
            // Its derivative by `own` is `part`.
            then((own * Tensor::from_inner(part)).sum().backward())?;
        }
        Ok(())
    }

    /// As [`Gathered::backward`], but only the gradients of this process' rows, one for each shard.
    ///
    /// # Panics
    /// If the loss does not depend on the rows.
    pub fn own_gradients(self, gradients: &mut Gradients) -> Vec<Tensor<2>> {
        let grad = self.rows.grad_remove(gradients);
        let grad = grad.expect("a loss of the rows");
        let mut first = self.first;
        let part = |own: &Tensor<2>| {
            let images = own.dims()[0] / self.views;
            first += images;
            of_images(grad.clone(), self.views, first - images, images)
        };
        self.own.iter().map(part).collect()
    }
}

/// The rows of some images of view-major ones.
fn of_images(rows: Tensor<2>, views: usize, first: usize, images: usize) -> Tensor<2> {
    let [all, width] = rows.dims();
    if all == views * images {
        return rows;
    }
    let rows = rows.reshape([views, all / views, width]);
    rows.narrow(1, first, images)
        .reshape([views * images, width])
}

/// View-major rows of the images of all parts.
pub(crate) fn joined(mut parts: Vec<Tensor<2>>, views: usize) -> Tensor<2> {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let by_view = |part: Tensor<2>| {
        let [rows, width] = part.dims();
        part.reshape([views, rows / views, width])
    };
    let all = Tensor::cat(parts.into_iter().map(by_view).collect(), 1);
    let [_, images, width] = all.dims();
    all.reshape([views * images, width])
}

/// Rows of `width` values from their bytes.
fn rows(bytes: &[u8], width: usize, device: &Device) -> Tensor<2> {
    let (values, _) = bytes.as_chunks();
    let values: Vec<f32> = values
        .iter()
        .map(|&value| f32::from_le_bytes(value))
        .collect();
    let shape = [values.len() / width.max(1), width];
    Tensor::from_data(TensorData::new(values, shape), device)
}

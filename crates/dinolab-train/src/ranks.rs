//! The processes that train one network together.
//!
//! Each computes a part of every batch, and the sums of all parts are the same as those of one process:
//! gradients, the centre, and whatever a loss needs of all images. A batch is split into *shards*,
//! at least one for each process. Sums are over shards: over those of a process first, then over
//! processes. With [`Ranks::reproducible`] both follow one binary tree, whose leaves are the shards:
//! any number of processes gives the same bits.

mod agree;
mod gather;
mod tree;
mod whole_batch;

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_comm::{Communicator, Local, Order, PendingSum};

pub use self::gather::Gathered;
pub(crate) use self::gather::joined;
pub use self::tree::TreeSum;
use crate::{Error, Result};

/// Values of one all-reduce: 64 MiB.
const BUCKET: usize = 1 << 24;

/// The processes of a run, as one of them sees them.
#[derive(Clone)]
pub struct Ranks {
    comm: Rc<dyn Communicator>,
    /// Shards of a batch, over all processes.
    shards: usize,
    reproducible: bool,
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranks")
            .field("rank", &self.rank())
            .field("size", &self.size())
            .field("shards", &self.shards)
            .finish()
    }
}

/// One process.
impl Default for Ranks {
    fn default() -> Self {
        Self::new(Rc::new(Local))
    }
}

impl Ranks {
    /// A shard for each process of `comm`; the order of additions is the library's.
    pub fn new(comm: Rc<dyn Communicator>) -> Self {
        Self {
            shards: comm.size(),
            comm,
            reproducible: false,
        }
    }

    /// `shards` shards: the same bits for any number of processes that divides it.
    ///
    /// # Errors
    /// [`Error::BadSetting`] if `shards` is no power of two, or not divisible by the processes.
    pub fn reproducible(comm: Rc<dyn Communicator>, shards: usize) -> Result<Self> {
        let size = comm.size();
        let reason = match shards {
            _ if !shards.is_power_of_two() => format!("must be a power of two, not {shards}"),
            _ if !shards.is_multiple_of(size) => {
                format!(
                    "{shards} shards cannot be divided among {size} processes; start 1, 2, 4, … up to {shards}"
                )
            }
            _ => {
                return Ok(Self {
                    comm,
                    shards,
                    reproducible: true,
                });
            }
        };
        let field = "reproducible-ranks";
        Err(Error::BadSetting { field, reason })
    }

    /// The same with sums over the same processes by another communicator.
    #[must_use]
    pub fn over(self, comm: Rc<dyn Communicator>) -> Self {
        Self { comm, ..self }
    }

    /// This process, from 0.
    pub fn rank(&self) -> usize {
        self.comm.rank()
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.comm.size()
    }

    /// Whether this process prints and writes.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Shards of a batch, over all processes.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Shards of a batch that this process computes.
    pub fn own_shards(&self) -> usize {
        self.shards / self.size()
    }

    /// Whether a batch is one shard: there is nothing to sum.
    pub fn is_whole(&self) -> bool {
        self.shards == 1
    }

    /// The collective operations.
    pub fn comm(&self) -> &dyn Communicator {
        &*self.comm
    }

    /// Checks that batches of `batch` images can be split.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the nearest that can.
    pub fn check_batch(&self, batch: usize) -> Result<()> {
        let shards = self.shards;
        if batch.is_multiple_of(shards) {
            return Ok(());
        }
        let below = batch / shards * shards;
        let above = below + shards;
        let nearest = match below {
            0 => above.to_string(),
            _ => format!("{below} or {above}"),
        };
        let among = match self.reproducible {
            true => "shards",
            false => "processes",
        };
        Err(Error::BadSetting {
            field: "batch-size",
            reason: format!(
                "{batch} images cannot be divided among {shards} {among}; give {nearest}"
            ),
        })
    }

    /// The places in a step's batch of the images of each of this process' micro-batches, in the order
    /// in which [`Method::step`](crate::Method::step) is given them, with `sizes` images.
    pub fn images(&self, sizes: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
        let (own, shards) = (self.own_shards(), self.shards);
        let mut first = 0;
        let sizes = sizes.into_iter().enumerate();
        let range = |(number, images): (usize, usize)| {
            if number > 0 && number.is_multiple_of(own) {
                // The shards of other processes lie between.
                first += (shards - own) * images;
            }
            let begin = first + self.rank() * own * images;
            first += images;
            begin..begin + images
        };
        sizes.map(range).collect()
    }

    /// Sums flat tensors over all processes.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn sum(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>> {
        if self.size() == 1 {
            return Ok(tensors);
        }
        let mut values = joined_values(&tensors);
        for bucket in values.chunks_mut(BUCKET) {
            match self.reproducible {
                true => self.comm.all_reduce_tree(bucket)?,
                false => self.comm.all_reduce(bucket)?,
            }
        }
        let shapes = tensors.iter().map(|tensor| tensor.dims()[0]);
        let device = tensors.first().map(|tensor| tensor.device());
        Ok(split(&values, shapes, device))
    }

    /// Whether sums are worth beginning before the backward pass has ended: there are others to sum with,
    /// and a process computes its part of a batch at once.
    pub fn overlap(&self) -> bool {
        self.size() > 1 && self.own_shards() == 1
    }

    /// [`Ranks::sum`] that goes on while this process computes.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn begin_sum(&self, tensors: Vec<Tensor<1>>) -> Result<Summing> {
        let order = match self.reproducible {
            true => Order::Tree,
            false => Order::Any,
        };
        let sums = self.comm.begin_sum(joined_values(&tensors), order)?;
        Ok(Summing {
            sums,
            lens: tensors.iter().map(|tensor| tensor.dims()[0]).collect(),
            device: tensors.first().map(|tensor| tensor.device()),
        })
    }

    /// The numbers of all shards of a step, in their order, from those of this process' shards.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn of_all_shards(&self, own: &[f64]) -> Result<Vec<f64>> {
        if self.size() == 1 {
            return Ok(own.to_vec());
        }
        let bytes: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.comm.all_gather(&bytes)?.concat();
        let (numbers, _) = all.as_chunks();
        Ok(numbers
            .iter()
            .map(|&bytes| f64::from_le_bytes(bytes))
            .collect())
    }
}

/// A sum of flat tensors that has begun.
pub struct Summing {
    sums: PendingSum,
    lens: Vec<usize>,
    device: Option<Device>,
}

impl Summing {
    /// Waits for the sums, in the order of the summands.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn wait(self) -> Result<Vec<Tensor<1>>> {
        Ok(split(
            &self.sums.wait()?,
            self.lens.into_iter(),
            self.device,
        ))
    }
}

/// The values of flat tensors, one after the other.
fn joined_values(tensors: &[Tensor<1>]) -> Vec<f32> {
    let mut values = Vec::new();
    for tensor in tensors {
        values.append(&mut host(tensor.clone()));
    }
    values
}

/// Flat tensors of these lengths on `device`, out of values one after the other.
fn split(
    mut values: &[f32],
    lens: impl Iterator<Item = usize>,
    device: Option<Device>,
) -> Vec<Tensor<1>> {
    let Some(device) = device else {
        return Vec::new();
    };
    let next = |len| {
        let (own, rest) = values.split_at(len);
        values = rest;
        Tensor::from_data(TensorData::new(own.to_vec(), [len]), &device)
    };
    lens.map(next).collect()
}

/// The values of a tensor.
fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_to_vec().expect("converted to f32")
}

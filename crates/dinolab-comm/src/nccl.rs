//! Sums between NVIDIA GPUs by NCCL, which is loaded when it is first needed.

use std::array;
use std::rc::Rc;

use cudarc::driver::{self, CudaContext, CudaSlice};
use cudarc::nccl::{self, Comm, Id, ReduceOp};

use crate::{Communicator, Error, Order, PendingSum, Result};

/// Processes that each have an NVIDIA GPU of their own.
///
/// Sums whose order is the library's choice go from GPU to GPU. Everything else, sums along a tree and the watch for
/// lost processes among it, is left to the communicator that it was connected by.
pub struct Nccl {
    gpus: Rc<Comm>,
    control: Rc<dyn Communicator>,
}

impl Nccl {
    /// Whether the libraries of the driver and of NCCL can be loaded.
    #[must_use]
    pub fn is_available() -> bool {
        // SAFETY: loads libraries of NVIDIA's, whose initialisers are as sound as those of any library that is
        // linked, and lets go of them.
        unsafe { driver::sys::is_culib_present() && nccl::sys::is_culib_present() }
    }

    /// Connects the GPUs of all processes of `control`, this one's with the number `gpu` on its machine. All call it.
    ///
    /// # Errors
    /// [`Error::Nccl`] without [`Nccl::is_available`], for a GPU that does not exist, or one that two processes share.
    pub fn connect(control: Rc<dyn Communicator>, gpu: usize) -> Result<Self> {
        if !Self::is_available() {
            let reason = "the library (libnccl.so.2) or the driver (libcuda.so.1) cannot be loaded";
            return Err(Error::Nccl(reason.into()));
        }
        let gpu = CudaContext::new(gpu).map_err(failed)?;
        // Apart from the stream that the network computes in.
        let stream = gpu.new_stream().map_err(failed)?;
        let mut id = match control.rank() {
            0 => Id::new().map_err(refused)?.internal().map(i8_bits).to_vec(),
            _ => Vec::new(),
        };
        control.broadcast(&mut id)?;
        let [rank, size] = [control.rank(), control.size()];
        let id = Id::uninit(array::from_fn(|i| id[i] as _));
        gpu.bind_to_thread().map_err(failed)?;
        let gpus = Comm::from_rank(stream, rank, size, id).map_err(refused)?;
        Ok(Self {
            gpus: Rc::new(gpus),
            control,
        })
    }

    /// A sum on the GPUs that has begun.
    fn begin(&self, values: &[f32]) -> Result<CudaSlice<f32>> {
        let stream = self.gpus.stream();
        let mut sums = stream.clone_htod(values).map_err(failed)?;
        let sum = self.gpus.all_reduce_in_place(&mut sums, &ReduceOp::Sum);
        sum.map_err(refused)?;
        Ok(sums)
    }
}

/// Waits for a sum and copies it to `values`.
fn finish(gpus: &Comm, sums: &CudaSlice<f32>, values: &mut [f32]) -> Result<()> {
    let stream = gpus.stream();
    stream.memcpy_dtoh(sums, values).map_err(failed)?;
    stream.synchronize().map_err(failed)
}

#[allow(
    clippy::unnecessary_cast,
    reason = "C's char is signed on some machines only"
)]
fn i8_bits(char: std::ffi::c_char) -> u8 {
    char as u8
}

fn failed(error: driver::DriverError) -> Error {
    Error::Nccl(error.to_string())
}

fn refused(error: nccl::result::NcclError) -> Error {
    Error::Nccl(format!(
        "{:?}; NCCL_DEBUG=INFO says more, and each process needs a GPU of its own",
        error.0
    ))
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.control.rank()
    }

    fn size(&self) -> usize {
        self.control.size()
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        finish(&self.gpus, &self.begin(values)?, values)
    }

    fn all_reduce_tree(&self, values: &mut [f32]) -> Result<()> {
        self.control.all_reduce_tree(values)
    }

    fn begin_sum(&self, mut values: Vec<f32>, order: Order) -> Result<PendingSum> {
        if order == Order::Tree || values.is_empty() {
            return self.control.begin_sum(values, order);
        }
        let sums = self.begin(&values)?;
        let gpus = Rc::clone(&self.gpus);
        Ok(PendingSum::running(move || {
            finish(&gpus, &sums, &mut values)?;
            Ok(values)
        }))
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.control.all_gather(own)
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        self.control.broadcast(bytes)
    }

    fn barrier(&self) -> Result<()> {
        self.control.barrier()
    }

    fn abort(&self, code: i32) -> ! {
        self.control.abort(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Local;

    /// On a machine with a GPU and NCCL, the sum of one process; elsewhere, the error.
    #[test]
    fn one_process_sums_or_is_told_what_is_missing() {
        match Nccl::connect(Rc::new(Local), 0) {
            Ok(nccl) => {
                let mut values = vec![1.5, -2.0, 0.25];
                nccl.all_reduce(&mut values).unwrap();
                let begun = nccl.begin_sum(values, Order::Any).unwrap();
                assert_eq!(begun.wait().unwrap(), [1.5, -2.0, 0.25]);
            }
            Err(error) => {
                assert!(!Nccl::is_available(), "{error}");
                let error = error.to_string();
                assert!(
                    error.starts_with("NCCL: the library (libnccl.so.2)"),
                    "{error}"
                );
            }
        }
    }
}

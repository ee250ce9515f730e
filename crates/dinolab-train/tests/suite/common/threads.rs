//! Processes of a run as threads of one.

use std::sync::{Arc, Barrier, Mutex};

use dinolab_comm::{Communicator, Result};

/// One of several threads that train together.
pub struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    barrier: Barrier,
    slots: Vec<Mutex<Vec<u8>>>,
}

impl Threads {
    /// The ends of `size` connected threads.
    pub fn connected(size: usize) -> Vec<Self> {
        let shared = Arc::new(Shared {
            barrier: Barrier::new(size),
            slots: (0..size).map(|_| Mutex::default()).collect(),
        });
        let end = |rank| Self {
            rank,
            shared: shared.clone(),
        };
        (0..size).map(end).collect()
    }

    fn all_values(&self, own: &[f32]) -> Result<Vec<Vec<f32>>> {
        let bytes: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.all_gather(&bytes)?;
        let values = |bytes: Vec<u8>| {
            let (values, _) = bytes.as_chunks();
            values
                .iter()
                .map(|&value| f32::from_le_bytes(value))
                .collect()
        };
        Ok(all.into_iter().map(values).collect())
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.slots.len()
    }

    /// From the last to the first: another order than along the tree.
    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        let all = self.all_values(values)?;
        values.fill(0.0);
        for other in all.iter().rev() {
            values
                .iter_mut()
                .zip(other)
                .for_each(|(sum, value)| *sum += value);
        }
        Ok(())
    }

    fn all_reduce_tree(&self, values: &mut [f32]) -> Result<()> {
        let mut all = self.all_values(values)?;
        while all.len() > 1 {
            let pairs = all.chunks(2);
            all = pairs
                .map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| a + b).collect())
                .collect();
        }
        values.copy_from_slice(&all[0]);
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        *self.shared.slots[self.rank].lock().unwrap() = own.to_vec();
        self.shared.barrier.wait();
        let all = self
            .shared
            .slots
            .iter()
            .map(|slot| slot.lock().unwrap().clone());
        let all = all.collect();
        self.shared.barrier.wait();
        Ok(all)
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        *bytes = self.all_gather(bytes)?.remove(0);
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        self.all_gather(&[]).map(drop)
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}

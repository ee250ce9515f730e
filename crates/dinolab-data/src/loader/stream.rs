//! Files of shards, read from front to back although images are wanted in shuffled order.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result, Source};

/// Bytes that are read at once.
const BLOCK: u64 = 4 << 20;

/// The files that an epoch still wants, in the order in which they lie in the shards.
///
/// Files that are read before their turn wait in memory: as many as the shuffle buffer has images,
/// and never more than `most` bytes and a block. Whatever is not held when its turn comes is read by
/// itself, so that this changes how often storage is asked, and nothing else.
pub(super) struct Stream {
    state: Mutex<State>,
    most: usize,
}

struct State {
    /// What was not read yet, the next one last.
    left: Vec<usize>,
    /// What was taken out of turn while it was not read yet.
    gone: HashSet<usize>,
    held: HashMap<usize, Vec<u8>>,
    bytes: usize,
    /// Location, attempts and reason, once something could not be fetched.
    unreachable: Option<(String, u32, String)>,
}

impl Stream {
    /// Files that wait in memory, in bytes.
    pub(super) const MOST: usize = 1 << 30;

    /// Over the `files` that will be taken, once each, in the order of reading.
    pub(super) fn new(mut files: Vec<usize>, most: usize) -> Self {
        files.reverse();
        Self {
            state: Mutex::new(State {
                left: files,
                gone: HashSet::new(),
                held: HashMap::new(),
                bytes: 0,
                unreachable: None,
            }),
            most,
        }
    }

    /// The file of an image, having read up to it; `None` where it must be read by itself.
    ///
    /// # Errors
    /// [`Error::Unreachable`], then and from then on: who waits for the same should not have to wait
    /// for as many attempts again.
    pub(super) fn take(
        &self,
        index: usize,
        source: &dyn Source,
        unwanted: impl Fn(usize) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        // A source that panics leaves the state whole: it is changed after each read only.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(file) = state.held.remove(&index) {
                state.bytes -= file.len();
                return Ok(Some(file));
            }
            if unwanted(index) || state.bytes >= self.most || !state.read(source, &unwanted)? {
                state.gone.insert(index);
                return Ok(None);
            }
        }
    }
}

impl State {
    /// Reads another block. `false`: there is none, or it cannot be read.
    fn read(&mut self, source: &dyn Source, unwanted: &impl Fn(usize) -> bool) -> Result<bool> {
        if let Some((location, attempts, reason)) = self.unreachable.clone() {
            return Err(Error::Unreachable {
                location,
                attempts,
                reason,
            });
        }
        while let Some(next) = self.left.last() {
            if !self.gone.remove(next) && !unwanted(*next) {
                break;
            }
            self.left.pop();
        }
        // No file is shorter than a tar header, so that these fill a block.
        let next: Vec<usize> = self
            .left
            .iter()
            .rev()
            .take((BLOCK / 512) as usize)
            .copied()
            .collect();
        let files = match source.encoded_run(&next, BLOCK) {
            Ok(files) => files,
            Err(Error::Unreachable {
                location,
                attempts,
                reason,
            }) => {
                self.unreachable = Some((location, attempts, reason));
                return self.read(source, unwanted);
            }
            Err(_) => {
                // Who wants it will meet the error; the others are read without it.
                self.left.pop();
                return Ok(false);
            }
        };
        let mut read = false;
        for (index, file) in next.into_iter().zip(files) {
            read = true;
            self.left.pop();
            if !self.gone.remove(&index) && !unwanted(index) {
                self.bytes += file.len();
                self.held.insert(index, file);
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, Mask};

    const FILE: usize = 1 << 20;

    /// A hundred files of a MiB, of which some cannot be read together with others.
    struct Files {
        fails: Option<usize>,
    }

    impl Source for Files {
        fn len(&self) -> usize {
            100
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn label(&self, _: usize) -> Option<usize> {
            None
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn image(&self, index: usize) -> Result<Image> {
            Err(Error::BadImage {
                name: self.name(index),
                reason: "no image".into(),
            })
        }
        fn encoded_run(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
            let run = &indices[..indices.len().min((most / FILE as u64) as usize)];
            match self.fails {
                Some(fails) if run.contains(&fails) => self.image(fails).map(|_| Vec::new()),
                _ => Ok(run.iter().map(|&i| vec![i as u8; FILE]).collect()),
            }
        }
        fn mask(&self, _: usize) -> Result<Option<Mask>> {
            Ok(None)
        }
    }

    #[test]
    fn memory_is_bounded_and_every_file_is_the_right_one() {
        let source = Files { fails: None };
        let stream = Stream::new((0..100).collect(), 6 * FILE);
        let mut given = 0;
        // From the back: the worst that there is.
        for index in (0..100).rev() {
            if let Some(file) = stream.take(index, &source, |_| false).unwrap() {
                assert_eq!(file[0], index as u8);
                given += 1;
            }
            assert!(stream.state.lock().unwrap().bytes <= 6 * FILE + BLOCK as usize);
        }
        assert_eq!(given, 8);
        assert_eq!(stream.state.lock().unwrap().bytes, 0);
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_the_rest_goes_on() {
        let source = Files { fails: Some(50) };
        let stream = Stream::new((0..100).collect(), 1 << 30);
        let unwanted = |index| index == 20;
        let none: Vec<usize> = (0..100)
            .filter(
                |&index| match stream.take(index, &source, unwanted).unwrap() {
                    Some(file) => file[0] != index as u8,
                    None => true,
                },
            )
            .collect();
        assert_eq!(none.first(), Some(&20));
        assert!(none.contains(&50) && none.len() < 7, "{none:?}");
        assert_eq!(stream.state.lock().unwrap().bytes, 0);
    }
}

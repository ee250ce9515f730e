//! Files of shards, read from front to back although images are wanted in shuffled order.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Error, Result, Source};

/// Bytes that are read at once.
const BLOCK: u64 = 4 << 20;

/// The files that an epoch still needs, in the order in which they lie in the shards.
///
/// They are read in runs, by whoever needs the next one; others that need a later one read that
/// meanwhile, which hides the time that storage takes. Files that are read before their turn wait in
/// memory: as many as the shuffle buffer has images, and never more than `most` bytes and a block.
/// Whatever is not held when its turn comes is read by itself, so that this changes how often storage
/// is asked, and nothing else.
pub(super) struct Stream {
    state: Mutex<State>,
    /// A run was read.
    arrived: Condvar,
    most: usize,
}

struct State {
    /// Files whose reading has not begun, the next one last.
    left: Vec<usize>,
    /// Files being read.
    coming: HashSet<usize>,
    /// Runs that are being read.
    runs: usize,
    /// What was taken, or given up, while it was not there yet.
    gone: HashSet<usize>,
    held: HashMap<usize, Vec<u8>>,
    bytes: usize,
    /// Whether the source turned out not to read files together.
    apart: bool,
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
                coming: HashSet::new(),
                runs: 0,
                gone: HashSet::new(),
                held: HashMap::new(),
                bytes: 0,
                apart: false,
                unreachable: None,
            }),
            arrived: Condvar::new(),
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
        let mut state = self.lock();
        loop {
            if let Some(file) = state.held.remove(&index) {
                state.bytes -= file.len();
                return Ok(Some(file));
            }
            if let Some((location, attempts, reason)) = state.unreachable.clone() {
                return Err(Error::Unreachable {
                    location,
                    attempts,
                    reason,
                });
            }
            // It could not be read with others before.
            if state.gone.remove(&index) {
                return Ok(None);
            }
            if !unwanted(index) && state.coming.contains(&index) {
                let woken = self.arrived.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let full = state.apart || state.bytes + state.runs * BLOCK as usize >= self.most;
            let run = match unwanted(index) || full {
                true => Vec::new(),
                false => state.next_run(source, &unwanted),
            };
            if run.is_empty() {
                state.gone.insert(index);
                return Ok(None);
            }
            state.coming.extend(&run);
            state.runs += 1;
            drop(state);
            let mut reading = Reading {
                stream: self,
                run,
                files: Ok(Vec::new()),
            };
            reading.files = source.read_contiguous(&reading.run, BLOCK);
            reading.end(&unwanted);
            state = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole whenever a source can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes what is to be read at once from what is left; nothing where that is all.
    fn next_run(&mut self, source: &dyn Source, unwanted: &impl Fn(usize) -> bool) -> Vec<usize> {
        while let Some(next) = self.left.last() {
            if !self.gone.remove(next) && !unwanted(*next) {
                break;
            }
            self.left.pop();
        }
        // No file is shorter than a tar header, so that these fill a block.
        let most = (BLOCK / 512) as usize;
        let mut run: Vec<usize> = self.left.iter().rev().take(most).copied().collect();
        // A source that cannot tell in advance is given all of them to choose from.
        let length = source.contiguous_len(&run, BLOCK);
        if length > 0 {
            run.truncate(length);
        }
        self.left.truncate(self.left.len() - run.len());
        run
    }
}

/// A run of files being read. When it ends, in whatever way, the threads that wait for it continue.
struct Reading<'a> {
    stream: &'a Stream,
    run: Vec<usize>,
    files: Result<Vec<Vec<u8>>>,
}

impl Reading<'_> {
    /// Puts what was read where it is taken from.
    fn end(mut self, unwanted: &impl Fn(usize) -> bool) {
        let files = std::mem::replace(&mut self.files, Ok(Vec::new()));
        let mut state = self.stream.lock();
        let files = match files {
            Ok(files) => files,
            Err(Error::Unreachable {
                location,
                attempts,
                reason,
            }) => {
                state.unreachable = Some((location, attempts, reason));
                return;
            }
            // Who wants the first one will meet the error; the others are read without it.
            Err(_) => return,
        };
        state.apart |= files.is_empty();
        let count = files.len();
        for (&index, file) in self.run.iter().zip(files) {
            state.coming.remove(&index);
            if !state.gone.remove(&index) && !unwanted(index) {
                state.bytes += file.len();
                state.held.insert(index, file);
            }
        }
        // The rest was only offered.
        let offered = self.run.split_off(count.min(self.run.len()));
        for index in &offered {
            state.coming.remove(index);
        }
        state.left.extend(offered.into_iter().rev());
        self.run.clear();
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = self.stream.lock();
        state.runs -= 1;
        for index in &self.run {
            state.coming.remove(index);
        }
        // What is still here could not be read: its first file is left to who wants it.
        if let Some((&first, rest)) = self.run.split_first() {
            state.gone.insert(first);
            state.left.extend(rest.iter().rev());
        }
        self.stream.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::Image;

    const FILE: usize = 1 << 20;

    /// A hundred files of a MiB, of which some cannot be read together with others.
    #[derive(Default)]
    struct Files {
        fails: Option<usize>,
        panics: Option<usize>,
        /// Whether it tells how long a run will be.
        tells: bool,
        /// Runs that are being read, and the most that were at a time.
        now: AtomicUsize,
        most: AtomicUsize,
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
        fn read_contiguous(&self, indices: &[usize], most: u64) -> Result<Vec<Vec<u8>>> {
            let run = &indices[..indices.len().min((most / FILE as u64) as usize)];
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            self.now.fetch_sub(1, Ordering::SeqCst);
            assert!(!self.panics.is_some_and(|index| run.contains(&index)));
            match self.fails {
                Some(fails) if run.contains(&fails) => self.image(fails).map(|_| Vec::new()),
                _ => Ok(run.iter().map(|&i| vec![i as u8; FILE]).collect()),
            }
        }
        fn contiguous_len(&self, indices: &[usize], most: u64) -> usize {
            match self.tells {
                true => indices.len().min((most / FILE as u64) as usize),
                false => 0,
            }
        }
    }

    #[test]
    fn runs_are_read_at_the_same_time_where_their_lengths_are_known() {
        for tells in [true, false] {
            let source = Files {
                tells,
                ..Files::default()
            };
            let stream = Stream::new((0..100).collect(), 1 << 30);
            let next = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        loop {
                            // Not in their order.
                            let index = next.fetch_add(1, Ordering::SeqCst);
                            let Some(index) = (index < 100).then_some(index * 37 % 100) else {
                                return;
                            };
                            let file = stream.take(index, &source, |_| false).unwrap();
                            assert_eq!(file.unwrap()[0], index as u8);
                        }
                    });
                }
            });
            let most = source.most.load(Ordering::SeqCst);
            assert!(if tells { most > 1 } else { most == 1 }, "{most}");
            assert_eq!(stream.lock().bytes, 0);
        }
    }

    #[test]
    fn nobody_waits_for_a_run_that_ended_in_a_panic() {
        let source = Files {
            panics: Some(9),
            ..Files::default()
        };
        let stream = Stream::new((0..100).collect(), 1 << 30);
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (8..12)
                .map(|index| {
                    let (stream, source) = (&stream, &source);
                    let take = AssertUnwindSafe(move || stream.take(index, source, |_| false));
                    scope.spawn(move || catch_unwind(take).map(|file| file.unwrap().is_some()))
                })
                .collect();
            let outcomes: Vec<_> = waiting
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect();
            assert!(outcomes.iter().any(|outcome| outcome.is_err()));
        });
        for index in 12..100 {
            assert!(stream.take(index, &source, |_| false).unwrap().is_some());
        }
    }

    #[test]
    fn memory_is_bounded_and_every_file_is_the_right_one() {
        let source = Files::default();
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
        let source = Files {
            fails: Some(50),
            ..Files::default()
        };
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

//! Mean and standard deviation of each channel of a set of images.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::image::Depth;
use crate::random::{Purpose, Random};
use crate::{Error, Image, Result, Source};

/// Count, mean and sum of squared distances from it, of values in 0–1.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Of one channel of an image. Whole numbers are summed without rounding.
    fn of(image: &Image, channel: usize) -> Self {
        let pixels = image.width * image.height;
        let (step, sample) = (image.channels, image.depth.bytes());
        let samples = image.data.chunks_exact(sample).skip(channel).step_by(step);
        let whole = |values: &mut dyn Iterator<Item = u128>, full: f64| {
            let (mut sum, mut squares) = (0u128, 0u128);
            for v in values {
                sum += v;
                squares += v * v;
            }
            let n = pixels as u128;
            Self {
                count: n as f64,
                mean: sum as f64 / n as f64 / full,
                squares: (n * squares - sum * sum) as f64 / n as f64 / (full * full),
            }
        };
        match image.depth {
            Depth::Eight => whole(&mut samples.map(|s| u128::from(s[0])), 255.0),
            Depth::Sixteen => whole(
                &mut samples.map(|s| u128::from(u16::from_ne_bytes([s[0], s[1]]))),
                65535.0,
            ),
            Depth::Float => {
                let values = || image.data.chunks_exact(4).skip(channel).step_by(step);
                let number = |s: &[u8]| f64::from(f32::from_ne_bytes([s[0], s[1], s[2], s[3]]));
                let mean = values().map(number).sum::<f64>() / pixels as f64;
                Self {
                    count: pixels as f64,
                    mean,
                    squares: values().map(|s| (number(s) - mean).powi(2)).sum(),
                }
            }
        }
    }

    /// Of both together.
    fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * other.count / count,
            squares: self.squares
                + other.squares
                + apart * apart * self.count * other.count / count,
        }
    }
}

/// What [`measure`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Mean of each channel, of values in 0–1.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel over all pixels (divided by their number), of values in
    /// 0–1.
    pub std: Vec<f64>,
    /// Images that were measured.
    pub images: usize,
    /// Images that could not be used: index and reason.
    pub skipped: Vec<(usize, String)>,
}

/// Measures each channel over all pixels of at most `most` images, drawn from the source by `seed`.
///
/// `threads` read them; the figures do not depend on how many. `progress` hears how many images
/// are done.
///
/// # Errors
/// [`Error::NoImages`] where no image can be used, [`Error::Unreachable`] where one of another machine
/// could not be fetched.
pub fn measure(
    source: &dyn Source,
    most: usize,
    seed: u64,
    threads: usize,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Statistics> {
    let mut chosen: Vec<usize> = (0..source.len()).collect();
    if most < chosen.len() {
        Random::new(seed, 0, 0, Purpose::Statistics).shuffle(&mut chosen);
        chosen.truncate(most);
        chosen.sort_unstable();
    }
    let found = Mutex::new(chosen.iter().map(|_| None).collect::<Vec<_>>());
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(&index) = chosen.get(place) else {
                return;
            };
            let moments = source.image(index).map(|image| {
                (0..image.channels)
                    .map(|channel| Moments::of(&image, channel))
                    .collect::<Vec<_>>()
            });
            found.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(moments);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(chosen.len()) {
            scope.spawn(work);
        }
        work();
    });
    // In the order of the source, so that sums are the same on any number of threads.
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (mut all, mut images, mut skipped) = (Vec::<Moments>::new(), 0, Vec::new());
    for (&index, moments) in chosen.iter().zip(found.into_iter().flatten()) {
        match moments {
            // Another time the figures would be others.
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error) => skipped.push((index, error.to_string())),
            Ok(moments) if all.is_empty() || all.len() == moments.len() => {
                images += 1;
                all.resize(moments.len(), Moments::default());
                for (sum, moments) in all.iter_mut().zip(moments) {
                    *sum = sum.with(moments);
                }
            }
            Ok(moments) => {
                let reason = format!("has {} channels instead of {}", moments.len(), all.len());
                skipped.push((index, reason));
            }
        }
    }
    if images == 0 {
        let why = skipped.first().map_or("it is empty", |(_, why)| why);
        return Err(Error::NoImages {
            path: "source".into(),
            reason: format!("none of {} can be used, the first: {why}", skipped.len()),
        });
    }
    Ok(Statistics {
        mean: all.iter().map(|m| m.mean).collect(),
        std: all.iter().map(|m| (m.squares / m.count).sqrt()).collect(),
        images,
        skipped,
    })
}

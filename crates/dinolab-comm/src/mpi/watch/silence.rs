//! How long other processes have been silent.

use std::time::Duration;

/// The time since each of several processes was last heard of, as far as this process was running: if a
/// whole run is suspended, by `scontrol suspend` or a closed lid, nobody is lost when it continues.
pub(super) struct Silence {
    heard: Vec<u32>,
    silent: Vec<Duration>,
    longest: Duration,
}

impl Silence {
    /// Nobody is silent yet. Steps of [`Silence::pass`] longer than `longest` are taken for a suspension.
    pub(super) fn new(processes: usize, longest: Duration) -> Silence {
        Silence {
            heard: vec![0; processes],
            silent: vec![Duration::ZERO; processes],
            longest,
        }
    }

    /// Lets `time` pass, after which so many messages have been `heard` of each process. Returns the
    /// process that has been silent for the longest time, and that time.
    pub(super) fn pass(
        &mut self,
        time: Duration,
        heard: impl IntoIterator<Item = u32>,
    ) -> Option<(usize, Duration)> {
        for ((silent, before), heard) in self.silent.iter_mut().zip(&mut self.heard).zip(heard) {
            *silent = if *before == heard {
                *silent + time.min(self.longest)
            } else {
                Duration::ZERO
            };
            *before = heard;
        }
        self.silent
            .iter()
            .copied()
            .enumerate()
            .max_by_key(|&(_, silent)| silent)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Silence;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_longest_silence_is_found() {
        let mut silence = Silence::new(3, 2 * SECOND);
        assert_eq!(silence.pass(SECOND, [1, 1, 1]).unwrap().1, Duration::ZERO);
        silence.pass(SECOND, [2, 1, 2]);
        assert_eq!(silence.pass(SECOND, [3, 1, 2]), Some((1, 2 * SECOND)));
        assert_eq!(silence.pass(SECOND, [3, 2, 2]), Some((2, 2 * SECOND)));
    }

    #[test]
    fn a_suspension_is_no_silence() {
        let mut silence = Silence::new(1, 2 * SECOND);
        assert_eq!(silence.pass(3600 * SECOND, [0]), Some((0, 2 * SECOND)));
    }

    #[test]
    fn nobody_is_silent_among_none() {
        assert_eq!(Silence::new(0, SECOND).pass(SECOND, []), None);
    }
}

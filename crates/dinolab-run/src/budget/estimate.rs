//! How long a run takes, in numbers and words.

use std::fmt;
use std::time::Duration;

use crate::values::TimeBudget;

/// How long a run takes, as measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// All of it.
    pub total: Duration,
    /// One step, images read before.
    pub step: Duration,
    /// One evaluation.
    pub evaluation: Duration,
    /// The time that was asked for, if one was.
    pub asked: Option<Duration>,
    /// The next larger network of the recipe in words, and how many epochs it would have had time for, too
    /// few.
    pub larger: Option<(String, f64)>,
}

impl fmt::Display for Estimate {
    /// How long the run takes, and why a larger network was not chosen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.total.as_secs();
        let unit = if seconds < 600 { 1 } else { 60 };
        write!(
            f,
            "estimated time on this machine: {} ({:.2} s per step, {:.0} s per evaluation)",
            TimeBudget(Duration::from_secs(seconds / unit * unit)),
            self.step.as_secs_f64(),
            self.evaluation.as_secs_f64()
        )?;
        let Some((network, epochs)) = &self.larger else {
            return Ok(());
        };
        write!(
            f,
            "; {network} would have time for {epochs:.0} {}, too few to be worth it",
            if epochs.round() == 1.0 {
                "epoch"
            } else {
                "epochs"
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_said_in_minutes_and_a_larger_network_with_its_epochs() {
        let mut estimate = Estimate {
            total: Duration::from_secs(3659),
            step: Duration::from_millis(250),
            evaluation: Duration::from_secs(5),
            asked: None,
            larger: None,
        };
        let said = estimate.to_string();
        assert!(
            said.contains("1h (0.25 s per step, 5 s per evaluation)"),
            "{said}"
        );
        estimate.total = Duration::from_secs(61);
        estimate.larger = Some(("resnet18 of width 512".into(), 1.2));
        let said = estimate.to_string();
        let larger = "; resnet18 of width 512 would have time for 1 epoch, too few to be worth it";
        assert!(said.contains("1m 1s") && said.ends_with(larger), "{said}");
    }
}

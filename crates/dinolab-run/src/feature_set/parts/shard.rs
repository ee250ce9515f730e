//! Which of several processes this is.

use std::str::FromStr;

/// Process number `index` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// The one process that does everything.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// The parts of this process, of so many.
    pub fn of(self, parts: usize) -> impl Iterator<Item = usize> {
        (self.index - 1..parts).step_by(self.count)
    }

    /// The task of a Slurm array that this process is, by the environment variables `variable`; `None`
    /// outside of an array.
    ///
    /// # Errors
    /// Variables that make no sense.
    pub fn of_slurm(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let number = |name: &str| match variable(name) {
            None => Ok(None),
            Some(text) => match text.trim().parse::<usize>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(format!("{name} is {text:?}, not a number")),
            },
        };
        let Some(id) = number("SLURM_ARRAY_TASK_ID")? else {
            return Ok(None);
        };
        let (Some(count), Some(least)) = (
            number("SLURM_ARRAY_TASK_COUNT")?,
            number("SLURM_ARRAY_TASK_MIN")?,
        ) else {
            return Err(
                "SLURM_ARRAY_TASK_ID is set, and SLURM_ARRAY_TASK_COUNT or _MIN is not".into(),
            );
        };
        let most = number("SLURM_ARRAY_TASK_MAX")?.unwrap_or(least + count.max(1) - 1);
        if id < least || id > most || most + 1 - least != count {
            return Err(format!(
                "task {id} of an array of {count} from {least} to {most}: the numbers must follow each other"
            ));
        }
        Ok(Some(Self {
            index: id - least + 1,
            count,
        }))
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(k, n)| Some((k.trim().parse().ok()?, n.trim().parse().ok()?)));
        match numbers {
            Some((index, count)) if index >= 1 && index <= count => Ok(Self { index, count }),
            _ => Err("must be K/N, as 1/8 to 8/8".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_one_process() {
        for (count, parts) in [(1, 5), (3, 10), (8, 3)] {
            let mut all: Vec<usize> = (1..=count)
                .flat_map(|index| Shard { index, count }.of(parts))
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..parts).collect::<Vec<_>>());
        }
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, count: 3 }));
        for wrong in ["", "3", "0/3", "4/3", "a/3", "1/0", "-1/3"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_slurm_array_says_it() {
        let array = |pairs: &'static [(&str, &str)]| {
            Shard::of_slurm(move |name| {
                let found = pairs.iter().find(|(key, _)| name.ends_with(key));
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(array(&[]), Ok(None));
        let third = array(&[
            ("_ID", "12"),
            ("_COUNT", "4"),
            ("_MIN", "10"),
            ("_MAX", "13"),
        ]);
        assert_eq!(third, Ok(Some(Shard { index: 3, count: 4 })));
        assert!(array(&[("_ID", "1")]).is_err());
        assert!(array(&[("_ID", "x"), ("_COUNT", "4"), ("_MIN", "0")]).is_err());
        // 1,3,5: a part would have no process.
        assert!(array(&[("_ID", "3"), ("_COUNT", "3"), ("_MIN", "1"), ("_MAX", "5")]).is_err());
    }
}

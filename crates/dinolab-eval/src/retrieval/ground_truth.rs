//! The ground-truth files of the benchmark.

use std::path::Path;

use super::pickle::{Id, Pickle, Value};
use crate::{Error, Result};

/// Larger files are refused.
const MOST_BYTES: u64 = 1 << 30;

/// The ground truth of one query: rows of the database, counted from 0.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Query {
    /// Images that show the query's place clearly.
    #[serde(default)]
    pub easy: Vec<usize>,
    /// Images that show it from another side, small or partly hidden.
    #[serde(default)]
    pub hard: Vec<usize>,
    /// Images that are ignored.
    #[serde(default)]
    pub junk: Vec<usize>,
    /// Box of the query in its image: left, top, right, bottom in pixels.
    #[serde(default)]
    pub bbx: Option<[f64; 4]>,
}

/// The images and ground truth of the benchmark: `gnd_roxford5k.pkl`, `gnd_rparis6k.pkl`, or the
/// same as JSON.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GroundTruth {
    /// Names of the database's images, without extension.
    #[serde(rename = "imlist")]
    pub images: Vec<String>,
    /// Names of the query images, without extension.
    #[serde(rename = "qimlist")]
    pub queries: Vec<String>,
    /// One entry per query.
    #[serde(rename = "gnd")]
    pub truth: Vec<Query>,
}

impl GroundTruth {
    /// Reads a pickle, without executing it, or JSON, distinguished by content.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Format`] if it is neither, lacks an entry
    /// or is inconsistent.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |source| Error::Io {
            path: path.into(),
            source,
        };
        let bad = |reason: String| Error::Format {
            path: path.into(),
            reason,
        };
        if std::fs::metadata(path).map_err(io)?.len() > MOST_BYTES {
            return Err(bad("is too large for a ground truth".into()));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
        let read = if first == Some(&b'{') {
            serde_json::from_slice(&bytes).map_err(|error| bad(format!("JSON: {error}")))?
        } else {
            let pickle = Pickle::read(&bytes).map_err(|why| bad(format!("pickle: {why}")))?;
            // Shared values count each time; no sound file expands to many times its length.
            let mut budget = bytes.len() * 16;
            from_pickle(&pickle, &mut budget).map_err(bad)?
        };
        read.check().map_err(bad)?;
        Ok(read)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let (images, queries) = (self.images.len(), self.queries.len());
        if images == 0 || queries == 0 {
            return Err("has no images or no queries".into());
        }
        if self.truth.len() != queries {
            return Err(format!(
                "gnd has {} entries for {queries} queries",
                self.truth.len()
            ));
        }
        for (i, query) in self.truth.iter().enumerate() {
            for (name, rows) in [
                ("easy", &query.easy),
                ("hard", &query.hard),
                ("junk", &query.junk),
            ] {
                if let Some(row) = rows.iter().find(|&&row| row >= images) {
                    return Err(format!(
                        "gnd[{i}].{name} names image {row} of a list of {images}"
                    ));
                }
            }
            if let Some(bbx) = query.bbx
                && !(bbx.iter().all(|v| v.is_finite()) && bbx[0] < bbx[2] && bbx[1] < bbx[3])
            {
                return Err(format!("gnd[{i}].bbx {bbx:?} is not a box"));
            }
        }
        Ok(())
    }
}

type Outcome<T> = std::result::Result<T, String>;

fn from_pickle(pickle: &Pickle, budget: &mut usize) -> Outcome<GroundTruth> {
    let root = pickle.root();
    let entry = |key: &str| {
        pickle
            .entry(root, key)
            .ok_or_else(|| format!("has no entry {key}"))
    };
    let images = names(pickle, entry("imlist")?, "imlist", budget)?;
    let queries = names(pickle, entry("qimlist")?, "qimlist", budget)?;
    let truth = list(pickle, entry("gnd")?, "gnd", budget)?
        .iter()
        .enumerate()
        .map(|(i, &query)| {
            if !matches!(pickle.get(query), Value::Dict(_)) {
                return Err(format!("gnd[{i}] is not a dictionary"));
            }
            let mut rows = |key: &str| {
                let place = format!("gnd[{i}].{key}");
                match pickle.entry(query, key) {
                    None => Err(format!("{place} is missing")),
                    Some(id) => rows(pickle, id, &place, budget),
                }
            };
            let (easy, hard, junk) = (rows("easy")?, rows("hard")?, rows("junk")?);
            let bbx = match pickle.entry(query, "bbx") {
                None => None,
                Some(id) if *pickle.get(id) == Value::None => None,
                Some(id) => {
                    let place = format!("gnd[{i}].bbx");
                    let numbers = numbers(pickle, id, &place, budget)?;
                    Some(
                        numbers
                            .try_into()
                            .map_err(|_| format!("{place} is not of four numbers"))?,
                    )
                }
            };
            Ok(Query {
                easy,
                hard,
                junk,
                bbx,
            })
        })
        .collect::<Outcome<_>>()?;
    Ok(GroundTruth {
        images,
        queries,
        truth,
    })
}

fn spend(budget: &mut usize, count: usize) -> Outcome<()> {
    *budget = budget
        .checked_sub(count)
        .ok_or("shares its lists so often that they would not fit in memory")?;
    Ok(())
}

fn list<'a>(pickle: &'a Pickle, id: Id, place: &str, budget: &mut usize) -> Outcome<&'a [Id]> {
    match pickle.get(id) {
        Value::List(items) => {
            spend(budget, items.len())?;
            Ok(items)
        }
        _ => Err(format!("{place} is not a list")),
    }
}

fn names(pickle: &Pickle, id: Id, place: &str, budget: &mut usize) -> Outcome<Vec<String>> {
    list(pickle, id, place, budget)?
        .iter()
        .map(|&item| match pickle.get(item) {
            Value::Text(text) => {
                spend(budget, text.len())?;
                Ok(text.clone())
            }
            _ => Err(format!("{place} holds something that is not a name")),
        })
        .collect()
}

fn numbers(pickle: &Pickle, id: Id, place: &str, budget: &mut usize) -> Outcome<Vec<f64>> {
    if let Value::Numbers(numbers) = pickle.get(id) {
        spend(budget, numbers.len())?;
        return Ok(numbers.clone());
    }
    list(pickle, id, place, budget)?
        .iter()
        .map(|&item| match pickle.get(item) {
            Value::Number(number) => Ok(*number),
            _ => Err(format!("{place} holds something that is not a number")),
        })
        .collect()
}

fn rows(pickle: &Pickle, id: Id, place: &str, budget: &mut usize) -> Outcome<Vec<usize>> {
    numbers(pickle, id, place, budget)?
        .into_iter()
        .map(|number| {
            if number >= 0.0 && number.fract() == 0.0 && number < u32::MAX as f64 {
                Ok(number as usize)
            } else {
                Err(format!("{place}: {number} is not an image"))
            }
        })
        .collect()
}

//! Values of flags that are more than a number.

use std::str::FromStr;

use dinolab_train::OptimiserKind;
use serde::{Deserialize, Serialize};

/// The largest side that images can be brought to.
const MAX_SIDE: usize = 1 << 14;

/// Two numbers, `MIN,MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair(pub f64, pub f64);

impl FromStr for Pair {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let [a, b] = numbers(text)?;
        Ok(Self(a, b))
    }
}

/// Three numbers, one per channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Triple(pub [f32; 3]);

impl FromStr for Triple {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(numbers(text)?.map(|value| value as f32)))
    }
}

/// A height and a width in pixels, `SIDE` or `HEIGHTxWIDTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize, pub usize);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| match part.parse() {
            Ok(n @ 1..=MAX_SIDE) => Ok(n),
            _ => Err(format!("SIDE or HEIGHTxWIDTH, of 1 to {MAX_SIDE} pixels")),
        };
        match text.split_once('x') {
            Some((height, width)) => Ok(Self(number(height)?, number(width)?)),
            None => number(text).map(|side| Self(side, side)),
        }
    }
}

fn numbers<const N: usize>(text: &str) -> Result<[f64; N], String> {
    let parts: Result<Vec<f64>, _> = text
        .split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect();
    parts
        .ok()
        .and_then(|parts| parts.try_into().ok())
        .ok_or_else(|| format!("expected {N} numbers with commas between them"))
}

/// An optimiser by its name.
pub fn optimizer(text: &str) -> Result<OptimiserKind, String> {
    match text {
        "adamw" => Ok(OptimiserKind::AdamW),
        "sgd" => Ok(OptimiserKind::Sgd),
        "lars" => Ok(OptimiserKind::Lars),
        _ => Err("one of adamw, sgd, lars".into()),
    }
}

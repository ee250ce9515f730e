//! How images are prepared for a network, as weight files say it.

use std::collections::BTreeMap;

use serde_json::Value;

/// The fact that says it, as JSON.
const FACT: &str = "preprocess";
/// Larger images are no preparation but a mistake, or an attack.
const MAX_SIDE: usize = 1 << 14;

/// From an image to a network's input: the shortest side brought to `resize` pixels (bicubic),
/// the centre of side `crop` cut out, values of 0–1 normalised by channel.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Preparation {
    pub resize: usize,
    pub crop: usize,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Preparation {
    /// The reference's.
    pub fn reference() -> Self {
        Self {
            resize: 256,
            crop: 224,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// As the facts of weights say it.
    pub fn of_facts(facts: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str::<Self>(facts.get(FACT)?)
            .ok()?
            .checked()
    }

    /// As a fact of weights.
    pub fn fact(&self) -> (String, String) {
        let json = serde_json::to_string(self).expect("plain data");
        (FACT.to_owned(), json)
    }

    /// `None` where it is no preparation.
    pub fn checked(self) -> Option<Self> {
        let sides = 1 <= self.crop && self.crop <= self.resize && self.resize <= MAX_SIDE;
        let numbers = self.mean.iter().all(|m| m.is_finite())
            && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        (sides && numbers).then_some(self)
    }
}

/// Three numbers.
pub(super) fn triple(value: &Value) -> Option<[f32; 3]> {
    let values = value.as_array()?;
    let numbers: Option<Vec<f32>> = values.iter().map(|v| Some(v.as_f64()? as f32)).collect();
    numbers?.try_into().ok()
}

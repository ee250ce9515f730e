//! Image preprocessing, as recorded in weight files.

use std::collections::BTreeMap;

use serde_json::Value;

/// The metadata key that holds it, as JSON.
pub(super) const KEY: &str = "preprocess";
/// Larger sides are a mistake, or an attack.
const MAX_SIDE: usize = 1 << 14;

/// From an image to a network's input: the shorter side resized to `resize` pixels (bicubic),
/// the centre of side `crop` cut out, values of 0–1 normalised by channel. Images are 8-bit RGB, or
/// taken as `stored` with as many channels as there are means.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Preparation {
    pub resize: usize,
    pub crop: usize,
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stored: bool,
}

impl Preparation {
    /// The reference's.
    pub fn reference() -> Self {
        Self {
            resize: 256,
            crop: 224,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            stored: false,
        }
    }

    /// As recorded in the metadata of weights.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Option<Self> {
        serde_json::from_str::<Self>(metadata.get(KEY)?)
            .ok()?
            .checked()
    }

    /// As an entry of the metadata of weights.
    pub fn metadata_entry(&self) -> (String, String) {
        let json = serde_json::to_string(self).expect("plain data");
        (KEY.to_owned(), json)
    }

    /// `None` if it is not valid.
    pub fn checked(self) -> Option<Self> {
        let sides = 1 <= self.crop && self.crop <= self.resize && self.resize <= MAX_SIDE;
        let channels = self.mean.len() == self.std.len()
            && (self.mean.len() == 3 || self.stored && !self.mean.is_empty());
        let numbers = self.mean.iter().all(|m| m.is_finite())
            && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        (sides && channels && numbers).then_some(self)
    }
}

/// Numbers, one per channel.
pub(super) fn numbers(value: &Value) -> Option<Vec<f32>> {
    let values = value.as_array()?;
    values.iter().map(|v| Some(v.as_f64()? as f32)).collect()
}

//! Colour maps.

use std::sync::OnceLock;

/// A perceptually uniform colour map: lightness rises evenly, so that equal steps of the value
/// look equal and greyscale prints stay readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ColourMap {
    /// Near black, violet, red, orange, pale yellow.
    #[default]
    Ember,
    /// Dark violet, blue, green, yellow.
    Tide,
    /// Black to white.
    Grey,
}

impl ColourMap {
    /// Returns the colour of `value`, clamped to 0–1; NaN counts as 0.
    pub fn colour(self, value: f32) -> [u8; 3] {
        static EMBER: OnceLock<Vec<[u8; 3]>> = OnceLock::new();
        static TIDE: OnceLock<Vec<[u8; 3]>> = OnceLock::new();
        // The cast turns NaN into 0.
        let step = (value.clamp(0.0, 1.0) * 255.0).round() as usize;
        match self {
            // Lightness, chroma (in OKLab) and hue in degrees at both ends.
            Self::Ember => EMBER.get_or_init(|| scale((0.13, 0.97), (285.0, 470.0), 0.17))[step],
            Self::Tide => TIDE.get_or_init(|| scale((0.25, 0.93), (305.0, 105.0), 0.1))[step],
            Self::Grey => [step as u8; 3],
        }
    }
}

/// Returns 256 colours whose lightness and hue go from the first to the second value. The chroma
/// is as given in the middle and half of it at the ends, reduced to what sRGB can show.
fn scale(lightness: (f64, f64), hue: (f64, f64), chroma: f64) -> Vec<[u8; 3]> {
    (0..256)
        .map(|i| {
            let t = f64::from(i) / 255.0;
            let l = lightness.0 + t * (lightness.1 - lightness.0);
            let h = (hue.0 + t * (hue.1 - hue.0)).to_radians();
            let wanted = chroma * (0.5 + 0.5 * (std::f64::consts::PI * t).sin());
            let linear = |c: f64| linear_srgb(l, c * h.cos(), c * h.sin());
            let shown = |c: f64| linear(c).iter().all(|v| (0.0..=1.0).contains(v));
            let (mut low, mut high) = (0.0, wanted);
            if shown(wanted) {
                low = wanted;
            } else {
                for _ in 0..30 {
                    let middle = (low + high) / 2.0;
                    *(if shown(middle) { &mut low } else { &mut high }) = middle;
                }
            }
            linear(low).map(gamma_encoded)
        })
        .collect()
}

/// Converts OKLab to linear sRGB.
fn linear_srgb(l: f64, a: f64, b: f64) -> [f64; 3] {
    let long = (l + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let medium = (l - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let short = (l - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701_0 * short,
    ]
}

fn gamma_encoded(linear: f64) -> u8 {
    let v = linear.clamp(0.0, 1.0);
    let encoded = if v <= 0.003_130_8 {
        12.92 * v
    } else {
        1.055 * v.powf(1.0 / 2.4) - 0.055
    };
    (encoded * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightness_rises_evenly() {
        for map in [ColourMap::Ember, ColourMap::Tide, ColourMap::Grey] {
            let luma: Vec<f64> = (0..=255)
                .map(|i| {
                    let [r, g, b] = map.colour(i as f32 / 255.0).map(f64::from);
                    0.2126 * r + 0.7152 * g + 0.0722 * b
                })
                .collect();
            let falls = luma.windows(2).filter(|w| w[1] < w[0] - 1.0).count();
            assert_eq!(falls, 0, "{map:?}");
            assert!(luma[255] - luma[0] > 140.0, "{map:?}");
            assert_eq!(map.colour(f32::NAN), map.colour(0.0));
            assert_eq!(map.colour(-5.0), map.colour(0.0));
            assert_eq!(map.colour(5.0), map.colour(1.0));
        }
    }
}

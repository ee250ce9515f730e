//! From 8-bit pixels to normalised planes.

use multiversion::multiversion;

use crate::{Error, Result};

/// Mean of ImageNet's channels (red, green, blue), of values in 0–1.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's channels (red, green, blue), of values in 0–1.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Turns `v` in 0–255 into `(v / 255 − mean) / std`, by one table per channel, or by arithmetic that
/// gives the table's bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Normaliser {
    tables: [[f32; 256]; 3],
    /// Where arithmetic was found to agree for all levels.
    quick: [Option<Quick>; 3],
}

/// Both divisions by multiplications: a quotient that is nearly right, and a correction by what it
/// leaves over, which a fused multiplication and addition gives exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Quick {
    mean: f32,
    std: f32,
    per_std: f32,
}

impl Quick {
    /// Where it gives the bits of a table.
    fn of(mean: f32, std: f32, table: &[f32; 256]) -> Option<Self> {
        let per_std = 1.0 / std;
        let quick = Self { mean, std, per_std };
        let agrees =
            |(level, value): (usize, &f32)| quick.value(level as u8).to_bits() == value.to_bits();
        table.iter().enumerate().all(agrees).then_some(quick)
    }

    #[inline(always)]
    fn value(self, level: u8) -> f32 {
        const PER_LEVEL: f32 = 1.0 / 255.0;
        let divide = |number: f32, by: f32, inverse: f32| {
            let near = number * inverse;
            (-near).mul_add(by, number).mul_add(inverse, near)
        };
        let share = divide(f32::from(level), 255.0, PER_LEVEL);
        divide(share - self.mean, self.std, self.per_std)
    }
}

/// Writes values by arithmetic; false where the processor has no fused multiplication and addition.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn compute(quick: Quick, pixels: &[u8], values: &mut [f32]) -> bool {
    if !multiversion::target::target_cfg_f!(target_feature = "fma")
        && !cfg!(target_arch = "aarch64")
    {
        return false;
    }
    for (pixel, value) in pixels.iter().zip(values) {
        *value = quick.value(*pixel);
    }
    true
}

impl Default for Normaliser {
    /// ImageNet's mean and standard deviation.
    fn default() -> Self {
        Self::with(IMAGENET_MEAN, IMAGENET_STD)
    }
}

impl Normaliser {
    /// Tables for a mean and a standard deviation (finite, and above 0).
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Result<Self> {
        check(mean, std)?;
        Ok(Self::with(mean, std))
    }

    fn with(mean: [f32; 3], std: [f32; 3]) -> Self {
        let mut tables = [[0.0; 256]; 3];
        for ((table, mean), std) in tables.iter_mut().zip(mean).zip(std) {
            for (value, entry) in table.iter_mut().enumerate() {
                *entry = (value as f32 / 255.0 - mean) / std;
            }
        }
        let quick = std::array::from_fn(|c| Quick::of(mean[c], std[c], &tables[c]));
        Self { tables, quick }
    }

    /// Writes planes `[3, H, W]` of pixels as planes of values. Stops at the end of the shorter one.
    pub fn apply_planes(&self, pixels: &[u8], values: &mut [f32]) {
        let plane = (pixels.len().min(values.len()) / 3).max(1);
        let planes = pixels
            .chunks_exact(plane)
            .zip(values.chunks_exact_mut(plane));
        for ((table, quick), (pixels, values)) in self.tables.iter().zip(self.quick).zip(planes) {
            if quick.is_some_and(|quick| compute(quick, pixels, values)) {
                continue;
            }
            for (pixel, value) in pixels.iter().zip(values) {
                *value = table[usize::from(*pixel)];
            }
        }
    }

    /// Writes `[H, W, 3]` pixels as `[3, H, W]` planes. Stops at the end of the shorter one.
    pub fn apply(&self, pixels: &[u8], planes: &mut [f32]) {
        let plane = planes.len() / 3;
        let (red, rest) = planes.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let [red_of, green_of, blue_of] = &self.tables;
        let (pixels, _) = pixels.as_chunks::<3>();
        for (((pixel, red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
            *red = red_of[usize::from(pixel[0])];
            *green = green_of[usize::from(pixel[1])];
            *blue = blue_of[usize::from(pixel[2])];
        }
    }
}

pub(crate) fn check(mean: [f32; 3], std: [f32; 3]) -> Result<()> {
    if !mean.iter().all(|value| value.is_finite()) {
        let reason = format!("must be three finite numbers, not {mean:?}");
        return Err(Error::BadSetting {
            field: "mean",
            reason,
        });
    }
    if !std.iter().all(|value| value.is_finite() && *value > 0.0) {
        let reason = format!("must be three numbers above 0, not {std:?}");
        return Err(Error::BadSetting {
            field: "std",
            reason,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_red_green_blue() {
        let normaliser = Normaliser::new([0.0, 0.5, 1.0], [1.0, 0.5, 2.0]).unwrap();
        let mut planes = [9.0; 6];
        normaliser.apply(&[255, 255, 255, 0, 0, 0], &mut planes);
        assert_eq!(planes, [1.0, 0.0, 1.0, -1.0, 0.0, -0.5]);
        let mut same = [9.0; 6];
        normaliser.apply_planes(&[255, 0, 255, 0, 255, 0], &mut same);
        assert_eq!(same, planes);
        normaliser.apply_planes(&[], &mut same);
        assert_eq!(same, planes);
    }

    #[test]
    fn arithmetic_and_tables_agree_to_the_bit() {
        let levels: Vec<u8> = (0..=255).cycle().take(3 * 301).collect();
        // Numbers of common sets, and some that are awkward to divide by.
        for (mean, std) in [
            (IMAGENET_MEAN, IMAGENET_STD),
            ([0.5; 3], [0.5; 3]),
            ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
            ([0.0, 1e-20, -3.0], [1.0, 1e30, 1e-30]),
        ] {
            let normaliser = Normaliser::new(mean, std).unwrap();
            let mut values = vec![0.0; levels.len()];
            normaliser.apply_planes(&levels, &mut values);
            for (i, (level, value)) in levels.iter().zip(&values).enumerate() {
                let c = i / 301;
                let expected = (f32::from(*level) / 255.0 - mean[c]) / std[c];
                assert_eq!(
                    value.to_bits(),
                    expected.to_bits(),
                    "{level}, {mean:?}, {std:?}"
                );
            }
        }
        let common = Normaliser::default();
        assert!(common.quick.iter().all(Option::is_some));
    }

    #[test]
    fn rejects_what_cannot_divide() {
        for std in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let error = Normaliser::new(IMAGENET_MEAN, [1.0, std, 1.0]).unwrap_err();
            assert!(matches!(error, Error::BadSetting { field: "std", .. }));
        }
        let error = Normaliser::new([f32::NAN, 0.0, 0.0], IMAGENET_STD).unwrap_err();
        assert!(matches!(error, Error::BadSetting { field: "mean", .. }));
    }
}

//! Surface patterns and their colours.
//!
//! A texture is a field of values 0–1 over the image, drawn between two tones, with hues that
//! drift across it.

use std::f32::consts::TAU;

use crate::random::Random;

/// Weights of red, green and blue in luminance, as in the conversion to grey.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// A pattern with its colours.
#[derive(Clone, Debug)]
pub(super) struct Texture {
    pattern: Pattern,
    /// The two luminances that the pattern runs between.
    tones: [f32; 2],
    /// Hues that change from place to place, so that no hue marks an image: one smooth field
    /// per channel, and how far they reach.
    hues: [Layer; 3],
    colour: f32,
}

#[derive(Clone, Debug)]
enum Pattern {
    Solid,
    /// Along a direction, over the whole image.
    Gradient([f32; 2]),
    /// Waves of period 1 along a direction, from phase `.1`, sharpened by `.2`.
    Stripes([f32; 2], f32, f32),
    /// Dots on a turned grid: unit vector times frequency, radius as a share of the cell.
    Dots([f32; 2], f32),
    /// Squares on a turned grid.
    Checker([f32; 2]),
    /// Layers of smooth noise, coarse to fine.
    Noise(Vec<Layer>),
}

/// One octave of value noise: random values on a lattice, interpolated smoothly.
#[derive(Clone, Debug)]
struct Layer {
    cells: usize,
    weight: f32,
    values: Vec<f32>,
}

/// A rectangle of pixels, `x0..x1` by `y0..y1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) x0: usize,
    pub(super) y0: usize,
    pub(super) x1: usize,
    pub(super) y1: usize,
}

/// What patterns and colours may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    /// Mean luminance, 0–1.
    pub(super) luminance: f32,
    /// How far the pattern leaves the mean at most.
    pub(super) spread: f32,
    /// Strength of the hue, 0 (grey) to 1.
    pub(super) colour: f32,
}

impl Texture {
    /// Any pattern, in any direction.
    pub(super) fn random(paint: Paint, random: &mut Random) -> Self {
        let mut unit = |low: f64, high: f64| random.uniform(low, high) as f32;
        let (tones, hues) = paint.draw(&mut unit);
        let angle = unit(0.0, f64::from(TAU));
        let direction = |frequency: f32| [angle.cos() * frequency, angle.sin() * frequency];
        let pattern = match unit(0.0, 7.0) as u32 {
            0 => Pattern::Solid,
            1 => Pattern::Gradient(direction(1.0)),
            2 => Pattern::Stripes(direction(unit(4.0, 12.0)), unit(0.0, 1.0), unit(1.0, 5.0)),
            3 => Pattern::Dots(direction(unit(5.0, 11.0)), unit(0.25, 0.4)),
            4 => Pattern::Checker(direction(unit(5.0, 11.0))),
            5 => Pattern::Noise(layers(&[(3, 1.0), (6, 0.5), (12, 0.25)], &mut unit)),
            _ => Pattern::Noise(layers(&[(5, 1.0), (16, 0.6)], &mut unit)),
        };
        Self {
            pattern,
            tones,
            hues,
            colour: paint.colour,
        }
    }

    /// A ground as most photographs have it: light that changes slowly, and irregular grain.
    pub(super) fn ground(paint: Paint, random: &mut Random) -> Self {
        let mut unit = |low: f64, high: f64| random.uniform(low, high) as f32;
        let (tones, hues) = paint.draw(&mut unit);
        let fine = 0.4;
        let pattern = Pattern::Noise(layers(&[(2, 1.0), (5, 0.6), (14, fine)], &mut unit));
        Self {
            pattern,
            tones,
            hues,
            colour: paint.colour,
        }
    }

    /// The coat of a kind of object: one of eight patterns, which turns with the object
    /// (`turn`, radians) and scales with it (`length`, share of the image's side), and varies
    /// a little from one to the next.
    pub(super) fn coat(
        kind: usize,
        turn: f32,
        length: f32,
        paint: Paint,
        random: &mut Random,
    ) -> Self {
        let mut unit = |low: f64, high: f64| random.uniform(low, high) as f32;
        let (tones, hues) = paint.draw(&mut unit);
        let angle = turn + unit(-0.2, 0.2);
        // Repeats across the object.
        let direction = |across: f32| {
            let frequency = across / length.max(0.05);
            [angle.cos() * frequency, angle.sin() * frequency]
        };
        let aside = |[x, y]: [f32; 2]| [-y, x];
        let pattern = match kind % 8 {
            0 => Pattern::Stripes(direction(unit(2.8, 3.5)), unit(0.0, 1.0), 4.0),
            1 => Pattern::Dots(direction(unit(3.0, 3.8)), 0.36),
            2 => Pattern::Checker(direction(unit(2.2, 2.8))),
            3 => Pattern::Stripes(direction(unit(1.4, 1.8)), unit(0.0, 1.0), 4.0),
            4 => Pattern::Stripes(aside(direction(unit(5.0, 6.0))), unit(0.0, 1.0), 4.0),
            5 => Pattern::Gradient(direction(1.0)),
            6 => Pattern::Dots(direction(unit(5.0, 6.0)), 0.33),
            _ => Pattern::Noise(layers(&[(10, 1.0), (22, 0.8)], &mut unit)),
        };
        Self {
            pattern,
            tones,
            hues,
            colour: paint.colour,
        }
    }

    /// One tone all over.
    pub(super) fn solid(luminance: f32, colour: f32, random: &mut Random) -> Self {
        let mut unit = |low: f64, high: f64| random.uniform(low, high) as f32;
        let paint = Paint {
            luminance,
            spread: 0.0,
            colour,
        };
        let (tones, hues) = paint.draw(&mut unit);
        Self {
            pattern: Pattern::Solid,
            tones,
            hues,
            colour,
        }
    }

    /// Calls `pixel(index, colour)` for each pixel of the window of an image of side `size`.
    pub(super) fn paint(
        &self,
        size: usize,
        window: Window,
        mut pixel: impl FnMut(usize, [f32; 3]),
    ) {
        let [from, to] = self.tones;
        let scale = 1.0 / size as f32;
        let place = |index: usize| {
            let (x, y) = ((index % size) as f32 + 0.5, (index / size) as f32 + 0.5);
            (x * scale, y * scale)
        };
        let mut put = |index: usize, value: f32| {
            let (x, y) = place(index);
            let hue: [f32; 3] = std::array::from_fn(|c| self.hues[c].at(x, y) - 0.5);
            let grey: f32 = hue.iter().zip(LUMA).map(|(h, weight)| h * weight).sum();
            let tone = from + (to - from) * value;
            pixel(
                index,
                hue.map(|h| (tone + self.colour * (h - grey)).clamp(0.0, 1.0)),
            );
        };
        match &self.pattern {
            Pattern::Solid => window.each(size, scale, |index, _, _| put(index, 0.5)),
            Pattern::Gradient(d) => window.each(size, scale, |index, x, y| {
                put(
                    index,
                    (0.5 + d[0] * (x - 0.5) + d[1] * (y - 0.5)).clamp(0.0, 1.0),
                );
            }),
            Pattern::Stripes(d, phase, sharpness) => window.each(size, scale, |index, x, y| {
                let wave = (d[0] * x + d[1] * y + phase).rem_euclid(1.0);
                put(
                    index,
                    (0.5 + sharpness * ((2.0 * wave - 1.0).abs() - 0.5)).clamp(0.0, 1.0),
                );
            }),
            Pattern::Dots(d, radius) => window.each(size, scale, |index, x, y| {
                let u = (d[0] * x + d[1] * y).rem_euclid(1.0) - 0.5;
                let v = (d[0] * y - d[1] * x).rem_euclid(1.0) - 0.5;
                put(
                    index,
                    (0.5 + 8.0 * (radius - (u * u + v * v).sqrt())).clamp(0.0, 1.0),
                );
            }),
            Pattern::Checker(d) => window.each(size, scale, |index, x, y| {
                let u = ((d[0] * x + d[1] * y).rem_euclid(1.0) - 0.5).signum();
                let v = ((d[0] * y - d[1] * x).rem_euclid(1.0) - 0.5).signum();
                put(index, 0.5 + 0.5 * u * v);
            }),
            Pattern::Noise(layers) => {
                let total: f32 = layers.iter().map(|layer| layer.weight).sum();
                window.each(size, scale, |index, x, y| {
                    let sum: f32 = layers
                        .iter()
                        .map(|layer| layer.weight * layer.at(x, y))
                        .sum();
                    // Averages crowd around the middle; stretch them back.
                    put(index, (0.5 + 1.6 * (sum / total - 0.5)).clamp(0.0, 1.0));
                });
            }
        }
    }
}

impl Paint {
    /// The two luminances, one less and one more than the mean, and the drifting hues.
    fn draw(self, unit: &mut impl FnMut(f64, f64) -> f32) -> ([f32; 2], [Layer; 3]) {
        let half = self.spread * unit(0.8, 1.0);
        let hues = std::array::from_fn(|_| layer(4, 1.0, unit));
        ([self.luminance - half, self.luminance + half], hues)
    }
}

impl Window {
    pub(super) fn whole(size: usize) -> Self {
        Self {
            x0: 0,
            y0: 0,
            x1: size,
            y1: size,
        }
    }

    fn each(self, size: usize, scale: f32, mut visit: impl FnMut(usize, f32, f32)) {
        for row in self.y0..self.y1 {
            let y = (row as f32 + 0.5) * scale;
            for column in self.x0..self.x1 {
                visit(row * size + column, (column as f32 + 0.5) * scale, y);
            }
        }
    }
}

impl Layer {
    fn at(&self, x: f32, y: f32) -> f32 {
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (u, v) = (x * self.cells as f32, y * self.cells as f32);
        let (column, row) = (u as usize, v as usize);
        let (s, t) = (smooth(u - column as f32), smooth(v - row as f32));
        let width = self.cells + 1;
        let corner = row * width + column;
        let (top, bottom) = (
            &self.values[corner..corner + 2],
            &self.values[corner + width..corner + width + 2],
        );
        let upper = top[0] + s * (top[1] - top[0]);
        upper + t * (bottom[0] + s * (bottom[1] - bottom[0]) - upper)
    }
}

fn layer(cells: usize, weight: f32, unit: &mut impl FnMut(f64, f64) -> f32) -> Layer {
    let values = (0..(cells + 1) * (cells + 1))
        .map(|_| unit(0.0, 1.0))
        .collect();
    Layer {
        cells,
        weight,
        values,
    }
}

fn layers(octaves: &[(usize, f32)], unit: &mut impl FnMut(f64, f64) -> f32) -> Vec<Layer> {
    octaves
        .iter()
        .map(|&(cells, weight)| layer(cells, weight, unit))
        .collect()
}

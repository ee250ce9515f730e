//! Rendering of one image: ground, clutter, object, occluder, light, noise.

use std::f32::consts::{PI, TAU};

use tiny_skia::{FillRule, Mask as Coverage, Path, PathBuilder, Transform};

use super::options::ShapesOptions;
use super::outline::{self, Outline, Point};
use super::texture::{Paint, Texture, Window};
use crate::random::Random;
use crate::{Image, Mask};

/// The darkest and the brightest mean luminance of object and ground.
const DARKEST: f64 = 0.12;
const BRIGHTEST: f64 = 0.88;
/// The largest share of the object that may be covered.
const MOST_COVERED: f64 = 0.3;

pub(super) fn render(class: usize, options: &ShapesOptions, random: &mut Random) -> (Image, Mask) {
    let size = options.size;
    let mut canvas = Canvas::new(size);
    let whole = Window::whole(size);

    // The object is lighter than the ground, as if lit, with a coat of two tones about its own
    // mean; the darker one reaches the ground's at most.
    let ground_level = 0.32 + random.uniform(-0.5, 0.5) * options.light;
    let gap = random.uniform(options.contrast, options.contrast.max(0.42));
    let object_level = (ground_level + gap).min(BRIGHTEST);
    let colour = options.colour as f32;
    let ground = Paint {
        luminance: ground_level as f32,
        spread: (0.3 * options.background) as f32,
        colour,
    };
    let ground = if random.bool(options.patterned) {
        Texture::random(ground, random)
    } else {
        Texture::ground(ground, random)
    };
    ground.paint(size, whole, |index, colour| canvas.rgb[index] = colour);

    let fragments = random
        .uniform(0.5 * options.clutter, 1.5 * options.clutter)
        .round() as usize;
    for _ in 0..fragments {
        let outline = outline::fragment(random);
        let length = random.uniform(0.06, 0.2) * size as f64;
        let turn = random.uniform(0.0, f64::from(TAU)) as f32;
        let placed = Placed::new(&outline, length as f32, [1.0, 1.0, turn, 0.0])
            .at_random(size, 0.3, random);
        // Within the object's tones: clutter must not outshine it.
        let level = object_level + random.uniform(-0.8, 0.8) * gap;
        canvas.draw(&placed, &Texture::solid(level as f32, colour, random));
    }

    let outline = outline::outline(class, random);
    let length = random.uniform(options.object.0, options.object.1) * size as f64;
    let tilt = (random.uniform(-1.0, 1.0) * options.rotation) as f32 * PI / 180.0;
    let stretch = random.uniform(0.82, 1.22) as f32;
    let shear = random.uniform(-0.15, 0.15) as f32;
    let placed = Placed::new(&outline, length as f32, [stretch, 1.0, tilt, shear])
        .at_random(size, 0.0, random);
    let object = Paint {
        luminance: object_level as f32,
        spread: (options.texture * gap) as f32,
        colour,
    };
    let texture = if random.bool(options.coat) {
        let share = (length / size as f64) as f32;
        Texture::coat(class, tilt, share, object, random)
    } else {
        Texture::random(object, random)
    };
    let mut object = canvas.draw(&placed, &texture);

    if random.bool(options.occlusion) {
        let luminance = random.uniform(DARKEST, BRIGHTEST) as f32;
        let texture = Texture::random(
            Paint {
                luminance,
                spread: 0.1,
                colour,
            },
            random,
        );
        canvas.cover(&mut object, &placed, &texture, random);
    }

    canvas.light(random);
    let data = canvas.finish(options.noise as f32, random);
    let mask = object.iter().map(|&shown| u8::from(shown >= 128)).collect();
    (
        Image::rgb(size, size, data),
        Mask {
            width: size,
            height: size,
            data: mask,
        },
    )
}

/// An outline at its place, in pixels.
#[derive(Clone, Debug)]
struct Placed {
    outline: Outline,
    /// The bounding box: least and greatest corner.
    bounds: [Point; 2],
}

impl Placed {
    /// Stretches (x, y), shears and turns an outline, and scales its longer side to `length`.
    fn new(outline: &Outline, length: f32, [sx, sy, turn, shear]: [f32; 4]) -> Self {
        let (sin, cos) = turn.sin_cos();
        let mut placed = Self {
            outline: outline.clone(),
            bounds: [[0.0; 2]; 2],
        };
        placed.each(|[x, y]| {
            let (x, y) = (sx * x + shear * y, sy * y);
            [cos * x - sin * y, sin * x + cos * y]
        });
        let [least, most] = placed.bounds;
        let scale = length / (most[0] - least[0]).max(most[1] - least[1]).max(1e-3);
        placed.each(|[x, y]| [x * scale, y * scale]);
        placed
    }

    /// Moves it to a random place; up to the share `outside` of its box may leave the image.
    fn at_random(mut self, size: usize, outside: f32, random: &mut Random) -> Self {
        let [least, most] = self.bounds;
        let shift: Point = std::array::from_fn(|axis| {
            let extent = most[axis] - least[axis];
            let room = size as f32 - extent;
            let (low, high) = (-outside * extent, room + outside * extent);
            let corner = if low < high {
                random.uniform(f64::from(low), f64::from(high)) as f32
            } else {
                room / 2.0
            };
            corner - least[axis]
        });
        self.each(|[x, y]| [x + shift[0], y + shift[1]]);
        self
    }

    fn each(&mut self, map: impl Fn(Point) -> Point) {
        let mut bounds = [[f32::INFINITY; 2], [f32::NEG_INFINITY; 2]];
        let Outline { solid, holes } = &mut self.outline;
        for point in solid.iter_mut().flatten() {
            *point = map(*point);
            for axis in 0..2 {
                bounds[0][axis] = bounds[0][axis].min(point[axis]);
                bounds[1][axis] = bounds[1][axis].max(point[axis]);
            }
        }
        for point in holes.iter_mut().flatten() {
            *point = map(*point);
        }
        self.bounds = bounds;
    }

    /// The pixels that it may touch.
    fn window(&self, size: usize) -> Window {
        let low = |value: f32| (value.floor() - 1.0).clamp(0.0, size as f32) as usize;
        let high = |value: f32| (value.ceil() + 1.0).clamp(0.0, size as f32) as usize;
        let [least, most] = self.bounds;
        Window {
            x0: low(least[0]),
            y0: low(least[1]),
            x1: high(most[0]),
            y1: high(most[1]),
        }
    }
}

fn path(polygons: &[Vec<Point>]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for polygon in polygons {
        for (number, &[x, y]) in polygon.iter().enumerate() {
            if number == 0 {
                builder.move_to(x, y);
            } else {
                builder.line_to(x, y);
            }
        }
        builder.close();
    }
    builder.finish()
}

struct Canvas {
    size: usize,
    /// Colours, 0–1.
    rgb: Vec<[f32; 3]>,
}

impl Canvas {
    fn new(size: usize) -> Self {
        Self {
            size,
            rgb: vec![[0.0; 3]; size * size],
        }
    }

    /// How much of each pixel is covered, 0–255.
    fn coverage(&self, placed: &Placed) -> Vec<u8> {
        let side = self.size as u32;
        let fill = |polygons: &[Vec<Point>]| -> Option<Vec<u8>> {
            let mut mask = Coverage::new(side, side)?;
            mask.fill_path(
                &path(polygons)?,
                FillRule::Winding,
                true,
                Transform::identity(),
            );
            Some(mask.take())
        };
        let mut solid =
            fill(&placed.outline.solid).unwrap_or_else(|| vec![0; self.size * self.size]);
        if let Some(holes) = fill(&placed.outline.holes) {
            for (shown, hole) in solid.iter_mut().zip(holes) {
                *shown = ((u32::from(*shown) * u32::from(255 - hole)) / 255) as u8;
            }
        }
        solid
    }

    fn draw(&mut self, placed: &Placed, texture: &Texture) -> Vec<u8> {
        let coverage = self.coverage(placed);
        self.lay(&coverage, placed.window(self.size), texture);
        coverage
    }

    fn lay(&mut self, coverage: &[u8], window: Window, texture: &Texture) {
        let rgb = &mut self.rgb;
        texture.paint(self.size, window, |index, colour| {
            let share = f32::from(coverage[index]) * (1.0 / 255.0);
            for (below, above) in rgb[index].iter_mut().zip(colour) {
                *below += share * (above - *below);
            }
        });
    }

    /// Lays a bar or a blob over part of the object, and takes it out of the object's coverage.
    fn cover(
        &mut self,
        object: &mut [u8],
        placed: &Placed,
        texture: &Texture,
        random: &mut Random,
    ) {
        let [least, most] = placed.bounds;
        let extent = (most[0] - least[0]).max(most[1] - least[1]);
        let total: u64 = object.iter().map(|&shown| u64::from(shown)).sum();
        let is_bar = random.bool(0.5);
        let outline = Outline {
            solid: vec![if is_bar {
                vec![[-1.0, -0.09], [1.0, -0.09], [1.0, 0.09], [-1.0, 0.09]]
            } else {
                outline::blob(random)
            }],
            holes: Vec::new(),
        };
        let mut length = extent
            * if is_bar {
                random.uniform(1.0, 1.6)
            } else {
                random.uniform(0.4, 0.6)
            } as f32;
        let turn = random.uniform(0.0, f64::from(TAU)) as f32;
        let centre: Point = std::array::from_fn(|axis| {
            random.uniform(f64::from(least[axis]), f64::from(most[axis])) as f32
        });
        // Smaller until enough of the object shows.
        for _ in 0..4 {
            let mut occluder = Placed::new(&outline, length, [1.0, 1.0, turn, 0.0]);
            occluder.each(|[x, y]| [x + centre[0], y + centre[1]]);
            let coverage = self.coverage(&occluder);
            let shown = |shown: u8, covered: u8| u32::from(shown) * u32::from(255 - covered) / 255;
            let left: u64 = object
                .iter()
                .zip(&coverage)
                .map(|(&s, &c)| u64::from(shown(s, c)))
                .sum();
            if (total - left) as f64 <= MOST_COVERED * total as f64 {
                self.lay(&coverage, occluder.window(self.size), texture);
                for (pixel, covered) in object.iter_mut().zip(coverage) {
                    *pixel = shown(*pixel, covered) as u8;
                }
                return;
            }
            length *= 0.7;
        }
    }

    /// Light that falls off across the image.
    fn light(&mut self, random: &mut Random) {
        let strength = random.uniform(0.0, 0.3) as f32;
        let angle = random.uniform(0.0, f64::from(TAU)) as f32;
        let (dy, dx) = angle.sin_cos();
        let scale = strength / self.size as f32;
        let half = self.size as f32 / 2.0;
        for (y, row) in self.rgb.chunks_exact_mut(self.size).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                let factor = 1.0 + scale * ((x as f32 - half) * dx + (y as f32 - half) * dy);
                *pixel = pixel.map(|value| value * factor);
            }
        }
    }

    /// Adds noise of the given standard deviation (in grey levels) and rounds to bytes.
    fn finish(self, noise: f32, random: &mut Random) -> Vec<u8> {
        // A sum of four bytes is near enough to normal; this is its standard deviation.
        const DEVIATION: f32 = 147.8;
        // One key for a fast generator, as this takes a number per value.
        let mut state = random.next_u64() | 1;
        let gain = noise / DEVIATION;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let bytes = state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_be_bytes();
            f32::from(
                u16::from(bytes[0])
                    + u16::from(bytes[1])
                    + u16::from(bytes[2])
                    + u16::from(bytes[3]),
            ) - 510.0
        };
        self.rgb
            .iter()
            .flatten()
            .map(|&value| (value * 255.0 + gain * next()).round().clamp(0.0, 255.0) as u8)
            .collect()
    }
}

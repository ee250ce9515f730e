//! The outline of each class, as polygons in a square of about −1…1, y down.

use std::f32::consts::{PI, TAU};

use super::classes::CLASSES;
use crate::random::Random;

/// A point, x and y.
pub(super) type Point = [f32; 2];

/// Polygons whose union is the object, less those of `holes`. The polygons of one list
/// may overlap only if they turn the same way (here: clockwise on screen).
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    pub(super) solid: Vec<Vec<Point>>,
    pub(super) holes: Vec<Vec<Point>>,
}

/// The outline of a class (an index into [`CLASSES`]), with the class's own freedom.
pub(super) fn outline(class: usize, random: &mut Random) -> Outline {
    let mut vary = |low: f32, high: f32| random.uniform(f64::from(low), f64::from(high)) as f32;
    let solid = |polygon: Vec<Point>| Outline {
        solid: vec![polygon],
        holes: Vec::new(),
    };
    match CLASSES[class] {
        "arrow" => {
            let (shaft, head, neck) = (vary(0.16, 0.28), vary(0.6, 0.8), vary(-0.1, 0.2));
            solid(vec![
                [0.0, -1.0],
                [head, neck],
                [shaft, neck],
                [shaft, 1.0],
                [-shaft, 1.0],
                [-shaft, neck],
                [-head, neck],
            ])
        }
        "bolt" => {
            let (w, j) = (vary(0.0, 0.12), vary(0.0, 0.1));
            solid(vec![
                [0.1 - w, -1.0],
                [0.65 + w, -1.0],
                [0.25, -0.25 - j],
                [0.65 + w, -0.25 - j],
                [-0.4 - w, 1.0],
                [-0.1, 0.12 + j],
                [-0.55 - w, 0.12 + j],
            ])
        }
        "crescent" => {
            // A disc less a smaller one that is moved aside, from horn to horn and back.
            let (radius, shift) = (vary(0.78, 0.86), vary(0.4, 0.5));
            let x = (1.0 - radius * radius + shift * shift) / (2.0 * shift);
            let y = (1.0 - x * x).sqrt();
            let (outer, inner) = (y.atan2(x), y.atan2(x - shift));
            const STEPS: usize = 32;
            let arc = |from: f32, i: usize| from + (TAU - 2.0 * from) * i as f32 / STEPS as f32;
            let back = (0..=STEPS).map(|i| polar(1.0, arc(outer, i)));
            let front = (0..=STEPS).rev().map(|i| {
                let [x, y] = polar(radius, arc(inner, i));
                [shift + x, y]
            });
            solid(back.chain(front).collect())
        }
        "cross" => {
            let w = vary(0.22, 0.36);
            solid(vec![
                [-w, -1.0],
                [w, -1.0],
                [w, -w],
                [1.0, -w],
                [1.0, w],
                [w, w],
                [w, 1.0],
                [-w, 1.0],
                [-w, w],
                [-1.0, w],
                [-1.0, -w],
                [-w, -w],
            ])
        }
        "disc" => solid(circle([0.0, 0.0], 1.0)),
        "fish" => {
            let (belly, tail) = (vary(0.42, 0.55), vary(0.4, 0.55));
            let body = ring_of(40, |a| [-0.25 + 0.75 * a.cos(), belly * a.sin()]);
            let fin = vec![[0.3, 0.0], [1.0, -tail], [0.82, 0.0], [1.0, tail]];
            let eye = circle([-0.62, -0.12], 0.1);
            Outline {
                solid: vec![body, fin],
                holes: vec![eye],
            }
        }
        "flower" => {
            let petals = 5.0 + vary(0.0, 2.0).floor();
            let (depth, hole) = (vary(0.2, 0.27), vary(0.2, 0.27));
            let rim = ring_of(96, |a| {
                polar(
                    1.0 - 2.0 * depth * (1.0 - (petals * a / 2.0).cos().abs().powf(0.7)),
                    a,
                )
            });
            Outline {
                solid: vec![rim],
                holes: vec![circle([0.0, 0.0], hole)],
            }
        }
        "gear" => {
            let teeth = 8 + vary(0.0, 3.0) as usize;
            let (root, hole) = (vary(0.72, 0.78), vary(0.25, 0.38));
            let step = TAU / teeth as f32;
            let rim = (0..teeth)
                .flat_map(|tooth| {
                    let a = tooth as f32 * step;
                    [
                        polar(root, a),
                        polar(1.0, a + 0.12 * step),
                        polar(1.0, a + 0.45 * step),
                        polar(root, a + 0.57 * step),
                    ]
                })
                .collect();
            Outline {
                solid: vec![rim],
                holes: vec![circle([0.0, 0.0], hole)],
            }
        }
        "heart" => {
            let dip = vary(0.9, 1.1);
            solid(ring_of(64, |a| {
                let y = 0.8125 * a.cos()
                    - dip
                        * (0.3125 * (2.0 * a).cos()
                            + 0.125 * (3.0 * a).cos()
                            + 0.0625 * (4.0 * a).cos());
                [a.sin().powi(3), -y]
            }))
        }
        "key" => {
            let (bow, bit) = (vary(0.4, 0.48), vary(0.3, 0.42));
            let (top, w) = (-1.0 + bow, 0.12);
            let shaft = vec![[-w, top], [w, top], [w, 1.0], [-w, 1.0]];
            let lower = vec![[w, 0.76], [w + bit, 0.76], [w + bit, 1.0], [w, 1.0]];
            let upper = vec![[w, 0.38], [w + bit, 0.38], [w + bit, 0.58], [w, 0.58]];
            Outline {
                solid: vec![circle([0.0, top], bow), shaft, lower, upper],
                holes: vec![circle([0.0, top], bow * 0.5)],
            }
        }
        "ladder" => {
            let rungs = 4 + vary(0.0, 2.0) as usize;
            let (half, w) = (vary(0.42, 0.55), 0.13);
            let bar =
                |x0: f32, y0: f32, x1: f32, y1: f32| vec![[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
            let mut bars = vec![
                bar(-half - w, -1.0, -half + w, 1.0),
                bar(half - w, -1.0, half + w, 1.0),
            ];
            for rung in 0..rungs {
                let y = -1.0 + (rung as f32 + 0.5) * 2.0 / rungs as f32;
                bars.push(bar(-half, y - 0.09, half, y + 0.09));
            }
            Outline {
                solid: bars,
                holes: Vec::new(),
            }
        }
        "ring" => {
            let hole = vary(0.5, 0.66);
            Outline {
                solid: vec![circle([0.0, 0.0], 1.0)],
                holes: vec![circle([0.0, 0.0], hole)],
            }
        }
        "spiral" => {
            let turns = vary(2.0, 2.4);
            let gap = 1.0 / (turns + 0.3);
            let half = gap * vary(0.24, 0.3);
            let start = vary(0.0, TAU);
            let along = |t: f32, side: f32| {
                polar(
                    0.08 + (0.92 - half) * t + side * half,
                    start + t * turns * TAU,
                )
            };
            const STEPS: usize = 72;
            let at = |i: usize| i as f32 / STEPS as f32;
            let outer = (0..=STEPS).map(|i| along(at(i), 1.0));
            let inner = (0..=STEPS).rev().map(|i| along(at(i), -1.0));
            solid(outer.chain(inner).collect())
        }
        "square" => solid(vec![[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]),
        "star" => {
            let inner = vary(0.38, 0.48);
            solid(
                (0..10)
                    .map(|i| {
                        polar(
                            if i % 2 == 0 { 1.0 } else { inner },
                            -PI / 2.0 + i as f32 * PI / 5.0,
                        )
                    })
                    .collect(),
            )
        }
        _ => {
            let lean = vary(-0.15, 0.15);
            solid(vec![[lean, -0.87], [1.0, 0.87], [-1.0, 0.87]])
        }
    }
}

/// A small thing without a name: a bar, a wedge, a blob or an arc.
pub(super) fn fragment(random: &mut Random) -> Outline {
    let polygon = match random.below(4) {
        0 => {
            let w = random.uniform(0.06, 0.2) as f32;
            vec![[-1.0, -w], [1.0, -w], [1.0, w], [-1.0, w]]
        }
        1 => {
            let mut corner = || (random.uniform(-1.0, 1.0)) as f32;
            vec![[-1.0, corner()], [1.0, corner()], [corner(), 1.0]]
        }
        2 => blob(random),
        _ => {
            let (reach, w) = (
                random.uniform(0.8, 2.4) as f32,
                random.uniform(0.08, 0.2) as f32,
            );
            let at = |i: usize| i as f32 / 12.0 * reach;
            let outer = (0..=12).map(|i| polar(1.0, at(i)));
            outer
                .chain((0..=12).rev().map(|i| polar(1.0 - 2.0 * w, at(i))))
                .collect()
        }
    };
    Outline {
        solid: vec![polygon],
        holes: Vec::new(),
    }
}

/// A rounded, irregular patch.
pub(super) fn blob(random: &mut Random) -> Vec<Point> {
    let mut wave = || {
        (
            random.uniform(-0.18, 0.18) as f32,
            random.uniform(0.0, f64::from(TAU)) as f32,
        )
    };
    let waves = [wave(), wave(), wave()];
    ring_of(32, |a| {
        let bumps = waves
            .iter()
            .zip([2.0, 3.0, 5.0])
            .map(|((height, phase), n)| height * (n * a + phase).sin());
        polar(0.75 + bumps.sum::<f32>(), a)
    })
}

fn polar(radius: f32, angle: f32) -> Point {
    [radius * angle.cos(), radius * angle.sin()]
}

fn circle(centre: Point, radius: f32) -> Vec<Point> {
    ring_of(48, |a| {
        [centre[0] + radius * a.cos(), centre[1] + radius * a.sin()]
    })
}

fn ring_of(corners: usize, at: impl Fn(f32) -> Point) -> Vec<Point> {
    (0..corners)
        .map(|i| at(i as f32 * TAU / corners as f32))
        .collect()
}

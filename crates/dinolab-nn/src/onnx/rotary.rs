//! Rotary positions for whatever size a call brings, computed by the graph itself.

use super::graph::{Attribute, Graph, Value};
use super::positions::Grid;
use super::proto::data_type;
use crate::position::Rope;

/// Cosines and sines of all tokens' angles, `[1 + R + N, w / 2]` each.
#[derive(Clone)]
pub(super) struct Rotary {
    cosines: Value,
    sines: Value,
    /// Widths of the two halves of a head.
    halves: Value,
}

/// The angles of the patches of `grid`, after `prefix` tokens that are not turned.
pub(super) fn angles(
    g: &mut Graph,
    rope: &Rope,
    head_width: usize,
    prefix: usize,
    grid: &Grid,
) -> Rotary {
    g.enter("rotary");
    let turns = rope.frequencies(head_width).into_iter();
    let turns: Vec<f32> = turns
        .map(|f| (2.0 * std::f64::consts::PI * f) as f32)
        .collect();
    let quarter = turns.len();
    let turns = g.floats(&[1, quarter], &turns);
    let rows = axis(g, &grid.h, &turns);
    let columns = axis(g, &grid.w, &turns);
    let (zeroth, first) = (g.ints(&[0]), g.ints(&[1]));
    let h = g.op("Unsqueeze", [&grid.h, &zeroth]);
    let w = g.op("Unsqueeze", [&grid.w, &zeroth]);
    let width = g.ints(&[quarter as i64]);
    let whole = g.node("Concat", [&h, &w, &width], &[Attribute::Int("axis", 0)]);
    let rows = g.op("Unsqueeze", [&rows, &first]);
    let rows = g.op("Expand", [&rows, &whole]);
    let columns = g.op("Unsqueeze", [&columns, &zeroth]);
    let columns = g.op("Expand", [&columns, &whole]);
    let both = g.node("Concat", [&rows, &columns], &[Attribute::Int("axis", -1)]);
    let half = 2 * quarter;
    let flat = g.ints(&[-1, half as i64]);
    let both = g.op("Reshape", [&both, &flat]);
    let mut with_prefix = |op: &str, value: f32| {
        let of_patches = g.op(op, [&both]);
        let of_others = g.floats(&[prefix, half], &vec![value; prefix * half]);
        g.node(
            "Concat",
            [&of_others, &of_patches],
            &[Attribute::Int("axis", 0)],
        )
    };
    Rotary {
        cosines: with_prefix("Cos", 1.0),
        sines: with_prefix("Sin", 0.0),
        halves: g.ints(&[half as i64, half as i64]),
    }
}

/// The angles `[count, w / 4]` of the patches along an axis: those of (2i + 1) / count − 1.
fn axis(g: &mut Graph, count: &Value, turns: &Value) -> Value {
    let (zero, one, two) = (g.int(0), g.int(1), g.int(2));
    let places = g.op("Range", [&zero, count, &one]);
    let places = g.op("Mul", [&places, &two]);
    let places = g.op("Add", [&places, &one]);
    // Above the denominator as integers, so that the middle is 0 exactly.
    let places = g.op("Sub", [&places, count]);
    let to = [Attribute::Int("to", data_type::FLOAT.into())];
    let places = g.node("Cast", [&places], &to);
    let count = g.node("Cast", [count], &to);
    let places = g.op("Div", [&places, &count]);
    let last = g.ints(&[1]);
    let places = g.op("Unsqueeze", [&places, &last]);
    g.op("Mul", [&places, turns])
}

impl Rotary {
    /// Turns the heads `[B, H, N, w]` of all tokens.
    pub(super) fn turn(&self, g: &mut Graph, x: &Value) -> Value {
        let last = [Attribute::Int("axis", -1)];
        let [a, b] = g.nodes("Split", [x, &self.halves], &last);
        let product = |g: &mut Graph, x: &Value, y: &Value| g.op("Mul", [x, y]);
        let (ac, bs) = (product(g, &a, &self.cosines), product(g, &b, &self.sines));
        let (bc, as_) = (product(g, &b, &self.cosines), product(g, &a, &self.sines));
        let first = g.op("Sub", [&ac, &bs]);
        let second = g.op("Add", [&bc, &as_]);
        g.node("Concat", [&first, &second], &last)
    }
}

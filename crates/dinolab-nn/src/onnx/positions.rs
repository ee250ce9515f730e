//! Position embeddings for whatever size a call brings, computed by the graph itself.
//!
//! Resampling is two products with small matrices, `[h, side]` and `[w, side]`, that the graph
//! builds from the numbers of patches. ONNX has an operator `Resize` for it, which is not used:
//! where its samples lie depends on whether scales or sizes are given and is rounded differently by
//! runtimes, several lack its cubic mode or take it for fixed sizes only, and none can leave the
//! embeddings untouched at one size. Products and additions are the same everywhere.
//!
//! Distances between samples are computed as fractions of integers, so that no size is rounded to
//! the other side of a tap, and so that the trained size gives the identity exactly.

use super::graph::{Attribute, Graph, Value};
use super::proto::data_type;
use crate::position::PositionRule;

/// The embeddings of an image's patches, and its size in patches.
pub(super) struct Grid {
    /// Rows and columns of patches, integers without dimensions.
    pub(super) h: Value,
    /// See `h`.
    pub(super) w: Value,
}

/// How an axis is resampled: output `i` lies at `(i + ½) · from / to` in units of a trained patch.
struct Axis<'a> {
    /// Trained patches along the axis.
    side: usize,
    /// Number of outputs.
    count: &'a Value,
    /// Numerator of the distance of samples, `[1]` or without dimensions.
    from: Value,
    /// Its denominator.
    to: Value,
}

/// Resamples `embeddings` `[side, side · width]` to `[1, h · w, width]`.
pub(super) fn resampled(
    g: &mut Graph,
    embeddings: &Value,
    side: usize,
    width: usize,
    grid: &Grid,
    rule: PositionRule,
) -> Value {
    g.enter("positions");
    let trained = (rule == PositionRule::Dino).then(|| {
        let side = g.int(side as i64);
        let rows = g.op("Equal", [&grid.h, &side]);
        let columns = g.op("Equal", [&grid.w, &side]);
        g.op("And", [&rows, &columns])
    });
    let rows = axis(g, "rows", side, &grid.h, trained.as_ref(), rule);
    let columns = axis(g, "columns", side, &grid.w, trained.as_ref(), rule);
    g.enter("positions");
    let (d, side) = (width as i64, side as i64);
    let x = g.op("MatMul", [&rows, embeddings]);
    let shape = g.ints(&[-1, side, d]);
    let x = g.op("Reshape", [&x, &shape]);
    let x = g.op("MatMul", [&columns, &x]);
    let shape = g.ints(&[1, -1, d]);
    g.op("Reshape", [&x, &shape])
}

/// The matrix `[count, side]` of an axis.
fn axis(
    g: &mut Graph,
    name: &str,
    side: usize,
    count: &Value,
    trained: Option<&Value>,
    rule: PositionRule,
) -> Value {
    g.enter(&format!("positions/{name}"));
    let length = g.int(side as i64);
    let (from, to) = match (rule, trained) {
        (PositionRule::Dino, Some(trained)) => {
            // side / (count + 0.1); at the trained size side / count, which is 1.
            let ten = g.int(10);
            let one = g.int(1);
            let long = g.int(10 * side as i64);
            let tenfold = g.op("Mul", [count, &ten]);
            let tenfold = g.op("Add", [&tenfold, &one]);
            (
                g.op("Where", [trained, &length, &long]),
                g.op("Where", [trained, count, &tenfold]),
            )
        }
        _ => (length, count.clone()),
    };
    let axis = Axis {
        side,
        count,
        from,
        to,
    };
    match rule {
        PositionRule::Dino | PositionRule::Ratio => plain(g, &axis),
        PositionRule::RatioAntialias => antialiased(g, &axis),
    }
}

/// Four taps (a = −0.75); beyond the edge they repeat it.
fn plain(g: &mut Graph, axis: &Axis) -> Value {
    let side = axis.side as i64;
    // A tap lies at most two patches off the edge.
    let taps: Vec<i64> = (-2..side + 2).collect();
    let two = g.int(2);
    let unit = g.op("Mul", [&axis.to, &two]);
    let distances = distances(g, axis, &taps, &unit);
    let weights = cubic(g, &distances, -0.75);
    let mut fold = vec![0.0; taps.len() * axis.side];
    for (tap, row) in taps.iter().zip(fold.chunks_exact_mut(axis.side)) {
        row[(*tap).clamp(0, side - 1) as usize] = 1.0;
    }
    let fold = g.floats(&[taps.len(), axis.side], &fold);
    g.op("MatMul", [&weights, &fold])
}

/// A kernel (a = −0.5) that widens with the step where that is larger than 1; what lies beyond the
/// edge is left out and the rest brought to a sum of 1.
fn antialiased(g: &mut Graph, axis: &Axis) -> Value {
    let taps: Vec<i64> = (0..axis.side as i64).collect();
    let two = g.int(2);
    let unit = g.op("Max", [&axis.from, &axis.to]);
    let unit = g.op("Mul", [&unit, &two]);
    let distances = distances(g, axis, &taps, &unit);
    let weights = cubic(g, &distances, -0.5);
    let last = g.ints(&[1]);
    let keep = Attribute::Int("keepdims", 1);
    let sum = g.node("ReduceSum", [&weights, &last], &[keep]);
    g.op("Div", [&weights, &sum])
}

/// How far each of `taps`, numbers of trained patches, is from each output, in units of
/// `unit / (2 · to)` patches: `[count, taps]`.
///
/// Tap `j` of output `i`: |(2i + 1) · from − (2j + 1) · to| / unit.
fn distances(g: &mut Graph, axis: &Axis, taps: &[i64], unit: &Value) -> Value {
    let (zero, one, two) = (g.int(0), g.int(1), g.int(2));
    let outputs = g.op("Range", [&zero, axis.count, &one]);
    let outputs = g.op("Mul", [&outputs, &two]);
    let outputs = g.op("Add", [&outputs, &one]);
    let outputs = g.op("Mul", [&outputs, &axis.from]);
    let last = g.ints(&[1]);
    let outputs = g.op("Unsqueeze", [&outputs, &last]);
    let odd: Vec<i64> = taps.iter().map(|tap| 2 * tap + 1).collect();
    let taps = g.ints(&odd);
    let taps = g.op("Mul", [&taps, &axis.to]);
    let difference = g.op("Sub", [&outputs, &taps]);
    let difference = float(g, &difference);
    let difference = g.op("Abs", [&difference]);
    let unit = float(g, unit);
    g.op("Div", [&difference, &unit])
}

fn float(g: &mut Graph, integers: &Value) -> Value {
    let to = Attribute::Int("to", data_type::FLOAT.into());
    g.node("Cast", [integers], &[to])
}

/// The cubic kernel with parameter `a` at the distances `x` ≥ 0.
fn cubic(g: &mut Graph, x: &Value, a: f32) -> Value {
    let (one, two) = (g.float(1.0), g.float(2.0));
    // Up to 1: 1 + x² · ((a + 2) · x − (a + 3)).
    let (slope, offset) = (g.float(a + 2.0), g.float(-(a + 3.0)));
    let near = g.op("Mul", [x, &slope]);
    let near = g.op("Add", [&near, &offset]);
    let near = g.op("Mul", [&near, x]);
    let near = g.op("Mul", [&near, x]);
    let near = g.op("Add", [&near, &one]);
    // Up to 2: a · (x − 1) · (2 − x)², and then nothing.
    let a = g.float(a);
    let past = g.op("Sub", [x, &one]);
    let left = g.op("Sub", [&two, x]);
    let left = g.op("Relu", [&left]);
    let far = g.op("Mul", [&past, &a]);
    let far = g.op("Mul", [&far, &left]);
    let far = g.op("Mul", [&far, &left]);
    let is_near = g.op("Less", [x, &one]);
    g.op("Where", [&is_near, &near, &far])
}

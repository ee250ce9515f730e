//! Operators that move elements, and those that ask for sizes.

use super::tensor::{Tensor, broadcast, place, repeated, strides, walk};
use super::{Call, Outcome};

pub(super) fn call(call: &Call) -> Outcome<Tensor> {
    match call.op() {
        "Transpose" => call.only(&["perm"])?,
        "Concat" | "Gather" => call.only(&["axis"])?,
        _ => call.only(&[])?,
    }
    match call.op() {
        "Identity" => call.operands::<1>().map(|[x]| x.clone()),
        "Shape" => {
            let [x] = call.operands()?;
            let shape: Vec<i64> = x.shape().iter().map(|&size| size as i64).collect();
            Tensor::i64(vec![shape.len()], shape)
        }
        "Reshape" => reshape(call),
        "Squeeze" => squeeze(call),
        "Unsqueeze" => unsqueeze(call),
        "Transpose" => transpose(call),
        "Expand" => expand(call),
        "Concat" => concat(call),
        "Slice" => slice(call),
        "Gather" => gather(call),
        "Range" => range(call),
        other => Err(format!("operator {other} is not known")),
    }
}

/// A 0 keeps the dimension, one −1 takes what is left.
fn reshape(call: &Call) -> Outcome<Tensor> {
    let [x, shape] = call.operands()?;
    let mut sizes = Vec::new();
    let mut rest = None;
    for (axis, &size) in shape.integers()?.iter().enumerate() {
        sizes.push(match size {
            0 => *x
                .shape()
                .get(axis)
                .ok_or("keeps a dimension that is not there")?,
            -1 if rest.replace(axis).is_none() => 1,
            size => usize::try_from(size).map_err(|_| format!("a size of {size}"))?,
        });
    }
    if let Some(axis) = rest {
        let (all, others) = (x.shape().iter().product(), sizes.iter().product());
        sizes[axis] = usize::checked_div(all, others).unwrap_or(0);
    }
    x.reshaped(sizes)
}

fn squeeze(call: &Call) -> Outcome<Tensor> {
    let [x, axes] = call.operands()?;
    let axes: Vec<usize> = axes
        .integers()?
        .iter()
        .map(|&axis| x.axis(axis))
        .collect::<Outcome<_>>()?;
    if axes.iter().any(|&axis| x.shape()[axis] != 1) {
        return Err(format!("axes {axes:?} of {:?} are not all 1", x.shape()));
    }
    let kept = x
        .shape()
        .iter()
        .enumerate()
        .filter(|(axis, _)| !axes.contains(axis));
    x.reshaped(kept.map(|(_, &size)| size).collect())
}

fn unsqueeze(call: &Call) -> Outcome<Tensor> {
    let [x, axes] = call.operands()?;
    let axis = axes.integer()?;
    let mut shape = x.shape().to_vec();
    let axis = place(axis, shape.len() + 1).ok_or_else(|| format!("no place for axis {axis}"))?;
    shape.insert(axis, 1);
    x.reshaped(shape)
}

fn transpose(call: &Call) -> Outcome<Tensor> {
    let [x] = call.operands()?;
    let order = call.ints("perm")?.ok_or("needs perm")?;
    let axes: Vec<usize> = order
        .iter()
        .map(|&axis| x.axis(axis))
        .collect::<Outcome<_>>()?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..x.shape().len()) {
        return Err(format!(
            "{order:?} is no order of the axes of {:?}",
            x.shape()
        ));
    }
    let own = strides(x.shape());
    let shape: Vec<usize> = axes.iter().map(|&axis| x.shape()[axis]).collect();
    let strides: Vec<usize> = axes.iter().map(|&axis| own[axis]).collect();
    let places = walk(&shape, &strides, 0);
    x.gathered(shape, &places)
}

fn expand(call: &Call) -> Outcome<Tensor> {
    let [x, shape] = call.operands()?;
    let wanted = shape
        .integers()?
        .iter()
        .map(|&size| usize::try_from(size).map_err(|_| format!("a size of {size}")))
        .collect::<Outcome<Vec<_>>>()?;
    let shape = broadcast(x.shape(), &wanted)?;
    let places = repeated(x.shape(), &shape);
    x.gathered(shape, &places)
}

fn concat(call: &Call) -> Outcome<Tensor> {
    let first = *call.inputs.first().ok_or("has no operands")?;
    let axis = first.axis(call.int("axis")?.ok_or("needs axis")?)?;
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    for x in &call.inputs {
        let others = |shape: &[usize]| {
            let mut shape = shape.to_vec();
            shape[axis] = 0;
            shape
        };
        if x.shape().len() != shape.len() || others(x.shape()) != others(first.shape()) {
            return Err(format!(
                "{:?} and {:?} do not go together",
                first.shape(),
                x.shape()
            ));
        }
        shape[axis] += x.shape()[axis];
    }
    let before: usize = shape[..axis].iter().product();
    let lengths: Vec<usize> = call
        .inputs
        .iter()
        .map(|x| x.shape()[axis..].iter().product())
        .collect();
    fn join<T: Copy>(parts: &[&[T]], lengths: &[usize], before: usize) -> Vec<T> {
        (0..before)
            .flat_map(|row| {
                let rows = parts.iter().zip(lengths);
                rows.flat_map(move |(part, &len)| part[row * len..][..len].iter().copied())
            })
            .collect()
    }
    if let Ok(parts) = call
        .inputs
        .iter()
        .map(|x| x.floats())
        .collect::<Outcome<Vec<_>>>()
    {
        return Tensor::f32(shape, join(&parts, &lengths, before));
    }
    let parts = call
        .inputs
        .iter()
        .map(|x| x.integers())
        .collect::<Outcome<Vec<_>>>()?;
    Tensor::i64(shape, join(&parts, &lengths, before))
}

/// Without steps; ends beyond an axis mean its end.
fn slice(call: &Call) -> Outcome<Tensor> {
    let [x, starts, ends, axes] = call.operands()?;
    let (starts, ends, axes) = (starts.integers()?, ends.integers()?, axes.integers()?);
    if starts.len() != axes.len() || ends.len() != axes.len() {
        return Err("as many starts, ends and axes are needed".into());
    }
    let mut shape = x.shape().to_vec();
    let strides = strides(x.shape());
    let mut first = 0;
    for ((&start, &end), &axis) in starts.iter().zip(ends).zip(axes) {
        let axis = x.axis(axis)?;
        let size = x.shape()[axis] as i64;
        let bound = |at: i64| (if at < 0 { at + size } else { at }).clamp(0, size) as usize;
        shape[axis] = bound(end).saturating_sub(bound(start));
        first += bound(start) * strides[axis];
    }
    let places = walk(&shape, &strides, first);
    x.gathered(shape, &places)
}

/// `Split` by a list of sizes.
pub(super) fn split(call: &Call) -> Outcome<Vec<Tensor>> {
    call.only(&["axis"])?;
    let [x, sizes] = call.operands()?;
    let axis = x.axis(call.int("axis")?.unwrap_or(0))?;
    let strides = strides(x.shape());
    let mut from = 0;
    let mut parts = Vec::new();
    for &size in sizes.integers()? {
        let mut shape = x.shape().to_vec();
        let left = shape[axis] - from;
        let size = usize::try_from(size).ok().filter(|&size| size <= left);
        shape[axis] = size.ok_or_else(|| format!("sizes do not fill {:?}", x.shape()))?;
        let places = walk(&shape, &strides, from * strides[axis]);
        from += shape[axis];
        parts.push(x.gathered(shape, &places)?);
    }
    match from == x.shape()[axis] {
        true => Ok(parts),
        false => Err(format!("sizes do not fill {:?}", x.shape())),
    }
}

/// Of elements along the first axis.
fn gather(call: &Call) -> Outcome<Tensor> {
    let [x, indices] = call.operands()?;
    let (axis, count) = (x.axis(call.int("axis")?.unwrap_or(0))?, x.shape());
    if axis != 0 {
        return Err("gathers along the first axis only".into());
    }
    let row: usize = count[1..].iter().product();
    let mut places = Vec::new();
    for &index in indices.integers()? {
        let at = place(index, count[0]).ok_or_else(|| format!("no index {index} in {count:?}"))?;
        places.extend(at * row..(at + 1) * row);
    }
    let shape = [indices.shape(), &count[1..]].concat();
    x.gathered(shape, &places)
}

fn range(call: &Call) -> Outcome<Tensor> {
    let [start, limit, step] = call.operands()?;
    let (start, limit) = (start.integer()?, limit.integer()?);
    if step.integer()? != 1 {
        return Err("steps of 1 only".into());
    }
    let values: Vec<i64> = (start..limit).collect();
    Tensor::i64(vec![values.len()], values)
}

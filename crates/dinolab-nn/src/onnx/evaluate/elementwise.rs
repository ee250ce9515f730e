//! Operators that treat every element alike.

use super::tensor::{Data, Tensor, broadcast, repeated};
use super::{Call, Outcome};
use crate::onnx::proto::data_type;

pub(super) fn call(call: &Call) -> Outcome<Tensor> {
    if call.op() == "Cast" {
        return cast(call);
    }
    call.only(&[])?;
    let op = call.op();
    match op {
        "Abs" | "Erf" | "Relu" | "Sqrt" => {
            let [x] = call.operands()?;
            let f: fn(f32) -> f32 = match op {
                "Abs" => f32::abs,
                "Erf" => |x| libm::erf(f64::from(x)) as f32,
                "Relu" => |x| x.max(0.0),
                _ => f32::sqrt,
            };
            Tensor::f32(
                x.shape().to_vec(),
                x.floats()?.iter().map(|&x| f(x)).collect(),
            )
        }
        "Where" => choose(call),
        _ => {
            let [a, b] = call.operands()?;
            pair(op, a, b)
        }
    }
}

/// `Cast` of integers to floating point.
fn cast(call: &Call) -> Outcome<Tensor> {
    call.only(&["to"])?;
    let [x] = call.operands()?;
    match call.int("to")? {
        Some(to) if to == i64::from(data_type::FLOAT) => {
            let values = x.integers()?.iter().map(|&x| x as f32);
            Tensor::f32(x.shape().to_vec(), values.collect())
        }
        to => Err(format!("a cast to {to:?} is not known")),
    }
}

/// `Where`: the second operand's elements where the first is true, else the third's.
fn choose(call: &Call) -> Outcome<Tensor> {
    let [condition, a, b] = call.operands()?;
    let shape = broadcast(condition.shape(), &broadcast(a.shape(), b.shape())?)?;
    let Data::Bool(truth) = condition.data() else {
        return Err("takes truth values".into());
    };
    let truth = repeated(condition.shape(), &shape)
        .into_iter()
        .map(|at| truth[at]);
    let (from_a, from_b) = (repeated(a.shape(), &shape), repeated(b.shape(), &shape));
    let places = from_a.into_iter().zip(from_b);
    let data = match (a.data(), b.data()) {
        (Data::F32(a), Data::F32(b)) => Data::F32(
            truth
                .zip(places)
                .map(|(yes, (i, j))| if yes { a[i] } else { b[j] })
                .collect(),
        ),
        (Data::I64(a), Data::I64(b)) => Data::I64(
            truth
                .zip(places)
                .map(|(yes, (i, j))| if yes { a[i] } else { b[j] })
                .collect(),
        ),
        _ => return Err("takes two operands of one type".into()),
    };
    Tensor::new(shape, data)
}

/// Operators of two operands.
fn pair(op: &str, a: &Tensor, b: &Tensor) -> Outcome<Tensor> {
    let shape = broadcast(a.shape(), b.shape())?;
    let shapes = (a.shape(), b.shape(), shape.as_slice());
    let unknown = || format!("operator {op} is not known for these types");
    let data = match (a.data(), b.data()) {
        (Data::F32(a), Data::F32(b)) => match op {
            "Add" => Data::F32(zip(a, b, shapes, |a, b| a + b)),
            "Sub" => Data::F32(zip(a, b, shapes, |a, b| a - b)),
            "Mul" => Data::F32(zip(a, b, shapes, |a, b| a * b)),
            "Div" => Data::F32(zip(a, b, shapes, |a, b| a / b)),
            "Max" => Data::F32(zip(a, b, shapes, f32::max)),
            "Less" => Data::Bool(zip(a, b, shapes, |a, b| a < b)),
            _ => return Err(unknown()),
        },
        (Data::I64(a), Data::I64(b)) => match op {
            "Add" => Data::I64(zip(a, b, shapes, i64::wrapping_add)),
            "Sub" => Data::I64(zip(a, b, shapes, i64::wrapping_sub)),
            "Mul" => Data::I64(zip(a, b, shapes, i64::wrapping_mul)),
            "Max" => Data::I64(zip(a, b, shapes, i64::max)),
            "Equal" => Data::Bool(zip(a, b, shapes, |a, b| a == b)),
            _ => return Err(unknown()),
        },
        (Data::Bool(a), Data::Bool(b)) if op == "And" => {
            Data::Bool(zip(a, b, shapes, |a, b| a && b))
        }
        _ => return Err(unknown()),
    };
    Tensor::new(shape, data)
}

/// `f` of both operands' elements, each repeated to the common shape (the third).
fn zip<T: Copy, U>(
    a: &[T],
    b: &[T],
    (of_a, of_b, to): (&[usize], &[usize], &[usize]),
    f: impl Fn(T, T) -> U,
) -> Vec<U> {
    // The common cases without a list of places: whole operands, and one repeated row.
    if of_a == to && to.ends_with(of_b) {
        let repeated = b.iter().cycle();
        return a.iter().zip(repeated).map(|(&a, &b)| f(a, b)).collect();
    }
    let (from_a, from_b) = (repeated(of_a, to), repeated(of_b, to));
    from_a
        .into_iter()
        .zip(from_b)
        .map(|(i, j)| f(a[i], b[j]))
        .collect()
}

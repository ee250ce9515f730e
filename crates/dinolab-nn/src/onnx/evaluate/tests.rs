//! Every operator against values worked out by hand.

use super::*;
use crate::onnx::proto::{AttributeProto, OperatorSetIdProto, TensorProto, data_type};

fn f(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::f32(shape.to_vec(), values.to_vec()).unwrap()
}

fn i(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::i64(shape.to_vec(), values.to_vec()).unwrap()
}

fn truth(shape: &[usize], values: &[bool]) -> Tensor {
    Tensor::new(shape.to_vec(), Data::Bool(values.to_vec())).unwrap()
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: Some(value),
        r#type: attribute_type::INT,
        ..AttributeProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        r#type: attribute_type::INTS,
        ..AttributeProto::default()
    }
}

fn all(op: &str, inputs: &[&Tensor], attributes: &[AttributeProto]) -> Outcome<Vec<Tensor>> {
    let node = NodeProto {
        op_type: op.into(),
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    };
    let inputs = inputs.to_vec();
    Call {
        node: &node,
        inputs,
    }
    .results()
}

fn with(op: &str, inputs: &[&Tensor], attributes: &[AttributeProto]) -> Tensor {
    let mut results = all(op, inputs, attributes).unwrap();
    assert_eq!(results.len(), 1);
    results.remove(0)
}

fn run(op: &str, inputs: &[&Tensor]) -> Tensor {
    with(op, inputs, &[])
}

fn near(found: &Tensor, shape: &[usize], expected: &[f32]) {
    assert_eq!(found.shape(), shape);
    for (found, expected) in found.floats().unwrap().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn elements() {
    let x = f(&[2, 2], &[-1.0, 4.0, 0.0, 9.0]);
    assert_eq!(run("Abs", &[&x]), f(&[2, 2], &[1.0, 4.0, 0.0, 9.0]));
    assert_eq!(run("Relu", &[&x]), f(&[2, 2], &[0.0, 4.0, 0.0, 9.0]));
    assert_eq!(run("Sqrt", &[&f(&[2], &[4.0, 9.0])]), f(&[2], &[2.0, 3.0]));
    near(
        &run("Erf", &[&f(&[3], &[0.0, 1.0, -0.5])]),
        &[3],
        &[0.0, 0.842_700_8, -0.520_499_9],
    );
    let to = [int("to", data_type::FLOAT.into())];
    assert_eq!(
        with("Cast", &[&i(&[2], &[-3, 7])], &to),
        f(&[2], &[-3.0, 7.0])
    );
}

#[test]
fn pairs_are_repeated_to_a_common_shape() {
    let x = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let row = f(&[3], &[10.0, 20.0, 30.0]);
    let column = f(&[2, 1], &[1.0, 2.0]);
    let sum = [11.0, 22.0, 33.0, 14.0, 25.0, 36.0];
    assert_eq!(run("Add", &[&x, &row]), f(&[2, 3], &sum));
    assert_eq!(run("Add", &[&row, &x]), f(&[2, 3], &sum));
    assert_eq!(
        run("Sub", &[&x, &column]),
        f(&[2, 3], &[0.0, 1.0, 2.0, 2.0, 3.0, 4.0])
    );
    assert_eq!(
        run("Mul", &[&column, &row]),
        f(&[2, 3], &[10.0, 20.0, 30.0, 20.0, 40.0, 60.0])
    );
    assert_eq!(
        run("Div", &[&x, &f(&[], &[2.0])]),
        f(&[2, 3], &[0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    );
    assert_eq!(
        run("Max", &[&x, &f(&[1], &[3.5])]),
        f(&[2, 3], &[3.5, 3.5, 3.5, 4.0, 5.0, 6.0])
    );
    let less = [true, true, false, false, false, false];
    assert_eq!(run("Less", &[&x, &f(&[], &[3.0])]), truth(&[2, 3], &less));
    let (a, b) = (i(&[2], &[5, -2]), i(&[2, 1], &[3, -2]));
    assert_eq!(run("Add", &[&a, &b]), i(&[2, 2], &[8, 1, 3, -4]));
    assert_eq!(run("Sub", &[&a, &b]), i(&[2, 2], &[2, -5, 7, 0]));
    assert_eq!(run("Mul", &[&a, &b]), i(&[2, 2], &[15, -6, -10, 4]));
    assert_eq!(run("Max", &[&a, &b]), i(&[2, 2], &[5, 3, 5, -2]));
    assert_eq!(
        run("Equal", &[&a, &b]),
        truth(&[2, 2], &[false, false, false, true])
    );
    let (yes, both) = (truth(&[], &[true]), truth(&[2], &[true, false]));
    assert_eq!(run("And", &[&yes, &both]), both);
    assert_eq!(run("Where", &[&both, &a, &i(&[], &[0])]), i(&[2], &[5, 0]));
    let chosen = run(
        "Where",
        &[&truth(&[2, 1], &[true, false]), &row, &f(&[1], &[0.0])],
    );
    assert_eq!(chosen, f(&[2, 3], &[10.0, 20.0, 30.0, 0.0, 0.0, 0.0]));
}

#[test]
fn shapes() {
    let x = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let values = x.floats().unwrap();
    assert_eq!(run("Identity", &[&x]), x);
    assert_eq!(run("Shape", &[&x]), i(&[2], &[2, 3]));
    assert_eq!(
        run("Reshape", &[&x, &i(&[3], &[1, -1, 2])]),
        f(&[1, 3, 2], values)
    );
    assert_eq!(
        run("Reshape", &[&x, &i(&[3], &[0, 0, 1])]),
        f(&[2, 3, 1], values)
    );
    assert_eq!(
        run("Unsqueeze", &[&x, &i(&[1], &[1])]),
        f(&[2, 1, 3], values)
    );
    assert_eq!(
        run("Unsqueeze", &[&x, &i(&[1], &[-1])]),
        f(&[2, 3, 1], values)
    );
    let flat = run("Squeeze", &[&f(&[2, 1], &[7.0, 8.0]), &i(&[1], &[1])]);
    assert_eq!(flat, f(&[2], &[7.0, 8.0]));
    let turned = with("Transpose", &[&x], &[ints("perm", &[1, 0])]);
    assert_eq!(turned, f(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    let cube = f(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    let turned = with("Transpose", &[&cube], &[ints("perm", &[2, 0, 1])]);
    assert_eq!(turned, f(&[2, 2, 1], &[1.0, 3.0, 2.0, 4.0]));
    let repeated = run("Expand", &[&f(&[1, 2], &[1.0, 2.0]), &i(&[2], &[3, 1])]);
    assert_eq!(repeated, f(&[3, 2], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]));
}

#[test]
fn parts() {
    let x = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let more = f(&[2, 1], &[7.0, 8.0]);
    let joined = with("Concat", &[&x, &more], &[int("axis", 1)]);
    assert_eq!(
        joined,
        f(&[2, 4], &[1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0])
    );
    let joined = with(
        "Concat",
        &[&i(&[1], &[1]), &i(&[2], &[2, 3])],
        &[int("axis", 0)],
    );
    assert_eq!(joined, i(&[3], &[1, 2, 3]));
    let one = |value| i(&[1], &[value]);
    let slice = |from, to, axis| run("Slice", &[&x, &one(from), &one(to), &one(axis)]);
    assert_eq!(slice(1, i64::MAX, 1), f(&[2, 2], &[2.0, 3.0, 5.0, 6.0]));
    assert_eq!(slice(0, 1, 0), f(&[1, 3], &[1.0, 2.0, 3.0]));
    assert_eq!(slice(0, -1, -1), f(&[2, 2], &[1.0, 2.0, 4.0, 5.0]));
    let (from, to, axes) = (i(&[2], &[1, 1]), i(&[2], &[2, 9]), i(&[2], &[0, 1]));
    assert_eq!(
        run("Slice", &[&x, &from, &to, &axes]),
        f(&[1, 2], &[5.0, 6.0])
    );
    let parts = all("Split", &[&x, &i(&[2], &[1, 2])], &[int("axis", -1)]).unwrap();
    let [left, right] = [f(&[2, 1], &[1.0, 4.0]), f(&[2, 2], &[2.0, 3.0, 5.0, 6.0])];
    assert_eq!(parts, [left, right]);
    assert_eq!(
        run("Gather", &[&x, &i(&[], &[1])]),
        f(&[3], &[4.0, 5.0, 6.0])
    );
    assert_eq!(run("Gather", &[&i(&[3], &[5, 6, 7]), &one(-1)]), one(7));
    let range = [&i(&[], &[2]), &i(&[], &[5]), &i(&[], &[1])];
    assert_eq!(run("Range", &range), i(&[3], &[2, 3, 4]));
}

#[test]
fn products() {
    let a = f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let b = f(&[2, 3], &[1.0, 0.0, -1.0, 2.0, 1.0, 0.0]);
    near(
        &run("MatMul", &[&a, &b]),
        &[2, 3],
        &[5.0, 2.0, -1.0, 11.0, 4.0, -3.0],
    );
    // One left operand with each of two right ones, and the other way round.
    let pair = f(&[2, 2, 1], &[1.0, 1.0, 0.0, 2.0]);
    near(
        &run("MatMul", &[&a, &pair]),
        &[2, 2, 1],
        &[3.0, 7.0, 4.0, 8.0],
    );
    let rows = f(&[2, 1, 2], &[1.0, 1.0, 0.0, 2.0]);
    near(
        &run("MatMul", &[&rows, &a]),
        &[2, 1, 2],
        &[4.0, 6.0, 6.0, 8.0],
    );
    near(&run("MatMul", &[&rows, &pair]), &[2, 1, 1], &[2.0, 4.0]);
}

#[test]
fn convolution_leaves_out_what_fills_no_patch() {
    // Two channels of 3 × 5 pixels in patches of 2 × 2; one output sums, one takes a corner.
    let image: Vec<f32> = (0..30).map(|v| v as f32).collect();
    let mut weight = vec![1.0; 8];
    weight.extend([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let operands = [
        &f(&[1, 2, 3, 5], &image),
        &f(&[2, 2, 2, 2], &weight),
        &f(&[2], &[0.5, -1.0]),
    ];
    let size = [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    // 0 1 5 6 and 15 16 20 21; 2 3 7 8 and 17 18 22 23.
    let expected = [84.5, 100.5, 20.0, 22.0];
    near(&with("Conv", &operands, &size), &[1, 2, 1, 2], &expected);
    let other = [ints("kernel_shape", &[2, 2]), ints("strides", &[1, 1])];
    assert!(
        all("Conv", &operands, &other)
            .unwrap_err()
            .contains("strides")
    );
}

#[test]
fn rows() {
    let x = f(&[2, 2], &[1.0, 3.0, -2.0, -2.0]);
    let operands = [&x, &f(&[2], &[2.0, 1.0]), &f(&[2], &[0.0, 0.5])];
    let eps = AttributeProto {
        name: "epsilon".into(),
        f: Some(3.0),
        r#type: attribute_type::FLOAT,
        ..AttributeProto::default()
    };
    // Variance 1, and 3 added: ±1 / 2.
    let normal = with("LayerNormalization", &operands, &[int("axis", -1), eps]);
    near(&normal, &[2, 2], &[-1.0, 1.0, 0.0, 0.5]);
    let soft = with(
        "Softmax",
        &[&f(&[2, 2], &[0.0, 3f32.ln(), 900.0, 900.0])],
        &[int("axis", -1)],
    );
    near(&soft, &[2, 2], &[0.25, 0.75, 0.5, 0.5]);
    let sum = with("ReduceSum", &[&x, &i(&[1], &[1])], &[int("keepdims", 1)]);
    assert_eq!(sum, f(&[2, 1], &[4.0, -4.0]));
}

#[test]
fn what_is_not_known_is_refused() {
    let x = f(&[2], &[1.0, 2.0]);
    let refused = |op, inputs: &[&Tensor], attributes: &[AttributeProto], why: &str| {
        let error = all(op, inputs, attributes).unwrap_err();
        assert!(error.contains(why), "{op}: {error}");
    };
    refused("Gelu", &[&x, &x], &[], "Gelu");
    refused("Add", &[&x], &[], "operands");
    refused("Add", &[&x, &f(&[3], &[0.0; 3])], &[], "go together");
    refused("Add", &[&x, &i(&[2], &[0, 0])], &[], "types");
    refused("Abs", &[&x], &[int("axis", 1)], "axis");
    refused("Cast", &[&i(&[1], &[1])], &[int("to", 10)], "cast");
    refused(
        "Softmax",
        &[&f(&[2, 1], &[1.0, 2.0])],
        &[int("axis", 0)],
        "last",
    );
    refused("Transpose", &[&x], &[ints("perm", &[1])], "axis");
    refused("Transpose", &[&x], &[int("perm", 0)], "type");
    refused("Reshape", &[&x, &i(&[1], &[3])], &[], "fill");
    refused("Split", &[&x, &i(&[1], &[1])], &[], "fill");
    refused("Gather", &[&x, &i(&[], &[2])], &[], "index");
}

#[test]
fn files_that_are_no_graph_are_refused() {
    let refused = |bytes: &[u8], why: &str| {
        let error = Program::new(bytes).err().expect("refused");
        assert!(error.contains(why), "{error}");
    };
    refused(b"\xffno message", "");
    refused(b"", "no graph");
    let mut model = ModelProto {
        graph: Some(GraphProto::default()),
        ..ModelProto::default()
    };
    refused(&model.encode_to_vec(), "operator set");
    model.opset_import.push(OperatorSetIdProto {
        domain: String::new(),
        version: super::super::OPSET,
    });
    assert!(Program::new(&model.encode_to_vec()).is_ok());
    let mut constant = TensorProto {
        name: "weight".into(),
        dims: vec![2],
        data_type: data_type::FLOAT,
        raw_data: vec![0; 4],
    };
    let mut with_constant = |constant: &TensorProto| {
        model.graph.as_mut().unwrap().initializer = vec![constant.clone()];
        model.encode_to_vec()
    };
    refused(&with_constant(&constant), "weight");
    constant.raw_data = vec![0; 7];
    refused(&with_constant(&constant), "cut short");
    constant.data_type = 10;
    refused(&with_constant(&constant), "data type");
}

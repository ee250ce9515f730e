//! A graph in the making.

use std::collections::{HashMap, HashSet};

use super::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type, data_type,
};

/// The name of a value: of an input, a constant or a node's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value(String);

/// One dimension of an input or output.
pub(super) enum Dim<'a> {
    /// A fixed size.
    Size(usize),
    /// A size that each call decides.
    Name(&'a str),
}

/// An attribute of a node.
pub(super) enum Attribute {
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
    Float(&'static str, f32),
}

/// Gathers the nodes and constants of a graph. Names are made of the scope, which is the place
/// in the network, and the operator; they are numbered where they would repeat.
#[derive(Default)]
pub(super) struct Graph {
    graph: GraphProto,
    scope: String,
    taken: HashMap<String, usize>,
    /// Fixed numbers by type, shape and bytes: each is in the file once.
    numbers: HashMap<(i32, Vec<usize>, Vec<u8>), Value>,
}

impl Graph {
    pub(super) fn new(name: &str) -> Self {
        let mut graph = Self::default();
        graph.graph.name = name.into();
        graph
    }

    /// Names what follows after the place `scope`.
    pub(super) fn enter(&mut self, scope: &str) {
        self.scope = scope.into();
    }

    /// The finished graph, without constants that nothing came to use.
    pub(super) fn finish(mut self) -> GraphProto {
        let nodes = self.graph.node.iter();
        let used: HashSet<&String> = nodes.flat_map(|node| &node.input).collect();
        let constants = &mut self.graph.initializer;
        constants.retain(|constant| used.contains(&constant.name));
        self.graph
    }

    fn unique(&mut self, name: String) -> String {
        let count = self.taken.entry(name.clone()).or_default();
        *count += 1;
        match *count {
            1 => name,
            n => format!("{name}_{n}"),
        }
    }

    /// A single-precision input.
    pub(super) fn input(&mut self, name: &str, dims: &[Dim], about: &str) -> Value {
        self.graph.input.push(value_info(name, dims, about));
        Value(self.unique(name.into()))
    }

    /// Makes `value` a single-precision output.
    pub(super) fn output(&mut self, name: &str, value: Value, dims: &[Dim], about: &str) {
        self.graph.output.push(value_info(name, dims, about));
        self.graph.node.push(NodeProto {
            input: vec![value.0],
            output: vec![name.into()],
            name: format!("output/{name}"),
            op_type: "Identity".into(),
            ..NodeProto::default()
        });
    }

    /// A parameter, under a name of its own.
    pub(super) fn parameter(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes());
        self.initializer(name.into(), dims, data_type::FLOAT, raw.collect())
    }

    /// Fixed numbers of the computation.
    pub(super) fn floats(&mut self, dims: &[usize], values: &[f32]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes());
        self.constant(dims, data_type::FLOAT, raw.collect())
    }

    /// A fixed number.
    pub(super) fn float(&mut self, value: f32) -> Value {
        self.floats(&[], &[value])
    }

    /// Fixed integers, as a list.
    pub(super) fn ints(&mut self, values: &[i64]) -> Value {
        self.int_tensor(&[values.len()], values)
    }

    /// A fixed integer.
    pub(super) fn int(&mut self, value: i64) -> Value {
        self.int_tensor(&[], &[value])
    }

    fn int_tensor(&mut self, dims: &[usize], values: &[i64]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes());
        self.constant(dims, data_type::INT64, raw.collect())
    }

    fn constant(&mut self, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> Value {
        let key = (data_type, dims.to_vec(), raw_data);
        if let Some(known) = self.numbers.get(&key) {
            return known.clone();
        }
        let name = format!("{}/constant", self.scope);
        let value = self.initializer(name, dims, data_type, key.2.clone());
        self.numbers.insert(key, value.clone());
        value
    }

    fn initializer(
        &mut self,
        name: String,
        dims: &[usize],
        data_type: i32,
        raw_data: Vec<u8>,
    ) -> Value {
        let name = self.unique(name);
        self.graph.initializer.push(TensorProto {
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            data_type,
            name: name.clone(),
            raw_data,
        });
        Value(name)
    }

    /// The result of an operator without attributes.
    pub(super) fn op<const I: usize>(&mut self, op: &str, inputs: [&Value; I]) -> Value {
        self.node(op, inputs, &[])
    }

    /// The result of an operator.
    pub(super) fn node<const I: usize>(
        &mut self,
        op: &str,
        inputs: [&Value; I],
        attributes: &[Attribute],
    ) -> Value {
        let [value] = self.nodes(op, inputs, attributes);
        value
    }

    /// The results of an operator that has several.
    pub(super) fn nodes<const I: usize, const O: usize>(
        &mut self,
        op: &str,
        inputs: [&Value; I],
        attributes: &[Attribute],
    ) -> [Value; O] {
        let name = self.unique(format!("{}/{op}", self.scope));
        let outputs: [String; O] = std::array::from_fn(|i| match i {
            0 => name.clone(),
            _ => format!("{name}.{i}"),
        });
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: outputs.to_vec(),
            // Not a value's name: some runtimes keep nodes and values in one table.
            name: format!("{name}.node"),
            op_type: op.into(),
            attribute: attributes.iter().map(attribute).collect(),
            ..NodeProto::default()
        });
        outputs.map(Value)
    }
}

fn attribute(attribute: &Attribute) -> AttributeProto {
    let named = |name: &str, r#type| AttributeProto {
        name: name.into(),
        r#type,
        ..AttributeProto::default()
    };
    match attribute {
        Attribute::Int(name, value) => AttributeProto {
            i: Some(*value),
            ..named(name, attribute_type::INT)
        },
        Attribute::Ints(name, values) => AttributeProto {
            ints: values.clone(),
            ..named(name, attribute_type::INTS)
        },
        Attribute::Float(name, value) => AttributeProto {
            f: Some(*value),
            ..named(name, attribute_type::FLOAT)
        },
    }
}

fn value_info(name: &str, dims: &[Dim], about: &str) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| DimensionProto {
            value: Some(match dim {
                Dim::Size(size) => DimensionValue::Size(*size as i64),
                Dim::Name(name) => DimensionValue::Name((*name).into()),
            }),
        })
        .collect();
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: data_type::FLOAT,
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
        doc_string: about.into(),
    }
}

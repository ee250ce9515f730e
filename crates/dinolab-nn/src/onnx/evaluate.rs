//! Computes a graph as the ONNX standard says, from the bytes of a file.
//!
//! This is for checking what was written: it knows the operators that are written here and refuses
//! all others, and every attribute or size that it would not honour. It is plain rather than fast;
//! only products of matrices go through this project's kernels.

mod elementwise;
mod linear;
mod moving;
mod tensor;

use std::collections::HashMap;
use std::rc::Rc;

use prost::Message;

#[cfg(test)]
use self::tensor::Data;
pub(crate) use self::tensor::Tensor;
use super::proto::{GraphProto, ModelProto, NodeProto, attribute_type};

/// Why a file or a node cannot be computed.
pub(crate) type Outcome<T> = Result<T, String>;

/// A file's graph, ready to run.
pub(crate) struct Program {
    nodes: Vec<NodeProto>,
    constants: HashMap<String, Rc<Tensor>>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// For each node the values that nobody needs after it.
    spent: Vec<Vec<String>>,
}

impl Program {
    /// Decodes a file.
    pub(crate) fn new(bytes: &[u8]) -> Outcome<Self> {
        let model = ModelProto::decode(bytes).map_err(|error| error.to_string())?;
        let graph = model.graph.ok_or("has no graph")?;
        if !model
            .opset_import
            .iter()
            .any(|set| set.domain.is_empty() && set.version == super::OPSET)
        {
            return Err(format!("is not of operator set {}", super::OPSET));
        }
        Self::of(graph)
    }

    /// Takes over a graph.
    pub(crate) fn of(graph: GraphProto) -> Outcome<Self> {
        let constants = graph
            .initializer
            .into_iter()
            .map(|proto| {
                let name = proto.name.clone();
                let tensor = Tensor::of(proto).map_err(|why| format!("constant {name}: {why}"))?;
                Ok((name, Rc::new(tensor)))
            })
            .collect::<Outcome<_>>()?;
        let names = |infos: Vec<super::proto::ValueInfoProto>| {
            infos.into_iter().map(|info| info.name).collect::<Vec<_>>()
        };
        let outputs = names(graph.output);
        let mut last = HashMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            for name in node.input.iter().chain(&node.output) {
                last.insert(name.clone(), i);
            }
        }
        let mut spent = vec![Vec::new(); graph.node.len()];
        for (name, i) in last {
            if !outputs.contains(&name) {
                spent[i].push(name);
            }
        }
        Ok(Self {
            nodes: graph.node,
            constants,
            inputs: names(graph.input),
            outputs,
            spent,
        })
    }

    /// The outputs, by name, for the one input.
    pub(crate) fn run(&self, input: Tensor) -> Outcome<HashMap<String, Tensor>> {
        let [name] = self.inputs.as_slice() else {
            return Err(format!("has {} inputs", self.inputs.len()));
        };
        let mut values = HashMap::from([(name.clone(), Rc::new(input))]);
        for (node, spent) in self.nodes.iter().zip(&self.spent) {
            let inputs = node
                .input
                .iter()
                .map(|name| {
                    let value = values.get(name).or_else(|| self.constants.get(name));
                    value
                        .cloned()
                        .ok_or_else(|| format!("value {name} is used before it is made"))
                })
                .collect::<Outcome<Vec<_>>>()?;
            let call = Call {
                node,
                inputs: inputs.iter().map(Rc::as_ref).collect(),
            };
            let results = call
                .results()
                .map_err(|why| format!("node {}: {why}", node.name))?;
            if results.len() != node.output.len() {
                let (found, said) = (results.len(), node.output.len());
                return Err(format!(
                    "node {}: {found} results for {said} names",
                    node.name
                ));
            }
            for (name, result) in node.output.iter().zip(results) {
                values.insert(name.clone(), Rc::new(result));
            }
            drop(inputs);
            for name in spent {
                values.remove(name);
            }
        }
        self.outputs
            .iter()
            .map(|name| {
                let value = values
                    .remove(name)
                    .ok_or_else(|| format!("output {name} is not made"))?;
                let value = Rc::try_unwrap(value).unwrap_or_else(|shared| (*shared).clone());
                Ok((name.clone(), value))
            })
            .collect()
    }
}

/// One node with its operands.
struct Call<'a> {
    node: &'a NodeProto,
    inputs: Vec<&'a Tensor>,
}

impl<'a> Call<'a> {
    fn results(&self) -> Outcome<Vec<Tensor>> {
        if !self.node.domain.is_empty() {
            return Err(format!("domain {} is not known", self.node.domain));
        }
        let one = |result: Outcome<Tensor>| result.map(|tensor| vec![tensor]);
        match self.node.op_type.as_str() {
            "Split" => moving::split(self),
            "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" | "Expand"
            | "Concat" | "Slice" | "Gather" | "Shape" | "Range" => one(moving::call(self)),
            "MatMul" | "Conv" | "LayerNormalization" | "Softmax" | "ReduceSum" => {
                one(linear::call(self))
            }
            _ => one(elementwise::call(self)),
        }
    }

    /// The operator's name.
    fn op(&self) -> &str {
        &self.node.op_type
    }

    /// The operands, of which there are exactly `N`.
    fn operands<const N: usize>(&self) -> Outcome<[&'a Tensor; N]> {
        let found = self.inputs.len();
        <[&Tensor; N]>::try_from(self.inputs.clone())
            .map_err(|_| format!("{found} operands, not {N}"))
    }

    /// Refuses attributes that are not among `known`.
    fn only(&self, known: &[&str]) -> Outcome<()> {
        let unknown = |name: &&String| !known.contains(&name.as_str());
        match self.node.attribute.iter().map(|a| &a.name).find(unknown) {
            Some(name) => Err(format!("attribute {name} of {} is not known", self.op())),
            None => Ok(()),
        }
    }

    fn int(&self, name: &str) -> Outcome<Option<i64>> {
        self.attribute(name, attribute_type::INT, |a| a.i)
    }

    fn float(&self, name: &str) -> Outcome<Option<f32>> {
        self.attribute(name, attribute_type::FLOAT, |a| a.f)
    }

    fn ints(&self, name: &str) -> Outcome<Option<Vec<i64>>> {
        self.attribute(name, attribute_type::INTS, |a| Some(a.ints.clone()))
    }

    fn attribute<T>(
        &self,
        name: &str,
        kind: i32,
        value: impl Fn(&super::proto::AttributeProto) -> Option<T>,
    ) -> Outcome<Option<T>> {
        match self.node.attribute.iter().find(|a| a.name == name) {
            None => Ok(None),
            Some(a) if a.r#type == kind => match value(a) {
                Some(value) => Ok(Some(value)),
                None => Err(format!("attribute {name} has no value")),
            },
            Some(a) => Err(format!("attribute {name} is of type {}", a.r#type)),
        }
    }
}

#[cfg(test)]
mod tests;

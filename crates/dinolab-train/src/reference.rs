//! A run's checkpoint in the reference's layout, from which the reference can resume training.
//!
//! `student` has the prefix that its wrapper for several machines gives it, and so has
//! `teacher` where it normalises batches; `optimizer` numbers parameters group by group, decayed
//! ones first, as the reference's groups do.

use std::collections::BTreeMap;

use dinolab_nn::weights::{Array, Value};
use dinolab_nn::{Network, Parameters};

use dinolab_nn::optim::{OptimiserKind, decays};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// What the optimiser's groups say of themselves. The schedules replace learning rate and
/// decay before the first step.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Which optimiser.
    pub kind: OptimiserKind,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay of the decayed group.
    pub weight_decay: f64,
}

/// The whole checkpoint as a Python value. `network` is one of its two, which tells names,
/// order and shapes; `args` are the run's settings, by the reference's names.
///
/// # Errors
/// [`Error::BadSetting`] for an optimiser that the reference does not have.
pub fn checkpoint(
    saved: &Checkpoint,
    network: &Network,
    group: Group,
    args: Vec<(String, Value)>,
) -> Result<Value> {
    let slots = slots(group.kind).ok_or_else(|| Error::BadSetting {
        field: "optimizer",
        reason: "the reference, which would resume the run, has no Muon".into(),
    })?;
    let wrapped_teacher = network.head.config().use_bn;
    let mut items = vec![
        ("student", state_dict(saved, network, "student", true)),
        (
            "teacher",
            state_dict(saved, network, "teacher", wrapped_teacher),
        ),
        ("optimizer", optimiser(saved, network, group, slots)),
        ("epoch", Value::Int(saved.epoch.unwrap_or(0) as i64)),
        ("args", Value::dict(args)),
    ];
    if let Some(centre) = saved.state.tensors.get("centre") {
        let centre = Array {
            shape: vec![1, centre.data.len()],
            data: centre.data.clone(),
        };
        items.push((
            "dino_loss",
            Value::dict([("center", Value::Tensor(centre))]),
        ));
    }
    Ok(Value::dict(items))
}

fn state_dict(saved: &Checkpoint, network: &Network, which: &str, wrapped: bool) -> Value {
    let mut items = Vec::new();
    let prefix = if wrapped { "module." } else { "" };
    network.visit("", &mut |name, _| {
        if let Some(array) = saved.state.tensors.get(&format!("{which}.{name}")) {
            items.push((format!("{prefix}{name}"), Value::Tensor(array.clone())));
        }
    });
    Value::dict(items)
}

/// The names of the optimiser's tensors, in the order of this crate's slots.
type Slots = &'static [&'static str];

/// Those of an optimiser that the reference has.
fn slots(kind: OptimiserKind) -> Option<Slots> {
    match kind {
        OptimiserKind::AdamW => Some(&["exp_avg", "exp_avg_sq"]),
        OptimiserKind::Sgd => Some(&["momentum_buffer"]),
        OptimiserKind::Lars => Some(&["mu"]),
        OptimiserKind::Muon => None,
    }
}

fn optimiser(saved: &Checkpoint, network: &Network, group: Group, slots: Slots) -> Value {
    let mut groups: [Vec<(String, Vec<usize>)>; 2] = Default::default();
    network.visit("", &mut |name, param| {
        if param.trainable() {
            let plain = usize::from(!decays(name, param.shape()));
            groups[plain].push((name.to_owned(), param.shape().to_vec()));
        }
    });
    let mut state = Vec::new();
    let mut described = Vec::new();
    let mut number = 0;
    for (members, weight_decay) in groups.iter().zip([group.weight_decay, 0.0]) {
        let first = number;
        for (name, shape) in members {
            if let Some(found) = param_state(saved, name, shape, slots) {
                state.push((Value::Int(number), found));
            }
            number += 1;
        }
        let numbers = (first..number).map(Value::Int).collect();
        described.push(describe(group, weight_decay, numbers));
    }
    Value::dict([
        ("state", Value::Dict(state)),
        ("param_groups", Value::List(described)),
    ])
}

/// `None` for a parameter that has taken no step.
fn param_state(saved: &Checkpoint, name: &str, shape: &[usize], slots: Slots) -> Option<Value> {
    let steps = *saved.state.steps.get(name)?;
    let mut items: BTreeMap<String, Value> = BTreeMap::new();
    for (slot, theirs) in slots.iter().enumerate() {
        let data = saved
            .state
            .tensors
            .get(&format!("optimiser.{slot}.{name}"))?
            .data
            .clone();
        let shape = shape.to_vec();
        items.insert((*theirs).into(), Value::Tensor(Array { shape, data }));
    }
    // AdamW's.
    if slots.len() == 2 {
        let steps = Array {
            shape: Vec::new(),
            data: vec![steps as f32],
        };
        items.insert("step".into(), Value::Tensor(steps));
    }
    Some(Value::dict(items))
}

fn describe(group: Group, weight_decay: f64, params: Vec<Value>) -> Value {
    let mut items = vec![
        ("lr", Value::Float(group.lr)),
        ("weight_decay", Value::Float(weight_decay)),
    ];
    let (off, none) = (Value::Bool(false), Value::None);
    match group.kind {
        OptimiserKind::Muon => unreachable!("it is refused above"),
        OptimiserKind::AdamW => items.extend([
            (
                "betas",
                Value::Tuple(vec![Value::Float(0.9), Value::Float(0.999)]),
            ),
            ("eps", Value::Float(1e-8)),
            ("amsgrad", off.clone()),
            ("capturable", off.clone()),
            ("fused", none.clone()),
            ("decoupled_weight_decay", Value::Bool(true)),
        ]),
        OptimiserKind::Sgd => items.extend([
            ("momentum", Value::Float(0.9)),
            ("dampening", Value::Int(0)),
            ("nesterov", off.clone()),
            ("fused", none.clone()),
        ]),
        OptimiserKind::Lars => items.extend([
            ("momentum", Value::Float(0.9)),
            ("eta", Value::Float(0.001)),
            ("weight_decay_filter", none.clone()),
            ("lars_adaptation_filter", none.clone()),
        ]),
    }
    if group.kind != OptimiserKind::Lars {
        items.extend([
            ("foreach", none),
            ("maximize", off.clone()),
            ("differentiable", off),
        ]);
    }
    items.push(("params", Value::List(params)));
    Value::dict(items)
}

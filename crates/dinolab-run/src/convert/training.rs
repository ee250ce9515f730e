//! Whole training checkpoints: to the reference's `.pth`, and from elsewhere to a run folder.

use std::collections::BTreeMap;

use dinolab_files::make_folders;
use dinolab_nn::weights::{Array, Value, Weights, write_pth as write};
use dinolab_nn::{BackboneConfig, Network, device};
use dinolab_train::OptimiserKind;
use dinolab_train::checkpoint::{self, Checkpoint, save_weights};
use dinolab_train::reference::{self, Group};

use super::{ConvertRequest, Original, Written};
use crate::error::{Context, Result};
use crate::settings::Config;
use crate::weights::read_all;

/// The checkpoint in the reference's layout.
pub(super) fn write_pth(
    request: &ConvertRequest<'_>,
    original: &Original,
    notes: &mut Vec<String>,
    written: &mut Written,
) -> Result<()> {
    let input = &original.weights.path;
    let place = request.input.display();
    let saved = Checkpoint::read(input)
        .with_context(|| format!("{place} is not a checkpoint of a run"))
        .of_setting("full", "")?;
    ensure!(
        saved.position.is_resumable(),
        "`full`: {place} holds weights from elsewhere, not a run"
    );
    let config: Config = toml::from_str(&saved.position.config)
        .with_context(|| format!("the configuration in {}", input.display()))?;
    let Some(head) = original.weights.head_config() else {
        bail!(
            "`full`: {} is not from a DINO run; only these have the heads and the centre that the \
             reference resumes from",
            input.display()
        );
    };
    ensure!(
        config.optimizer != OptimiserKind::Muon,
        "`full`: {place} is of a run by Muon, which the reference does not have; without `full`, its weights are \
         written"
    );
    // The configuration knows what the numbers do not show.
    let head = dinolab_nn::HeadConfig {
        norm_last_layer: config.norm_last_layer,
        ..head
    };
    let vit = original.vit.config();
    let (feature, cpu) = (original.weights.feature()?, device::by_name("cpu")?);
    let network = Network::of_feature(vit, feature, &head, 0, &cpu)?;
    let group = Group {
        kind: config.optimizer,
        lr: config.scaled_lr(),
        weight_decay: config.weight_decay,
    };
    if saved.epoch.is_none() {
        notes.push("the checkpoint does not record its epoch; the .pth has epoch 0".into());
    }
    let settings = settings(&config, vit.heads)?;
    let value = reference::checkpoint(&saved, &network, group, settings)?;
    write(request.output, &value)?;
    written.files.push(request.output.to_owned());
    Ok(())
}

/// A run's settings by the reference's names, which are the flags' with underscores.
fn settings(config: &Config, heads: usize) -> Result<Vec<(String, Value)>> {
    let table = toml::Table::try_from(config)?;
    let mut items: Vec<(String, Value)> = table
        .iter()
        .map(|(name, value)| (name.replace('-', "_"), python(value)))
        .collect();
    items.push(("num_heads".into(), Value::Int(heads as i64)));
    Ok(items)
}

fn python(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::Text(text.clone()),
        toml::Value::Integer(n) => Value::Int(*n),
        toml::Value::Float(x) => Value::Float(*x),
        toml::Value::Boolean(b) => Value::Bool(*b),
        toml::Value::Datetime(time) => Value::Text(time.to_string()),
        toml::Value::Array(items) => Value::Tuple(items.iter().map(python).collect()),
        toml::Value::Table(items) => Value::dict(items.iter().map(|(k, v)| (k, python(v)))),
    }
}

/// Weights from elsewhere as a run folder: both networks of a training checkpoint, with heads
/// and centre, or the one there is as the teacher.
pub(super) fn write_run(
    request: &ConvertRequest<'_>,
    weights: &Weights,
    config: &BackboneConfig,
    written: &mut Written,
) -> Result<()> {
    let folder = request.output.join("checkpoints");
    ensure!(
        !request.output.join("config.toml").exists() && checkpoint::list(&folder).is_empty(),
        "{} already holds a run",
        request.output.display()
    );
    ensure_setting!(
        request.image_size.is_none(),
        "image-size",
        "",
        "a run folder keeps position embeddings as they are"
    );
    let networks = read_all(request.input)?;
    let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
    let mut put = |which: &str, network: &BTreeMap<String, Array>| {
        arrays.extend(
            network
                .iter()
                .map(|(k, v)| (format!("{which}.{k}"), v.clone())),
        );
    };
    for (which, network) in &networks {
        put(which.key(), &network.arrays);
    }
    if networks.is_empty() {
        put("teacher", &weights.arrays);
    }
    if let Some(centre) = &weights.centre {
        let centre = Array {
            shape: vec![centre.len()],
            data: centre.clone(),
        };
        arrays.insert("centre".into(), centre);
    }
    let mut facts = BTreeMap::from([config.metadata_entry()]);
    if let Some(head) = weights.head_config() {
        facts.insert("head".into(), serde_json::to_string(&head)?);
    }
    facts.extend([weights.feature()?.metadata_entry()]);
    let preprocess = weights.metadata.get_key_value("preprocess");
    facts.extend(preprocess.map(|(k, v)| (k.clone(), v.clone())));
    written.folders.extend(make_folders(&folder)?);
    let saved = save_weights(&folder, &arrays, &facts);
    // There was no checkpoint: whatever is in the folder is of this call.
    let inside = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    written.files.extend(inside.map(|entry| entry.path()));
    saved.map(|_| ()).map_err(Into::into)
}

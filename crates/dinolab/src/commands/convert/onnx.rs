//! `dinolab convert IN OUT.onnx`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use dinolab_eval::features::Preprocess;
use dinolab_nn::onnx::{Options, Output, export};
use dinolab_nn::weights::{self, LoadOptions};
use dinolab_nn::{Head, VitConfig, device, init::Init};

use super::{Args, Original, input};
use crate::output::{self, Cell, Table};

/// Writes the file and reports its outputs.
pub(super) fn run(args: &Args) -> Result<()> {
    ensure_usage!(
        args.to.is_none() && !args.full,
        "--to, --full: an .onnx file is for runtimes, and there is one kind"
    );
    ensure_usage!(
        args.image_size.is_none(),
        "--image-size: an .onnx file takes images of any size and resamples for each"
    );
    let original = Original::read(args, &input(args)?)?;
    let options = Options {
        patch_features: args.patch_features,
        attention: args.attention,
        metadata: metadata(&original)?,
    };
    let head = args.head.then(|| head(&original)).transpose()?;
    let written = export(&original.vit, head.as_ref(), &args.output, &options)?;
    report(args, &original, written.bytes, &written.outputs)
}

/// The head of the weights.
fn head(original: &Original) -> Result<Head> {
    let weights = &original.weights;
    let path = weights.path.display();
    let config = weights
        .head_config()
        .with_context(|| format!("--head: {path} has none"))?;
    let width = original.vit.config().width;
    let mut head = Head::new(&config, width, &mut Init::new(0), &device::by_name("cpu")?)?;
    weights::load(&mut head, "head", weights, LoadOptions::default())
        .with_context(|| path.to_string())?;
    Ok(head)
}

/// How images are prepared: numbers, and lists of numbers of each channel.
fn metadata(original: &Original) -> Result<BTreeMap<String, String>> {
    let said = Preprocess::of_facts(&original.weights.metadata);
    let reference = || (original.vit.config().channels == 3).then(Preprocess::default);
    let Some(preprocess) = said.or_else(reference) else {
        return Ok(BTreeMap::new());
    };
    Ok(BTreeMap::from([
        ("resize".into(), preprocess.resize.to_string()),
        ("crop".into(), preprocess.crop.to_string()),
        ("mean".into(), serde_json::to_string(&preprocess.mean)?),
        ("std".into(), serde_json::to_string(&preprocess.std)?),
    ]))
}

#[derive(serde::Serialize)]
struct Report<'a> {
    output: &'a Path,
    to: &'static str,
    bytes: u64,
    vit: &'a VitConfig,
    outputs: Vec<Row<'a>>,
}

#[derive(serde::Serialize)]
struct Row<'a> {
    name: &'a str,
    shape: &'a [String],
}

fn report<'a>(
    args: &'a Args,
    original: &'a Original,
    bytes: u64,
    outputs: &'a [Output],
) -> Result<()> {
    let mut table = Table::new(["output", "shape"]);
    for output in outputs {
        let shape = output.shape.join(" × ");
        table.row([Cell::from(output.name.as_str()), Cell::from(shape.as_str())]);
    }
    let row = |output: &'a Output| Row {
        name: &output.name,
        shape: &output.shape,
    };
    let report = Report {
        output: &args.output,
        to: "onnx",
        bytes,
        vit: original.vit.config(),
        outputs: outputs.iter().map(row).collect(),
    };
    output::print(args.json, &report, &table)?;
    if !args.json {
        outln!("{}", args.output.display());
    }
    Ok(())
}

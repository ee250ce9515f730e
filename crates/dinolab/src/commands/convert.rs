//! `dinolab convert`.

use std::path::PathBuf;

use anyhow::Result;
use dinolab_nn::position::PositionRule;
use dinolab_nn::weights::NetworkRole;
use dinolab_run::convert::{ConvertReport, ConvertRequest, OnnxOutputs, WeightFormat, convert};
use dinolab_run::{Environment, Normalisation};

use crate::explain::as_flags;
use crate::output::OutputArgs;

/// Convert weights to other formats
///
/// Example: dinolab convert runs/photos photos-vit --to hf
///
/// IN is a run folder, one of its checkpoints, a .pth or .safetensors file of facebookresearch/dino
/// ("the reference"), DINOv2, timm or Hugging Face, or a model folder of timm or Hugging Face, also as hf:OWNER/NAME. OUT
/// is a .pth, .safetensors or .onnx file or a folder. The output is verified by reading it back and
/// comparing it with the original on random images; if they differ, it is removed.
#[derive(clap::Args)]
pub struct Args {
    /// Weights to convert
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Output: a file ending in .pth, .safetensors or .onnx, or a folder
    #[arg(value_name = "OUT")]
    output_path: PathBuf,
    /// Output format [default: reference for a file, hf for a folder]
    #[arg(long, value_name = "FORMAT")]
    to: Option<WeightFormat>,
    /// Which network of a training checkpoint to convert: teacher, student, average or network
    /// [default: the one that the run evaluates]
    #[arg(long, value_name = "ROLE")]
    checkpoint_key: Option<NetworkRole>,
    /// To .pth, from a DINO run: write both networks with their heads, the centre and the optimiser
    /// state, from which the reference can resume training
    #[arg(long)]
    full: bool,
    /// Resample the position embeddings once, for images of this side
    #[arg(long, value_name = "PX")]
    image_size: Option<usize>,
    /// To .onnx: also output the last block's attention of the class token, per head
    #[arg(long)]
    attention: bool,
    /// To .onnx: also output the patch tokens
    #[arg(long)]
    patch_features: bool,
    /// To .onnx: also output the logits of the head
    #[arg(long)]
    head: bool,
    /// Number of attention heads, if the file does not record it [default: width / 64]
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// How to resample position embeddings for other image sizes: dino, ratio or ratio-antialias
    /// [default: from the file, else from its naming scheme]
    #[arg(long, value_name = "RULE")]
    position_rule: Option<PositionRule>,
    #[command(flatten)]
    normalisation: Normalisation,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    if args.to == Some(WeightFormat::Run) && args.image_size.is_some() {
        bail_usage!(
            "--image-size: a run folder keeps position embeddings as they are; \
             dinolab train --weights W --resize-pos-embed true resamples them"
        );
    }
    let request = ConvertRequest {
        input: &args.input,
        output: &args.output_path,
        to: args.to,
        role: args.checkpoint_key,
        full: args.full,
        image_size: args.image_size,
        onnx: OnnxOutputs {
            attention: args.attention,
            patch_features: args.patch_features,
            head: args.head,
        },
        heads: args.heads,
        position_rule: args.position_rule,
        normalisation: args.normalisation.clone(),
    };
    let mut report = convert(env, &request)?;
    if let ConvertReport::Weights(report) = &mut report {
        for note in &mut report.notes {
            *note = as_flags(note);
            errln!("note: {note}");
        }
    }
    args.output.print(&report)?;
    if !args.output.json {
        outln!("{}", args.output_path.display());
    }
    Ok(())
}

//! Weights in other formats.

mod convolutional;
mod onnx;
mod state_dict;
mod training;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dinolab_files::{make_folders, remove_folders};
use dinolab_nn::position::PositionRule;
use dinolab_nn::weights::{self, Backbone, Kind, LoadOptions, Naming, NetworkRole, Weights};
use dinolab_nn::{BackboneConfig, Feature, Vit, VitConfig, device, init::Init};
use serde::Serialize;

pub use self::onnx::{OnnxOutput, OnnxReport};
pub use self::state_dict::state_dict;
pub use self::verify::Check;
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::hub;
use crate::model::{Normalisation, count};
use crate::table::{Cell, Report, Table};
use crate::weights::read;

/// What is converted, and to what.
#[derive(Clone, Debug)]
pub struct ConvertRequest<'a> {
    /// The weights `W`.
    pub input: &'a Path,
    /// A file ending in `.pth`, `.safetensors` or `.onnx`, or a folder.
    pub output: &'a Path,
    /// By default the reference's for a file, Hugging Face's for a folder.
    pub to: Option<WeightFormat>,
    /// The network of a training checkpoint; by default the one that the run evaluates.
    pub role: Option<NetworkRole>,
    /// To `.pth`: whether all that the reference needs to resume training is written.
    pub full: bool,
    /// Position embeddings are resampled to images of this side, once.
    pub image_size: Option<usize>,
    /// To `.onnx`: what is put out apart from the features.
    pub onnx: OnnxOutputs,
    /// Attention heads, for files that do not say it.
    pub heads: Option<usize>,
    /// How position embeddings follow other image sizes.
    pub position_rule: Option<PositionRule>,
    /// How values are normalised, for files that do not say it.
    pub normalisation: Normalisation,
}

/// Further outputs of an `.onnx` file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnnxOutputs {
    /// The last block's attention of the class token, per head.
    pub attention: bool,
    /// The patch tokens.
    pub patch_features: bool,
    /// The logits of the head.
    pub head: bool,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    /// Names of facebookresearch/dino, or of the network's authors if it is none of theirs
    Reference,
    /// timm; as a folder, with the config.json that timm.create_model("local-dir:…") reads
    Timm,
    /// Hugging Face's ViTModel, Dinov2Model, Dinov2WithRegistersModel, DINOv3ViTModel, ResNetModel or
    /// ConvNextModel, whichever fits
    Hf,
    /// A run folder, for inference and for `train --weights`
    Run,
}

/// What was written, and how it was verified.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ConvertReport {
    /// Weights.
    Weights(WeightReport),
    /// A graph.
    Onnx(OnnxReport),
}

/// Weights that were written.
#[derive(Clone, Debug, Serialize)]
pub struct WeightReport {
    /// Where.
    pub output: PathBuf,
    /// In whose format.
    pub to: WeightFormat,
    /// The network, under the name of its kind.
    #[serde(flatten)]
    pub config: BackboneConfig,
    /// Comparisons with the original.
    pub checks: Vec<Check>,
    /// What is worth knowing about the file.
    pub notes: Vec<String>,
}

/// What OUT is by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Pth,
    Safetensors,
    Folder,
}

impl Container {
    fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        Ok(match extension.unwrap_or_default() {
            "pth" | "pt" | "bin" => Self::Pth,
            "safetensors" => Self::Safetensors,
            "" => Self::Folder,
            _ if path.is_dir() => Self::Folder,
            other => bail!(
                "{}: .{other} cannot be written; OUT ends in .pth, .safetensors or .onnx, or is \
                 a folder",
                path.display()
            ),
        })
    }
}

impl WeightFormat {
    fn naming(self, config: &VitConfig) -> Naming {
        match self {
            Self::Reference | Self::Run => Naming::Reference,
            Self::Timm => Naming::Timm,
            Self::Hf => Naming::HuggingFace(Kind::of(config)),
        }
    }
}

/// Converts. The output is verified by reading it back and comparing it with the original on random
/// images; if they differ, it is removed again.
///
/// # Errors
/// Weights that cannot be read, or not be written in that format; an output that differs.
pub fn convert(env: &Environment<'_>, request: &ConvertRequest<'_>) -> Result<ConvertReport> {
    let input = &*hub::local(env, request.input)?;
    let request = &ConvertRequest {
        input,
        ..request.clone()
    };
    if request.output.extension().is_some_and(|ext| ext == "onnx") {
        return onnx::convert(request).map(ConvertReport::Onnx);
    }
    let container = Container::of(request.output)?;
    let to = request.to.unwrap_or(match container {
        Container::Folder => WeightFormat::Hf,
        _ => WeightFormat::Reference,
    });
    ensure_setting!(
        to != WeightFormat::Run || container == Container::Folder,
        "to",
        "run",
        "OUT must be a folder, not {}",
        request.output.display()
    );
    ensure_setting!(
        (to, container) != (WeightFormat::Reference, Container::Folder),
        "to",
        "reference",
        "OUT must be a .pth or .safetensors file, not a folder"
    );
    ensure_setting!(
        !request.full || (to == WeightFormat::Reference && container == Container::Pth),
        "full",
        "",
        "a training checkpoint is written as .pth with the reference's names only"
    );
    ensure_setting!(
        !request.full || request.image_size.is_none(),
        "full",
        "",
        "a training checkpoint keeps its `image-size`"
    );
    ensure!(
        to == WeightFormat::Run || !request.output.join("checkpoints").exists(),
        "{} is a run folder; give OUT another name",
        request.output.display()
    );
    let onnx = request.onnx;
    ensure_setting!(
        !(onnx.attention || onnx.patch_features || onnx.head),
        "attention",
        "",
        "`patch-features` and `head` likewise are outputs of an .onnx file"
    );
    let weights = read_input(request)?;
    if weights.convolutional_config()?.is_some() {
        let report = convolutional::convert(request, (to, container), &weights)?;
        return Ok(ConvertReport::Weights(report));
    }
    let original = Original::of(request, weights)?;
    ensure_setting!(
        !request.full || original.vit.config().is_reference(),
        "full",
        "",
        "the reference has no network with a convolutional stem, layer scale, registers, a gated MLP or rotary \
         positions; without `full`, the weights are written"
    );
    let mut notes = original.notes(request, to);
    let mut written = Written::below(match container {
        Container::Folder => Some(request.output),
        _ => request.output.parent(),
    })?;
    let done = match (to, container) {
        (WeightFormat::Run, _) => {
            let config = original.vit.config().into();
            training::write_run(request, &original.weights, &config, &mut written)
        }
        _ if request.full => training::write_pth(request, &original, &mut notes, &mut written),
        _ => write_backbone(request, to, container, &original, &mut written),
    };
    if let Err(error) = done {
        written.remove();
        return Err(error);
    }
    let checks = match verify::check(request, &original) {
        Ok(checks) => checks,
        Err(error) => {
            written.remove();
            return Err(Error::In {
                what: format!("{} was removed", request.output.display()),
                source: Box::new(error),
            });
        }
    };
    Ok(ConvertReport::Weights(WeightReport {
        output: request.output.to_owned(),
        to,
        config: original.vit.config().clone().into(),
        checks,
        notes,
    }))
}

/// The network that is converted.
struct Original {
    weights: Weights,
    vit: Vit,
    /// Tensors of the file that are no part of the backbone.
    left_over: Vec<String>,
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The weights of IN, which must not be the file to write.
fn read_input(request: &ConvertRequest<'_>) -> Result<Weights> {
    let weights = read(request.input, request.role)?;
    ensure!(
        !same_file(&weights.path, request.output),
        "{}: IN and OUT are the same file",
        request.output.display()
    );
    Ok(weights)
}

/// Leaves in `metadata` how images of `channels` channels are prepared, where it is known.
fn settle_preprocessing(
    request: &ConvertRequest<'_>,
    metadata: &mut BTreeMap<String, String>,
    channels: usize,
) -> Result<()> {
    let preprocess = request.normalisation.of(metadata, channels)?;
    // What is said of other channels than the network has is not passed on.
    metadata.remove("preprocess");
    metadata.extend(preprocess.iter().flat_map(|known| known.metadata()));
    Ok(())
}

impl Original {
    /// The vision transformer of `weights`.
    fn of(request: &ConvertRequest<'_>, mut weights: Weights) -> Result<Self> {
        let mut config = weights.vit_config(request.heads)?;
        settle_preprocessing(request, &mut weights.metadata, config.channels)?;
        weights.feature()?;
        config.position_rule = request.position_rule.unwrap_or(config.position_rule);
        let (vit, left_over) =
            load(&weights, &config).with_context(|| weights.path.display().to_string())?;
        Ok(Self {
            weights,
            vit,
            left_over,
        })
    }

    /// What the user should know of the file that is written.
    fn notes(&self, request: &ConvertRequest<'_>, to: WeightFormat) -> Vec<String> {
        let config = self.vit.config();
        let mut notes = Vec::new();
        let whole = request.full || to == WeightFormat::Run;
        let dropped = |name: &&String| {
            let kept = ["backbone.mask_token", "backbone.rope_embed.periods"];
            let of_head = whole && name.starts_with("head.");
            !(kept.contains(&name.as_str()) || of_head)
        };
        let dropped: Vec<_> = self.left_over.iter().filter(dropped).collect();
        if let (Some(first), Some(last)) = (dropped.first(), dropped.last()) {
            notes.push(format!(
                "left out: {} tensors, {first} … {last}",
                dropped.len()
            ));
        }
        if to == WeightFormat::Run {
            return notes;
        }
        let naming = to.naming(config);
        let rule = naming.position_rule(config.registers > 0);
        if rule != config.position_rule && config.rope.is_none() {
            notes.push(format!(
                "readers of this format resample position embeddings with the rule {rule}, this \
                 network with {}: at other sizes than {} px features differ (`image-size` resamples \
                 them once, here)",
                config.position_rule,
                request.image_size.unwrap_or(config.image_size),
            ));
        }
        let eps = naming.layer_norm_eps(config.rope.is_some());
        if !matches!(naming, Naming::HuggingFace(_)) && eps != config.layer_norm_eps {
            notes.push(format!(
                "readers of this format normalise with an epsilon of {eps:e}, this network with {:e}",
                config.layer_norm_eps
            ));
        }
        if matches!(to, WeightFormat::Reference)
            && config.heads != (config.width / 64).max(1)
            && !request.full
        {
            notes.push(format!(
                "the format does not record the number of heads: pass {} to programs that read the file",
                config.heads
            ));
        }
        let colours = config.channels == 3;
        let pth = to == WeightFormat::Reference
            && request
                .output
                .extension()
                .is_none_or(|ext| ext != "safetensors");
        if let Some(feature) = self.feature_note(request, pth) {
            notes.push(feature);
        }
        if pth && !colours {
            notes.push(format!(
                "a .pth does not record how images of {} are normalised: use the file with `mean` and \
                 `std`",
                count(config.channels)
            ));
        } else if !colours && !self.weights.metadata.contains_key("preprocess") {
            notes.push(format!(
                "the weights do not record how images of {} are normalised; `mean` and `std` write it \
                 into the output",
                count(config.channels)
            ));
        }
        notes
    }
}

impl Original {
    /// What readers of a file have to know if the feature is not the class token, which they take.
    fn feature_note(&self, request: &ConvertRequest<'_>, pth: bool) -> Option<String> {
        let feature = self.weights.feature().ok().filter(|f| !f.is_class())?;
        let trained = match feature {
            Feature::Class | Feature::Patches => "the mean of the patch tokens",
            Feature::Both => "the class token and the mean of the patch tokens",
        };
        let what = format!("the network was trained on {trained} after the final norm");
        Some(match pth && !request.full {
            true => format!(
                "{what}, which a .pth does not record: use the file with `feature` {feature}"
            ),
            false => format!("{what}; other programs use the class token by default"),
        })
    }
}

/// A backbone with weights, and what was left over.
fn load(weights: &Weights, config: &VitConfig) -> Result<(Vit, Vec<String>)> {
    let mut vit = Vit::new(config, &mut Init::new(0), &device::by_name("cpu")?)?;
    let report = weights::load(&mut vit, "backbone", weights, LoadOptions::default())?;
    Ok((vit, report.left_over))
}

/// What was written, in case that it has to go.
struct Written {
    files: Vec<PathBuf>,
    /// Folders that were made for them, outermost first.
    folders: Vec<PathBuf>,
}

impl Written {
    /// Nothing yet but the folder that it will be in.
    fn below(folder: Option<&Path>) -> Result<Self> {
        let folder = folder.unwrap_or(Path::new(""));
        let folders = make_folders(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self {
            files: Vec::new(),
            folders,
        })
    }

    fn remove(&self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
        remove_folders(&self.folders);
    }
}

fn write_backbone(
    request: &ConvertRequest<'_>,
    to: WeightFormat,
    container: Container,
    original: &Original,
    written: &mut Written,
) -> Result<()> {
    let mask_token = original.weights.arrays.get("backbone.mask_token");
    let mut backbone = Backbone::new(&original.vit, &original.weights.metadata, mask_token);
    if let Some(side) = request.image_size {
        backbone = backbone.resized(side)?;
    }
    let naming = to.naming(backbone.config());
    backbone.check(naming)?;
    let out = request.output;
    written.files = match container {
        Container::Pth => {
            backbone.write_pth(out, naming)?;
            vec![out.to_owned()]
        }
        Container::Safetensors => {
            backbone.write_safetensors(out, naming)?;
            vec![out.to_owned()]
        }
        Container::Folder => {
            backbone.write_folder(out, naming)?;
            let names = [
                "model.safetensors",
                "config.json",
                "preprocessor_config.json",
            ];
            names.map(|name| out.join(name)).to_vec()
        }
    };
    Ok(())
}

impl Report for ConvertReport {
    fn table(&self) -> Table {
        let size = |height: usize, width: usize| Cell::Text(format!("{height} × {width}"));
        let error = |error: f64| Cell::Number(format!("{error:.1e}"));
        match self {
            ConvertReport::Weights(report) => {
                let mut table = Table::new(["read back", "image", "relative error"]);
                for check in &report.checks {
                    table.row([
                        check.what.as_str().into(),
                        size(check.height, check.width),
                        error(check.relative_error),
                    ]);
                }
                table
            }
            ConvertReport::Onnx(report) => {
                let mut table = Table::new(["output", "shape"]);
                for output in &report.outputs {
                    let shape = output.shape.join(" × ");
                    table.row([output.name.as_str().into(), shape.as_str().into()]);
                }
                table
            }
        }
    }
}

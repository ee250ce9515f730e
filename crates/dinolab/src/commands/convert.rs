//! `dinolab convert`.

mod onnx;
mod training;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dinolab_nn::files::{make_folders, remove_folders};
use dinolab_nn::position::PositionRule;
use dinolab_nn::weights::{self, Backbone, Kind, LoadOptions, Naming, NetworkRole, Weights};
use dinolab_nn::{Error, Vit, VitConfig, device, init::Init};

use crate::model::{Normalisation, count, weight_file};
use crate::output::{self, Cell, Table};

/// Writes weights in other formats
///
/// Example: dinolab convert runs/photos photos-vit --to hf
///
/// IN is a run folder, one of its checkpoints, a .pth or safetensors file of the reference,
/// DINOv2, timm or Hugging Face, or a folder of the latter two. OUT decides what is written: a
/// .pth, a .safetensors or an .onnx file, or a folder. What was written is read back and compared
/// with the original on random images; where they differ, it is removed again.
#[derive(clap::Args)]
pub struct Args {
    /// Weights
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// A file ending in .pth, .safetensors or .onnx, or a folder
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Whose names and files [default: reference for a file, hf for a folder]
    #[arg(long)]
    to: Option<To>,
    /// Network of a training checkpoint: teacher, student, average or network
    /// [default: the one that the run evaluates]
    #[arg(long, value_name = "ROLE")]
    checkpoint_key: Option<NetworkRole>,
    /// To .pth: both networks with their heads, the centre and the optimiser's moments, from
    /// which the reference goes on training
    #[arg(long)]
    full: bool,
    /// Resample position embeddings to images of this side, once and for all
    #[arg(long)]
    image_size: Option<usize>,
    /// To .onnx: also put out the last block's attention of the class token, per head
    #[arg(long)]
    attention: bool,
    /// To .onnx: also put out the patch tokens
    #[arg(long)]
    patch_features: bool,
    /// To .onnx: also put out the logits of the head
    #[arg(long)]
    head: bool,
    /// Attention heads, where the file does not say [default: width / 64]
    #[arg(long)]
    heads: Option<usize>,
    /// How position embeddings follow other image sizes: dino, ratio or ratio-antialias
    /// [default: as the file says, or as networks with its tensors' names do]
    #[arg(long)]
    position_rule: Option<PositionRule>,
    #[command(flatten)]
    normalisation: Normalisation,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whose names and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum To {
    /// The reference's, or DINOv2's for a network with layer scale
    Reference,
    /// timm's; as a folder with the config.json that timm.create_model("local-dir:…") reads
    Timm,
    /// Hugging Face's ViTModel, Dinov2Model or Dinov2WithRegistersModel, whichever fits
    Hf,
    /// A run folder, for use and as a start of training
    Run,
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

impl To {
    fn naming(self, config: &VitConfig) -> Naming {
        match self {
            Self::Reference | Self::Run => Naming::Reference,
            Self::Timm => Naming::Timm,
            Self::Hf => Naming::HuggingFace(Kind::of(config)),
        }
    }
}

/// The network that is converted.
struct Original {
    weights: Weights,
    vit: Vit,
    /// Tensors of the file that are no part of the backbone.
    left_over: Vec<String>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    if args.output.extension().is_some_and(|ext| ext == "onnx") {
        return onnx::run(args);
    }
    let container = Container::of(&args.output)?;
    let to = args.to.unwrap_or(match container {
        Container::Folder => To::Hf,
        _ => To::Reference,
    });
    ensure_usage!(
        to != To::Run || container == Container::Folder,
        "--to run: OUT must be a folder, not {}",
        args.output.display()
    );
    ensure_usage!(
        (to, container) != (To::Reference, Container::Folder),
        "--to reference: OUT must be a .pth or .safetensors file, not a folder"
    );
    ensure_usage!(
        !args.full || (to == To::Reference && container == Container::Pth),
        "--full: a training checkpoint is written as .pth with the reference's names only"
    );
    ensure_usage!(
        !args.full || args.image_size.is_none(),
        "--full: a training checkpoint keeps its --image-size"
    );
    ensure!(
        to == To::Run || !args.output.join("checkpoints").exists(),
        "{} is a run folder; give OUT another name",
        args.output.display()
    );
    ensure_usage!(
        !(args.attention || args.patch_features || args.head),
        "--attention, --patch-features, --head: outputs of an .onnx file"
    );
    let input = input(args)?;
    let original = Original::read(args, &input)?;
    let mut notes = original.notes(args, to);
    let mut written = Written::below(match container {
        Container::Folder => Some(&args.output),
        _ => args.output.parent(),
    })?;
    let done = match (to, container) {
        (To::Run, _) => training::write_run(args, &input, &original, &mut written),
        _ if args.full => training::write_pth(args, &input, &original, &mut notes, &mut written),
        _ => write_backbone(args, to, container, &original, &mut written),
    };
    if let Err(error) = done {
        written.remove();
        return Err(error);
    }
    let checks = match verify::check(args, &original) {
        Ok(checks) => checks,
        Err(error) => {
            written.remove();
            return Err(error.context(format!("{} was removed again", args.output.display())));
        }
    };
    report(args, to, &original, &checks, &notes)
}

/// The file to read, which must not be the one to write.
fn input(args: &Args) -> Result<PathBuf> {
    let input = weight_file(&args.input)?;
    ensure!(
        !same_file(&input, &args.output),
        "{}: IN and OUT are the same file",
        args.output.display()
    );
    Ok(input)
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

impl Original {
    fn read(args: &Args, input: &Path) -> Result<Self> {
        let mut weights = weights::read(input, args.checkpoint_key)?;
        let mut config = weights.vit_config(args.heads)?;
        let preprocess = args.normalisation.of(&weights.metadata, config.channels)?;
        // What is said of other channels than the network has is not passed on.
        weights.metadata.remove("preprocess");
        let facts = preprocess.map(|preprocess| preprocess.facts());
        weights.metadata.extend(facts.into_iter().flatten());
        config.position_rule = args.position_rule.unwrap_or(config.position_rule);
        let (vit, left_over) =
            load(&weights, &config).with_context(|| input.display().to_string())?;
        Ok(Self {
            weights,
            vit,
            left_over,
        })
    }

    /// What the user should know of the file that is written.
    fn notes(&self, args: &Args, to: To) -> Vec<String> {
        let config = self.vit.config();
        let mut notes = Vec::new();
        let whole = args.full || to == To::Run;
        let dropped = |name: &&String| {
            *name != "backbone.mask_token" && !(whole && name.starts_with("head."))
        };
        let dropped: Vec<_> = self.left_over.iter().filter(dropped).collect();
        if let (Some(first), Some(last)) = (dropped.first(), dropped.last()) {
            notes.push(format!(
                "left out: {} tensors, {first} … {last}",
                dropped.len()
            ));
        }
        if to == To::Run {
            return notes;
        }
        let naming = to.naming(config);
        let rule = naming.position_rule(config.registers > 0);
        if rule != config.position_rule {
            notes.push(format!(
                "whoever has these names resamples position embeddings by the rule {rule}, this \
                 network by {}: at other sizes than {} px features differ (--image-size resamples \
                 them once, here)",
                config.position_rule,
                args.image_size.unwrap_or(config.image_size),
            ));
        }
        let eps = naming.layer_norm_eps();
        if !matches!(naming, Naming::HuggingFace(_)) && eps != config.layer_norm_eps {
            notes.push(format!(
                "whoever has these names normalises with an epsilon of {eps:e}, this network with {:e}",
                config.layer_norm_eps
            ));
        }
        if matches!(to, To::Reference) && config.heads != (config.width / 64).max(1) && !args.full {
            notes.push(format!(
                "the number of heads, {}, has to be given to whoever reads it",
                config.heads
            ));
        }
        let colours = config.channels == 3;
        if to == To::Reference
            && args
                .output
                .extension()
                .is_none_or(|ext| ext != "safetensors")
            && !colours
        {
            notes.push(format!(
                "a .pth does not say how images of {} are normalised: whoever reads it has \
                 to be given --mean and --std",
                count(config.channels)
            ));
        } else if !colours && !self.weights.metadata.contains_key("preprocess") {
            notes.push(format!(
                "the weights do not say how images of {} are normalised; --mean and --std \
                 write it into what is converted",
                count(config.channels)
            ));
        }
        notes
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
    args: &Args,
    to: To,
    container: Container,
    original: &Original,
    written: &mut Written,
) -> Result<()> {
    let mask_token = original.weights.arrays.get("backbone.mask_token");
    let mut backbone = Backbone::new(&original.vit, &original.weights.metadata, mask_token);
    if let Some(side) = args.image_size {
        backbone = backbone.resized(side)?;
    }
    let naming = to.naming(backbone.config());
    let out = &args.output;
    written.files = match container {
        Container::Pth => {
            backbone.write_pth(out, naming)?;
            vec![out.clone()]
        }
        Container::Safetensors => {
            backbone.write_safetensors(out, naming)?;
            vec![out.clone()]
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

#[derive(serde::Serialize)]
struct Report<'a> {
    output: &'a Path,
    to: To,
    vit: &'a VitConfig,
    checks: &'a [verify::Check],
    notes: &'a [String],
}

fn report(
    args: &Args,
    to: To,
    original: &Original,
    checks: &[verify::Check],
    notes: &[String],
) -> Result<()> {
    let mut table = Table::new(["read back", "image", "relative error"]);
    for check in checks {
        table.row([
            Cell::from(check.what.as_str()),
            Cell::from(format!("{} × {}", check.height, check.width).as_str()),
            Cell::Number(format!("{:.1e}", check.relative_error)),
        ]);
    }
    let report = Report {
        output: &args.output,
        to,
        vit: original.vit.config(),
        checks,
        notes,
    };
    for note in notes {
        errln!("note: {note}");
    }
    output::print(args.json, &report, &table)?;
    if !args.json {
        outln!("{}", args.output.display());
    }
    Ok(())
}

/// The networks of the training checkpoint at `path`, with their roles; none in a file of one
/// network.
fn networks(path: &Path) -> Result<Vec<(NetworkRole, Weights)>> {
    let mut found = Vec::new();
    for role in NetworkRole::ALL {
        match weights::read(path, role) {
            Ok(weights) if weights.role == Some(role) => found.push((role, weights)),
            Ok(_) | Err(Error::NoSuchNetwork { .. } | Error::SeveralNetworks { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

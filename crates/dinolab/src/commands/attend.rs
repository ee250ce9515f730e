//! `dinolab attend`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use dinolab_data::Image;
use dinolab_data::augment::normalise::Normaliser;
use dinolab_data::source::SourceOptions;
use dinolab_eval::attention::{mass_mask, resize_mask};
use dinolab_eval::features::{AttentionMaps, attend, whole_patches};
use dinolab_eval::npy::write_npy_f32;
use dinolab_eval::picture::{ColourMap, draw_mask, heat_map, overlay, write_png};

use crate::model::ModelArgs;
use crate::pictures::{enlarged, rgb};
use crate::sources;
use crate::values::Size;

/// Shows where the class token looks
///
/// Example: dinolab attend --weights runs/photos cat.jpg --out attention --threshold 0.6
///
/// Writes, per image and head, a heat map, an overlay and (with --threshold) the smallest set
/// of patches that holds that share of the attention; the mean over heads likewise; and the
/// numbers, as NAME-attention.npy [heads, rows, columns].
#[derive(clap::Args)]
pub struct Args {
    /// One image, or a folder, list, tar or VOC tree
    images: PathBuf,
    /// Folder to write to
    #[arg(long)]
    out: PathBuf,
    /// Bring images to SIDE or HEIGHTxWIDTH first; 0 keeps their size [default: the run's, or 480]
    #[arg(long)]
    size: Option<String>,
    /// Share of the attention that masks hold, 0–1; no masks without it
    #[arg(long)]
    threshold: Option<f64>,
    #[command(flatten)]
    model: ModelArgs,
}

const MASK_COLOUR: [u8; 3] = [255, 64, 32];

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let images = read(&args.images)?;
    let model = args.model.load()?;
    let side = model.attend_size.unwrap_or(480);
    let size = match &args.size {
        None => Some((side, side)),
        Some(text) => parse_size(text)?,
    };
    if let Some(threshold) = args.threshold.filter(|t| !(0.0..=1.0).contains(t)) {
        bail!("--threshold {threshold}: must be between 0 and 1");
    }
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let normaliser = Normaliser::new(model.preprocess.mean, model.preprocess.std)?;
    let count = images.len();
    let mut skipped = 0;
    for index in 0..count {
        let (name, image) = match images.get(index) {
            Ok(found) => found,
            Err(error) => {
                eprintln!("skipped {error:#}");
                skipped += 1;
                continue;
            }
        };
        let image = whole_patches(&image, size, model.vit.config().patch_size)?;
        let maps = attend(&model.vit, &image, &normaliser)?;
        write(&args.out, &name, &maps, args.threshold)?;
    }
    if skipped == count {
        bail!("no image could be used");
    }
    println!(
        "attention of {} images in {}; {skipped} skipped",
        count - skipped,
        args.out.display()
    );
    Ok(())
}

/// One image, or a source.
enum Images {
    One(PathBuf),
    Many(std::sync::Arc<dyn dinolab_data::Source>),
}

fn read(path: &Path) -> Result<Images> {
    // A single file that is an image; lists and tars are sources.
    if path.is_file() {
        let mut head = vec![0; 64];
        let mut file =
            std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let length = std::io::Read::read(&mut file, &mut head)?;
        if dinolab_data::decode::sniff(&head[..length]).is_some() {
            return Ok(Images::One(path.into()));
        }
    }
    Ok(Images::Many(sources::open(
        path,
        SourceOptions::default().max_pixels,
    )?))
}

impl Images {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(source) => source.len(),
        }
    }

    /// A name that serves as part of a file name, and the image.
    fn get(&self, index: usize) -> Result<(String, Image)> {
        let (name, image) = match self {
            Self::One(path) => {
                let bytes = std::fs::read(path)?;
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let image = dinolab_data::decode::decode(
                    &name,
                    &bytes,
                    SourceOptions::default().max_pixels,
                )?;
                (name, image)
            }
            Self::Many(source) => (source.name(index), source.image(index)?),
        };
        let stem = Path::new(&name).with_extension("");
        Ok((stem.to_string_lossy().replace(['/', '\\', ':'], "-"), image))
    }
}

fn parse_size(text: &str) -> Result<Option<(usize, usize)>> {
    if text == "0" {
        return Ok(None);
    }
    let size = text.parse::<Size>();
    let Size(height, width) = size.map_err(|why| anyhow!("--size {text}: {why}, or 0"))?;
    Ok(Some((height, width)))
}

fn write(out: &Path, name: &str, maps: &AttentionMaps, threshold: Option<f64>) -> Result<()> {
    let size = (maps.image.height, maps.image.width);
    let picture = rgb(&maps.image)?;
    let mean = maps.mean();
    let patches = maps.grid.0 * maps.grid.1;
    let named = maps
        .maps
        .chunks_exact(patches)
        .enumerate()
        .map(|(head, map)| (format!("head{head}"), map))
        .chain([("mean".to_owned(), mean.as_slice())]);
    for (which, map) in named {
        let file = |kind: &str| out.join(format!("{name}-{which}{kind}.png"));
        let large = enlarged(map, maps, size)?;
        write_png(file(""), &heat_map(&large, size, ColourMap::default())?)?;
        write_png(
            file("-overlay"),
            &overlay(&picture, &large, ColourMap::default(), 0.6)?,
        )?;
        if let Some(threshold) = threshold {
            let mask = resize_mask(&mass_mask(map, threshold)?, maps.grid, size)?;
            write_png(
                file("-mask"),
                &draw_mask(&picture, &mask, MASK_COLOUR, 0.45, 1)?,
            )?;
        }
    }
    let shape = [maps.heads, maps.grid.0, maps.grid.1];
    Ok(write_npy_f32(
        out.join(format!("{name}-attention.npy")),
        &shape,
        &maps.maps,
    )?)
}

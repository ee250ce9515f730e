//! `dinolab eval attention`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use dinolab_data::Size;
use dinolab_data::source::{MaskKind, SourceOptions, VOC_CLASSES};
use dinolab_data::{Mask, Source};
use dinolab_eval::attention::{
    JaccardSummary, ObjectHeads, REFERENCE_MASS, VOID, attention_heads, chance_jaccard,
};
use dinolab_eval::network::{attend, whole_patches};
use dinolab_nn::{Vit, check_patches, init::Init};

use crate::model::ModelArgs;
use crate::output::{self, Cell, Table};
use crate::progress::Progress;
use crate::sources::{self, unseen_shapes};

/// How well the attention of the class token covers objects (Jaccard index)
///
/// Example: dinolab eval attention --weights runs/photos VOCdevkit/VOC2012
///
/// Of each head the smallest set of patches that holds --threshold of its attention is compared
/// with the masks of the images; each object takes the head that fits it best. Beside it stand
/// the same network with random weights, and masks that know nothing of the image.
#[derive(clap::Args)]
pub struct Args {
    /// A Pascal VOC tree [default: the built-in shapes that no run trains on]
    images: Option<PathBuf>,
    /// The split of the tree
    #[arg(long, default_value = "val")]
    split: String,
    /// What counts as one object: objects (where the tree has such masks) or classes
    #[arg(long, default_value = "objects")]
    masks: String,
    /// Bring images to a square of this side first [default: the run's, or 480]
    #[arg(long)]
    size: Option<usize>,
    /// Share of the attention that masks hold
    #[arg(long, default_value_t = REFERENCE_MASS)]
    threshold: f64,
    /// Networks with random weights to compare with
    #[arg(long, default_value_t = 1)]
    random_networks: u64,
    /// Number of built-in shapes
    #[arg(long, default_value_t = 512)]
    shapes_images: usize,
    /// Side of built-in shapes
    #[arg(long, default_value_t = 64)]
    shapes_size: usize,
    /// Seed of built-in shapes and random weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Images with the masks of their objects, and what class an object is of.
struct Objects {
    images: Arc<dyn Source>,
    /// Masks of classes, where those of `images` are of objects.
    classes: Option<Arc<dyn Source>>,
    names: Vec<String>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    ensure_usage!(
        args.threshold > 0.0 && args.threshold <= 1.0,
        "--threshold {}: must be above 0 and at most 1",
        args.threshold
    );
    let objects = Objects::open(args)?;
    let model = args.model.load()?;
    let config = model.vit.config().clone();
    let device = model.vit.cls_token.flat().device();
    let mut networks = vec![model.vit];
    for seed in 0..args.random_networks {
        networks.push(Vit::new(
            &config,
            &mut Init::new(args.seed + seed),
            &device,
        )?);
    }
    let normaliser = model.preprocess.normaliser()?;
    let side = args
        .size
        .or(model.attend_size.map(Size::longest))
        .unwrap_or(480);

    check_patches(side, side, config.patch_size).context("--size")?;
    let count = objects.images.len();
    let mut summaries = vec![JaccardSummary::default(); networks.len()];
    let mut skipped = 0;
    let mut progress = Progress::new("image", count as u64, 0);
    for index in 0..count {
        match objects.image(index) {
            Ok(Some((image, mask, class))) => {
                let image = whole_patches(&image, Some((side, side)), config.patch_size)?;
                for (network, summary) in networks.iter().zip(&mut summaries) {
                    let maps = attend(network, &image, &normaliser)?;
                    let size = (mask.height, mask.width);
                    let scores =
                        attention_heads(&maps.maps, maps.grid, &mask.data, size, args.threshold)?;
                    summary.add(scores, |object| class[usize::from(object)]);
                }
            }
            Ok(None) => {}
            Err(error) => {
                progress.line(&format!("skipped {error:#}"));
                skipped += 1;
            }
        }
        progress.set(index as u64 + 1, "");
    }
    progress.finish();
    if skipped > 0 {
        errln!("{skipped} images skipped");
    }
    show(args, side, &objects.names, &summaries)
}

impl Objects {
    fn open(args: &Args) -> Result<Self> {
        let Some(path) = &args.images else {
            let shapes = unseen_shapes(args.seed, args.shapes_images, args.shapes_size)?;
            return Ok(Self {
                names: shapes.classes().to_vec(),
                images: Arc::new(shapes),
                classes: None,
            });
        };
        let open = |masks| {
            let options = SourceOptions {
                split: args.split.clone(),
                masks,
                ..Default::default()
            };
            sources::open_with(path, &options)
        };
        let masks = match args.masks.as_str() {
            "objects" => MaskKind::Objects,
            "classes" => MaskKind::Classes,
            other => bail_usage!("--masks {other}: one of objects, classes"),
        };
        Ok(Self {
            images: open(masks)?,
            classes: Some(open(MaskKind::Classes)?),
            names: VOC_CLASSES.map(str::to_owned).to_vec(),
        })
    }

    /// An image, the mask of its objects, and the class of each object number; `None` where it
    /// has no mask.
    fn image(&self, index: usize) -> Result<Option<(dinolab_data::Image, Mask, Vec<usize>)>> {
        let Some(mask) = self.images.mask(index)? else {
            return Ok(None);
        };
        let class = match (&self.classes, self.images.label(index)) {
            (Some(classes), _) => match classes.mask(index)? {
                Some(classes) => classes_of(&mask, &classes),
                None => vec![usize::MAX; 256],
            },
            (None, label) => vec![label.unwrap_or(usize::MAX); 256],
        };
        let image = self
            .images
            .image(index)
            .with_context(|| self.images.name(index))?;
        Ok(Some((image, mask, class)))
    }
}

/// For every object number the class that most of its pixels are of.
fn classes_of(objects: &Mask, classes: &Mask) -> Vec<usize> {
    let mut votes = vec![[0u32; 256]; 256];
    for (&object, &class) in objects.data.iter().zip(&classes.data) {
        if class != VOID {
            votes[usize::from(object)][usize::from(class)] += 1;
        }
    }
    votes
        .iter()
        .map(|votes| {
            let most = votes.iter().max().copied().unwrap_or(0);
            match votes.iter().position(|&count| count == most) {
                Some(class) if most > 0 => class,
                _ => usize::MAX,
            }
        })
        .collect()
}

fn show(args: &Args, side: usize, names: &[String], summaries: &[JaccardSummary]) -> Result<()> {
    let (trained, random) = summaries.split_first().expect("the trained network's");
    let percent = |value: Option<f64>| value.map(|value| 100.0 * value);
    let Some(best) = percent(trained.best_head_of_each()) else {
        bail!(
            "no image has an object mask; needed is a Pascal VOC tree with SegmentationClass or \
               SegmentationObject"
        );
    };
    let of_random = |value: &dyn Fn(&JaccardSummary) -> Option<f64>| {
        let values: Option<Vec<f64>> = random.iter().map(value).collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some(100.0 * values.iter().sum::<f64>() / values.len() as f64)
    };
    let single = |summary: &JaccardSummary| summary.best_single_head().map(|(_, mean)| mean);
    let chance = percent(trained.mean(|o: &ObjectHeads| chance_jaccard(args.threshold, o.share)));
    let whole = percent(trained.mean(|o| o.share));

    let mut table = Table::new(["", "best head of each object %", "best single head %"]);
    let head = trained.best_single_head();
    let single_trained = head.map(|(_, mean)| 100.0 * mean);
    let rows = [
        ("these weights", Some(best), single_trained),
        (
            "random weights",
            of_random(&JaccardSummary::best_head_of_each),
            of_random(&single),
        ),
        ("uniform map", chance, chance),
        ("the whole image", whole, whole),
    ];
    for (name, each, one) in rows {
        table.row([name.into(), Cell::number(each, 2), Cell::number(one, 2)]);
    }
    let name_of = |class: usize| match names.get(class) {
        Some(name) => name.clone(),
        None if class == usize::MAX => "(no class)".to_owned(),
        None => format!("class {class}"),
    };
    let before = random
        .first()
        .map(JaccardSummary::per_class)
        .unwrap_or_default();
    let mut classes = Table::new(["class", "objects", "Jaccard %", "random weights %"]);
    let mut per_class = Vec::new();
    for (class, score) in trained.per_class() {
        let before = before.get(&class).map(|score| 100.0 * score.jaccard);
        let jaccard = 100.0 * score.jaccard;
        classes.row([
            name_of(class).as_str().into(),
            Cell::count(score.objects),
            Cell::number(jaccard, 2),
            Cell::number(before, 2),
        ]);
        per_class.push(serde_json::json!({
            "class": name_of(class), "objects": score.objects, "jaccard": jaccard,
            "random_jaccard": before,
        }));
    }
    let result = serde_json::json!({
        "jaccard": best,
        "single_head": { "head": head.map(|(head, _)| head), "jaccard": single_trained },
        "random_weights": { "jaccard": rows[1].1, "single_head": rows[1].2 },
        "uniform_map": chance,
        "whole_image": whole,
        "images": trained.images(),
        "objects": trained.objects(),
        "size": side,
        "threshold": args.threshold,
        "classes": per_class,
    });
    if !args.json {
        outln!(
            "Jaccard index of {} objects in {} images at {side} px, {} of the attention kept\n",
            trained.objects(),
            trained.images(),
            args.threshold
        );
    }
    output::print(args.json, &result, &table)?;
    if !args.json {
        outln!("");
        out!("{classes}");
    }
    Ok(())
}

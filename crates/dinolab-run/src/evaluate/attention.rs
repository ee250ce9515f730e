//! How well the attention of the class token covers objects (Jaccard index).

use std::path::Path;
use std::sync::Arc;

use dinolab_data::source::{MaskKind, SourceOptions, VOC_CLASSES};
use dinolab_data::{Mask, Size, Source};
use dinolab_eval::attention::{JaccardSummary, ObjectHeads};
use dinolab_features::{attend, whole_patches};
use dinolab_nn::backbone::attention_maps;
use dinolab_nn::{Vit, check_patches, init::Init};
use serde::Serialize;

use super::percent;
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Event;
use crate::model::{Model, ModelOptions};
use crate::sources::{self, unseen_shapes};
use crate::table::{Cell, Report, Table};

/// What is evaluated, and how.
#[derive(Clone, Debug)]
pub struct AttentionRequest<'a> {
    /// A Pascal VOC tree; without one, built-in shapes that no run trains on.
    pub images: Option<&'a Path>,
    /// The split of the tree.
    pub split: &'a str,
    /// What counts as one object.
    pub masks: MaskKind,
    /// Side of the square that images are resized to; by default the run's, or 480.
    pub size: Option<usize>,
    /// The fraction of the attention that masks hold.
    pub threshold: f64,
    /// How many networks with random weights are compared with.
    pub random_baselines: u64,
    /// Number of built-in shapes.
    pub shapes_images: usize,
    /// Side of built-in shapes.
    pub shapes_size: usize,
    /// Seed of built-in shapes and random weights.
    pub seed: u64,
    /// The weights `W`.
    pub weights: &'a Path,
    /// How their network is made.
    pub model: ModelOptions,
}

/// The figures; Jaccard indices in percent.
#[derive(Clone, Debug, Serialize)]
pub struct AttentionReport {
    /// Of the head that fits each object best.
    pub jaccard: f64,
    /// Of the head that fits all objects best.
    pub single_head: SingleHead,
    /// Of networks with random weights.
    pub random_weights: RandomWeights,
    /// Of attention that is the same everywhere.
    pub uniform_map: Option<f64>,
    /// Of the whole image.
    pub whole_image: Option<f64>,
    /// Images with objects.
    pub images: usize,
    /// Objects.
    pub objects: usize,
    /// Side that images were resized to.
    pub size: usize,
    /// The fraction of the attention that masks hold.
    pub threshold: f64,
    /// For each class.
    pub classes: Vec<ClassAttention>,
}

/// One head for all objects.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SingleHead {
    /// Its number.
    pub head: Option<usize>,
    /// In percent.
    pub jaccard: Option<f64>,
}

/// Networks with random weights.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RandomWeights {
    /// Of the head that fits each object best, in percent.
    pub jaccard: Option<f64>,
    /// Of the head that fits all objects best, in percent.
    pub single_head: Option<f64>,
}

/// Objects of a class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassAttention {
    /// Its name.
    pub class: String,
    /// How many.
    pub objects: usize,
    /// In percent.
    pub jaccard: f64,
    /// Of the first network with random weights, in percent.
    pub random_jaccard: Option<f64>,
}

/// Images with the masks of their objects, and what class an object is of.
struct Objects {
    images: Arc<dyn Source>,
    /// Masks of classes, where those of `images` are of objects.
    classes: Option<Arc<dyn Source>>,
    names: Vec<String>,
}

/// Evaluates.
///
/// # Errors
/// Images or weights that cannot be used; images of which none has an object mask.
pub fn evaluate(env: &Environment<'_>, request: &AttentionRequest<'_>) -> Result<AttentionReport> {
    ensure_setting!(
        request.threshold > 0.0 && request.threshold <= 1.0,
        "threshold",
        request.threshold,
        "must be above 0 and at most 1"
    );
    let objects = Objects::open(env, request)?;
    let model = Model::load_rgb(env, request.weights, &request.model)?;
    attention_maps(&model.backbone)?;
    let vit = model.backbone.into_vit()?;
    let config = vit.config().clone();
    let device = vit.cls_token.flat().device();
    let mut networks = vec![vit];
    for seed in 0..request.random_baselines {
        let mut init = Init::new(request.seed + seed);
        networks.push(Vit::new(&config, &mut init, &device)?);
    }
    let normaliser = model.preprocess.normaliser()?;
    let side = request
        .size
        .or(model.attention_size.map(Size::longest))
        .unwrap_or(480);

    check_patches(side, side, config.patch_size).of_setting("size", "")?;
    let count = objects.images.len();
    let mut summaries = vec![JaccardSummary::default(); networks.len()];
    let mut skipped = 0;
    let progress = env.progress("image", count);
    for index in 0..count {
        match objects.image(index) {
            Ok(Some((image, mask, class))) => {
                let image = whole_patches(&image, Some((side, side)), config.patch_size)?;
                for (network, summary) in networks.iter().zip(&mut summaries) {
                    let maps = attend(network, &image, &normaliser)?;
                    let size = mask.size();
                    let threshold = request.threshold;
                    let scores =
                        ObjectHeads::of_image(&maps.maps, maps.grid, &mask.data, size, threshold)?;
                    summary.add(scores, |object| class[usize::from(object)]);
                }
            }
            Ok(None) => {}
            Err(error) => {
                let name = objects.images.name(index);
                let reason = error.to_string();
                // The error may begin with the name itself.
                let reason = reason.strip_prefix(&format!("{name}: ")).unwrap_or(&reason);
                let name = name.as_str();
                env.events.hear(Event::Skipped { name, reason });
                skipped += 1;
            }
        }
        progress.set(index + 1, "");
    }
    progress.finish();
    env.skipped_in_all(skipped);
    report(request, side, &objects.names, &summaries)
}

impl Objects {
    fn open(env: &Environment<'_>, args: &AttentionRequest<'_>) -> Result<Self> {
        let Some(path) = args.images else {
            let shapes = unseen_shapes(args.seed, args.shapes_images, args.shapes_size)?;
            return Ok(Self {
                names: shapes.classes().to_vec(),
                images: Arc::new(shapes),
                classes: None,
            });
        };
        let open = |masks| {
            let options = SourceOptions {
                split: args.split.to_owned(),
                masks,
                ..Default::default()
            };
            sources::open_with(env, path, &options)
        };
        Ok(Self {
            images: open(args.masks)?,
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
        if class != Mask::VOID {
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

fn report(
    request: &AttentionRequest<'_>,
    side: usize,
    names: &[String],
    summaries: &[JaccardSummary],
) -> Result<AttentionReport> {
    let (trained, random) = summaries.split_first().expect("the trained network's");
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
    let threshold = request.threshold;
    let chance = trained.mean(|object| object.chance(threshold));
    let head = trained.best_single_head();
    let name_of = |class: usize| match names.get(class) {
        Some(name) => name.clone(),
        None if class == usize::MAX => "(no class)".to_owned(),
        None => format!("class {class}"),
    };
    let before = random
        .first()
        .map(JaccardSummary::per_class)
        .unwrap_or_default();
    let classes = trained.per_class().into_iter();
    Ok(AttentionReport {
        jaccard: best,
        single_head: SingleHead {
            head: head.map(|(head, _)| head),
            jaccard: head.map(|(_, mean)| 100.0 * mean),
        },
        random_weights: RandomWeights {
            jaccard: of_random(&JaccardSummary::best_head_of_each),
            single_head: of_random(&single),
        },
        uniform_map: percent(chance),
        whole_image: percent(trained.mean(|o| o.share)),
        images: trained.images(),
        objects: trained.objects(),
        size: side,
        threshold,
        classes: classes
            .map(|(class, score)| ClassAttention {
                class: name_of(class),
                objects: score.objects,
                jaccard: 100.0 * score.jaccard,
                random_jaccard: before.get(&class).map(|score| 100.0 * score.jaccard),
            })
            .collect(),
    })
}

impl Report for AttentionReport {
    fn table(&self) -> Table {
        let mut table = Table::new(["", "best head of each object %", "best single head %"]);
        let random = &self.random_weights;
        let rows = [
            (
                "these weights",
                Some(self.jaccard),
                self.single_head.jaccard,
            ),
            ("random weights", random.jaccard, random.single_head),
            ("uniform map", self.uniform_map, self.uniform_map),
            ("the whole image", self.whole_image, self.whole_image),
        ];
        for (name, each, one) in rows {
            table.row([name.into(), Cell::number(each, 2), Cell::number(one, 2)]);
        }
        table
    }
}

impl AttentionReport {
    /// The figures of each class as a table.
    pub fn classes_table(&self) -> Table {
        let mut table = Table::new(["class", "objects", "Jaccard %", "random weights %"]);
        for row in &self.classes {
            table.row([
                row.class.as_str().into(),
                Cell::count(row.objects),
                Cell::number(row.jaccard, 2),
                Cell::number(row.random_jaccard, 2),
            ]);
        }
        table
    }
}

//! DINOv2 (Oquab et al., arXiv 2304.07193): DINO, iBOT's prediction of masked patches (Zhou et al., arXiv
//! 2111.07832), Sinkhorn–Knopp targets and KoLeo. Read [`DinoV2::step`] next to section 4 of the paper.
//!
//! The loss is that of [DINO](super::dino) on class tokens, plus the cross entropy of the student's patch
//! tokens at masked places to the teacher's, which sees all patches, plus KoLeo on the student's class
//! tokens of global views.

mod config;
mod koleo;
mod patches;
mod targets;

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::optim::Optimiser;
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights, load};
use dinolab_nn::{
    AnyBackbone, Backbone, BackboneConfig, Feature, MaskedNetwork, Parameters, PatchHeadConfig,
    ProjectionHead, ops,
};

pub use self::config::{DinoV2Config, IbotConfig};
use self::koleo::Koleo;
use self::patches::SeenPatches;
use self::targets::{Part, Taught};
use super::companions::Companions;
use super::dino::Centering;
use super::dino::seen::Seen;
use super::{BatchShape, Method, Outputs, PrototypeOutputs, StepReport, StepTimings, check};
use crate::adapt::with_heads_of;
use crate::dropout::Dropout;
use crate::joints::Joints;
use crate::masks::StepMasks;
use crate::ranks::TreeSum;
use crate::state::json;
use crate::update::{Averaged, GradientSum, Statistics, UpdateRule, update};
use crate::{Ranks, Result, State, StepHyperparams, Views};

/// Name of the centre of patch prototypes in the state.
const PATCH_CENTRE: &str = "patch_centre";

/// Student, teacher, centres (if there are any) and optimiser: the state that training changes.
pub struct DinoV2 {
    config: DinoV2Config,
    /// Learns; lives on a gradient-recording device.
    pub student: MaskedNetwork,
    /// The student's moving average; records no gradients.
    pub teacher: MaskedNetwork,
    /// The centre of the class tokens' logits, `[K]`; `None` with Sinkhorn–Knopp.
    pub centre: Option<Tensor<1>>,
    /// That of the patch tokens' logits, `[K']`.
    pub patch_centre: Option<Tensor<1>>,
    companions: Companions,
    /// Moments of the student's parameters.
    optimiser: Optimiser,
    dropout: Dropout,
    device: Device,
    ranks: Ranks,
}

/// The student's outputs for a micro-batch.
struct Seeing {
    /// Class tokens of all views, `[V·b, D]`.
    class: Tensor<2>,
    /// Patch tokens at masked places, `[m, D]`, if there are any.
    patches: Option<Tensor<2>>,
    /// The joints of their graph.
    joints: Joints,
}

impl DinoV2 {
    /// Student and teacher with the same initial weights, on `device`.
    ///
    /// # Errors
    /// [`crate::Error::Model`] where the sizes make no network or the device does not compute in the
    /// precision; [`crate::Error::BadSetting`] for an impossible number or another network than a transformer.
    pub fn new(config: &DinoV2Config, device: &Device) -> Result<Self> {
        let vit = config.check()?;
        let device = device.clone().without_autodiff();
        config.precision.check(&device)?;
        let patches = config.ibot.as_ref().map(|ibot| &ibot.head);
        let mut teacher = MaskedNetwork::new(vit, &config.head, patches, config.seed, &device)?;
        teacher.set_precision(config.precision);
        let mut student = teacher.clone();
        let original = AnyBackbone::from(teacher.backbone.clone());
        let (average, preserve) = (config.average, config.adapt.preserve);
        let companions = Companions::new(&original, Feature::Class, average, preserve);
        if let Some(lora) = config.adapt.lora {
            student.adapt(lora, config.seed)?;
        }
        student.to_device(&device.clone().autodiff());
        let mut parameters = 0;
        student.visit("", &mut |_, _| parameters += 1);
        let centre = |prototypes: usize| {
            (config.centering == Centering::Centre).then(|| Tensor::zeros([prototypes], &device))
        };
        let rates = (config.drop_path, 0.0);
        Ok(Self {
            centre: centre(config.head.out_dim),
            patch_centre: config.patch_prototypes().and_then(centre),
            optimiser: Optimiser::new(config.optimizer, parameters),
            dropout: Dropout::new(config.seed, vit.depth, rates.0, rates.1).with_rope(vit.rope),
            companions,
            config: config.clone(),
            student,
            teacher,
            device,
            ranks: Ranks::default(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &DinoV2Config {
        &self.config
    }

    /// The student sees all views, the global ones with their masks.
    fn see(&self, views: &Views, part: &Part, step: u64, joints: Joints) -> Seeing {
        let dropped = self.dropout.draw(step, views.count(), part.images.clone());
        let dropped = dropped.with_masks(part.rows.clone()).with_joints(joints);
        let (class, patches) = self
            .student
            .features(views.recorded(), &part.rows, &dropped);
        let joints = dropped.into_joints();
        let (class, patches) = match patches {
            Some(patches) => {
                let [class, patches] = joints.join([class, patches]);
                (class, Some(patches))
            }
            None => {
                let [class] = joints.join([class]);
                (class, None)
            }
        };
        Seeing {
            class,
            patches,
            joints,
        }
    }

    /// The masks of a step of `batch` images.
    fn draw_masks(&self, views: &Views, step: u64, batch: usize) -> StepMasks {
        let Some(ibot) = &self.config.ibot else {
            return StepMasks::none(batch);
        };
        StepMasks::draw(&ibot.masks, self.config.seed, step, batch, self.grid(views))
    }

    /// Rows and columns of patches of the global views.
    fn grid(&self, views: &Views) -> (usize, usize) {
        let [_, _, height, width] = views.global.dims();
        let patch = self.student.backbone.config().patch_size;
        (height / patch, width / patch)
    }

    /// One update of the student, of the centres and of the teacher, with the given masks. Cutting a batch
    /// differently changes nothing but rounding.
    ///
    /// # Errors
    /// As [`Method::step`].
    pub fn step_masked(
        &mut self,
        micro_batches: &[Views],
        hp: &StepHyperparams,
        masks: &StepMasks,
    ) -> Result<StepReport> {
        for network in [&mut self.student, &mut self.teacher] {
            network.freeze_backbone(hp.backbone_frozen());
        }
        let ranks = self.ranks.clone();
        let sizes = || micro_batches.iter().map(|views| views.batch);
        let batch = sizes().sum::<usize>() * ranks.size();
        let (rows, columns) = self.grid(&micro_batches[0]);
        let part = |images: Range<usize>| Part::new(masks, images, rows * columns);
        let parts: Vec<Part> = ranks.images(sizes()).into_iter().map(part).collect();
        let ibot_weight = self.config.ibot.as_ref().map_or(0.0, |ibot| ibot.weight);
        let (momentum, teacher_temp) = self.config.schedule.at(hp);
        let mut timings = StepTimings::start();

        // Sinkhorn–Knopp balances all images and all masked patches of a step.
        let taught = self.teach(micro_batches, &parts, masks, teacher_temp)?;
        timings.lap("teacher");
        let joints = || Joints::of(&self.config.backbone, &ranks, micro_batches.len());
        // KoLeo looks for neighbours among all images of a step, which has one micro-batch then.
        let mut seeing = Vec::new();
        let mut koleo = None;
        if self.config.koleo_weight > 0.0 {
            for (views, part) in micro_batches.iter().zip(&parts) {
                seeing.push(Some(self.see(views, part, hp.step, joints())));
            }
            let class = seeing.iter().flatten().zip(sizes());
            let global = class.map(|(own, images)| own.class.clone().narrow(0, 0, 2 * images));
            koleo = Some(Koleo::of(
                global.collect(),
                self.config.koleo_weight,
                &ranks,
            )?);
            timings.lap("student");
        }

        let mut gradients = GradientSum::new(&self.student);
        let mut losses = Vec::new();
        let (mut centre_sum, mut patch_centre_sum) = (TreeSum::default(), TreeSum::default());
        let (mut seen, mut seen_patches) = (Seen::default(), SeenPatches::default());
        let own = ranks.own_shards();
        for shard in 0..own {
            let mut loss = [0.0; 3];
            let (mut logit_sum, mut patch_logit_sum) = (None, None);
            for number in (shard..micro_batches.len()).step_by(own) {
                let (views, part) = (&micro_batches[number], &parts[number]);
                let Taught {
                    features,
                    class: taught_class,
                    patches: taught_patches,
                } = taught[number].clone();
                let Seeing {
                    class,
                    patches,
                    joints,
                } = match seeing.get_mut(number).and_then(Option::take) {
                    Some(seeing) => seeing,
                    None => self.see(views, part, hp.step, joints()),
                };
                let logits = self.student.head.forward(class.clone());
                let patch_logits = patches.map(|x| self.student.patch_head().forward(x));
                timings.lap("student");

                let temperature = self.config.student_temp;
                let global = logits.clone().without_autodiff();
                let global = global.narrow(0, 0, 2 * views.batch);
                let targets = Tensor::from_inner(taught_class.targets);
                let dino = ops::dino_loss(logits, targets, views.batch, temperature);
                let share = views.batch as f64 / batch as f64;
                loss[0] += share * check::scalar(&dino);
                let mut differentiated = dino * share;
                if let Some((logits, taught)) = patch_logits.clone().zip(taught_patches.clone()) {
                    let targets = Tensor::from_inner(taught.targets);
                    let weights = masks.weights(part.images.clone());
                    let ibot = ops::weighted_cross_entropy(logits, targets, weights, temperature);
                    loss[1] += check::scalar(&ibot);
                    differentiated = differentiated + ibot * ibot_weight;
                } else if let Some(unused) = self
                    .student
                    .patch_head
                    .as_ref()
                    .filter(|_| masks.total() > 0)
                {
                    // Others have masked patches, and processes sum the same parameters: gradients of zeros.
                    let any = class.clone().without_autodiff().narrow(0, 0, 1);
                    let nothing = unused.forward(Tensor::from_inner(any)).sum() * 0.0;
                    differentiated = differentiated + nothing;
                }
                if let Some(preserved) = &self.companions.preserved {
                    let drift = preserved.drift(class.clone(), preserved.features(views)) * share;
                    loss[2] += check::scalar(&drift);
                    differentiated = differentiated + drift * preserved.weight;
                }
                if let Some(koleo) = &koleo {
                    differentiated = differentiated + koleo.through(number, class);
                }
                timings.lap("loss");
                let of_loss = differentiated.backward();
                gradients.add_pieces(&self.student, of_loss, joints, &ranks)?;
                timings.lap("backward");

                if self.centre.is_some() {
                    add_rows(&mut logit_sum, &taught_class.logits);
                    if let Some(taught) = &taught_patches {
                        add_rows(&mut patch_logit_sum, &taught.logits);
                    }
                }
                if number + own >= micro_batches.len() {
                    seen.add(features, taught_class.logits, global);
                    if let Some((taught, student)) = taught_patches.zip(patch_logits) {
                        seen_patches.add(taught.logits, student.without_autodiff());
                    }
                }
            }
            if masks.total() > 0 {
                // A shard without masked patches has no gradient of the mask token.
                gradients.fill_mask_token(&self.student);
            }
            gradients.end_shard();
            losses.extend(loss);
            centre_sum.push(logit_sum, added);
            patch_centre_sum.push(patch_logit_sum, added);
        }
        let losses = ranks.of_all_shards(&losses)?;
        let of_all = |which: usize| losses.iter().skip(which).step_by(3).sum::<f64>();
        let (dino, ibot, drift) = (of_all(0), of_all(1), of_all(2));
        let mut terms = vec![("dino", dino)];
        let mut loss = dino + ibot_weight * ibot;
        if self.config.ibot.is_some() {
            terms.push(("ibot", ibot));
        }
        if let Some(koleo) = &koleo {
            terms.push(("koleo", koleo.value));
            loss += self.config.koleo_weight * koleo.value;
        }
        if let Some(preserved) = &self.companions.preserved {
            terms.push(("drift", drift));
            loss += preserved.weight * drift;
        }
        check::finite(loss, hp.step)?;
        gradients.reduce(&ranks)?;

        // Centres follow the raw teacher logits, after the loss has used the old ones.
        let (centre, patch_centre) = (self.centre.clone(), self.patch_centre.clone());
        let m = self.config.center_momentum;
        for (centre, sum, rows) in [
            (&mut self.centre, centre_sum, 2 * batch),
            (&mut self.patch_centre, patch_centre_sum, masks.total()),
        ] {
            let Some(centre) = centre.as_mut().filter(|_| rows > 0) else {
                continue;
            };
            let sum = sum.finish(added).flatten();
            let sum = sum.unwrap_or_else(|| centre.zeros_like());
            let mean = ranks.sum(vec![sum])?.remove(0) / rows as f64;
            *centre = centre.clone() * m + mean * (1.0 - m);
        }
        timings.lap("ranks");

        let frozen = hp.epoch < self.config.freeze_last_layer;
        let config = &self.config;
        let rule = UpdateRule {
            frozen: &|name| frozen && name.contains("last_layer"),
            ..config.adapt.rule(&config.backbone, hp, config.clip_grad)
        };
        let teacher = Averaged {
            network: &mut self.teacher,
            part: "",
            momentum,
            statistics: Statistics::Own,
        };
        let (student, optimiser) = (&mut self.student, &mut self.optimiser);
        let grad_norms = update(student, gradients, optimiser, &rule, Some(teacher));
        let average = self.companions.follow(&self.student, hp);
        timings.lap("update");

        let (features, teacher, student) = seen.all();
        let mut scheduled = vec![("momentum", momentum), ("teacher_temp", teacher_temp)];
        scheduled.extend(average);
        let masked = masks.total() as f64 / (2 * batch * rows * columns) as f64;
        let prototypes = self.config.patch_prototypes();
        Ok(StepReport {
            timings,
            loss,
            terms,
            scheduled,
            grad_norms,
            outputs: Outputs {
                features,
                prototypes: Some(PrototypeOutputs {
                    teacher,
                    student,
                    centre,
                    teacher_temp,
                    student_temp: self.config.student_temp,
                    own: ranks.size() > 1,
                }),
                patches: prototypes.map(|k| seen_patches.outputs(k, patch_centre, masked)),
                embeddings: None,
            },
        })
    }
}

impl Method for DinoV2 {
    fn name(&self) -> &'static str {
        "dinov2"
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn check(&self, shape: BatchShape) -> Result<()> {
        self.config.check_accumulation(shape.accumulate)
    }

    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        let own: usize = micro_batches.iter().map(|views| views.batch).sum();
        let masks = self.draw_masks(&micro_batches[0], hp.step, own * self.ranks.size());
        self.step_masked(micro_batches, hp, &masks)
    }

    fn distribute(&mut self, ranks: &Ranks) -> Result<()> {
        let heads = [&self.config.head].into_iter();
        let apart = self.config.ibot.iter().filter_map(|ibot| match &ibot.head {
            PatchHeadConfig::Apart(head) => Some(head),
            PatchHeadConfig::Shared => None,
        });
        if heads.chain(apart).any(|head| head.use_bn) && !ranks.is_whole() {
            let reason = "would see unequal parts of a batch, since images have different numbers of masked \
                          patches; train in one process, without `reproducible-ranks`";
            return Err(check::bad("use-bn-in-head", reason));
        }
        self.ranks = ranks.clone();
        Ok(())
    }

    fn learned(&self) -> &dyn Parameters {
        &self.student
    }

    fn backbone(&self) -> &dyn Backbone {
        self.companions.evaluated(&self.teacher.backbone)
    }

    fn state(&self) -> State {
        let mut state = State::default();
        state.put_network("student", &self.student);
        state.put_network("teacher", &self.teacher);
        for (name, centre) in [("centre", &self.centre), (PATCH_CENTRE, &self.patch_centre)] {
            if let Some(centre) = centre {
                state.put_vector(name, centre);
            }
        }
        self.companions.put(&mut state);
        state.put_optimiser(&self.student, &self.optimiser);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        state.load_network("student", &mut self.student)?;
        state.load_network("teacher", &mut self.teacher)?;
        for (name, centre) in [
            ("centre", &mut self.centre),
            (PATCH_CENTRE, &mut self.patch_centre),
        ] {
            if let Some(centre) = centre {
                *centre = state.vector(name, centre.dims()[0], &self.device)?;
            }
        }
        self.companions.restore(state)?;
        state.load_optimiser(&self.student, &mut self.optimiser, &self.device)
    }

    /// Takes backbone, mask token and those heads that are there in these sizes.
    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport> {
        let mut heads = vec![("head", &self.student.head)];
        heads.extend(
            self.student
                .patch_head
                .as_ref()
                .map(|head| ("ibot_head", head)),
        );
        let weights = &*with_heads_of(weights, &heads);
        let report = load(&mut self.student, "", weights, options)?;
        load(&mut self.teacher, "", weights, options)?;
        self.companions.start_from(weights, options)?;
        self.student.rebase();
        let fits = |centre: &&Vec<f32>| centre.len() == self.config.head.out_dim;
        let known = weights.centre.as_ref().filter(fits);
        if let (Some(centre), Some(known)) = (&mut self.centre, known) {
            let data = TensorData::new(known.clone(), [known.len()]);
            *centre = Tensor::from_data(data, &self.device);
        }
        Ok(report)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let vit = self.student.backbone.config();
        let mut all = BTreeMap::from([
            ("method".to_owned(), self.name().to_owned()),
            Feature::Class.metadata_entry(),
            self.companions.metadata_entry(),
            BackboneConfig::from(vit).metadata_entry(),
            ("head".to_owned(), json(&self.config.head)),
        ]);
        if let Some(PatchHeadConfig::Apart(head)) = self.config.ibot.as_ref().map(|ibot| &ibot.head)
        {
            all.insert("ibot_head".to_owned(), json(head));
        }
        all
    }
}

/// Adds the sum of rows `[R, K]`.
fn add_rows(sum: &mut Option<Tensor<1>>, rows: &Tensor<2>) {
    let k = rows.dims()[1];
    let own = rows.clone().sum_dim(0).reshape([k]);
    *sum = added(sum.take(), Some(own));
}

/// The sum of what there is.
fn added(a: Option<Tensor<1>>, b: Option<Tensor<1>>) -> Option<Tensor<1>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

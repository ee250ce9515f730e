//! Distillation: a student predicts the features and patch tokens of a frozen network on the same views.
//!
//! The teacher may be of any kind, width and patch size. Its feature and its patch tokens, moved to the
//! student's grid, are standardised and predicted from the student's by projections that
//! belong to training alone. The loss is the share of the targets' variance that is not explained, of
//! features and of patches (feature distillation: A. Romero et al., arXiv 1412.6550; of foundation models:
//! J. Shang et al., arXiv 2407.20179).

mod config;
mod kept;
mod loss;
mod resample;
mod standard;
mod teacher;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use dinolab_nn::optim::Optimiser;
use dinolab_nn::weights::{LoadOptions, LoadReport, Weights, load};
use dinolab_nn::{
    Backbone, Network, Parameters, ProjectionHead, Regression, RegressionConfig, TokenWidths,
};

pub use self::config::DistillConfig;
use self::kept::KeptFolder;
pub use self::loss::unexplained;
use self::standard::Standard;
use self::teacher::Taught;
pub use self::teacher::{FrozenTeacher, Normalised};
use super::average::BackboneAverage;
use super::{BatchShape, Method, Outputs, StepReport, StepTimings, check};
use crate::adapt::Preserved;
use crate::dropout::Dropout;
use crate::joints::Joints;
use crate::state::json;
use crate::update::{GradientSum, update};
use crate::{Ranks, Result, State, StepHyperparams, Views};

/// Student, its average, statistics of the targets and optimiser: the state that training changes.
pub struct Distill {
    config: DistillConfig,
    /// Learns; lives on a gradient-recording device.
    pub student: Network<Regression>,
    /// Is learned from; records no gradients.
    pub teacher: FrozenTeacher,
    average: BackboneAverage,
    preserved: Option<Preserved>,
    /// Of the teacher's features.
    features: Standard,
    /// Of its patch tokens.
    patches: Standard,
    /// Where the teacher's outputs are kept, if crops come again.
    kept: Option<KeptFolder>,
    optimiser: Optimiser,
    dropout: Dropout,
    device: Device,
    ranks: Ranks,
}

impl Distill {
    /// A student with random weights that learns from `teacher`, on `device`.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if the sizes make no network, or the device does not compute in the
    /// precision; [`crate::Error::BadSetting`] for an impossible number, or a teacher of other images.
    pub fn new(config: &DistillConfig, teacher: FrozenTeacher, device: &Device) -> Result<Self> {
        config.check()?;
        let device = device.clone().without_autodiff();
        config.precision.check(&device)?;
        let mut teacher = teacher;
        teacher.prepare(config.backbone.channels(), config.precision, &device)?;
        let head = RegressionConfig {
            hidden_dim: config.head_hidden_dim,
            layers: config.head_layers,
            out_dim: teacher.width(),
            patches: (config.patch_weight > 0.0).then(|| TokenWidths {
                own: config.backbone.width(),
                predicted: teacher.backbone.width(),
            }),
        };
        let mut student: Network<Regression> = Network::of_feature(
            &config.backbone,
            config.feature,
            &head,
            config.seed,
            &device,
        )?;
        student.set_precision(config.precision);
        let average = BackboneAverage::new(&student.backbone, config.average);
        let preserved = Preserved::new(config.adapt.preserve, &student.backbone, config.feature);
        config.adapt.apply(&mut student, config.seed)?;
        student.to_device(&device.clone().autodiff());
        let mut parameters = 0;
        student.visit("", &mut |_, _| parameters += 1);
        let blocks = config.backbone.droppable_blocks();
        Ok(Self {
            features: Standard::new("feature", teacher.width(), &device),
            patches: Standard::new("patches", teacher.backbone.width(), &device),
            optimiser: Optimiser::new(config.optimizer, parameters),
            dropout: Dropout::new(config.seed, blocks, config.drop_path, 0.0)
                .with_rope(config.backbone.rope()),
            config: config.clone(),
            student,
            teacher,
            average,
            preserved,
            kept: None,
            device,
            ranks: Ranks::default(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &DistillConfig {
        &self.config
    }

    /// What the teacher says of each micro-batch, at one scale over all of them.
    fn teach(&mut self, micro_batches: &[Views]) -> Result<Vec<Taught>> {
        let [_, _, height, width] = micro_batches[0].global.dims();
        let grid = self.config.backbone.grid(height, width);
        let grid = (self.config.patch_weight > 0.0).then_some(grid);
        let own = self.ranks.own_shards();
        let (teacher, repeated) = (&self.teacher, self.config.repeated_crops);
        let mut teach = |views: &Views| match repeated {
            true => teacher.teach_once(views, grid, self.kept.as_mut()),
            false => Ok(teacher.teach(views, grid)),
        };
        let mut taught: Vec<Taught> = micro_batches
            .iter()
            .map(&mut teach)
            .collect::<Result<_>>()?;
        let features = of_shards(&taught, own, |taught| Some(taught.feature.clone()));
        self.features.follow(&features, &self.ranks)?;
        if self.config.patch_weight > 0.0 {
            let patches = of_shards(&taught, own, |taught| taught.patches.clone());
            self.patches.follow(&patches, &self.ranks)?;
        }
        for taught in &mut taught {
            taught.feature = self.features.apply(taught.feature.clone());
            taught.patches = taught.patches.take().map(|x| self.patches.apply(x));
        }
        Ok(taught)
    }
}

/// A part of what the teacher says, by shard and micro-batch.
fn of_shards(
    taught: &[Taught],
    shards: usize,
    of: impl Fn(&Taught) -> Option<Tensor<2>>,
) -> Vec<Vec<Tensor<2>>> {
    let own = |shard| taught.iter().skip(shard).step_by(shards);
    (0..shards)
        .map(|shard| own(shard).filter_map(&of).collect())
        .collect()
}

impl Method for Distill {
    fn name(&self) -> &'static str {
        "distill"
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn check(&self, shape: BatchShape) -> Result<()> {
        check::batch_norm_alone(&self.config.backbone, shape.accumulate)
    }

    fn distribute(&mut self, ranks: &Ranks) -> Result<()> {
        check::batch_norm_of_whole(&self.config.backbone, self.learned(), ranks)?;
        self.ranks = ranks.clone();
        self.kept = self.kept.take().filter(|_| ranks.size() == 1);
        Ok(())
    }

    /// Keeps the teacher's outputs, in half precision, if the settings say that crops come again; in one
    /// process.
    fn keep_in(&mut self, folder: &Path) -> Result<()> {
        let keeps = self.config.repeated_crops && self.ranks.size() == 1;
        self.kept = keeps.then(|| self.teacher.kept_in(folder));
        Ok(())
    }

    /// One update of the student towards what the teacher says of the global views. Cutting a batch
    /// differently changes nothing but rounding.
    fn step(&mut self, micro_batches: &[Views], hp: &StepHyperparams) -> Result<StepReport> {
        self.student.freeze_backbone(hp.backbone_frozen());
        let ranks = self.ranks.clone();
        let sizes = || micro_batches.iter().map(|views| views.batch);
        let batch = sizes().sum::<usize>() * ranks.size();
        let places: Vec<Range<usize>> = ranks.images(sizes());
        let mut timings = StepTimings::start();
        let taught = self.teach(micro_batches)?;
        timings.lap("teacher");

        let weights = [
            ("feature", self.config.feature_weight),
            ("patches", self.config.patch_weight),
            ("drift", self.config.adapt.preserve),
        ];
        let mut gradients = GradientSum::new(&self.student);
        let mut losses = Vec::new();
        let mut seen = Vec::new();
        let own = ranks.own_shards();
        for shard in 0..own {
            let mut sums = [0.0; 3];
            for number in (shard..micro_batches.len()).step_by(own) {
                let (views, taught) = (&micro_batches[number], &taught[number]);
                let dropped = self.dropout.draw(hp.step, 2, places[number].clone());
                let joints = Joints::of(&self.config.backbone, &ranks, micro_batches.len());
                let dropped = dropped.with_joints(joints);
                let tokens = self
                    .student
                    .tokens(Tensor::from_inner(views.global.clone()), &dropped);
                let [b, n, d] = tokens.patches.dims();
                let feature = tokens.feature(self.student.feature);
                let patches = tokens.patches.reshape([b * n, d]);
                let joints = dropped.into_joints();
                let [feature, patches] = joints.join([feature, patches]);
                let head = &self.student.head;
                let of_feature = unexplained(head.forward(feature.clone()), taught.feature.clone());
                let predicted = head.forward_patches(patches);
                let of_patches = predicted.zip(taught.patches.clone());
                let of_patches = of_patches.map(|(predicted, x)| unexplained(predicted, x));
                let drift = self.preserved.as_ref().map(|preserved| {
                    let original = preserved.features(views);
                    preserved.drift(feature.clone(), original)
                });
                if number + own >= micro_batches.len() {
                    seen.push(feature.without_autodiff());
                }
                timings.lap("student");

                let share = views.batch as f64 / batch as f64;
                let terms = [Some(of_feature), of_patches, drift];
                let mut loss: Option<Tensor<1>> = None;
                for ((sum, term), (_, weight)) in sums.iter_mut().zip(terms).zip(weights) {
                    let Some(term) = term else { continue };
                    *sum += share * check::scalar(&term);
                    // Also with a weight of 0: every parameter that is trained has a gradient.
                    let term = term * (weight * share);
                    loss = Some(match loss {
                        Some(loss) => loss + term,
                        None => term,
                    });
                }
                timings.lap("loss");
                let loss = loss.expect("the first term is there");
                gradients.add_pieces(&self.student, loss.backward(), joints, &ranks)?;
                timings.lap("backward");
            }
            gradients.end_shard();
            losses.extend(sums);
        }
        let losses = ranks.of_all_shards(&losses)?;
        let of_all = |which: usize| losses.iter().skip(which).step_by(3).sum::<f64>();
        let there = [
            true,
            self.config.patch_weight > 0.0,
            self.preserved.is_some(),
        ];
        let mut terms = Vec::new();
        let mut loss = 0.0;
        for (which, (name, weight)) in weights.into_iter().enumerate() {
            if there[which] {
                terms.push((name, of_all(which)));
                loss += weight * of_all(which);
            }
        }
        check::finite(loss, hp.step)?;
        gradients.reduce(&ranks)?;
        let features = ranks.gather(seen, 2)?;
        timings.lap("ranks");

        let config = &self.config;
        let rule = config.adapt.rule(&config.backbone, hp, config.clip_grad);
        let (student, optimiser) = (&mut self.student, &mut self.optimiser);
        let grad_norms = update(student, gradients, optimiser, &rule, None);
        let momentum = self.average.follow(&self.student, hp);
        timings.lap("update");

        Ok(StepReport {
            timings,
            loss,
            terms,
            scheduled: vec![("average_momentum", momentum)],
            grad_norms,
            outputs: Outputs {
                features,
                prototypes: None,
                patches: None,
                embeddings: None,
            },
        })
    }

    fn learned(&self) -> &dyn Parameters {
        &self.student
    }

    fn backbone(&self) -> &dyn Backbone {
        &self.average.backbone
    }

    /// The weights of what is predicted: predicting the mean of the targets explains nothing.
    fn loss_of_guessing(&self) -> Option<f64> {
        let guessing = self.config.feature_weight + self.config.patch_weight;
        self.preserved.is_none().then_some(guessing)
    }

    fn state(&self) -> State {
        let mut state = State::default();
        state.put_network("network", &self.student);
        self.average.put(&mut state);
        self.teacher.put(&mut state);
        for standard in [&self.features, &self.patches] {
            standard.put(&mut state);
        }
        if let Some(preserved) = &self.preserved {
            preserved.put(&mut state);
        }
        state.put_optimiser(&self.student, &self.optimiser);
        state
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.teacher.check(state)?;
        state.load_network("network", &mut self.student)?;
        self.average.restore(state)?;
        for standard in [&mut self.features, &mut self.patches] {
            standard.restore(state)?;
        }
        if let Some(preserved) = &mut self.preserved {
            preserved.restore(state)?;
        }
        state.load_optimiser(&self.student, &mut self.optimiser, &self.device)
    }

    /// Takes the backbone; the projections start from random weights.
    fn start_from(&mut self, weights: &Weights, options: LoadOptions) -> Result<LoadReport> {
        let report = load(&mut self.student.backbone, "backbone", weights, options)?;
        self.average.start_from(weights, options)?;
        if let Some(preserved) = &mut self.preserved {
            preserved.start_from(weights, options)?;
        }
        self.student.rebase();
        Ok(report)
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("method".to_owned(), self.name().to_owned()),
            self.config.feature.metadata_entry(),
            ("evaluated".to_owned(), "average".to_owned()),
            self.config.backbone.metadata_entry(),
            ("regression".to_owned(), json(self.student.head.config())),
        ])
    }
}

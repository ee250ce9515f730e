//! The teacher's targets: centred, or balanced over a batch.

use burn::tensor::Tensor;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{ProjectionHead, ops};
use serde::{Deserialize, Serialize};

use super::Dino;
use crate::{Result, Views};

/// What keeps the teacher from preferring some prototypes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Centering {
    /// The moving average of its logits is taken off them (paper, section 3.1).
    #[default]
    Centre,
    /// Sinkhorn–Knopp: the targets of a batch use all prototypes alike (SwAV; DINOv2).
    Sinkhorn,
}

/// What the teacher makes of the global views of a micro-batch.
pub(super) struct Taught {
    /// Features, `[2·B, F]`.
    pub features: Tensor<2>,
    /// Logits that the targets are a softmax of, `[2·B, K]`: raw ones, where there is a centre.
    pub logits: Tensor<2>,
    /// Targets, `[2·B, K]`.
    pub targets: Tensor<2>,
}

impl Dino {
    /// The teacher sees the global views only, and nothing records how.
    fn teach(&self, views: &Views) -> (Tensor<2>, Tensor<2>) {
        let global = vec![views.global.clone()];
        let features = self.teacher.features(global, &NoDropPath);
        let logits = self.teacher.head.forward(features.clone());
        (features, logits)
    }

    /// Targets `softmax((t − c) / T_t)`.
    pub(super) fn centred(&self, views: &Views, temperature: f64) -> Taught {
        let (features, logits) = self.teach(views);
        let centre = self.centre.clone().expect("there is a centre");
        Taught {
            targets: ops::teacher_probabilities(logits.clone(), centre, temperature),
            features,
            logits,
        }
    }

    /// Sinkhorn–Knopp targets of all images of a step, cut into its micro-batches.
    ///
    /// # Errors
    /// [`crate::Error::Ranks`].
    pub(super) fn balanced(
        &self,
        micro_batches: &[Views],
        temperature: f64,
    ) -> Result<Vec<Option<Taught>>> {
        let taught: Vec<_> = micro_batches
            .iter()
            .map(|views| self.teach(views))
            .collect();
        let own = self.ranks.own_shards();
        // The shards of all processes, micro-batch by micro-batch.
        let logits = taught.chunks(own).map(|shards| {
            let logits = shards.iter().map(|(_, logits)| logits.clone());
            self.ranks.gather(logits.collect(), 2)
        });
        let logits = logits.collect::<Result<Vec<_>>>()?;
        let targets = balance(logits, temperature);
        let mut cut = Vec::new();
        for (shards, all) in taught.chunks(own).zip(targets) {
            let sizes = shards.iter().map(|(features, _)| features.dims()[0]);
            let targets = self.ranks.own_rows(all, 2, sizes);
            for ((features, _), targets) in shards.iter().zip(targets) {
                cut.push(Some(Taught {
                    features: features.clone(),
                    logits: logits_of(&targets, temperature),
                    targets,
                }));
            }
        }
        Ok(cut)
    }
}

/// Sinkhorn–Knopp targets of the rows of all parts together, `[R, K]` each, cut into the parts again.
pub(in crate::method) fn balance(parts: Vec<Tensor<2>>, temperature: f64) -> Vec<Tensor<2>> {
    let rows: Vec<usize> = parts.iter().map(|part| part.dims()[0]).collect();
    let targets = ops::sinkhorn(Tensor::cat(parts, 0), temperature);
    let mut first = 0;
    let cut = |rows: usize| {
        first += rows;
        targets.clone().narrow(0, first - rows, rows)
    };
    rows.into_iter().map(cut).collect()
}

/// Logits that targets are a softmax of.
pub(in crate::method) fn logits_of(targets: &Tensor<2>, temperature: f64) -> Tensor<2> {
    let positive = targets.clone().clamp_min(f64::from(f32::MIN_POSITIVE));
    positive.log() * temperature
}

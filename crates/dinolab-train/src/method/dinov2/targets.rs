//! The teacher's targets for class tokens and masked patches: centred, or balanced over a step.

use std::ops::Range;

use burn::tensor::Tensor;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{ProjectionHead, ops};

use super::DinoV2;
use crate::masks::StepMasks;
use crate::method::dino::Centering;
use crate::method::dino::targets::{balance, logits_of};
use crate::{Result, Views};

/// The images of a shard of a micro-batch, and what is masked of them.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Their places in the batch of the step.
    pub images: Range<usize>,
    /// Rows of masked patches among those of all their global views.
    pub rows: Vec<usize>,
}

impl Part {
    /// Of images whose global views have `patches` patches each.
    pub(super) fn new(masks: &StepMasks, images: Range<usize>, patches: usize) -> Self {
        let rows = masks.rows(images.clone(), patches);
        Self { images, rows }
    }
}

/// Logits and targets of rows.
#[derive(Clone)]
pub(super) struct Assigned {
    /// Logits that the targets are a softmax of, `[R, K]`: raw ones, where there is a centre.
    pub logits: Tensor<2>,
    /// Targets, `[R, K]`.
    pub targets: Tensor<2>,
}

/// What the teacher makes of the global views of a shard.
#[derive(Clone)]
pub(super) struct Taught {
    /// Class tokens, `[2·b, D]`.
    pub features: Tensor<2>,
    /// Of class tokens, `[2·b, K]`.
    pub class: Assigned,
    /// Of patch tokens at masked places, `[m, K']`, if there are any.
    pub patches: Option<Assigned>,
}

/// Class tokens, and the logits of class and of patch tokens.
type Outputs = (Tensor<2>, Tensor<2>, Option<Tensor<2>>);

impl DinoV2 {
    /// The teacher sees the global views only, all of their patches, and nothing records how.
    fn outputs(&self, views: &Views, part: &Part) -> Outputs {
        let global = vec![views.global.clone()];
        let (class, patches) = self.teacher.features(global, &part.rows, &NoDropPath);
        let logits = self.teacher.head.forward(class.clone());
        let patches = patches.map(|x| self.teacher.patch_head().forward(x));
        (class, logits, patches)
    }

    /// Targets of all shards of this process, micro-batch by micro-batch.
    ///
    /// # Errors
    /// [`crate::Error::Ranks`].
    pub(super) fn teach(
        &self,
        micro_batches: &[Views],
        parts: &[Part],
        masks: &StepMasks,
        temperature: f64,
    ) -> Result<Vec<Taught>> {
        let outputs = micro_batches.iter().zip(parts);
        let outputs: Vec<Outputs> = outputs
            .map(|(views, part)| self.outputs(views, part))
            .collect();
        if self.config.centering == Centering::Sinkhorn {
            return self.balanced(outputs, parts, masks, temperature);
        }
        let centred = |logits: Tensor<2>, centre: &Option<Tensor<1>>| {
            let centre = centre.clone().expect("there is a centre");
            Assigned {
                targets: ops::teacher_probabilities(logits.clone(), centre, temperature),
                logits,
            }
        };
        let taught = outputs
            .into_iter()
            .map(|(features, logits, patches)| Taught {
                features,
                class: centred(logits, &self.centre),
                patches: patches.map(|logits| centred(logits, &self.patch_centre)),
            });
        Ok(taught.collect())
    }

    /// Sinkhorn–Knopp targets, of all class tokens of a step and of all its masked patches.
    fn balanced(
        &self,
        outputs: Vec<Outputs>,
        parts: &[Part],
        masks: &StepMasks,
        temperature: f64,
    ) -> Result<Vec<Taught>> {
        let (ranks, own) = (&self.ranks, self.ranks.own_shards());
        // The shards of all processes, micro-batch by micro-batch.
        let (mut class, mut patches) = (Vec::new(), Vec::new());
        for shards in outputs.chunks(own) {
            let logits = shards.iter().map(|(_, logits, _)| logits.clone());
            class.push(ranks.gather(logits.collect(), 2)?);
            if let Some(prototypes) = self.config.patch_prototypes() {
                let logits = shards.iter().map(|(_, _, logits)| logits.clone());
                patches.push(ranks.gather_some(logits.collect(), prototypes, &self.device)?);
            }
        }
        let class = balance(class, temperature);
        let there: Vec<_> = patches.iter().flatten().cloned().collect();
        let mut balanced = match there.is_empty() {
            true => Vec::new(),
            false => balance(there, temperature),
        }
        .into_iter();
        // Back to micro-batches, of which some have no masked patch.
        let mut patches = patches
            .iter()
            .map(|there| there.as_ref().and_then(|_| balanced.next()));

        let assigned = |targets: Tensor<2>| Assigned {
            logits: logits_of(&targets, temperature),
            targets,
        };
        let mut taught = Vec::with_capacity(outputs.len());
        let shards = outputs.chunks(own).zip(parts.chunks(own));
        for ((shards, parts), all_class) in shards.zip(class) {
            let all_patches = patches.next().flatten();
            let sizes = shards.iter().map(|(class, _, _)| class.dims()[0]);
            let images: usize = sizes.clone().sum::<usize>() / 2;
            // The first image of the micro-batch, of which processes before have the beginning.
            let first = parts[0].images.start - ranks.rank() * images;
            let class = ranks.own_rows(all_class, 2, sizes);
            for (((features, _, _), part), class) in shards.iter().zip(parts).zip(class) {
                let before = masks.count(first..part.images.start);
                let own = all_patches.clone().filter(|_| !part.rows.is_empty());
                let own = own.map(|all| all.narrow(0, before, part.rows.len()));
                taught.push(Taught {
                    features: features.clone(),
                    class: assigned(class),
                    patches: own.map(assigned),
                });
            }
        }
        Ok(taught)
    }
}

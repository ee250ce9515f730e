//! Outputs, embeddings and features that are alike for every image.

use super::{Case, FailureMode, Warning, limit};
use crate::health::Health;
use crate::health::remedy::{Remedy, each};

impl Case<'_> {
    pub(super) fn uniform_output(&self) -> Option<Warning> {
        let uniform = |h: &Health| {
            h.teacher_entropy
                .is_some_and(|e| e > limit::UNIFORM * self.ln_k)
                && h.cross_entropy()
                    .is_none_or(|l| (l - self.ln_k).abs() < limit::AT_LN_K * self.ln_k)
        };
        if !self.persists(uniform) || self.now.out_dim < 2 {
            return None;
        }
        let mut remedies = each(Remedy::Resume, [self.context.sharper_teacher()]);
        remedies.extend(each(
            Remedy::NewRun,
            [
                self.context.fewer_prototypes(self.now.out_dim),
                self.context.longer_warmup(),
            ],
        ));
        Some(Warning {
            failure: FailureMode::UniformOutput,
            seen: format!(
                "The teacher's entropy is {:.3} of at most {:.3} (ln K){}.",
                self.now.teacher_entropy?,
                self.ln_k,
                self.now
                    .cross_entropy()
                    .map_or_else(String::new, |l| format!(" and the loss stays at {l:.3}")),
            ),
            meaning: "Every image gets the same weight on every prototype: the output has \
                      collapsed to uniform and nothing is learned."
                .into(),
            remedies,
        })
    }

    /// What a loss tells where there is no other figure of the outputs.
    pub(super) fn loss_alone(&self) -> Option<Warning> {
        if self.now.teacher_entropy.is_some() || self.now.out_dim < 2 {
            return None;
        }
        let loss = self.now.cross_entropy()?;
        let guessing = |h: &Health| {
            h.cross_entropy()
                .is_some_and(|l| (l - self.ln_k).abs() < limit::AT_LN_K * self.ln_k)
        };
        let vanished = |h: &Health| {
            h.cross_entropy()
                .is_some_and(|l| l < limit::AT_LN_K * self.ln_k)
        };
        let (failure, meaning) = if self.persists(guessing) {
            (
                FailureMode::UniformOutput,
                "That is guessing: the output is uniform, or the loss is not of the outputs, as with a \
                 softmax too many.",
            )
        } else if self.persists(vanished) {
            (
                FailureMode::ConstantOutput,
                "No two views are that alike: every image gets the same output, as without a centre.",
            )
        } else {
            return None;
        };
        Some(Warning {
            failure,
            seen: format!("The loss stays at {loss:.3}; ln K is {:.3}.", self.ln_k),
            meaning: meaning.into(),
            remedies: vec![Remedy::Correct(
                "log the entropies of the teacher's targets, which tell the cause".into(),
            )],
        })
    }

    pub(super) fn constant_output(&self) -> Option<Warning> {
        let same = |h: &Health| {
            let most = (h.rows.max(2) as f64).min(h.out_dim as f64).ln();
            h.mutual_information
                .is_some_and(|i| most > 0.0 && i < limit::SAME_OUTPUT * most)
                && h.teacher_entropy
                    .is_some_and(|e| e <= limit::UNIFORM * self.ln_k)
        };
        if !self.persists(same) {
            return None;
        }
        let prototypes = self.now.marginal_entropy?.exp();
        Some(Warning {
            failure: FailureMode::ConstantOutput,
            seen: format!(
                "All images together use about {prototypes:.1} of {} prototypes, and every image \
                 uses the same ones (entropy {:.3} per image, {:.3} over all images).",
                self.now.out_dim, self.now.teacher_entropy?, self.now.marginal_entropy?,
            ),
            meaning: "Every image gets the same output: it has collapsed to a constant, and a \
                      low loss means nothing."
                .into(),
            remedies: each(
                Remedy::Resume,
                [
                    self.context.centring(),
                    self.context.slower_teacher(),
                    self.context.lower_lr(),
                    self.context.warmer_teacher(),
                ],
            ),
        })
    }

    pub(super) fn feature_collapse(&self) -> Option<Warning> {
        let collapsed = |h: &Health| {
            h.feature_std.is_some_and(|s| s < limit::FEATURE_SPREAD)
                || h.feature_rank.is_some_and(|r| r < limit::FEATURE_RANK)
        };
        // Three images span a plane at most: no rank to judge.
        if !self.persists(collapsed) || self.context.images < 4 {
            return None;
        }
        Some(Warning {
            failure: FailureMode::FeatureCollapse,
            seen: format!(
                "The features' standard deviation is {:.4} (0: constant, 1: even) and their \
                 effective rank {:.2}.",
                self.now.feature_std?, self.now.feature_rank?
            ),
            meaning: "The backbone gives nearly the same feature to every image, or features \
                      along a single line."
                .into(),
            // Features that are alike give no gradient that tells them apart again.
            remedies: each(
                Remedy::NewRun,
                [
                    self.context.lower_lr(),
                    self.context.less_decay(),
                    self.context.longer_warmup(),
                ],
            )
            .into_iter()
            .chain([Remedy::CheckImages])
            .collect(),
        })
    }

    pub(super) fn embedding_collapse(&self) -> Option<Warning> {
        let collapsed = |h: &Health| {
            h.embedding_std.is_some_and(|s| s < limit::EMBEDDING_STD)
                || h.embedding_rank.is_some_and(|r| r < limit::EMBEDDING_RANK)
        };
        if !self.persists(collapsed) || self.context.images < 4 {
            return None;
        }
        Some(Warning {
            failure: FailureMode::EmbeddingCollapse,
            seen: format!(
                "The embeddings' standard deviation is {:.4} and their effective rank {:.2}.",
                self.now.embedding_std?, self.now.embedding_rank?
            ),
            meaning:
                "The projection gives nearly the same embedding to every image, or embeddings \
                      along a single line: nothing is learned."
                    .into(),
            remedies: each(
                Remedy::NewRun,
                [
                    self.context.more_sigreg(),
                    self.context.more_visreg(),
                    self.context.more_coding_rate(),
                    self.context.lower_lr(),
                    self.context.longer_warmup(),
                ],
            )
            .into_iter()
            .chain([Remedy::CheckImages])
            .collect(),
        })
    }

    /// Masked patches that all have the same output, uniform or not.
    pub(super) fn patch_collapse(&self) -> Option<Warning> {
        let uniform = |h: &Health| {
            let most = h.patches.max_entropy();
            most > 0.0
                && h.patches
                    .patch_entropy
                    .is_some_and(|e| e > limit::UNIFORM * most)
                && h.patches
                    .patch_kl
                    .is_some_and(|kl| kl < limit::AT_LN_K * most)
        };
        let constant = |h: &Health| {
            let most = h.patches.max_entropy();
            let figures = h
                .patches
                .patch_entropy
                .zip(h.patches.patch_marginal_entropy);
            most > 0.0
                && figures.is_some_and(|(each, all)| {
                    all - each < limit::SAME_OUTPUT * most && each <= limit::UNIFORM * most
                })
        };
        let (entropy, remedies) = if self.persists(uniform) {
            (
                "the most there can be",
                [
                    self.context.sharper_teacher(),
                    self.context.lower_lr(),
                    None,
                ],
            )
        } else if self.persists(constant) {
            (
                "no less than over all patches",
                [
                    self.context.centring(),
                    self.context.slower_teacher(),
                    self.context.lower_lr(),
                ],
            )
        } else {
            return None;
        };
        Some(Warning {
            failure: FailureMode::PatchCollapse,
            seen: format!(
                "The teacher's entropy for a masked patch is {:.3} of at most {:.3} (ln K), {entropy}.",
                self.now.patches.patch_entropy?,
                self.now.patches.max_entropy()
            ),
            meaning: "Every masked patch gets the same output: predicting them teaches nothing."
                .into(),
            remedies: each(Remedy::Resume, remedies),
        })
    }
}

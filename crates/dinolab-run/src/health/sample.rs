//! What is measured of a step.

/// What one sampled step shows of the outputs.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Backbone features of any images, `[M, D]`, normalised or not. May be empty.
    pub features: &'a [f32],
    /// D; ignored where there are no features.
    pub feature_dim: usize,
    /// Outputs over prototypes, if the meter is for those.
    pub prototypes: Option<PrototypeSample<'a>>,
    /// Embeddings, of a method that has them.
    pub embeddings: Option<EmbeddingSample<'a>>,
}

/// Outputs over prototypes.
#[derive(Clone, Copy, Debug)]
pub struct PrototypeSample<'a> {
    /// Raw teacher logits `[N, K]`, before centre and temperature.
    pub teacher: &'a [f32],
    /// Raw student logits `[N, K]`: row *n* is another view of the image of teacher row *n*.
    /// May be empty: then there is no KL.
    pub student: &'a [f32],
    /// The centre that the step used, `[K]`, if there is one.
    pub centre: Option<&'a [f32]>,
    /// T_t, above 0.
    pub teacher_temp: f64,
    /// T_s, above 0 (0.1 in the reference).
    pub student_temp: f64,
}

/// Outputs over prototypes for masked patches.
#[derive(Clone, Copy, Debug)]
pub struct PatchSample<'a> {
    /// K of the patches.
    pub out_dim: usize,
    /// Share of the patches of global views that are masked, 0–1.
    pub masked: f64,
    /// The outputs; row *n* of teacher and student is of the same patch. May be empty.
    pub prototypes: PrototypeSample<'a>,
}

/// Outputs of a plain projection.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingSample<'a> {
    /// Embeddings `[N, d]`.
    pub rows: &'a [f32],
    /// d.
    pub dim: usize,
}

//! Sizes of a batch of embeddings.

/// Sizes of embeddings `[V·B, d]`, view-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingShape {
    /// Images, `B`.
    pub batch: usize,
    /// Views of each image, `V`.
    pub views: usize,
    /// Width of an embedding, `d`.
    pub width: usize,
}

impl EmbeddingShape {
    /// Panics unless `z` has these sizes and `directions` `[S, d]` fit them. Returns `S`.
    pub(crate) fn check(self, z: &[f32], directions: &[f32]) -> usize {
        let Self {
            batch,
            views,
            width,
        } = self;
        assert!(batch > 0 && views > 0 && width > 0);
        assert_eq!(z.len(), views * batch * width);
        assert!(!directions.is_empty() && directions.len().is_multiple_of(width));
        directions.len() / width
    }
}

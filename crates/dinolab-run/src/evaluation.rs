//! The figures of an evaluation while training.

/// Figures of one evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// k-NN accuracy in percent, if there are labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn: Option<f64>,
    /// The same of whitened features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn_whitened: Option<f64>,
    /// Mean Jaccard index of the best head against object masks, in percent, if there are masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jaccard: Option<f64>,
}

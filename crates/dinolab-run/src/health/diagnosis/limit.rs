//! Limits of a diagnosis, with their reasons.

/// Complete epochs before outputs or features are checked (besides warm-up): a fresh
/// network's outputs are close to uniform and its features alike.
pub const GRACE_EPOCHS: usize = 2;
/// Steps before they are checked: an epoch of a small set is only a few steps.
pub const GRACE_STEPS: u64 = 200;
/// Information, as a share of the most that the sampled rows could show, under which
/// the output is called the same for every image. Sampling can only overstate it.
pub const SAME_OUTPUT: f64 = 0.005;
/// Entropy, as a share of ln K, above which a row is uniform. At teacher temperature
/// 0.04 logits need only differ by a hundredth to get below.
pub const UNIFORM: f64 = 0.98;
/// Loss within this share of ln K is "stuck at ln K".
pub const AT_LN_K: f64 = 0.02;
/// Loss above ln K by this factor is worse than guessing. A fresh student is at ln K.
pub const WORSE_THAN_GUESSING: f64 = 1.25;
/// Epochs in a row that a figure has to rise.
pub const RISES: usize = 3;
/// Rise over them, as a share of ln K, of the loss above the teacher's entropy. The
/// entropy itself may rise by nats while a network learns, and the loss with it.
pub const LOSS_RISE: f64 = 0.1;
/// Gradient norm against the median of earlier epochs. Ordinary runs vary by 2 to 4.
pub const GRADIENT_RISE: f64 = 10.0;
/// Spread of 0.03 is a mean cosine of 0.999 between images; a fresh ViT is near 0.1.
pub const FEATURE_SPREAD: f64 = 0.03;
/// One direction holds nearly all the variance.
pub const FEATURE_RANK: f64 = 1.5;
/// Standard deviation of embeddings that are nearly constant. SIGReg draws it to 1.
pub const EMBEDDING_STD: f64 = 0.1;
/// One direction holds nearly all the variance of the embeddings.
pub const EMBEDDING_RANK: f64 = 1.5;
/// KL, as a share of ln K, that is much. A student that follows is at a tenth or two.
pub const KL: f64 = 0.3;

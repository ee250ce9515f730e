//! Learning rates that fall from layer to layer.

/// What the learning rate of a parameter of the backbone is multiplied by: `decay` once for each
/// layer that lies between it and the head. Block `depth − 1` counts one, the embeddings
/// `depth + 1`, the final norm and the head none.
pub fn layer_rate(name: &str, depth: usize, decay: f64) -> f64 {
    let Some(name) = name.strip_prefix("backbone.") else {
        return 1.0;
    };
    let layers = match name.strip_prefix("blocks.") {
        Some(rest) => {
            let block = rest
                .split('.')
                .next()
                .and_then(|number| number.parse().ok());
            depth.saturating_sub(block.unwrap_or(0))
        }
        None if name.starts_with("norm.") => 0,
        None => depth + 1,
    };
    decay.powi(layers as i32)
}

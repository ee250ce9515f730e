//! The classes of the built-in set.

/// The object classes, in label order.
pub const CLASSES: [&str; 16] = [
    "arrow", "bolt", "crescent", "cross", "disc", "fish", "flower", "gear", "heart", "key",
    "ladder", "ring", "spiral", "square", "star", "triangle",
];

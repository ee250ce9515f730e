//! Reasons for refusing a file.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Error, Result};

/// Why a file cannot be used; the caller adds the name.
pub(crate) type Reason = String;

/// The side, in pixels, that an image must have at least.
const MIN_SIDE: u64 = 2;

/// Runs a decoder. A panic means an unexpected file and does not end a run.
pub(crate) fn caught<T>(decode: impl FnOnce() -> Result<T, Reason>) -> Result<T, Reason> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err("damaged: its decoder gave up on it (a panic)".into()))
}

/// Why a sound file is not used: what it is, and what to do with it.
pub(super) fn not_read(what: &str, instead: &str) -> Reason {
    format!("not read by dinolab: {what}; {instead}")
}

pub(super) fn bad(name: &str, reason: Reason) -> Error {
    Error::BadImage {
        name: name.to_owned(),
        reason,
    }
}

pub(super) fn check_size(width: u64, height: u64, max_pixels: u64) -> Result<(), Reason> {
    if width < MIN_SIDE || height < MIN_SIDE {
        return Err(format!(
            "{width}×{height} pixels is too small, the least is {MIN_SIDE}×{MIN_SIDE}"
        ));
    }
    if width.saturating_mul(height) > max_pixels {
        return Err(format!(
            "{width}×{height} pixels is over the limit of {max_pixels}"
        ));
    }
    Ok(())
}

//! Checks of slices whose shape is told apart from them.

/// Why a slice cannot be what it is said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// It does not have the length that its shape requires.
    #[error("{what}: expected {expected} values, found {found}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// Length that the shape requires.
        expected: usize,
        /// Length that was given.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("{what}: value {index} is not finite")]
    NonFinite {
        /// Which argument.
        what: &'static str,
        /// Position in the slice.
        index: usize,
    },
}

/// Checks that the argument `what` has as many values as its shape requires.
///
/// # Errors
/// [`SliceError::Length`] unless `found == expected`.
pub fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), SliceError> {
    if expected == found {
        Ok(())
    } else {
        Err(SliceError::Length {
            what,
            expected,
            found,
        })
    }
}

/// Checks that the values of the argument `what` are numbers.
///
/// # Errors
/// [`SliceError::NonFinite`] for the first that is NaN or infinite.
pub fn check_finite(what: &'static str, values: &[f32]) -> Result<(), SliceError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(SliceError::NonFinite { what, index }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(check_length("mask", 4, 4), Ok(()));
        let error = check_length("mask", 4, 3).unwrap_err();
        assert_eq!(error.to_string(), "mask: expected 4 values, found 3");
        assert_eq!(check_finite("map", &[0.0, -1.0]), Ok(()));
        let error = check_finite("map", &[0.0, f32::NAN, f32::INFINITY]).unwrap_err();
        assert_eq!(error.to_string(), "map: value 1 is not finite");
    }
}

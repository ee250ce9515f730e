//! Resampling filters.

/// The kernel of a resize. All are stretched when shrinking (antialiased).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Cubic convolution with a = −0.5.
    Bicubic,
    /// A triangle.
    Bilinear,
    /// A windowed sinc of three lobes.
    Lanczos,
}

impl Filter {
    /// Pixels to either side of the centre that have weight, where nothing shrinks.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The filter's name in the crate that resizes planes of numbers.
    pub(in crate::augment) fn kernel(self) -> fast_image_resize::FilterType {
        match self {
            Self::Bicubic => fast_image_resize::FilterType::CatmullRom,
            Self::Bilinear => fast_image_resize::FilterType::Bilinear,
            Self::Lanczos => fast_image_resize::FilterType::Lanczos3,
        }
    }
}

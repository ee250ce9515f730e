//! A decoded image and its label map.

/// An 8-bit image, interleaved: `data[(y * width + x) * channels + c]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values per pixel (3 unless asked otherwise).
    pub channels: usize,
    /// `height × width × channels` values in 0–255.
    pub data: Vec<u8>,
}

/// A label per pixel: 0 is background, 255 is void (left out of scores), any other
/// value is an object's or a class's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height × width` labels.
    pub data: Vec<u8>,
}

impl Image {
    /// A black image.
    pub fn new(width: usize, height: usize, channels: usize) -> Self {
        Self {
            width,
            height,
            channels,
            data: vec![0; width * height * channels],
        }
    }
}

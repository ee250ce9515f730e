//! Why a file is not decoded.

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file is not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes do not begin like a JPEG.
    #[error("not a JPEG: it does not begin with the bytes FF D8")]
    NotJpeg,
    /// The file ends before its end-of-image marker.
    #[error("truncated JPEG: it ends before the image does")]
    Truncated,
    /// The file contradicts itself.
    #[error("damaged JPEG: {0}")]
    Damaged(Damage),
    /// The file may be sound, but is of a kind that is not decoded.
    #[error("{0} is not supported")]
    Unsupported(Unsupported),
    /// The image has more pixels than allowed.
    #[error("{width}×{height} pixels is over the limit of {limit}")]
    TooLarge {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The most pixels that are decoded.
        limit: u64,
    },
    /// The file can be decoded, but only at its full size.
    #[error("a JPEG of this kind can only be decoded at its full size")]
    FullSizeOnly,
}

/// What is wrong with a damaged file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Image data are missing.
    #[error("its data end before the image does")]
    Incomplete,
    /// There are more image data than the image has room for.
    #[error("its data continue past the end of the image")]
    Surplus,
    /// Image data that no encoder writes.
    #[error("its data are invalid")]
    Invalid,
    /// There is no frame header, or one that is too short.
    #[error("it has no frame header")]
    NoFrame,
    /// The frame header has room for fewer components than it announces.
    #[error("its frame header is cut off")]
    ShortFrame,
    /// A precision that no JPEG has.
    #[error("its sample precision is impossible")]
    Precision,
    /// A segment whose length does not include the length itself.
    #[error("a segment is shorter than its own length field")]
    Segment,
    /// There is no scan before the end-of-image marker.
    #[error("it holds no image data")]
    NoScan,
    /// The decoder of less common files gave up; its own words.
    #[error("{0}")]
    Other(String),
}

/// A kind of JPEG that is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// Samples of 12 bits.
    #[error("JPEG of 12 bits")]
    TwelveBits,
    /// Lossless coding with Huffman codes.
    #[error("lossless JPEG")]
    Lossless,
    /// Arithmetic instead of Huffman coding.
    #[error("JPEG with arithmetic coding")]
    Arithmetic,
    /// Hierarchical, or lossless with arithmetic coding.
    #[error("JPEG of a rare kind (hierarchical, or lossless with arithmetic coding)")]
    Rare,
    /// A number of components other than 1, 3 and 4.
    #[error("JPEG of {0} components")]
    Components(usize),
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<Unsupported> for Error {
    fn from(kind: Unsupported) -> Self {
        Self::Unsupported(kind)
    }
}

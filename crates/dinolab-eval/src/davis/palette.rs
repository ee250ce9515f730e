//! The palette of mask files.

/// Returns the 256 colours of labels in DAVIS and Pascal VOC: the bits of a label, three at a
/// time, are the high bits of red, green and blue. Label 0 is black.
pub(super) fn palette() -> [[u8; 3]; 256] {
    std::array::from_fn(|label| {
        let mut colour = [0u8; 3];
        for place in 0..8 {
            for (channel, value) in colour.iter_mut().enumerate() {
                let bit = label >> (3 * place + channel) & 1;
                *value |= (bit as u8) << (7 - place);
            }
        }
        colour
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_of_the_benchmark() {
        let palette = super::palette();
        assert_eq!(
            palette[..4],
            [[0; 3], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
        );
        assert_eq!(palette[8], [64, 0, 0]);
        assert_eq!(palette[255], [224, 224, 192]);
    }
}

//! Records of an event file (`TFRecord`): length, content, and a checksum of each.

use std::io::{self, Write};

/// Appends a record.
pub(super) fn write(out: &mut impl Write, content: &[u8]) -> io::Result<()> {
    let length = (content.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked(&length).to_le_bytes())?;
    out.write_all(content)?;
    out.write_all(&masked(content).to_le_bytes())
}

/// CRC-32C, turned and shifted: checksums of data that hold checksums would be weak otherwise.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_as_tensorflow_writes_it() {
        // The CRC-32C of RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        let mut out = Vec::new();
        write(&mut out, b"abc").unwrap();
        assert_eq!(out[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[8..12], [0xb0, 0x99, 0x49, 0x0e]);
        assert_eq!(out[12..15], *b"abc");
        assert_eq!(out[15..], [0x6e, 0x57, 0xf1, 0x21]);
    }
}

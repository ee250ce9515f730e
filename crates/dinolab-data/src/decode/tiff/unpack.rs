//! Byte-wise compressions: LZW, Deflate, PackBits.
//!
//! Each fills a part of a page of known size; what a file has beyond that is not looked at, so that
//! the size bounds time and memory. The number of bytes that were there is returned.

use flate2::{Decompress, FlushDecompress, Status};
use weezl::BitOrder;
use weezl::decode::Configuration;

/// LZW, with or without a code for its end.
pub(super) fn lzw(data: &[u8], out: &mut [u8]) -> usize {
    // The first code clears the table: 100000000, in old files from the lowest bit on.
    let is_old = matches!(data, [0, second, ..] if second & 1 == 1);
    let configuration = match is_old {
        true => Configuration::new(BitOrder::Lsb, 8),
        false => Configuration::with_tiff_size_switch(BitOrder::Msb, 8),
    };
    let mut decoder = configuration.with_yield_on_full_buffer(true).build();
    let (mut from, mut to) = (0, 0);
    while to < out.len() {
        let step = decoder.decode_bytes(&data[from..], &mut out[to..]);
        from += step.consumed_in;
        to += step.consumed_out;
        let stands_still = step.consumed_in == 0 && step.consumed_out == 0;
        if stands_still || !matches!(step.status, Ok(weezl::LzwStatus::Ok)) {
            break;
        }
    }
    to
}

/// Deflate with zlib's frame.
pub(super) fn deflate(data: &[u8], out: &mut [u8]) -> usize {
    let mut decoder = Decompress::new(true);
    let (mut from, mut to) = (0, 0);
    loop {
        // A byte of room behind the end lets the decoder come to the checksum.
        let mut behind = [0];
        let room: &mut [u8] = match to < out.len() {
            true => &mut out[to..],
            false => &mut behind,
        };
        let before = (from, to);
        let status = decoder.decompress(&data[from..], room, FlushDecompress::None);
        from = decoder.total_in() as usize;
        let all = decoder.total_out() as usize;
        match status {
            Ok(_) if all > out.len() => return out.len(),
            Ok(Status::StreamEnd) => return all,
            Ok(_) if (from, all) != before => to = all,
            // All there is.
            Ok(_) => return all,
            // The checksum of the data is wrong.
            Err(_) if all == out.len() => return 0,
            Err(_) => return all,
        }
    }
}

/// Runs and literal bytes.
pub(super) fn pack_bits(mut data: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    while let Some((&head, rest)) = data.split_first()
        && at < out.len()
    {
        let left = out.len() - at;
        data = match head as i8 {
            -128 => rest,
            count @ 0.. => {
                let count = usize::from(count as u8) + 1;
                let taken = count.min(left).min(rest.len());
                out[at..at + taken].copy_from_slice(&rest[..taken]);
                at += taken;
                &rest[count.min(rest.len())..]
            }
            count => {
                let Some((&value, rest)) = rest.split_first() else {
                    break;
                };
                let count = (1 + usize::from(count.unsigned_abs())).min(left);
                out[at..at + count].fill(value);
                at += count;
                rest
            }
        };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(values: &[u8]) -> Vec<u8> {
        let mut encoder =
            flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(values).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn deflated_data_are_taken_up_to_the_size_and_checked() {
        let values: Vec<u8> = (0..50_000u32).map(|i| (i * i / 7) as u8).collect();
        let data = packed(&values);
        for size in [0, 1, 100, 49_999, 50_000] {
            let mut out = vec![0; size];
            assert_eq!(deflate(&data, &mut out), size);
            assert_eq!(out, values[..size]);
        }
        let mut longer = vec![0; 50_001];
        assert_eq!(deflate(&data, &mut longer), 50_000);
        assert!(deflate(&data[..data.len() / 2], &mut longer) < 50_000);
        // Without its checksum, and with a wrong one.
        let mut out = vec![0; 50_000];
        assert_eq!(deflate(&data[..data.len() - 4], &mut out), 50_000);
        let mut wrong = data.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(deflate(&wrong, &mut out), 0);
    }

    #[test]
    fn lzw_needs_no_end() {
        let values: Vec<u8> = (0..9_000u32).map(|i| (i / 3 % 200) as u8).collect();
        for (order, old) in [(BitOrder::Msb, false), (BitOrder::Lsb, true)] {
            let mut encoder = match old {
                false => weezl::encode::Encoder::with_tiff_size_switch(order, 8),
                true => weezl::encode::Encoder::new(order, 8),
            };
            let data = encoder.encode(&values).unwrap();
            for lost in [0, 1, 4] {
                let mut out = vec![0; values.len()];
                let found = lzw(&data[..data.len() - lost], &mut out);
                // A byte holds no whole code: it was part of the end's.
                assert_eq!(found == values.len(), lost < 2, "{lost} {old}");
                assert_eq!(out[..found], values[..found]);
            }
            let mut out = vec![0; 10];
            assert_eq!(lzw(&data, &mut out), 10);
        }
    }

    #[test]
    fn bits_are_unpacked() {
        let mut out = [9; 7];
        let data = [0xFE, 5, 0x80, 1, 1, 2, 0, 3];
        assert_eq!(pack_bits(&data, &mut out), 6);
        assert_eq!(out, [5, 5, 5, 1, 2, 3, 9]);
        assert_eq!(pack_bits(&data, &mut out[..2]), 2);
        assert_eq!(pack_bits(&[4, 1], &mut out), 1);
        assert_eq!(pack_bits(&[0xFE], &mut out), 0);
    }
}

//! Decompression of pages, each to the size in its header at most.
//!
//! The `parquet` crate has no such limit: a page of a few kilobytes would be unpacked to as many
//! gigabytes as it likes.

use std::io::Read;

use bytes::Bytes;
use parquet::basic::CompressionCodec;

use crate::decode::Reason;

/// The largest page that is read, in bytes.
pub(super) const LARGEST: u64 = 1 << 30;

/// No page of images is packed as tightly: encoded images hardly shrink at all.
const TIGHTEST: u64 = 1024;
/// Pages up to this size may be packed as tightly as they like.
const SMALL: u64 = 1 << 16;

/// Refuses sizes that no valid page has, before anything is allocated.
pub(super) fn check(packed: u64, unpacked: u64) -> Result<(), Reason> {
    if packed.max(unpacked) > LARGEST {
        return Err(format!(
            "a page of {} bytes; the largest that is read has {LARGEST}",
            packed.max(unpacked)
        ));
    }
    if unpacked > SMALL + TIGHTEST * packed {
        return Err(format!(
            "damaged: a page of {packed} bytes says that it unpacks to {unpacked}"
        ));
    }
    Ok(())
}

/// Refuses a codec that is not read.
pub(super) fn check_codec(codec: CompressionCodec) -> Result<(), Reason> {
    use CompressionCodec::{BROTLI, GZIP, LZ4, LZ4_RAW, LZO, SNAPPY, UNCOMPRESSED, ZSTD};
    match codec {
        UNCOMPRESSED | SNAPPY | GZIP | BROTLI | ZSTD | LZ4_RAW => Ok(()),
        LZO | LZ4 => Err(format!(
            "its pages are compressed by {codec:?}, which is not read; write the file again with \
             SNAPPY, GZIP, BROTLI, ZSTD, LZ4_RAW or none"
        )),
    }
}

/// Unpacks a page of sizes that were checked.
pub(super) fn unpack(
    codec: CompressionCodec,
    packed: &Bytes,
    size: usize,
) -> Result<Bytes, Reason> {
    let damaged = |what: String| format!("damaged: a page that {codec:?} cannot unpack: {what}");
    if size == 0 && packed.is_empty() {
        return Ok(Bytes::new());
    }
    let wrong = || damaged(format!("it does not hold {size} bytes"));
    if codec == CompressionCodec::UNCOMPRESSED {
        return match packed.len() == size {
            true => Ok(packed.clone()),
            false => Err(wrong()),
        };
    }
    let packed: &[u8] = packed;
    let page = match codec {
        CompressionCodec::SNAPPY => match snap::raw::decompress_len(packed) {
            Ok(length) if length == size => snap::raw::Decoder::new()
                .decompress_vec(packed)
                .map_err(|e| damaged(e.to_string()))?,
            Ok(_) => return Err(wrong()),
            Err(error) => return Err(damaged(error.to_string())),
        },
        CompressionCodec::GZIP => at_most(flate2::read::MultiGzDecoder::new(packed), size)
            .map_err(|e| damaged(e.to_string()))?,
        CompressionCodec::BROTLI => {
            at_most(brotli_decompressor::Decompressor::new(packed, 4096), size)
                .map_err(|e| damaged(e.to_string()))?
        }
        CompressionCodec::ZSTD => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed)
                .map_err(|e| damaged(e.to_string()))?;
            at_most(decoder, size).map_err(|e| damaged(e.to_string()))?
        }
        CompressionCodec::LZ4_RAW => {
            lz4_flex::block::decompress(packed, size).map_err(|e| damaged(e.to_string()))?
        }
        _ => return Err(damaged("it is not read".into())),
    };
    match page.len() == size {
        true => Ok(page.into()),
        false => Err(wrong()),
    }
}

/// What a decoder gives, one byte more than `size` at most.
fn at_most(decoder: impl Read, size: usize) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    decoder.take(size as u64 + 1).read_to_end(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_page_unpacks_to_its_size_or_not_at_all() {
        let page: Vec<u8> = (0..5000).map(|i| (i % 7) as u8).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&page).unwrap();
        let packed = [
            (CompressionCodec::UNCOMPRESSED, page.clone()),
            (
                CompressionCodec::SNAPPY,
                snap::raw::Encoder::new().compress_vec(&page).unwrap(),
            ),
            (CompressionCodec::GZIP, gzip.finish().unwrap()),
            (
                CompressionCodec::ZSTD,
                ruzstd::encoding::compress_to_vec(
                    &page[..],
                    ruzstd::encoding::CompressionLevel::Fastest,
                ),
            ),
            (CompressionCodec::LZ4_RAW, lz4_flex::block::compress(&page)),
        ];
        for (codec, packed) in packed {
            let packed = Bytes::from(packed);
            assert_eq!(unpack(codec, &packed, page.len()).unwrap(), page);
            for size in [0, 1, page.len() - 1, page.len() + 1] {
                let told = unpack(codec, &packed, size).unwrap_err();
                assert!(told.contains(&format!("{codec:?}")), "{told}");
            }
            let cut = packed.slice(..packed.len() / 2);
            assert!(unpack(codec, &cut, page.len()).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn sizes_that_no_page_has_are_refused() {
        assert!(check(1000, 1 << 20).is_ok());
        assert!(check(1000, 1 << 21).is_err());
        assert!(check(1 << 29, (1 << 30) + 1).is_err());
        assert!(check((1 << 30) + 1, 1).is_err());
    }
}

//! NumPy's `.npy` arrays as images.

use super::refused::Reason;
use crate::Image;
use crate::image::Depth;
use crate::npy::{Header, MAGIC};

/// Whether the first bytes of a file are those of an array.
pub(super) fn is_array(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Height, width, channels and depth of an array, and where its values begin. Nothing is allocated by
/// the header's claims.
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) depth: Depth,
    big_endian: bool,
    values: usize,
}

pub(super) fn layout(bytes: &[u8]) -> Result<Layout, Reason> {
    let mut rest = bytes;
    let header = Header::read(&mut rest).map_err(|e| format!("damaged .npy: {e}"))?;
    let (height, width, channels) = match header.shape[..] {
        [height, width] => (height, width, 1),
        [height, width, channels] => (height, width, channels),
        _ => {
            return Err(format!(
                "an array of {} dimensions is not an image; wanted are [height, width] or \
                 [height, width, channels]",
                header.shape.len()
            ));
        }
    };
    if header.fortran_order {
        return Err("the array is in Fortran order; save it in C order".into());
    }
    let depth_of = |kind: &str| match kind {
        "u1" => Some(Depth::Eight),
        "u2" => Some(Depth::Sixteen),
        "f4" => Some(Depth::Float),
        _ => None,
    };
    let value_type = header.value_type();
    let Some((depth, big_endian)) = value_type.and_then(|(kind, big)| Some((depth_of(kind)?, big)))
    else {
        return Err(format!(
            "an array of type {}; wanted are uint8, uint16 or float32 in 0–1",
            header.descr
        ));
    };
    Ok(Layout {
        width,
        height,
        channels,
        depth,
        big_endian,
        values: bytes.len() - rest.len(),
    })
}

/// The values of an array whose layout was found fit.
pub(super) fn image(bytes: &[u8], layout: &Layout) -> Result<Image, Reason> {
    let Layout {
        width,
        height,
        channels,
        depth,
        ..
    } = *layout;
    let wanted = [width, height, channels, depth.bytes()]
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n))
        .ok_or("the array is too large")?;
    let values = &bytes[layout.values..];
    if values.len() != wanted {
        return Err(format!(
            "damaged .npy: {} bytes of values instead of {wanted}",
            values.len()
        ));
    }
    let mut data = values.to_vec();
    if layout.big_endian != cfg!(target_endian = "big") {
        data.chunks_exact_mut(depth.bytes())
            .for_each(<[u8]>::reverse);
    }
    Ok(Image {
        width,
        height,
        channels,
        depth,
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn types_that_are_none_are_told() {
        for descr in ["", "u", "é4", "<é", "\u{99}4", "<c8"] {
            let header = format!("{{'descr':'{descr}','fortran_order':False,'shape':(2,2)}}");
            let length = (header.len() as u16).to_le_bytes();
            let file = [MAGIC, &[1, 0], &length, header.as_bytes(), &[0; 4]].concat();
            let told = layout(&file).err().unwrap();
            assert!(told.starts_with("an array of type "), "{descr}: {told}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes: Vec<u8>) {
            bytes.splice(0..0, MAGIC.iter().copied());
            let _ = layout(&bytes).and_then(|layout| image(&bytes, &layout));
        }
    }
}

//! A whole scan to RGB pixels, one row of units after the other.

use multiversion::multiversion;

use super::entropy::{Bits, Block, Damaged, Reader};
use super::header::{BLOCK, Header};
use super::transform::transform;

/// A component on its way to pixels.
struct Plane {
    reader: Reader,
    /// Blocks of a unit, from left to right and from top to bottom.
    blocks: (usize, usize),
    /// Pixels that a block becomes, columns and rows.
    size: (usize, usize),
    /// The pixels of a row of units.
    pixels: Vec<u8>,
}

/// Decodes to a `scale`-th (2 or 4) of the size, rounded up; `[height, width, 3]`.
///
/// Chroma with half the samples in a direction is transformed to twice as many pixels of a block
/// there, so that all components have the same pixels.
pub(super) fn pixels(header: &Header, scale: usize) -> Option<Vec<u8>> {
    let unit = header.unit();
    let base = BLOCK / scale;
    let units = (
        header.width.div_ceil(BLOCK * unit.0),
        header.height.div_ceil(BLOCK * unit.1),
    );
    let (stride, rows) = (units.0 * unit.0 * base, unit.1 * base);
    let mut planes = Vec::new();
    for component in &header.components {
        let size = (
            base * unit.0 / component.across,
            base * unit.1 / component.down,
        );
        let table = |class: usize| header.codes[class][component.tables[class]].as_ref();
        planes.push(Plane {
            reader: Reader::new([table(0)?, table(1)?], header.quantiser(component)?, size)?,
            blocks: (component.across, component.down),
            size,
            pixels: vec![0; stride * rows],
        });
    }
    let (width, height) = (header.width.div_ceil(scale), header.height.div_ceil(scale));
    let mut out = vec![0; width * height * 3];
    let mut bits = Bits::new(header.data);
    for (row, out) in out.chunks_mut(width * 3 * rows).enumerate() {
        row_of_units(
            &mut bits,
            &mut planes,
            row * units.0..(row + 1) * units.0,
            header.restart,
            stride,
        )
        .ok()?;
        for (y, out) in out.chunks_exact_mut(width * 3).enumerate() {
            let at = y * stride..(y + 1) * stride;
            match &planes[..] {
                [grey] => same(&grey.pixels[at], out),
                [luma, blue, red] => colours(
                    &luma.pixels[at.clone()],
                    &blue.pixels[at.clone()],
                    &red.pixels[at],
                    out,
                ),
                _ => return None,
            }
        }
    }
    bits.finish().ok()?;
    Some(out)
}

/// Decodes some units, side by side.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+bmi1+bmi2",
    "x86_64+avx2+fma+bmi1+bmi2"
))]
fn row_of_units<'a>(
    bits: &mut Bits<'a>,
    planes: &mut [Plane],
    units: std::ops::Range<usize>,
    restart: usize,
    stride: usize,
) -> Result<(), Damaged> {
    let mut block: Block = [[0.0; 8]; 8];
    for (column, unit) in units.enumerate() {
        if restart > 0 && unit > 0 && unit.is_multiple_of(restart) {
            bits.restart(unit / restart - 1)?;
            for plane in &mut *planes {
                plane.reader.restart();
            }
        }
        for plane in &mut *planes {
            let (across, down) = plane.blocks;
            let (width, height) = plane.size;
            for y in 0..down {
                for x in 0..across {
                    let rows = plane.reader.read(bits, &mut block)?;
                    let at = y * height * stride + (column * across + x) * width;
                    transform(&block, rows, plane.size, &mut plane.pixels[at..], stride);
                }
            }
        }
        bits.check()?;
    }
    Ok(())
}

/// Grey as colour.
fn same(grey: &[u8], out: &mut [u8]) {
    let (out, _) = out.as_chunks_mut::<3>();
    for (out, &grey) in out.iter_mut().zip(grey) {
        *out = [grey; 3];
    }
}

/// Luma and chroma as JFIF has them to RGB, in 16 bits behind the point.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn colours(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    const POINT: u32 = 16;
    // 1.402, 1.772, 0.344136 and 0.714136.
    const RED: i32 = 91_881;
    const BLUE: i32 = 116_130;
    const GREEN: [i32; 2] = [22_553, 46_802];
    let (out, _) = out.as_chunks_mut::<3>();
    for (((out, &luma), &blue), &red) in out.iter_mut().zip(luma).zip(blue).zip(red) {
        let luma = (i32::from(luma) << POINT) + (1 << (POINT - 1));
        let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
        *out = [
            luma + RED * red,
            luma - GREEN[0] * blue - GREEN[1] * red,
            luma + BLUE * blue,
        ]
        .map(|value| (value >> POINT).clamp(0, 255) as u8);
    }
}

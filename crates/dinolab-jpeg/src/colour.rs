//! Colour conversion: luma and chroma to RGB.

use multiversion::multiversion;

/// How the components of a file become colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourSpace {
    /// As the file says, by libjpeg's rules.
    #[default]
    FromFile,
    /// As they are: RGB, or CMYK.
    Rgb,
    /// Converted from YCbCr.
    YCbCr,
}

/// The segments by which a file declares its colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Whether it is a JFIF file, whose colours are YCbCr.
    jfif: bool,
    /// Adobe's number: 0 for RGB.
    adobe: Option<u8>,
}

impl Marks {
    /// Reads an application segment.
    pub(crate) fn add(&mut self, marker: u8, segment: &[u8]) {
        match marker {
            0xE0 if segment.len() >= 14 && segment.starts_with(b"JFIF\0") => self.jfif = true,
            0xEE if segment.len() >= 12 && segment.starts_with(b"Adobe") => {
                self.adobe = Some(segment[11]);
            }
            _ => {}
        }
    }

    /// Whether four components are YCCK instead of CMYK.
    pub(crate) fn is_ycck(self) -> bool {
        self.adobe.is_some_and(|number| number != 0)
    }

    /// Whether three components with these identifiers are RGB. If marks contradict each other, libjpeg's
    /// order decides: JFIF, Adobe, the identifiers.
    pub(crate) fn is_rgb(self, ids: &[u8]) -> bool {
        match (self.jfif, self.adobe) {
            (true, _) => false,
            (_, Some(number)) => number == 0,
            (_, None) => ids == b"RGB",
        }
    }
}

/// Pixels of YCCK to CMYK, by libjpeg's rules: YCbCr to RGB, whose complements are the inks.
pub(crate) fn ycck_to_cmyk(pixels: &mut [u8]) {
    for [luma, blue, red, _] in pixels.as_chunks_mut::<4>().0 {
        [*luma, *blue, *red] = pixel(*luma, *blue, *red).map(|level| 255 - level);
    }
}

/// A row of RGB as it is.
pub(crate) fn plain(planes: [&[u8]; 3], out: &mut [u8]) {
    let (out, _) = out.as_chunks_mut::<3>();
    let [reds, greens, blues] = planes;
    for (((out, &red), &green), &blue) in out.iter_mut().zip(reds).zip(greens).zip(blues) {
        *out = [red, green, blue];
    }
}

/// A row of grey as colour.
pub(crate) fn grey(luma: &[u8], out: &mut [u8]) {
    let (out, _) = out.as_chunks_mut::<3>();
    for (out, &luma) in out.iter_mut().zip(luma) {
        *out = [luma; 3];
    }
}

/// Pixels that are converted at a time.
const SPAN: usize = 64;

/// A row of YCbCr, as JFIF defines it, to RGB, bit-identical to libjpeg.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
pub(crate) fn rgb(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    let width = out.len() / 3;
    let (lumas, luma) = luma[..width].as_chunks::<SPAN>();
    let (blues, blue) = blue[..width].as_chunks::<SPAN>();
    let (reds, red) = red[..width].as_chunks::<SPAN>();
    let (outs, out) = out.as_chunks_mut::<{ 3 * SPAN }>();
    for (((out, luma), blue), red) in outs.iter_mut().zip(lumas).zip(blues).zip(reds) {
        let mut planes = [[0; SPAN]; 3];
        for i in 0..SPAN {
            [planes[0][i], planes[1][i], planes[2][i]] = pixel(luma[i], blue[i], red[i]);
        }
        let (out, _) = out.as_chunks_mut::<3>();
        for i in 0..SPAN {
            out[i] = [planes[0][i], planes[1][i], planes[2][i]];
        }
    }
    let (out, _) = out.as_chunks_mut::<3>();
    for (((out, &luma), &blue), &red) in out.iter_mut().zip(luma).zip(blue).zip(red) {
        *out = pixel(luma, blue, red);
    }
}

/// A pixel, with 16 bits behind the point.
#[inline(always)]
fn pixel(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    const POINT: u32 = 16;
    // 1.402, 1.772, 0.34414 and 0.71414.
    const RED: i32 = 91_881;
    const BLUE: i32 = 116_130;
    const GREEN: [i32; 2] = [22_554, 46_802];
    let luma = (i32::from(luma) << POINT) + (1 << (POINT - 1));
    let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
    [
        luma + RED * red,
        luma - GREEN[0] * blue - GREEN[1] * red,
        luma + BLUE * blue,
    ]
    .map(|value| (value >> POINT).clamp(0, 255) as u8)
}

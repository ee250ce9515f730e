//! A written file against the network it was written from.

use burn::tensor::{Tensor, TensorData};

use super::evaluate::{self, Program};
use super::{ATTENTION, FEATURES, LOGITS, Options, PATCH_FEATURES};
use crate::init::Init;
use crate::precision::Precision;
use crate::{Head, Parameters, Vit};

/// How near one output came to the network's own, for random images of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The output's name.
    pub output: &'static str,
    /// The images' shape, `[B, C, H, W]`.
    pub images: [usize; 4],
    /// Length of the difference relative to the length of the network's output, of the worst row
    /// (a token, a map of a head, an image's logits).
    pub deviation: f64,
}

impl Check {
    /// The largest deviation that a file may have.
    pub const LIMIT: f64 = 1e-4;
}

/// The network with all products in single precision, which is what a file holds.
pub(super) fn single_precision(vit: &Vit) -> Vit {
    let mut vit = vit.clone();
    vit.set_precision(Precision::F32);
    vit
}

/// Computes the file `bytes` and the network on random images.
///
/// # Errors
/// Says what cannot be computed, or which output deviates.
pub(super) fn check(
    bytes: &[u8],
    vit: &Vit,
    head: Option<&Head>,
    options: &Options,
) -> Result<Vec<Check>, String> {
    let program =
        Program::new(bytes).map_err(|why| format!("what was written cannot be computed: {why}"))?;
    let mut checks = Vec::new();
    for (seed, images) in (0..).zip(sizes(vit)) {
        checks.extend(compare(&program, vit, head, options, images, seed)?);
    }
    // NaN is within no limit.
    let within = |check: &&Check| check.deviation <= Check::LIMIT;
    match checks.iter().find(|check| !within(check)) {
        None => Ok(checks),
        Some(check) => Err(format!(
            "what was written deviates from the network: {} by {:.1e} for images {:?}, more than {:.0e}",
            check.output,
            check.deviation,
            check.images,
            Check::LIMIT
        )),
    }
}

/// How near the outputs come for random images of one shape.
pub(super) fn compare(
    program: &Program,
    vit: &Vit,
    head: Option<&Head>,
    options: &Options,
    images: [usize; 4],
    seed: u64,
) -> Result<Vec<Check>, String> {
    let wrong = |why| format!("what was written is not the network: {why}");
    let values = random_images(images, seed);
    let mut found = evaluate::Tensor::f32(images.to_vec(), values.clone())
        .and_then(|input| program.run(input))
        .map_err(wrong)?;
    let checks = expected(vit, head, options, images, values)
        .into_iter()
        .map(|(output, shape, expected)| {
            let found = found.remove(output).ok_or("is not there".to_owned());
            let deviation = found.and_then(|found| deviation(&found, &shape, &expected));
            Ok::<_, String>(Check {
                output,
                images,
                deviation: deviation.map_err(|why| wrong(format!("output {output} {why}")))?,
            })
        })
        .collect::<Result<_, _>>()?;
    match found.into_keys().next() {
        None => Ok(checks),
        Some(name) => Err(wrong(format!("output {name} was not asked for"))),
    }
}

/// The trained size; a larger square and a smaller rectangle, both with pixels left over.
fn sizes(vit: &Vit) -> [[usize; 4]; 3] {
    let config = vit.config();
    let (c, p, side) = (config.channels, config.patch_size, config.side());
    let larger = (side + 2) * p + p - 1;
    let (height, width) = (
        side.div_ceil(2) * p + p / 2,
        (side.div_ceil(2) + 1) * p + p / 3,
    );
    [
        [1, c, side * p, side * p],
        [1, c, larger, larger],
        [3, c, height, width],
    ]
}

/// Values of deviation 1, as normalised images have.
fn random_images(shape: [usize; 4], seed: u64) -> Vec<f32> {
    Init::new(seed).truncated_normal(shape.iter().product(), 1.0)
}

/// The network's outputs: name, shape, values.
fn expected(
    vit: &Vit,
    head: Option<&Head>,
    options: &Options,
    shape: [usize; 4],
    images: Vec<f32>,
) -> Vec<(&'static str, Vec<usize>, Vec<f32>)> {
    let device = vit.cls_token.flat().device();
    let images = Tensor::<4>::from_data(TensorData::new(images, shape), &device);
    let class = vit.forward(images.clone());
    let mut outputs = vec![(FEATURES, class.dims().to_vec(), host(class.clone()))];
    if options.patch_features {
        let tokens = vit.intermediate(images.clone(), 1).remove(0);
        let [_, n, _] = tokens.dims();
        let patches = tokens.narrow(1, 1, n - 1);
        outputs.push((PATCH_FEATURES, patches.dims().to_vec(), host(patches)));
    }
    if options.attention {
        let maps = vit.class_attention(images);
        outputs.push((ATTENTION, maps.dims().to_vec(), host(maps)));
    }
    if let Some(head) = head {
        let mut head = head.clone();
        head.set_precision(Precision::F32);
        let logits = crate::ProjectionHead::forward(&head, class);
        outputs.push((LOGITS, logits.dims().to_vec(), host(logits)));
    }
    outputs
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_to_vec().expect("converted to f32")
}

/// Of the worst row.
fn deviation(found: &evaluate::Tensor, shape: &[usize], expected: &[f32]) -> Result<f64, String> {
    if found.shape() != shape {
        return Err(format!("has shape {:?}, not {shape:?}", found.shape()));
    }
    // A map's row is the map.
    let row = match shape {
        [_, _, h, w] => h * w,
        [.., width] => *width,
        [] => 1,
    };
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let rows = found.floats()?.chunks(row).zip(expected.chunks(row));
    Ok(rows
        .map(|(found, expected)| {
            let pairs = found.iter().zip(expected);
            let error = length(&mut pairs.map(|(f, e)| f64::from(*f) - f64::from(*e)));
            let size = length(&mut expected.iter().map(|&e| f64::from(e)));
            // Of nothing at all, nothing may deviate.
            if error == 0.0 { 0.0 } else { error / size }
        })
        // NaN is not smaller than anything, and stays.
        .fold(0.0, |worst, next| if next <= worst { worst } else { next }))
}

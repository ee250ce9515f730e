//! Writes the backbone of a weight file as ONNX.
//!
//!     cargo run --release --example onnx -- WEIGHTS OUT.onnx [attention] [patch_features] [head]

use std::error::Error;
use std::path::Path;

use dinolab_nn::init::Init;
use dinolab_nn::onnx::{Options, export};
use dinolab_nn::weights::{LoadOptions, load, read};
use dinolab_nn::{AnyBackbone, Backbone, Device, Head, ProjectionHead, device};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, outputs @ ..] = args.as_slice() else {
        return Err("needs WEIGHTS and OUT.onnx".into());
    };
    let asked = |name: &str| outputs.iter().any(|output| output == name);

    let device: Device = device::by_name("cpu")?;
    let weights = read(Path::new(from), None)?;
    let config = match weights.convolutional_config()? {
        Some(config) => config,
        None => weights.vit_config(None)?.into(),
    };
    let mut network = AnyBackbone::new(&config, &mut Init::new(0), &device)?;
    println!(
        "{}",
        load(&mut network, "backbone", &weights, LoadOptions::default())?
    );
    let head = match weights.head_config() {
        Some(config) if asked("head") => {
            let width = weights.feature()?.width(network.width());
            let mut head = Head::new(&config, width, &mut Init::new(0), &device)?;
            load(&mut head, "head", &weights, LoadOptions::default())?;
            Some(head)
        }
        _ => None,
    };
    let options = Options {
        feature: weights.feature()?,
        attention: asked("attention"),
        patch_features: asked("patch_features"),
        ..Options::default()
    };
    let report = export(&network, head.as_ref(), Path::new(to), &options)?;
    println!("{} bytes", report.bytes);
    for output in &report.outputs {
        println!("{} [{}]", output.name, output.shape.join(", "));
    }
    Ok(())
}

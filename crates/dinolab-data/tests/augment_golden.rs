//! Single image operations against results of Pillow and torchvision.

use std::path::Path;

use dinolab_data::augment::{CropBox, Filter, Normaliser, Resizer, blur, colour, eval, planes};
use dinolab_data::{Image, Size};
use safetensors::SafeTensors;
use serde_json::Value;

struct Golden {
    tensors: Vec<u8>,
    operations: Value,
}

impl Golden {
    fn open() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/augment");
        let json = std::fs::read(folder.join("augment.json")).unwrap();
        Self {
            tensors: std::fs::read(folder.join("augment.safetensors")).unwrap(),
            operations: serde_json::from_slice(&json).unwrap(),
        }
    }

    fn image(&self, name: &str) -> Image {
        let tensors = SafeTensors::deserialize(&self.tensors).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        let &[height, width, channels] = tensor.shape() else {
            panic!("{name} is no image")
        };
        Image {
            data: tensor.data().to_vec(),
            ..Image::new(width, height, channels)
        }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.tensors).unwrap();
        let bytes = tensors.tensor(name).unwrap().data();
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    /// The operations called `op` with their parameters; at least one.
    fn each(&self, op: &str) -> Vec<(String, Value)> {
        let all = self.operations.as_object().unwrap();
        let found: Vec<_> = all
            .iter()
            .filter(|(_, value)| value["op"] == op)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        assert!(!found.is_empty(), "no golden {op}");
        found
    }

    /// Runs `change` on the input for each golden `op`; no value may be off by more than `limit`.
    fn check(&self, op: &str, limit: u8, change: impl Fn(&mut Image, &Value)) {
        for (name, parameters) in self.each(op) {
            let mut image = self.image("input");
            change(&mut image, &parameters);
            assert_close(&name, &image, &self.image(&name), limit);
        }
    }
}

fn assert_close(name: &str, ours: &Image, theirs: &Image, limit: u8) {
    assert_eq!(
        (ours.width, ours.height),
        (theirs.width, theirs.height),
        "{name}"
    );
    assert_eq!(ours.data.len(), theirs.data.len(), "{name}");
    let differences = ours
        .data
        .iter()
        .zip(&theirs.data)
        .map(|(a, b)| a.abs_diff(*b));
    let most = differences.clone().max().unwrap();
    let share = differences.filter(|&d| d > 0).count() as f64 / ours.data.len() as f64;
    println!(
        "{name}: at most {most}, {:.3} % of values differ",
        share * 100.0
    );
    assert!(most <= limit, "{name}: off by up to {most} grey levels");
    assert!(
        share < 0.01,
        "{name}: {:.2} % of values differ",
        share * 100.0
    );
}

/// An image's pixels after a change to its planes.
fn with_planes(image: &Image, flip: bool, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut planes = Vec::new();
    planes::split(&image.data, image.width, flip, &mut planes);
    change(&mut planes);
    planes::join(&planes)
}

fn number(parameters: &Value, name: &str) -> f64 {
    parameters[name].as_f64().unwrap()
}

#[test]
fn resized_crop() {
    Golden::open().check("resized_crop", 0, |image, parameters| {
        let side = |name: &str| parameters[name].as_u64().unwrap() as usize;
        let crop = CropBox {
            top: side("top"),
            left: side("left"),
            height: side("height"),
            width: side("width"),
        };
        let size = Size {
            height: side("out_height"),
            width: side("out_width"),
        };
        let mut data = Vec::new();
        Resizer::new()
            .resize(image, crop, size, Filter::Bicubic, &mut data)
            .unwrap();
        *image = Image::rgb(size.width, size.height, data);
    });
}

#[test]
fn horizontal_flip() {
    Golden::open().check("hflip", 0, |image, _| {
        image.data = with_planes(image, true, |_| ())
    });
}

#[test]
fn brightness() {
    Golden::open().check("brightness", 0, |image, parameters| {
        image.data = with_planes(image, false, |planes| {
            colour::brightness(planes, number(parameters, "factor") as f32)
        });
    });
}

#[test]
fn contrast() {
    Golden::open().check("contrast", 0, |image, parameters| {
        image.data = with_planes(image, false, |planes| {
            colour::contrast(planes, number(parameters, "factor") as f32)
        });
    });
}

#[test]
fn saturation() {
    Golden::open().check("saturation", 0, |image, parameters| {
        image.data = with_planes(image, false, |planes| {
            colour::saturation(planes, number(parameters, "factor") as f32)
        });
    });
}

#[test]
fn hue() {
    Golden::open().check("hue", 0, |image, parameters| {
        image.data = with_planes(image, false, |planes| {
            colour::hue(planes, number(parameters, "factor"))
        });
    });
}

#[test]
fn greyscale() {
    Golden::open().check("grayscale", 0, |image, _| {
        image.data = with_planes(image, false, colour::greyscale)
    });
}

#[test]
fn gaussian_blur() {
    Golden::open().check("gaussian_blur", 0, |image, parameters| {
        let radius = number(parameters, "radius");
        let width = image.width;
        image.data = with_planes(image, false, |planes| {
            blur::gaussian(planes, width, radius, &mut blur::Scratch::default());
        });
    });
}

#[test]
fn solarise() {
    Golden::open().check("solarize", 0, |image, parameters| {
        let threshold = parameters["threshold"].as_u64().unwrap() as u8;
        image.data = with_planes(image, false, |planes| colour::solarise(planes, threshold));
    });
}

#[test]
fn normalise() {
    let golden = Golden::open();
    for (name, parameters) in golden.each("normalize") {
        let three = |name: &str| {
            let values: Vec<f32> = parameters[name]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_f64().unwrap() as f32)
                .collect();
            <[f32; 3]>::try_from(values).unwrap()
        };
        let image = golden.image("input");
        let expected = golden.floats(&name);
        let mut planes = vec![0.0; image.data.len()];
        assert_eq!(planes.len(), expected.len());
        Normaliser::new(three("mean"), three("std"))
            .unwrap()
            .apply(&image.data, &mut planes);
        let most = planes
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("{name}: at most {most:e}");
        assert!(most <= 1e-6, "{name}: off by up to {most}");
    }
}

#[test]
fn view_for_features() {
    let golden = Golden::open();
    let ours = eval::features(&golden.image("input"), 128, 112).unwrap();
    assert_close(
        "features",
        &ours,
        &golden.image("eval_resize128_center112"),
        1,
    );
}

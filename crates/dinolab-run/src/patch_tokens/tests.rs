use std::fs;

use dinolab_data::augment::eval;
use dinolab_data::{Image, Size};
use dinolab_features::Embedder;
use dinolab_features::{embed, whole_patches};
use dinolab_nn::weights::file_arrays;
use dinolab_nn::{Vit, VitConfig, device, init::Init};

use super::*;
use crate::error::Error;
use crate::npy::read_npy_f32;

/// Noise of several sizes, one of which cannot be used.
struct Pictures(Vec<(usize, usize)>);

impl Source for Pictures {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn name(&self, index: usize) -> String {
        format!("a \"{index}\"/ü.png")
    }
    fn label(&self, index: usize) -> Option<usize> {
        Some(index % 2)
    }
    fn classes(&self) -> &[String] {
        static CLASSES: std::sync::LazyLock<Vec<String>> =
            std::sync::LazyLock::new(|| vec!["even".into(), "odd".into()]);
        &CLASSES
    }
    fn image(&self, index: usize) -> dinolab_data::Result<Image> {
        let (width, height) = self.0[index];
        let mut image = Image::new(width, height, 3);
        for (i, value) in image.data.iter_mut().enumerate() {
            *value = (i * i % 251 + index * 3) as u8;
        }
        match width {
            0 => Err(dinolab_data::Error::BadImage {
                name: self.name(index),
                reason: "is none".into(),
            }),
            _ => Ok(image),
        }
    }
}

fn vit() -> Vit {
    let config = VitConfig {
        image_size: 16,
        patch_size: 4,
        width: 12,
        depth: 3,
        heads: 2,
        registers: 2,
        ..VitConfig::default()
    };
    Vit::new(&config, &mut Init::new(3), &device::by_name("cpu").unwrap()).unwrap()
}

fn preprocess() -> Preprocess {
    Preprocess {
        resize: Size::square(24),
        crop: Size {
            height: 16,
            width: 20,
        },
        ..Preprocess::default()
    }
}

fn write(
    path: &Path,
    layout: Layout,
    blocks: usize,
    view: &View,
    sizes: &[(usize, usize)],
) -> Result<Written> {
    let source = Pictures(sizes.to_vec());
    let indices: Vec<usize> = (0..sizes.len()).collect();
    let tokens = PatchTokens {
        n_last_blocks: blocks,
    };
    let preprocess = preprocess();
    tokens.write(
        &vit(),
        &source,
        &indices,
        (view, &preprocess),
        2,
        (path, layout),
        &mut |_| {},
    )
}

#[test]
fn one_array_of_all_that_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [(40, 30), (0, 0), (30, 40), (25, 25), (64, 32)];
    let view = |_: usize, image: &Image| {
        Ok(eval::features(
            image,
            preprocess().resize,
            preprocess().crop,
        )?)
    };
    let (npy, safe) = (
        folder.path().join("new/t.npy"),
        folder.path().join("t.safetensors"),
    );
    for path in [&npy, &safe] {
        let written = write(path, Layout::Joint, 2, &view, &sizes).unwrap();
        assert_eq!(written.indices, [0, 2, 3, 4]);
        assert_eq!(
            (written.dim, written.grid, written.labelled),
            (24, Some((4, 5)), true)
        );
        assert_eq!(written.skipped.len(), 1);
        let labels = fs::read_to_string(path.with_extension("labels.txt")).unwrap();
        assert_eq!(labels, "even\neven\nodd\neven\n");
        let names = fs::read_to_string(path.with_extension("paths.txt")).unwrap();
        assert_eq!(names.lines().count(), 4);
    }
    let array = read_npy_f32(&npy).unwrap();
    assert_eq!(array.shape, [4, 4, 5, 24]);
    let (arrays, _) = file_arrays(&safe, &fs::read(&safe).unwrap()).unwrap();
    assert_eq!(arrays[TENSOR].shape, array.shape);
    assert_eq!(arrays[TENSOR].data, array.data);

    // The mean over patches is the feature of that name, of the last block.
    let source = Pictures(sizes.to_vec());
    let blocks = BlockFeatures {
        n_last_blocks: 1,
        avgpool_patchtokens: true,
        feature: Feature::Class,
    };
    let features = blocks
        .embed(
            &vit(),
            &source,
            &[0, 2, 3, 4],
            &preprocess(),
            3,
            &mut |_| {},
        )
        .unwrap();
    for (image, feature) in array.data.chunks(4 * 5 * 24).zip(features.data.chunks(24)) {
        for d in 0..12 {
            let mean = image.iter().skip(12 + d).step_by(24).sum::<f32>() / 20.0;
            assert!(
                (mean - feature[12 + d]).abs() < 1e-5,
                "{mean} {}",
                feature[12 + d]
            );
        }
    }
    // And no other feature has changed: class tokens come before.
    let class = embed(
        &vit(),
        Feature::Class,
        &source,
        &[0, 2, 3, 4],
        &preprocess(),
        1,
        &mut |_| {},
    )
    .unwrap();
    for (a, b) in class.data.chunks(12).zip(features.data.chunks(24)) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        4,
        "no temporary file stays"
    );
}

#[test]
fn an_array_for_each_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.safetensors");
    let sizes = [(40, 30), (30, 40), (41, 31), (3, 9), (64, 9)];
    let view = |_: usize, image: &Image| whole_patches(image, None, 4);
    let written = write(&path, Layout::PerImage, 1, &view, &sizes).unwrap();
    assert_eq!(
        (written.indices.as_slice(), written.grid),
        (&[0, 1, 2, 4][..], None)
    );
    let (arrays, _) = file_arrays(&path, &fs::read(&path).unwrap()).unwrap();
    assert_eq!(arrays.len(), 4);
    let source = Pictures(sizes.to_vec());
    let embedder = Embedder::new(vit(), preprocess()).unwrap();
    for index in written.indices {
        let tokens = embedder
            .tokens(&source.image(index).unwrap(), None)
            .unwrap();
        let array = &arrays[&source.name(index)];
        assert_eq!(array.shape, [tokens.grid.0, tokens.grid.1, 12]);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(array.data.iter().zip(&tokens.patches).all(close));
    }
    let npy = path.with_extension("npy");
    let told = write(&npy, Layout::PerImage, 1, &view, &sizes)
        .unwrap_err()
        .to_string();
    assert!(told.contains(".safetensors"), "{told}");
}

#[test]
fn nothing_is_left_of_a_file_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.npy");
    let view = |_: usize, image: &Image| whole_patches(image, None, 4);
    for sizes in [&[(40, 30), (40, 30), (20, 30)][..], &[(0, 0)], &[]] {
        assert!(write(&path, Layout::Joint, 1, &view, sizes).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    assert!(write(&path, Layout::Joint, 4, &view, &[(40, 30)]).is_err());
    assert!(
        write(
            &path.with_extension("csv"),
            Layout::Joint,
            1,
            &view,
            &[(40, 30)]
        )
        .is_err()
    );
}

#[test]
fn a_network_without_numbers_leaves_no_file() {
    use dinolab_nn::Parameters;
    let mut vit = vit();
    // Finite weights whose products are not.
    vit.visit_mut("", &mut |name, param| {
        if name.contains("mlp.fc") && name.ends_with("weight") {
            param.set_flat(param.flat().mul_scalar(2e31));
        }
    });
    let source = Pictures(vec![(0, 0), (40, 30), (30, 40)]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.npy");
    let view = |_: usize, image: &Image| {
        Ok(eval::features(
            image,
            preprocess().resize,
            preprocess().crop,
        )?)
    };
    let tokens = PatchTokens { n_last_blocks: 1 };
    let error = tokens.write(
        &vit,
        &source,
        &[2, 1],
        (&view, &preprocess()),
        1,
        (&path, Layout::Joint),
        &mut |_| {},
    );
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Features(dinolab_features::Error::NotFinite { .. })
        ),
        "{error}"
    );
    assert!(error.to_string().starts_with(&source.name(2)), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

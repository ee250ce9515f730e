use dinolab_data::{Size, Source};
use dinolab_nn::{Vit, VitConfig};

use super::*;
use crate::features::embed;

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

#[test]
fn what_is_no_number_is_told_with_the_image() {
    use dinolab_nn::Parameters;
    let mut vit = vit();
    // Finite weights whose products are not.
    vit.visit_mut("", &mut |name, param| {
        if name.contains("mlp.fc") && name.ends_with("weight") {
            param.set_flat(param.flat().mul_scalar(2e31));
        }
    });
    let source = Pictures(vec![(0, 0), (40, 30), (30, 40)]);
    let named = source.name(1);
    let check = |error: Error| {
        assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        error.to_string()
    };
    let told = check(
        embed(
            &vit,
            Feature::Class,
            &source,
            &[0, 1, 2],
            &preprocess(),
            2,
            &mut |_| {},
        )
        .unwrap_err(),
    );
    assert!(told.starts_with(&named), "{told}");
    let embedder = Embedder::new(vit, preprocess()).unwrap();
    let image = source.image(1).unwrap();
    check(embedder.embed(&image).unwrap_err());
    check(embedder.tokens(&image, None).unwrap_err());
    check(embedder.attention(&image, None).unwrap_err());
}

#[test]
fn images_of_too_many_patches_are_refused_before_anything_is_made_for_them() {
    let embedder = Embedder::new(vit(), preprocess()).unwrap();
    let image = Image::new(64, 2, 3);
    for size in [
        Some((4096, 4096)),
        Some((4, 1 << 30)),
        Some((usize::MAX, usize::MAX)),
    ] {
        let error = embedder.tokens(&image, size).unwrap_err();
        assert!(error.is_of_an_image(), "{error}");
        assert!(error.to_string().contains("patches of 4 px"), "{error}");
        assert!(
            embedder
                .attention(&image, size)
                .unwrap_err()
                .is_of_an_image()
        );
    }
    let large = Preprocess {
        resize: Size::square(4096),
        crop: Size::square(4000),
        ..preprocess()
    };
    assert!(large.check(4).is_err());
    let source = Pictures(vec![(40, 30)]);
    assert!(
        embed(
            &vit(),
            Feature::Class,
            &source,
            &[0],
            &large,
            1,
            &mut |_| {}
        )
        .is_err()
    );
    assert!(Embedder::new(vit(), large).is_err());
}

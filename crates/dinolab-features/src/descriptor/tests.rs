use dinolab_nn::device::{self, to_host_f32};
use dinolab_nn::init::Init;
use dinolab_nn::{Vit, VitConfig};

use super::*;

#[test]
fn gem_by_hand() {
    // Power 1 is the mean, negative values counting as 1e-6.
    let tokens = [1.0, -5.0, 3.0, 2.0];
    let mean = gem(&tokens, 2, 1.0);
    assert!((mean[0] - 2.0).abs() < 1e-6 && (mean[1] - 1.0).abs() < 1e-6);
    // ((1 + 81) / 2)^(1/4), (16 / 2)^(1/4).
    let fourth = gem(&tokens, 2, 4.0);
    assert!((fourth[0] - 41f32.powf(0.25)).abs() < 1e-5);
    assert!((fourth[1] - 8f32.powf(0.25)).abs() < 1e-5);
}

fn tiny() -> Vit {
    let config = VitConfig {
        image_size: 16,
        patch_size: 4,
        channels: 3,
        width: 16,
        depth: 2,
        heads: 2,
        mlp_ratio: 2,
        ..VitConfig::default()
    };
    Vit::new(&config, &mut Init::new(3), &device::by_name("cpu").unwrap()).unwrap()
}

fn picture(width: usize, height: usize, seed: usize) -> Image {
    let mut image = Image::new(width, height, 3);
    for (i, value) in image.data.iter_mut().enumerate() {
        *value = ((i * 31 + seed * 57) % 251) as u8;
    }
    image
}

#[test]
fn mixed_sizes_come_out_in_order() {
    let vit = tiny();
    let images = [
        picture(20, 12, 1),
        picture(40, 40, 2),
        picture(20, 12, 3),
        picture(12, 20, 4),
    ];
    for (view, descriptor) in [
        (View::Fit(16), Descriptor::multi_scale(Feature::Class)),
        (View::Square(16), Descriptor::Gem(Feature::Both, 4.0)),
    ] {
        let extractor =
            DescriptorExtractor::new(&vit, ([0.5; 3], [0.25; 3]), view, descriptor).unwrap();
        let together = extractor.extract(&images).unwrap();
        assert_eq!(together.len(), 4 * extractor.dim());
        for (image, row) in images.iter().zip(together.chunks(extractor.dim())) {
            let alone = extractor.extract(std::slice::from_ref(image)).unwrap();
            for (a, b) in alone.iter().zip(row) {
                assert!((a - b).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn the_class_token_is_the_networks() {
    let vit = tiny();
    let image = picture(16, 16, 5);
    let describe = |view, descriptor| {
        DescriptorExtractor::new(&vit, ([0.5; 3], [0.25; 3]), view, descriptor)
            .unwrap()
            .extract(std::slice::from_ref(&image))
            .unwrap()
    };
    let normaliser = ChannelNormaliser::new(Pixels::Rgb, &[0.5; 3], &[0.25; 3]).unwrap();
    let input = batch(&vit, &[planes(&image, &normaliser).unwrap()], 16, 16);
    let class = to_host_f32(vit.forward(input.clone()));
    let single = describe(
        View::Fit(16),
        Descriptor::Feature(Feature::Class, vec![1.0]),
    );
    let both = describe(View::Square(16), Descriptor::Gem(Feature::Both, 4.0));
    let tokens = to_host_f32(vit.intermediate(input, 1).remove(0));
    let pooled = gem(&tokens[16..], 16, 4.0);
    for i in 0..16 {
        assert!((single[i] - class[i]).abs() < 1e-6);
        assert!((both[i] - class[i]).abs() < 1e-5);
        assert!((both[16 + i] - pooled[i]).abs() < 1e-5);
    }
    let part = |feature| describe(View::Square(16), Descriptor::Gem(feature, 4.0));
    assert_eq!(part(Feature::Class), both[..16]);
    assert_eq!(part(Feature::Patches), both[16..]);
    // Without an exponent, the patches are those of the network's feature.
    let mean = describe(View::Fit(16), Descriptor::Feature(Feature::Both, vec![1.0]));
    assert_eq!(mean.len(), 32);
    for i in 0..16 {
        let patches = tokens[16 + i..].iter().step_by(16);
        assert!((mean[16 + i] - patches.sum::<f32>() / 16.0).abs() < 1e-5);
    }
}

#[test]
fn refuses_what_makes_no_sense() {
    let vit = tiny();
    let make =
        |view, descriptor| DescriptorExtractor::new(&vit, ([0.5; 3], [0.25; 3]), view, descriptor);
    assert!(make(View::Fit(3), Descriptor::multi_scale(Feature::Class)).is_err());
    assert!(make(View::Fit(16), Descriptor::Feature(Feature::Class, vec![])).is_err());
    assert!(
        make(
            View::Fit(16),
            Descriptor::Feature(Feature::Class, vec![0.0])
        )
        .is_err()
    );
    assert!(make(View::Square(16), Descriptor::Gem(Feature::Both, f64::NAN)).is_err());
    let extractor = make(View::Fit(16), Descriptor::multi_scale(Feature::Class)).unwrap();
    assert!(
        extractor.extract(&[picture(64, 7, 0)]).is_err(),
        "3 pixels high at half size"
    );
    assert!(extractor.extract(&[]).unwrap().is_empty());
}

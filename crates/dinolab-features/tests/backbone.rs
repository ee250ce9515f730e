//! A backbone that is no transformer: what every network can do works, and what it cannot is refused.

use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use dinolab_data::{Image, Size, shapes::Shapes};
use dinolab_features::{Preprocess, attend, embed, whole_patches};
use dinolab_nn::init::Init;
use dinolab_nn::vit::DropPath;
use dinolab_nn::{Backbone, Feature, Param, Parameters, Tokens, backbone};

const WIDTH: usize = 6;
const STRIDE: usize = 8;

/// One strided convolution; its mean over places stands for a class token.
struct Convolution {
    kernel: Param,
}

impl Parameters for Convolution {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        f(&format!("{prefix}.kernel"), &self.kernel);
    }
    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        f(&format!("{prefix}.kernel"), &mut self.kernel);
    }
}

impl Backbone for Convolution {
    fn describe(&self) -> String {
        "a single convolution".into()
    }
    fn width(&self) -> usize {
        WIDTH
    }
    fn stride(&self) -> usize {
        STRIDE
    }
    fn channels(&self) -> usize {
        3
    }
    fn class_tokens(&self, views: Vec<Tensor<4>>, _: &dyn DropPath) -> Tensor<2> {
        let each = views.into_iter().map(|images| self.tokens(images).class);
        Tensor::cat(each.collect(), 0)
    }
    fn tokens(&self, images: Tensor<4>) -> Tokens {
        let options = ConvOptions::new([STRIDE, STRIDE], [0, 0], [1, 1], 1);
        let map = conv2d(images, self.kernel.get::<4>(), None, options);
        let [b, d, h, w] = map.dims();
        let patches = map.reshape([b, d, h * w]).swap_dims(1, 2);
        Tokens {
            class: patches.clone().mean_dim(1).reshape([b, d]),
            patches,
            grid: (h, w),
        }
    }
}

fn network() -> Convolution {
    let shape = [WIDTH, 3, STRIDE, STRIDE];
    let values = Init::new(1).uniform_fan_in(shape.iter().product(), 3 * STRIDE * STRIDE);
    let device = Device::flex();
    Convolution {
        kernel: Param::new(values, &shape, true, &device),
    }
}

#[test]
fn features_need_no_transformer() {
    let shapes = Shapes::new(0, 5);
    let preprocess = Preprocess {
        resize: Size::square(32),
        crop: Size::square(24),
        ..Preprocess::default()
    };
    let indices: Vec<usize> = (0..5).collect();
    let found = embed(
        &network(),
        Feature::Class,
        &shapes,
        &indices,
        &preprocess,
        2,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!((found.dim, found.indices.len()), (WIDTH, 5));
    assert_ne!(found.data[..WIDTH], found.data[WIDTH..2 * WIDTH]);
    // Its class token is the mean of its patches already.
    let both = embed(
        &network(),
        Feature::Both,
        &shapes,
        &indices,
        &preprocess,
        2,
        &mut |_| {},
    );
    for (both, class) in both
        .unwrap()
        .data
        .chunks(2 * WIDTH)
        .zip(found.data.chunks(WIDTH))
    {
        assert_eq!(both[..WIDTH], *class);
        // The same mean, summed in another order.
        for (mean, class) in both[WIDTH..].iter().zip(class) {
            assert!((mean - class).abs() < 1e-7, "{mean} {class}");
        }
    }
}

#[test]
fn attend_refuses_a_network_without_attention() {
    let network = network();
    let image: Image = whole_patches(
        &dinolab_data::Source::image(&Shapes::new(0, 1), 0).unwrap(),
        Some((24, 24)),
        STRIDE,
    )
    .unwrap();
    let normaliser = Preprocess::default().normaliser().unwrap();
    let error = attend(&network, &image, &normaliser).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a single convolution has no attention maps"
    );
    let error = backbone::block_tokens(&network).err().unwrap();
    assert_eq!(
        error.to_string(),
        "a single convolution has no tokens of several blocks"
    );
}

//! Backward passes in pieces.

use std::collections::BTreeMap;
use std::convert::Infallible;

use burn::tensor::{Gradients, Tensor, TensorData};
use dinolab_nn::device::{self, to_host_f32};
use dinolab_nn::init::Init;
use dinolab_nn::{AnyBackbone, Backbone, Feature, Parameters, VitConfig};
use dinolab_train::dropout::Dropout;
use dinolab_train::joints::Joints;

const DEPTH: usize = 5;

fn backbone(learns: bool) -> AnyBackbone {
    let config = VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 16,
        depth: DEPTH,
        heads: 2,
        ..VitConfig::default()
    };
    let device = device::by_name("cpu").unwrap();
    let mut backbone = AnyBackbone::new(&config.into(), &mut Init::new(3), &device).unwrap();
    if learns {
        backbone.to_device(&device.autodiff());
    }
    backbone
}

/// Views of two sizes.
fn views() -> Vec<Tensor<4>> {
    let device = device::by_name("cpu").unwrap().autodiff();
    [(4, 32), (6, 16)]
        .map(|(images, side)| {
            let values = (0..images * 3 * side * side).map(|i| (i as f32 * 0.37).sin());
            let values = TensorData::new(values.collect::<Vec<f32>>(), [images, 3, side, side]);
            Tensor::from_data(values, &device)
        })
        .to_vec()
}

/// Gradients by name, as they have come with each piece of a backward pass.
fn pieces(
    backbone: &AnyBackbone,
    feature: Feature,
    joints: Joints,
) -> Vec<BTreeMap<String, Vec<f32>>> {
    let dropped = Dropout::new(1, DEPTH, 0.3, 0.25).draw(7, 5, 0..2);
    let dropped = dropped.with_joints(joints);
    let features = backbone.training_features(views(), feature, &dropped);
    let joints = dropped.into_joints();
    let [features] = joints.join([features]);
    let mut found = Vec::new();
    let collect = |mut gradients: Gradients| {
        let mut piece = BTreeMap::new();
        backbone.visit("", &mut |name, param| {
            if let Some(grad) = param.take_grad(&mut gradients) {
                piece.insert(name.to_owned(), to_host_f32(grad));
            }
        });
        found.push(piece);
        Ok::<_, Infallible>(())
    };
    let loss = (features.clone() * features).sum();
    let Ok(()) = joints.backward(loss.backward(), collect);
    found
}

#[test]
fn the_gradients_are_those_of_one_pass_to_the_bit() {
    let backbone = backbone(true);
    for feature in [Feature::Class, Feature::Both] {
        let whole = pieces(&backbone, feature, Joints::default());
        let [whole] = &whole[..] else {
            panic!("{} pieces without joints", whole.len());
        };
        assert!(whole.values().flatten().any(|&grad| grad != 0.0));

        // A joint before block 2, one before block 4, and one after the last.
        let found = pieces(&backbone, feature, Joints::new(DEPTH));
        let names: Vec<Vec<&str>> = found
            .iter()
            .map(|piece| {
                let parts = piece.keys().filter_map(|name| name.strip_prefix("blocks."));
                let mut blocks: Vec<_> = parts.map(|name| &name[..1]).collect();
                blocks.dedup();
                blocks
            })
            .collect();
        assert_eq!(names, [vec![], vec!["4"], vec!["2", "3"], vec!["0", "1"]]);
        let together: BTreeMap<_, _> = found.into_iter().flatten().collect();
        assert!(together == *whole, "{feature:?}");
    }
}

/// Two results of a layer that one leaf goes into, each of them used.
#[test]
fn a_piece_ends_with_several_tensors() {
    let device = device::by_name("cpu").unwrap().autodiff();
    let gradient = |joints: Joints, used: [f64; 2]| {
        let leaf = Tensor::<2>::from_data([[0.5, -1.0], [2.0, 0.25]], &device).require_grad();
        let ends = [leaf.clone().tanh(), leaf.clone() * leaf.clone()];
        let [a, b] = joints.join(ends);
        let loss = (a.clone() * a).sum() * used[0] + b.exp().sum() * used[1];
        let (mut pieces, mut found) = (0, None);
        let collect = |mut gradients: Gradients| {
            pieces += 1;
            found = leaf.grad_remove(&mut gradients);
            Ok::<_, Infallible>(())
        };
        let Ok(()) = joints.backward(loss.backward(), collect);
        (pieces, to_host_f32(found.expect("of the last piece")))
    };
    for used in [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]] {
        let (pieces, whole) = gradient(Joints::default(), used);
        assert_eq!(pieces, 1);
        assert_eq!(gradient(Joints::new(DEPTH), used), (2, whole));
    }
}

#[test]
fn what_learns_nothing_has_no_joints() {
    let backbone = backbone(false);
    let dropped = Dropout::new(1, DEPTH, 0.0, 0.0).draw(7, 5, 0..2);
    let dropped = dropped.with_joints(Joints::new(DEPTH));
    let plain = views().into_iter().map(|view| view.without_autodiff());
    let features = backbone.training_features(plain.collect(), Feature::Class, &dropped);
    let joints = dropped.into_joints();
    let [features] = joints.join([features]);
    assert!(!features.is_tracked());
}

//! Features that are held near the original's.

use burn::tensor::{Tensor, TensorData};
use dinolab_train::adapt::drift;
use dinolab_train::{Method, StepReport, Views};

use super::{Case, at, preserving};
use crate::common::device;
use crate::common::golden::to_host_f32;
use crate::common::joint_embedding::{varied, views};

fn term(report: &StepReport, name: &str) -> f64 {
    let found = report.terms.iter().find(|(term, _)| *term == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn drift_is_that_of_the_formula_and_so_is_its_gradient() {
    let (rows, width) = (3, 5);
    let values = |number| -> Vec<f32> { (0..rows * width).map(varied(number)).collect() };
    let (x, y) = (values(1), values(2));
    // In double precision.
    let formula = |x: &[f64]| -> f64 {
        let cosine = |row: usize| {
            let a = &x[row * width..][..width];
            let b: Vec<f64> = y[row * width..][..width]
                .iter()
                .map(|&v| v.into())
                .collect();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(a, &b) / (dot(a, a) * dot(&b, &b)).sqrt()
        };
        (0..rows).map(|row| 1.0 - cosine(row)).sum::<f64>() / rows as f64
    };
    let tensor = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [rows, width]);
        Tensor::<2>::from_data(data, &device())
    };
    let recorded = Tensor::from_inner(tensor(&x)).require_grad();
    let found = drift(recorded.clone(), tensor(&y));
    let x: Vec<f64> = x.iter().map(|&v| v.into()).collect();
    let value = f64::from(found.clone().into_scalar::<f32>());
    assert!(
        (value - formula(&x)).abs() < 1e-6,
        "{value} {}",
        formula(&x)
    );
    let gradient = to_host_f32(recorded.grad(&found.backward()).unwrap());
    for (i, &found) in gradient.iter().enumerate() {
        let moved = |by: f64| {
            let mut x = x.clone();
            x[i] += by;
            formula(&x)
        };
        let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!(
            (f64::from(found) - expected).abs() < 1e-5,
            "{i}: {found} {expected}"
        );
    }
    let same = drift(tensor(&values(1)), tensor(&values(1))).into_scalar::<f32>();
    assert!(same.abs() < 1e-6, "{same}");
    let zero = drift(tensor(&[0.0; 15]), tensor(&values(1))).into_scalar::<f32>();
    assert!((zero - 1.0).abs() < 1e-6, "{zero}");
}

#[test]
fn preserved_features_begin_as_the_originals_and_stay_nearer_to_them() {
    let case = |weight| Case {
        drop_path: 0.0,
        ..Case::of(preserving(weight))
    };
    let (weak, strong, plain) = (case(1e-9), case(30.0), case(0.0));
    let all = weak.methods().into_iter().zip(strong.methods());
    for ((mut weak, mut strong), mut plain) in all.zip(plain.methods()) {
        let name = weak.name();
        let step = |method: &mut dyn Method, step: u64| {
            method.step(&[views(4, varied(step % 2))], &at(step, 0.003, 1.0))
        };
        let first = step(&mut *strong, 0).unwrap();
        // DINOv2's student does not see the masked patches.
        let most = if name == "dinov2" { 0.01 } else { 1e-6 };
        let drift = term(&first, "drift");
        assert!(drift.abs() < most, "{name}: {:?}", first.terms);
        let of_plain = step(&mut *plain, 0).unwrap();
        assert!(
            (first.loss - 30.0 * drift - of_plain.loss).abs() < 1e-4,
            "{name}"
        );
        assert!(of_plain.terms.iter().all(|(term, _)| *term != "drift"));
        step(&mut *weak, 0).unwrap();
        let (mut near, mut far) = (0.0, 0.0);
        for number in 1..12 {
            let found = step(&mut *strong, number).unwrap();
            near = term(&found, "drift");
            far = term(&step(&mut *weak, number).unwrap(), "drift");
            let others: f64 = match name {
                "dino" => term(&found, "dino"),
                "simdino" => -term(&found, "similarity") - 0.5 * term(&found, "coding_rate"),
                _ => continue,
            };
            assert!(
                (found.loss - others - 30.0 * near).abs() < 1e-4,
                "{name}: {found:?}"
            );
        }
        assert!(far > 0.0 && near < 0.7 * far, "{name}: {near} of {far}");
    }
}

#[test]
fn micro_batches_preserve_as_the_large_batch_does() {
    let case = Case {
        drop_path: 0.0,
        ..Case::of(preserving(2.0))
    };
    let (mut whole, mut parts) = (case.methods().remove(0), case.methods().remove(0));
    for step in 0..3 {
        let large = views(4, varied(step));
        let of_images = |views: &Tensor<4>, first: usize| {
            let [rows, c, h, w] = views.dims();
            let views = views
                .clone()
                .reshape([rows / 4, 4, c, h, w])
                .narrow(1, first, 2);
            views.reshape([rows / 2, c, h, w])
        };
        let half = |first| Views {
            batch: 2,
            global: of_images(&large.global, first),
            local: large.local.as_ref().map(|local| of_images(local, first)),
        };
        let small = [half(0), half(2)];
        let hp = at(step, 0.003, 1.0);
        let (a, b) = (
            whole.step(&[large], &hp).unwrap(),
            parts.step(&small, &hp).unwrap(),
        );
        let (a, b) = (term(&a, "drift"), term(&b, "drift"));
        assert!((a - b).abs() < 1e-4 * a.abs().max(1e-2), "{a} {b}");
    }
}

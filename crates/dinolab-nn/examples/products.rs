//! Times the matrix products of a training step by each of cubek's strategies, on a GPU:
//!
//! ```sh
//! cargo run --release -p dinolab-nn --features cuda --example products -- cuda:0
//! ```
//!
//! From its figures the strategies of `ops::matmul` are chosen. Prints TFLOP/s; `-` where a strategy does not
//! take a product.

use std::time::Instant;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{Distribution, FloatDType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::init_matmul_output;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy as Level;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;
use dinolab_nn::Device;

/// A product `[B, M, K] · [B, K, N]`; which operand lies transposed.
struct Product {
    name: &'static str,
    sizes: [usize; 4],
    transposed: [bool; 2],
}

/// Of ViT-S/16, 64 images in 2 views of 224 px and 8 of 96 px.
const PRODUCTS: [Product; 7] = [
    product("qkv", [1, 44_160, 384, 1152], [false, true]),
    product("mlp", [1, 44_160, 1536, 384], [false, true]),
    product("mlp, of input", [1, 44_160, 384, 1536], [false, false]),
    product("mlp, of weight", [1, 384, 44_160, 1536], [true, false]),
    product("scores", [768, 197, 64, 197], [false, true]),
    product("mixture", [768, 197, 197, 64], [false, false]),
    product("scores, small", [3072, 37, 64, 37], [false, true]),
];

const fn product(name: &'static str, sizes: [usize; 4], transposed: [bool; 2]) -> Product {
    Product {
        name,
        sizes,
        transposed,
    }
}

fn operand(
    [b, rows, columns]: [usize; 3],
    transposed: bool,
    dtype: FloatDType,
    device: &Device,
) -> Tensor<3> {
    let shape = if transposed {
        [b, columns, rows]
    } else {
        [b, rows, columns]
    };
    let x = Tensor::<3>::random(shape, Distribution::Uniform(-1.0, 1.0), device).cast(dtype);
    if transposed { x.swap_dims(1, 2) } else { x }
}

fn strategies(tensor_cores: bool) -> Vec<Level> {
    let unit = vec![
        Level::SimpleUnit(Default::default()),
        Level::DoubleUnit(Default::default()),
        Level::Gemm(Default::default()),
    ];
    if !tensor_cores {
        return unit;
    }
    vec![
        Level::SimpleCyclicCmma(Default::default()),
        Level::SimpleCyclicMma(Default::default()),
        Level::SimpleStridedMma(Default::default()),
        Level::SimpleTilewiseMma(Default::default()),
        Level::SimpleAsyncCyclicMma(Default::default()),
        Level::SimpleTmaMma(Default::default()),
        Level::DoubleCyclicCmma(Default::default()),
        Level::DoubleCyclicMma(Default::default()),
        Level::DoubleTilewiseMma(Default::default()),
        Level::DoubleHybridMma(Default::default()),
        Level::DoubleAsyncCyclicMma(Default::default()),
        Level::DoubleTmaMma(Default::default()),
        Level::SpecializedCyclicMma(Default::default()),
        Level::SpecializedTmaMma(Default::default()),
        Level::OrderedDoubleCmma(Default::default()),
        Level::OrderedDoubleMma(Default::default()),
        Level::SimpleUnit(Default::default()),
    ]
}

/// Runs a product so often; `None` if the strategy refuses it.
fn run(strategy: &Level, a: &Tensor<3>, b: &Tensor<3>, times: usize) -> Option<()> {
    let [a, b] = [a, b].map(|x| {
        x.clone()
            .try_into_primitive::<CubeBackend>()
            .expect("a tensor of a GPU")
    });
    let out = init_matmul_output(&a, &b, a.dtype);
    let element = dtype_to_storage_type(a.dtype);
    for _ in 0..times {
        let mut elements = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: element,
            rhs: element,
            out: element,
        });
        let (lhs, rhs) = (a.clone().binding(), b.clone().binding());
        let launched = launch_ref(
            &Strategy::MultiLevel(strategy.clone()),
            &a.client,
            InputBinding::new(lhs, element),
            InputBinding::new(rhs, element),
            out.clone().binding(),
            &mut elements,
        );
        launched.ok()?;
    }
    Some(())
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "cuda:0".into());
    let device = dinolab_nn::device::by_name(&name).expect("the first argument names a device");
    for dtype in [FloatDType::BF16, FloatDType::F32] {
        println!("{dtype:?}");
        for strategy in strategies(dtype != FloatDType::F32) {
            print!("{:<36}", strategy.to_string());
            for Product {
                name,
                sizes: [batch, m, k, n],
                transposed,
            } in &PRODUCTS
            {
                let a = operand([*batch, *m, *k], transposed[0], dtype, &device);
                let b = operand([*batch, *k, *n], transposed[1], dtype, &device);
                // A strategy that does not fit may panic instead of refusing.
                let measured = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    run(&strategy, &a, &b, 2)?;
                    device.sync().ok()?;
                    let clock = Instant::now();
                    let times = 10;
                    run(&strategy, &a, &b, times)?;
                    device.sync().ok()?;
                    let operations = 2.0 * (batch * m * k * n * times) as f64;
                    Some(operations / clock.elapsed().as_secs_f64() / 1e12)
                }));
                match measured {
                    Ok(Some(speed)) => print!(" {name} {speed:6.1};"),
                    _ => print!(" {name}      -;"),
                }
            }
            println!();
        }
    }
}

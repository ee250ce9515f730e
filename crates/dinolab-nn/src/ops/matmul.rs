//! Matrix products in the precision they are asked in.

use burn::tensor::Tensor;

/// `a · b` of the last two dimensions, in the numbers of the operands; the dimensions before
/// are the same in both.
///
/// NVIDIA's tensor cores take `f32` operands as TF32, which has 10 bits of the 23, and Burn's
/// kernels for them do so without being asked. On CUDA devices products therefore go to kernels
/// chosen here: `f32` to those of [`matmul_f32`], `bf16` to the fastest found.
#[expect(clippy::disallowed_methods, reason = "where no TF32 is met")]
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if gpu::on_cuda(&a) {
        return gpu::matmul(a, b);
    }
    a.matmul(b)
}

/// [`matmul`] by kernels that use no tensor cores, on every device: products and sums of `f32`
/// keep its 24 bits.
#[expect(clippy::disallowed_methods, reason = "where no TF32 is met")]
pub fn matmul_f32<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if gpu::on_gpu(&a) {
        return gpu::matmul(a, b);
    }
    a.matmul(b)
}

/// Products as an extension of the GPU backend, forward and backward.
#[cfg(feature = "gpu")]
mod gpu {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::cubecl::dtype_to_storage_type;
    use burn::backend::ops::FloatTensorOps;
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{
        Autodiff, Backend, CubeDevice, DType, Dispatch, DispatchDevice, TensorMetadata,
        backend_extension,
    };
    use burn::tensor::Tensor;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::matmul::init_matmul_output;
    use burn_cubecl::tensor::CubeTensor;
    use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
    use cubek::matmul::launch::launch_ref;
    use cubek::matmul::{multi_level, strategy::Strategy};
    use cubek::std::InputBinding;

    /// The product as an operation of a backend.
    #[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
    pub trait MatmulOp: Backend {
        /// `[.., M, K] · [.., K, N]` → `[.., M, N]`.
        #[fusion(dtype = a, shape = product_shape(a, b))]
        fn dinolab_matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    fn device_of<const D: usize>(x: &Tensor<D>, is: fn(&CubeDevice) -> bool) -> bool {
        let device = x.device().without_autodiff();
        matches!(device.as_dispatch(), DispatchDevice::Cube(device) if is(device))
    }

    pub fn on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
        device_of(x, |_| true)
    }

    /// Where Burn's own products may round to TF32.
    pub fn on_cuda<const D: usize>(x: &Tensor<D>) -> bool {
        device_of(x, |device| match device {
            #[cfg(feature = "cuda")]
            CubeDevice::Cuda(_) => true,
            #[allow(unreachable_patterns)]
            _ => false,
        })
    }

    pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        Tensor::from_dispatch(Dispatch::dinolab_matmul(
            a.into_dispatch(),
            b.into_dispatch(),
        ))
    }

    #[cfg(feature = "fusion")]
    fn product_shape(a: &burn::tensor::Shape, b: &burn::tensor::Shape) -> burn::tensor::Shape {
        let last = a.num_dims() - 1;
        let mut shape = a.clone();
        shape[last] = b[last];
        shape
    }

    impl MatmulOp for CubeBackend {
        fn dinolab_matmul(a: CubeTensor, b: CubeTensor) -> CubeTensor {
            match (parts(&a, &b), a.dtype) {
                (1, dtype) => launch(a, b, dtype),
                (parts, _) => in_parts(a, b, parts),
            }
        }
    }

    /// Values of the inner dimension that a part has at least.
    const PART: usize = 1024;

    /// Tiles of the result that keep a large GPU busy.
    const TILES: usize = 512;

    /// Into how many equal parts the inner dimension is divided: more than one where the result is small and
    /// the inner dimension long, as in the gradients of weights, whose few tiles would leave most of a GPU
    /// idle.
    fn parts(a: &CubeTensor, b: &CubeTensor) -> usize {
        let (a, b) = (a.shape(), b.shape());
        let last = a.num_dims() - 1;
        let batches: usize = a[..last - 1].iter().product();
        let tiles = batches * a[last - 1].div_ceil(128) * b[last].div_ceil(128);
        if batches != 1 || tiles == 0 {
            return 1;
        }
        let most = (TILES / tiles).min(a[last] / PART).max(1);
        let divisors = (1..=most).rev();
        divisors
            .into_iter()
            .find(|parts| a[last] % parts == 0)
            .unwrap_or(1)
    }

    /// The sum of products of `parts` slices of the inner dimension, each computed as one of a batch.
    fn in_parts(a: CubeTensor, b: CubeTensor, parts: usize) -> CubeTensor {
        let (dtype, shape) = (a.dtype, init_matmul_output(&a, &b, a.dtype).shape());
        let slices = |mut x: CubeTensor, dim: usize| {
            for _ in 2..x.meta.num_dims() {
                x.meta.remove(0);
            }
            let (inner, stride) = (x.meta.shape()[dim] / parts, x.meta.strides()[dim]);
            x.meta.shape_mut()[dim] = inner;
            x.meta.insert(0, parts, stride * inner);
            x
        };
        let products = launch(slices(a, 1), slices(b, 0), DType::F32);
        let sum = CubeBackend::float_sum_dim(products, 0);
        CubeBackend::float_reshape(CubeBackend::float_cast(sum, dtype.into()), shape)
    }

    /// The product with a result in `dtype`, by the first kernel that takes the operands.
    fn launch(a: CubeTensor, b: CubeTensor, dtype: DType) -> CubeTensor {
        let out = init_matmul_output(&a, &b, dtype);
        let element = dtype_to_storage_type(a.dtype);
        let client = a.client.clone();
        let unit = Strategy::MultiLevel(multi_level::Strategy::SimpleUnit(Default::default()));
        // In f32 one multiplication and addition at a time: there is nothing to round. Else by tensor cores;
        // the order is that of `examples/products.rs` on an H100.
        let strategies = match a.dtype {
            DType::F32 => vec![unit],
            _ => vec![
                Strategy::MultiLevel(multi_level::Strategy::SimpleTmaMma(Default::default())),
                Strategy::MultiLevel(multi_level::Strategy::SimpleAsyncCyclicMma(
                    Default::default(),
                )),
                Strategy::Auto,
                unit,
            ],
        };
        for strategy in strategies {
            let mut elements = MatmulElems::from_globals(&MatmulGlobalElems {
                lhs: element,
                rhs: element,
                out: dtype_to_storage_type(dtype),
            });
            let launched = launch_ref(
                &strategy,
                &client,
                InputBinding::new(a.clone().binding(), element),
                InputBinding::new(b.clone().binding(), element),
                out.clone().binding(),
                &mut elements,
            );
            if launched.is_ok() {
                return out;
            }
        }
        unreachable!("the last kernel takes every operand")
    }

    #[derive(Debug)]
    struct Matmul;

    fn transposed<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
        let dims = x.shape().num_dims();
        B::float_swap_dims(x, dims - 2, dims - 1)
    }

    impl<B: MatmulOp> Backward<B, 2> for Matmul {
        /// The operands.
        type State = [FloatTensor<B>; 2];

        fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
            let dy = grads.consume::<B>(&ops.node);
            let ([of_a, of_b], [a, b]) = (ops.parents, ops.state);
            if let Some(node) = of_a {
                let da = B::dinolab_matmul(dy.clone(), transposed::<B>(b));
                grads.register::<B>(node.id, da);
            }
            if let Some(node) = of_b {
                let db = B::dinolab_matmul(transposed::<B>(a), dy);
                grads.register::<B>(node.id, db);
            }
        }
    }

    impl<B: MatmulOp, C: CheckpointStrategy> MatmulOp for Autodiff<B, C> {
        fn dinolab_matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
            let ((a, a_node), (b, b_node)) = (a.into_parts(), b.into_parts());
            match Matmul
                .prepare::<C>([a_node, b_node])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => {
                    let y = B::dinolab_matmul(a.clone(), b.clone());
                    prep.finish([a, b], y)
                }
                OpsKind::UnTracked(prep) => prep.finish(B::dinolab_matmul(a, b)),
            }
        }
    }
}

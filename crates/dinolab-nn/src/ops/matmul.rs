//! Matrix products in the precision they are asked in.

use burn::tensor::Tensor;

/// `a · b` of the last two dimensions, in the numbers of the operands; the dimensions before
/// are the same in both.
///
/// NVIDIA's tensor cores take `f32` operands as TF32, which has 10 bits of the 23, and Burn's
/// kernels for them do so without being asked. Products in `f32` therefore go to
/// [`matmul_f32`] on CUDA devices.
#[expect(clippy::disallowed_methods, reason = "where no TF32 is met")]
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if gpu::has_tf32(&a) {
        return matmul_f32(a, b);
    }
    a.matmul(b)
}

/// [`matmul`] by kernels that use no tensor cores, on every device: products and sums of `f32`
/// keep its 24 bits.
#[expect(clippy::disallowed_methods, reason = "where no TF32 is met")]
pub fn matmul_f32<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if gpu::on_gpu(&a) {
        return gpu::matmul_f32(a, b);
    }
    a.matmul(b)
}

/// The product as an extension of the GPU backend, forward and backward.
#[cfg(feature = "gpu")]
mod gpu {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::cubecl::dtype_to_storage_type;
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

    /// Whether Burn's own product of this tensor may round to TF32.
    pub fn has_tf32<const D: usize>(x: &Tensor<D>) -> bool {
        let is_cuda = |device: &CubeDevice| match device {
            #[cfg(feature = "cuda")]
            CubeDevice::Cuda(_) => true,
            _ => false,
        };
        x.dtype() == DType::F32 && device_of(x, is_cuda)
    }

    pub fn matmul_f32<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
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
            let out = init_matmul_output(&a, &b, a.dtype);
            let element = dtype_to_storage_type(a.dtype);
            let mut elements = MatmulElems::from_globals(&MatmulGlobalElems {
                lhs: element,
                rhs: element,
                out: element,
            });
            let client = a.client.clone();
            // One multiplication and addition at a time: there is nothing to round.
            let strategy = multi_level::Strategy::SimpleUnit(Default::default());
            launch_ref(
                &Strategy::MultiLevel(strategy),
                &client,
                InputBinding::new(a.binding(), element),
                InputBinding::new(b.binding(), element),
                out.clone().binding(),
                &mut elements,
            )
            .expect("the kernel that every device has");
            out
        }
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

//! Backward passes in pieces: what one piece has found is summed over processes while the next is computed.

use std::cell::RefCell;

use burn::tensor::{Gradients, Tensor};
use dinolab_nn::BackboneConfig;

use crate::Ranks;

/// Pieces of the backward pass of a backbone: enough that little is left to sum after the last.
const PIECES: usize = 4;

/// The joints of a graph that was recorded in pieces, from its inputs on. Each has what one piece ends with
/// and the leaf, of equal value, that the next one begins with.
#[derive(Debug, Default)]
pub struct Joints {
    /// Blocks between two joints; `None` records in one piece.
    spacing: Option<usize>,
    held: RefCell<Vec<[Tensor<2>; 2]>>,
}

impl Joints {
    /// For a backbone of `depth` blocks.
    pub fn new(depth: usize) -> Self {
        Self {
            spacing: Some(depth.div_ceil(PIECES).max(1)),
            held: RefCell::default(),
        }
    }

    /// For a backbone that one of `ranks` learns: in one piece, unless sums over processes
    /// [overlap](Ranks::overlap) with its backward pass. They would hold up those of batch normalisation.
    pub fn of(backbone: &BackboneConfig, ranks: &Ranks) -> Self {
        match ranks.overlap() && !backbone.has_batch_norm() {
            true => Self::new(backbone.droppable_blocks()),
            false => Self::default(),
        }
    }

    /// Whether the graph is recorded in pieces.
    pub fn in_pieces(&self) -> bool {
        self.spacing.is_some()
    }

    /// Ends a piece with `tensor` if one is to end before block `block`.
    pub(crate) fn before_block(&self, block: usize, tensor: Tensor<2>) -> Tensor<2> {
        match self.spacing {
            Some(spacing) if block > 0 && block.is_multiple_of(spacing) => self.join(tensor),
            _ => tensor,
        }
    }

    /// Ends a piece with `tensor`, and begins the next one with what this returns.
    pub fn join(&self, tensor: Tensor<2>) -> Tensor<2> {
        // Nothing before it learns, or is to be apart.
        if self.spacing.is_none() || !tensor.is_tracked() {
            return tensor;
        }
        let leaf = Tensor::from_inner(tensor.clone().without_autodiff()).require_grad();
        self.held.borrow_mut().push([tensor, leaf.clone()]);
        leaf
    }

    /// Goes on from `gradients`, those of the piece after the last joint, to the first piece: `each` is given
    /// the gradients of one after the other.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn backward<E>(
        self,
        mut gradients: Gradients,
        mut each: impl FnMut(Gradients) -> Result<(), E>,
    ) -> Result<(), E> {
        for [end, leaf] in self.held.into_inner().into_iter().rev() {
            let grad = leaf.grad_remove(&mut gradients);
            each(gradients)?;
            let Some(grad) = grad else { return Ok(()) };
            // Its derivative by `end` is `grad`.
            gradients = (end * Tensor::from_inner(grad)).sum().backward();
        }
        each(gradients)
    }
}

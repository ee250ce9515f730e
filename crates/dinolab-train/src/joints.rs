//! Backward passes in pieces: what one piece has found is summed over processes while the next is computed.

use std::cell::RefCell;

use burn::tensor::{Gradients, Tensor};
use dinolab_nn::BackboneConfig;

use crate::Ranks;

/// Pieces of the backward pass of a backbone: enough that little is left to sum after the last.
const PIECES: usize = 4;

/// What a piece of a graph ends with, and the leaf, of equal value, that the next one begins with.
type Ends = [Tensor<2>; 2];

/// The joints of a graph that was recorded in pieces, from its inputs on.
#[derive(Debug, Default)]
pub struct Joints {
    /// Blocks between two joints; `None` records in one piece.
    spacing: Option<usize>,
    /// The ends of each piece but the last.
    held: RefCell<Vec<Vec<Ends>>>,
}

impl Joints {
    /// For a backbone of `depth` blocks.
    pub fn new(depth: usize) -> Self {
        Self {
            spacing: Some(depth.div_ceil(PIECES).max(1)),
            held: RefCell::default(),
        }
    }

    /// For a backbone that one of `ranks` learns, with `micro_batches` backward passes: in one piece, unless sums
    /// over processes [overlap](Ranks::overlap) with its only pass. They would hold up those of batch normalisation.
    pub fn of(backbone: &BackboneConfig, ranks: &Ranks, micro_batches: usize) -> Self {
        match micro_batches == 1 && ranks.overlap() && !backbone.has_batch_norm() {
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
            Some(spacing) if block > 0 && block.is_multiple_of(spacing) => {
                let [leaf] = self.join([tensor]);
                leaf
            }
            _ => tensor,
        }
    }

    /// Ends a piece with `tensors`, and begins the next one with what this returns.
    pub fn join<const N: usize>(&self, tensors: [Tensor<2>; N]) -> [Tensor<2>; N] {
        // Nothing before them learns, or is to be apart.
        if self.spacing.is_none() || !tensors.iter().any(Tensor::is_tracked) {
            return tensors;
        }
        let leaf_of =
            |x: &Tensor<2>| Tensor::from_inner(x.clone().without_autodiff()).require_grad();
        let leaves = tensors.each_ref().map(leaf_of);
        let ends = tensors.into_iter().zip(leaves.clone());
        let ends = ends.map(|(end, leaf)| [end, leaf]).collect();
        self.held.borrow_mut().push(ends);
        leaves
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
        for ends in self.held.into_inner().into_iter().rev() {
            let mut next: Option<Tensor<1>> = None;
            for [end, leaf] in ends {
                let Some(grad) = leaf.grad_remove(&mut gradients) else {
                    continue;
                };
                // Its derivative by `end` is `grad`.
                let product = (end * Tensor::from_inner(grad)).sum();
                next = Some(match next {
                    Some(sum) => sum + product,
                    None => product,
                });
            }
            each(gradients)?;
            let Some(next) = next else { return Ok(()) };
            gradients = next.backward();
        }
        each(gradients)
    }
}

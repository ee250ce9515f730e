//! What a step shows of masked patches in its last micro-batch.

use burn::tensor::Tensor;

use crate::method::PatchOutputs;

/// Logits of the masked patches of the shards of a micro-batch.
#[derive(Default)]
pub(super) struct SeenPatches {
    teacher: Vec<Tensor<2>>,
    student: Vec<Tensor<2>>,
}

impl SeenPatches {
    /// Adds a shard's: the teacher's logits and the student's, both `[m, K]`.
    pub(super) fn add(&mut self, teacher: Tensor<2>, student: Tensor<2>) {
        self.teacher.push(teacher);
        self.student.push(student);
    }

    /// Those of all shards, over `prototypes`, of a step that masks the share `masked` of patches.
    pub(super) fn outputs(
        self,
        prototypes: usize,
        centre: Option<Tensor<1>>,
        masked: f64,
    ) -> PatchOutputs {
        let all = |rows: Vec<Tensor<2>>| (!rows.is_empty()).then(|| Tensor::cat(rows, 0));
        PatchOutputs {
            prototypes,
            teacher: all(self.teacher),
            student: all(self.student),
            centre,
            masked,
        }
    }
}

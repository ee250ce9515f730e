//! What a step shows of its last micro-batch.

use burn::tensor::Tensor;

use crate::ranks::joined;

/// Outputs for the global views of the shards of a micro-batch.
#[derive(Default)]
pub(in crate::method) struct Seen {
    features: Vec<Tensor<2>>,
    teacher: Vec<Tensor<2>>,
    student: Vec<Tensor<2>>,
}

impl Seen {
    /// Adds a shard's: features `[2·b, F]`, the teacher's logits and the student's, both `[2·b, K]`.
    pub(in crate::method) fn add(
        &mut self,
        features: Tensor<2>,
        teacher: Tensor<2>,
        student: Tensor<2>,
    ) {
        self.features.push(features);
        self.teacher.push(teacher);
        self.student.push(student);
    }

    /// Those of all shards, in the order in which they are added.
    pub(in crate::method) fn all(self) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let Self {
            features,
            teacher,
            student,
        } = self;
        (joined(features, 2), joined(teacher, 2), joined(student, 2))
    }
}

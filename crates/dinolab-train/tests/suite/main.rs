//! Training methods, their gradients, and runs. One binary, since each would have to be linked.

mod common;

mod adapt;
mod average;
mod checkpoint;
mod convnext;
mod dino_terms;
mod dinov2;
mod distill;
mod dropout;
mod golden;
mod joints;
mod lejepa;
mod ranks;
mod reference;
mod resnet;
mod schedule;
mod simdino;
mod soundness;
mod visreg;

//! Networks, their operations and files of weights. One binary, since each would have to be linked.

mod common;

mod conv_stem;
mod convnext;
mod convnext_ops;
mod device;
mod dinov3;
mod features;
mod model;
mod muon;
mod onnx;
mod onnx_convolutional;
mod ops;
mod precision;
mod resnet;
mod weights;
mod weights_of_others;

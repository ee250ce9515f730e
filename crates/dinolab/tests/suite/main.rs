//! The program, from the command line. One binary, since each would have to be linked.

mod common;
#[path = "../../../dinolab-run/tests/hub/server.rs"]
mod hub_server;
#[cfg(feature = "remote")]
#[path = "../../../dinolab-data/tests/remote/server.rs"]
mod object_server;
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../src/run_commands.rs"]
mod run_commands;

mod adapt;
mod bench;
mod beside;
mod channels;
mod codes_of_errors;
mod command_line;
mod console;
mod continued;
mod conv_stem;
mod convert;
mod convnext;
mod data;
mod dinov2;
mod distill;
mod divergence;
mod docs;
mod doctor;
mod evaluation;
mod examples;
mod exit_codes;
mod explain;
mod feature;
mod folder;
mod golden_model;
mod hub;
mod in_use;
mod killed;
mod learn;
mod lejepa;
mod linear;
mod neighbours;
mod onnx;
mod parts;
mod processes;
mod python_settings;
mod remedies;
mod remote;
mod resnet;
mod results;
mod resume;
mod retrieval;
mod run_remedies;
mod same_set;
mod shards;
mod simdino;
mod sources;
mod stored_parts;
mod tensorboard;
mod training;
mod transfer;
mod video;
mod visreg;
mod weights;
mod whitening;

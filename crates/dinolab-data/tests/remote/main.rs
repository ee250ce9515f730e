//! Images on other machines: a server on loopback stands for S3, and behaves as networks do.
#![cfg(feature = "remote")]

mod cache;
mod epochs;
mod locations;
mod objects;
mod requests;
mod server;
mod sets;

//! A local web page to watch and explore training runs: curves as they grow, attention over time, a map of
//! images by their features, clusters, near duplicates and outliers.
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | address, token, and the loop that answers |
//! | `companion` | the page in a process of its own, beside a run |
//! | `routes` | what each address of the page answers |
//! | `access` | who may ask: host names, the token, headers |
//! | `page` | HTML, style and scripts, compiled in |
//! | `watched_run`, `tail`, `live`, `settings` | a run's figures as they are written |
//! | `network`, `pictures` | attention and patch colours of a checkpoint, stored pictures |
//! | `gallery`, `gallery_job`, `clusters`, `unusual`, `thumbnail`, `sample` | images by their features |
//!
//! Nothing is written, and the page loads nothing from elsewhere.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod access;
mod answer;
mod clusters;
mod companion;
mod error;
mod gallery;
mod gallery_job;
mod live;
mod network;
mod page;
mod pictures;
mod routes;
mod sample;
pub mod server;
mod settings;
mod site;
mod tail;
mod thumbnail;
mod unusual;
mod watched_run;

pub use companion::Companion;
pub use error::{Error, Result};
pub use server::{Server, ViewRequest, router};

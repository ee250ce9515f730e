//! Remote locations: `s3://`, `gs://`, `az://`, `http://` and `https://`.
//!
//! ```text
//! listing ──► names, sizes, versions ──► folder, shards or list
//!                                            │ bytes of an object, or a range of them
//!                                            ▼
//!                              cache ──► client: attempts ──► store
//! ```
//!
//! Features are written to a folder of a store, too ([`Objects`]).
//!
//! Behind the cargo feature `remote`; the options exist without it.

#[cfg(feature = "remote")]
mod cache;
#[cfg(feature = "remote")]
mod client;
#[cfg(feature = "remote")]
mod error;
#[cfg(feature = "remote")]
mod folder;
#[cfg(feature = "remote")]
mod location;
#[cfg(feature = "remote")]
mod object;
#[cfg(feature = "remote")]
mod objects;
#[cfg(feature = "remote")]
mod open;
mod options;
#[cfg(feature = "remote")]
mod parallel;
#[cfg(feature = "remote")]
mod runtime;
mod scheme;
#[cfg(feature = "remote")]
mod store;
#[cfg(feature = "remote")]
mod uri_list;

#[cfg(feature = "remote")]
pub use objects::{FoundObject, Objects};
#[cfg(feature = "remote")]
pub(super) use open::open;
pub use options::{CacheOptions, RemoteOptions};
#[cfg(not(feature = "remote"))]
pub(super) use scheme::not_built;
pub(super) use scheme::scheme;
#[cfg(feature = "remote")]
pub(super) use uri_list::UriResolver;

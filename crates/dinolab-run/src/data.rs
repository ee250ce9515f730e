//! Image sets: fetched, inspected, packed.

pub mod fetch;
pub mod inspect;
pub mod pack;

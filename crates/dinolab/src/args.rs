//! Flags that several commands share, apart from those that the library declares with its options.

mod model;
#[cfg(feature = "remote")]
mod remote;
mod visual;

pub use self::model::{ModelArgs, OptionalModelArgs};
#[cfg(feature = "remote")]
pub use self::remote::RemoteArgs;
pub use self::visual::{VisualArgs, print_summary};

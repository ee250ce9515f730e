//! Flags that several commands share, and what they mean to the library.

mod masks;
mod model;
mod preprocess;
#[cfg(feature = "remote")]
mod remote;
mod visual;

pub use self::masks::MaskArgs;
pub use self::model::{ModelArgs, NormalisationArgs, OptionalModelArgs, role};
pub use self::preprocess::{PreprocessArgs, features};
#[cfg(feature = "remote")]
pub use self::remote::RemoteArgs;
pub use self::visual::{VisualArgs, print_summary, resize_to};

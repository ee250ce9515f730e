//! What to do about an error, by the flags of the command at hand.

use std::fmt;

use dinolab_nn::weights::NetworkRole;
use dinolab_run::error::library::Library;

use crate::flags::Flags;

/// What to do about an image of too many patches.
const TOO_LARGE: &str =
    "--size HEIGHTxWIDTH, such as --size 480x480, resizes without keeping the aspect ratio";

/// A remedy that the program's errors name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// More images than allowed cannot be used.
    MaxUnusable,
    /// Position embeddings are those of another image size.
    ResizePosEmbed,
    /// A learning rate at which the loss becomes NaN or infinite.
    LowerLr,
    /// A file is not a classifier.
    MakeClassifier,
    /// Images are arrays, whose channels are read only as stored.
    InChans,
    /// A training checkpoint has other networks only.
    CheckpointKey(NetworkRole),
    /// A frame has too many patches.
    Size,
}

impl Advice {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 7] = [
        Self::MaxUnusable,
        Self::ResizePosEmbed,
        Self::LowerLr,
        Self::MakeClassifier,
        Self::InChans,
        Self::CheckpointKey(NetworkRole::Student),
        Self::Size,
    ];

    /// What to do about an error.
    pub fn on(error: Library<'_>) -> Option<Self> {
        match error {
            Library::Data(dinolab_data::Error::TooManyUnusable { .. }) => Some(Self::MaxUnusable),
            Library::Data(dinolab_data::Error::OnlyArrays { .. }) => Some(Self::InChans),
            Library::Nn(dinolab_nn::Error::PositionSize { .. }) => Some(Self::ResizePosEmbed),
            Library::Nn(dinolab_nn::Error::NoSuchNetwork { found, .. }) => {
                found.first().copied().map(Self::CheckpointKey)
            }
            Library::Run(dinolab_run::Error::FrameTooLarge(_)) => Some(Self::Size),
            Library::Features(dinolab_features::Error::Diverged { .. }) => Some(Self::LowerLr),
            Library::Run(dinolab_run::Error::NotAClassifier { .. }) => Some(Self::MakeClassifier),
            _ => None,
        }
    }

    /// The flag that helps, without dashes.
    fn flag(self) -> &'static str {
        match self {
            Self::MaxUnusable => "max-unusable-percent",
            Self::ResizePosEmbed => "resize-pos-embed",
            Self::LowerLr => "lr",
            Self::MakeClassifier => "classifier",
            Self::InChans => "in-chans",
            Self::CheckpointKey(_) => "checkpoint-key",
            Self::Size => "size",
        }
    }

    /// Whether a command with these flags can follow it, and its error does not name it already.
    pub fn fits(self, flags: &Flags, error: &str) -> bool {
        flags.has(self.flag()) && !error.contains(&format!("--{}", self.flag()))
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::CheckpointKey(role) => {
                return write!(f, "choose by --checkpoint-key {role}");
            }
            Self::MaxUnusable => "remove them, or allow more with --max-unusable-percent PERCENT",
            Self::ResizePosEmbed => "resample the position embeddings with --resize-pos-embed true",
            Self::LowerLr => "give a lower --lr",
            Self::MakeClassifier => {
                "make one with dinolab eval linear --train IMAGES --val IMAGES --out FILE"
            }
            Self::InChans => "give the number of their channels with --in-chans",
            Self::Size => TOO_LARGE,
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_where_it_can_be_followed() {
        for advice in Advice::ALL {
            let flags = Flags::new([advice.flag()]);
            assert!(advice.fits(&flags, "something is wrong"));
            assert!(!advice.fits(&Flags::default(), "something is wrong"));
            let named = format!("wrong; change --{}", advice.flag());
            assert!(!advice.fits(&flags, &named));
        }
    }
}

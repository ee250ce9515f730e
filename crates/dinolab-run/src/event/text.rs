//! Events in words. Settings are named in backticks, as in errors.

use std::fmt;

use super::panel::{figures, panel};
use super::{Event, Severity};

impl Event<'_> {
    /// How much it matters to the user.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Began { .. } | Self::Advanced { .. } | Self::Ended | Self::Stepped { .. } => {
                Severity::Progress
            }
            Self::Warning(_) | Self::IndexNotKept(_) | Self::Unverified { .. } => Severity::Warning,
            _ => Severity::Note,
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Began { unit, total, .. } => match total {
                Some(total) => write!(f, "{unit} 0/{total}"),
                None => f.write_str(unit),
            },
            Self::Advanced { done, detail } => write!(f, "{done}  {detail}"),
            Self::Ended => f.write_str("done"),
            Self::Skipped { name, reason } => write!(f, "skipped {name}: {reason}"),
            Self::SkippedInAll(count) => write!(f, "{count} images skipped"),
            Self::Note { source, note } => write!(f, "note: {}: {note}", source.display()),
            Self::Unlabelled {
                setting,
                set,
                without,
                all,
            } => {
                if !setting.is_empty() {
                    write!(f, "`{setting}` ")?;
                }
                let set = set.display();
                write!(
                    f,
                    "{set}: {without} of {all} images have no label and are left out"
                )
            }
            Self::Loaded(report) => write!(f, "{report}"),
            Self::MeasuringSpeed => f.write_str("measuring the training speed of this machine"),
            Self::HeadsAssumed { heads, width } => write!(
                f,
                "assuming {heads} attention heads for width {width}; `heads` sets another number"
            ),
            Self::NotShown { name, error } => not_shown(f, name, error),
            Self::PackedAsIs { name, reason } => {
                write!(f, "packed unchanged, cannot be decoded: {name}: {reason}")
            }
            Self::PackedEmpty { name, reason } => write!(
                f,
                "packed as an empty file, cannot be read: {name}: {reason}"
            ),
            Self::DownloadResumed { part, bytes } => write!(
                f,
                "resuming after {:.1} MB of {}",
                bytes as f64 / 1e6,
                part.display()
            ),
            Self::DownloadRetried { error } => write!(f, "retrying: {error}"),
            Self::DownloadRestarted => f.write_str("this server cannot resume: starting over"),
            Self::Unverified { dataset, sha256 } => write!(
                f,
                "the checksum of {dataset} is not known, so the archive is not verified; its SHA-256 \
                 is {sha256}"
            ),
            Self::WentBack { to, from, doubt } => write!(
                f,
                "going back to step {to}: the checkpoint of step {from} is not sound ({doubt})"
            ),
            Self::ImagesRecorded => f.write_str(
                "the run had no record of its images; they are now listed in images.tsv",
            ),
            Self::UsableAgain { count, listed } => write!(
                f,
                "{count} of {listed} images listed in skipped.tsv can be used now"
            ),
            Self::ChannelsMeasured { images } => {
                write!(
                    f,
                    "channel means and standard deviations measured over {images} images"
                )
            }
            Self::StoredChannels {
                channels,
                mean,
                std,
            } => write!(
                f,
                "{channels} channels as stored: `mean` {mean} `std` {std}\n\
                 augmentation: brightness and contrast of each channel separately, blur, solarisation at \
                 half of the range; no hue, saturation or greyscale"
            ),
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::IndexNotKept(error) => write!(
                f,
                "warning: the index is not kept: {error}; `index` chooses another file"
            ),
            Self::Stepped {
                loss,
                lr,
                images_per_second,
                ..
            } => write!(
                f,
                "loss {loss:.3}  lr {lr:.1e}  {images_per_second:.0} images/s"
            ),
            Self::EpochEnded {
                health,
                seconds,
                data_wait,
                ..
            } => f.write_str(&panel(health, seconds, data_wait)),
            Self::Evaluated {
                epochs,
                figures: found,
            } => f.write_str(&figures(epochs, found)),
        }
    }
}

/// Why an image is left out, and what helps if `size` does.
fn not_shown(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    error: &dinolab_features::Error,
) -> fmt::Result {
    match error {
        dinolab_features::Error::Data(error) => write!(f, "skipped {error}"),
        dinolab_features::Error::Model(dinolab_nn::Error::TooManyPatches { .. }) => write!(
            f,
            "skipped {name}: {error}; `size` HEIGHTxWIDTH, such as `size` 480x480, resizes without \
             keeping the aspect ratio"
        ),
        dinolab_features::Error::Invalid { reason, .. } => write!(f, "skipped {name}: {reason}"),
        _ => write!(f, "skipped {name}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_sentences_that_name_settings_in_backticks() {
        let event = Event::Unlabelled {
            setting: "val",
            set: "photos".as_ref(),
            without: 1,
            all: 4,
        };
        let words = "`val` photos: 1 of 4 images have no label and are left out";
        assert_eq!(event.to_string(), words);
        assert_eq!(event.severity(), Severity::Note);
        assert_eq!(Event::Ended.severity(), Severity::Progress);
        let warning = Event::Warning("odd");
        assert_eq!(warning.severity(), Severity::Warning);
        assert_eq!(warning.to_string(), "warning: odd");
    }
}

//! What a folder of features is of.

use dinolab_features::{BlockFeatures, Preprocess};
use dinolab_nn::{Parameters, Precision};

use super::{FeatureType, Hash, PartFolder, TokenShape};
use crate::error::{Context, Error, Result};
use crate::feature_set::MANIFEST;

/// The layout of folder and files.
const FORMAT: &str = "dinolab features 1";

/// Everything that the features depend on, but for the pixels.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Images of the set.
    pub images: usize,
    /// Images of a part; the last one may have fewer.
    pub part_size: usize,
    /// Hash of all names, in order.
    pub names: String,
    /// Hash of the network's parameters.
    pub weights: String,
    /// What is taken of the network.
    pub feature: BlockFeatures,
    /// The numbers that are stored.
    pub kind: FeatureType,
    /// What activations are computed in.
    pub precision: Precision,
    /// How images are prepared.
    pub preprocess: Preprocess,
    /// What whole images are resized to.
    pub size: Option<String>,
    /// Hash of the transform.
    pub whitening: Option<String>,
    /// The patch tokens of each image, if they are what is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_tokens: Option<TokenShape>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            format: FORMAT.into(),
            images: 0,
            part_size: 1,
            names: String::new(),
            weights: String::new(),
            feature: BlockFeatures::default(),
            kind: FeatureType::default(),
            precision: Precision::default(),
            preprocess: Preprocess::default(),
            size: None,
            whitening: None,
            patch_tokens: None,
        }
    }
}

impl Manifest {
    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.images.div_ceil(self.part_size)
    }

    /// Makes the folder one of this manifest, or finds that it is. Returns what its parts are known by.
    ///
    /// # Errors
    /// A folder of another manifest; one that cannot be written.
    pub fn claim(&self, folder: &PartFolder) -> Result<String> {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Error::Format(error.into()))?;
        folder.write_new(MANIFEST, text.as_bytes())?;
        // Read again: another process may have been there first.
        let (found, identity) = Self::read(folder)?;
        match self.difference(&found) {
            None => Ok(identity),
            Some(what) => Err(Error::setting(
                "out",
                folder,
                format!("holds features of {what}; give another folder"),
            )),
        }
    }

    /// The manifest of a folder, and what its parts are known by.
    ///
    /// # Errors
    /// A folder without one, or with one that is damaged or of another version.
    pub fn read(folder: &PartFolder) -> Result<(Self, String)> {
        let Some(text) = folder.manifest()? else {
            bail!("{folder}: is not a folder of features, {MANIFEST} is missing");
        };
        let manifest: Self = serde_json::from_str(&text)
            .map_err(|error| Error::Format(error.into()))
            .with_context(|| format!("{folder}: {MANIFEST}"))?;
        if manifest.format != FORMAT || manifest.part_size == 0 {
            bail!("{folder}: {MANIFEST} is of another version of dinolab");
        }
        let mut hash = Hash::default();
        hash.bytes(text.as_bytes());
        Ok((manifest, hash.digits()))
    }

    /// The hash of a network's parameters, as [`Manifest::weights`].
    pub fn hash_of(network: &dyn Parameters) -> String {
        let mut weights = Hash::default();
        network.visit("", &mut |name, param| {
            weights.name(name);
            weights.values(&param.to_vec());
        });
        weights.digits()
    }

    /// What differs first, in words.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let Self {
            format: _,
            images,
            part_size,
            names,
            weights,
            feature,
            kind,
            precision,
            preprocess,
            size,
            whitening,
            patch_tokens,
        } = self;
        let said = [
            (
                *images != found.images,
                format!("{} images, not {images}", found.images),
            ),
            (*names != found.names, "images of other names".into()),
            (*weights != found.weights, "other weights".into()),
            (
                patch_tokens.is_some() != found.patch_tokens.is_some(),
                match found.patch_tokens {
                    Some(_) => "patch tokens".into(),
                    None => "whole images, not of patches".into(),
                },
            ),
            (*feature != found.feature, "another `feature`".into()),
            (
                *part_size != found.part_size,
                format!("`part-size` {}", found.part_size),
            ),
            (kind != &found.kind, "another `feature-type`".into()),
            (
                precision != &found.precision,
                format!("`precision` {}", found.precision),
            ),
            (
                *preprocess != found.preprocess || *size != found.size,
                "images that were prepared in another way".into(),
            ),
            (
                *patch_tokens != found.patch_tokens,
                "another number of patches".into(),
            ),
            (*whitening != found.whitening, "another whitening".into()),
        ];
        said.into_iter()
            .find(|(differs, _)| *differs)
            .map(|(_, what)| what)
    }
}

//! Parts that are whitened by a transform fitted to all of them.
//!
//! Two passes: the first writes the features as they are, to a folder of parts within the folder; once all of them
//! are there, whoever comes first fits the transform, and the second pass whitens them. A process does both for its
//! own parts, and waits for nobody: what is missing for the second pass is done when it is run again.

use dinolab_eval::knn::l2_normalise;
use dinolab_eval::whitening::{CovarianceAccumulator, Whitening, WhiteningCentre};

use super::{EmbeddedParts, Work};
use crate::error::{Context, Error, Result};
use crate::feature_set::parts::{FeatureType, Hash, Manifest, Part, PartFolder, Stored, is_whole};

/// The folder of features as they are. Readers of Parquet files pass over names that begin with an underscore.
const UNWHITENED: &str = "_unwhitened";
/// The file of the transform.
const WHITENING: &str = "_whitening.safetensors";

impl Work<'_> {
    /// Writes the whitened features of this process's parts, if the features of all parts are there.
    pub(super) fn whitened(
        &self,
        folder: &PartFolder,
        manifest: Manifest,
    ) -> Result<EmbeddedParts> {
        if check(folder, &manifest)? {
            let done = self.there(folder)?;
            // Nothing is embedded again where the unwhitened features have been removed.
            if done.there == self.shard.of(done.parts).count() {
                return Ok(done);
            }
        }
        let path = self.request.out.join(UNWHITENED);
        let plain = PartFolder::open(&path, &self.env.remote)?;
        // The transform is fitted to the features as they were computed.
        let of_plain = Manifest {
            kind: FeatureType::F32,
            ..manifest.clone()
        };
        let first = self.features(&plain, &of_plain)?;
        let stored = Stored::open(&path, &self.env.remote)?;
        let mut missing = 0;
        for part in 0..stored.parts() {
            missing += usize::from(!is_whole(&plain, &stored.identity, part)?);
        }
        if missing > 0 {
            return Ok(EmbeddedParts {
                waits_for: missing,
                ..first
            });
        }
        let (whitening, hash) = transform(folder, &stored)?;
        let manifest = Manifest {
            whitening: Some(hash),
            ..manifest
        };
        let identity = manifest.claim(folder)?;
        let mut done = EmbeddedParts {
            skipped: first.skipped,
            ..self.begun(folder, &manifest)
        };
        for number in self.shard.of(manifest.parts()) {
            if is_whole(folder, &identity, number)? {
                done.there += 1;
                continue;
            }
            let mut features = stored.read(number)?;
            if !features.is_empty() {
                l2_normalise(&mut features.data, features.dim)?;
                whitening.apply(&mut features.data)?;
            }
            let names = self.names(self.images_of(number, &manifest));
            let labelled = !self.source.classes().is_empty();
            let kind = manifest.kind;
            Part::new(&identity, number, kind, &names, features, labelled).write(folder)?;
            done.written += 1;
        }
        Ok(done)
    }

    /// Which parts of this process are in a folder.
    fn there(&self, folder: &PartFolder) -> Result<EmbeddedParts> {
        let (manifest, identity) = Manifest::read(folder)?;
        let mut done = self.begun(folder, &manifest);
        for part in self.shard.of(manifest.parts()) {
            done.there += usize::from(is_whole(folder, &identity, part)?);
        }
        Ok(done)
    }
}

/// Whether the folder is one of these features already; refuses one of others before any are computed.
fn check(folder: &PartFolder, manifest: &Manifest) -> Result<bool> {
    if folder.manifest()?.is_none() {
        return Ok(false);
    }
    let (found, _) = Manifest::read(folder)?;
    let own = Manifest {
        // Of which there is none in a folder of plain features, or of a transform from elsewhere.
        whitening: Some(match folder.read(WHITENING)? {
            Some(bytes) => hash_of(&bytes),
            None => String::new(),
        }),
        ..manifest.clone()
    };
    match own.difference(&found) {
        None => Ok(true),
        Some(what) => Err(Error::setting(
            "out",
            folder,
            format!("holds features of {what}; give another folder"),
        )),
    }
}

/// The transform of the folder, fitted to all features if there is none yet, and the hash of its file.
fn transform(folder: &PartFolder, plain: &Stored) -> Result<(Whitening, String)> {
    let bytes = match folder.read(WHITENING)? {
        Some(bytes) => bytes,
        None => {
            folder.write_new(WHITENING, &fit(plain)?.to_bytes()?)?;
            // Another process may have been there first.
            let bytes = folder.read(WHITENING)?;
            bytes.with_context(|| format!("{folder}: {WHITENING} is missing"))?
        }
    };
    let whitening = Whitening::from_bytes(&folder.path_to(WHITENING), &bytes)?;
    Ok((whitening, hash_of(&bytes)))
}

fn fit(plain: &Stored) -> Result<Whitening> {
    let mut sums: Option<CovarianceAccumulator> = None;
    plain.for_blocks(|rows, dim| {
        l2_normalise(rows, dim)?;
        let sums = sums.get_or_insert_with(|| CovarianceAccumulator::new(dim));
        Ok(sums.add(rows)?)
    })?;
    let sums = sums.with_context(|| format!("{}: holds no features", plain.folder))?;
    Whitening::fit(&sums, WhiteningCentre::Mean).of_setting("whiten", "")
}

fn hash_of(bytes: &[u8]) -> String {
    let mut hash = Hash::default();
    hash.bytes(bytes);
    hash.digits()
}

//! Whether a folder of features is complete: every image in it once.

use std::path::Path;

use super::{Hash, Manifest, PartFolder, file};
use crate::environment::Environment;
use crate::error::Result;
use crate::feature_set::Verified;

/// Reads all parts of a folder, one after the other, and compares them with its manifest and their checksums.
///
/// # Errors
/// A folder without a manifest, or one that could not be read.
pub(in crate::feature_set) fn verify(env: &Environment<'_>, folder: &Path) -> Result<Verified> {
    let folder = &PartFolder::open(folder, &env.remote)?;
    let (manifest, identity) = Manifest::read(folder)?;
    let parts = manifest.parts();
    let mut found = Verified {
        images: manifest.images,
        parts,
        ..Verified::default()
    };
    let mut names = Hash::default();
    let progress = env.progress("part", parts);
    for part in 0..parts {
        let reader = match folder.part(part) {
            Ok(Some(reader)) => reader,
            Ok(None) => {
                found.missing.push(part);
                continue;
            }
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error) => {
                found.wrong.push((part, error.to_string()));
                continue;
            }
        };
        let here = manifest
            .part_size
            .min(manifest.images - part * manifest.part_size);
        let read = file::read(reader).and_then(|(set, footer)| {
            if footer.identity != identity || footer.number != part {
                bail!("is of another folder, or another part of this one");
            }
            let mut all = set.names.clone().unwrap_or_default();
            let features = all.len();
            all.extend(footer.skipped.iter().cloned());
            if all.len() != here {
                bail!("has {} images instead of {here}", all.len());
            }
            all.sort();
            Ok((all, features))
        });
        match read {
            Ok((all, features)) => {
                found.features += features;
                found.skipped += all.len() - features;
                for name in &all {
                    names.name(name);
                }
            }
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error) => found.wrong.push((part, error.to_string())),
        }
        progress.set(part + 1, "");
    }
    progress.finish();
    found.other_names =
        found.missing.is_empty() && found.wrong.is_empty() && names.digits() != manifest.names;
    Ok(found)
}

//! `hf:OWNER/NAME[@REVISION]`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::HubError;

/// The revision of an address that names none.
const MAIN: &str = "main";

/// A model of the hub, and which revision of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    owner: String,
    name: String,
    revision: Option<String>,
}

impl Address {
    /// The address that a path is; `None` for a path in the file system.
    ///
    /// # Errors
    /// [`HubError::BadAddress`].
    pub fn of(path: &Path) -> Result<Option<Self>, HubError> {
        let bytes = path.as_os_str().as_encoded_bytes();
        if !bytes.starts_with(b"hf:") {
            return Ok(None);
        }
        let text = path.to_string_lossy();
        Self::parse(&text[3..])
            .map(Some)
            .map_err(|reason| HubError::BadAddress {
                given: text.clone().into_owned(),
                reason,
            })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (model, revision) = match text.split_once('@') {
            Some((model, revision)) => (model, Some(revision)),
            None => (text, None),
        };
        let (owner, name) = model.split_once('/').ok_or("the owner is missing")?;
        for (what, part) in [("owner", owner), ("name", name)] {
            if !is_name(part) {
                return Err(format!("{part:?} is not the {what} of a model"));
            }
        }
        if let Some(revision) = revision.filter(|revision| !is_revision(revision)) {
            return Err(format!("{revision:?} is not a branch, tag or commit"));
        }
        Ok(Self {
            owner: owner.into(),
            name: name.into(),
            revision: revision.map(Into::into),
        })
    }

    /// The owner, a person or an organisation.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A branch, a tag or a commit; the branch `main` unless the address names another revision.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// The model at a commit.
    pub fn at(&self, commit: &str) -> Self {
        Self {
            revision: Some(commit.into()),
            ..self.model()
        }
    }

    /// The model without a revision.
    pub fn model(&self) -> Self {
        Self {
            revision: None,
            ..self.clone()
        }
    }

    /// Whether `other` means the same model, and no other revision of it.
    pub fn is_revision_of(&self, other: &Self) -> bool {
        self.model() == other.model() && (other.revision.is_none() || self == other)
    }

    /// The address as a path, as it is given to commands.
    pub fn path(&self) -> PathBuf {
        self.to_string().into()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}/{}", self.owner, self.name)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// Whether the hub allows this as the name of an owner or a model. `--` separates the two in the cache.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let ends = |c: char| c == '-' || c == '.';
    !text.is_empty()
        && text.len() <= 96
        && text.chars().all(allowed)
        && !text.starts_with(ends)
        && !text.ends_with(ends)
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether this may be a revision, and is a relative path that stays below its folder.
fn is_revision(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_graphic() && !"~^:?*[\\@{}\"<>|%#".contains(c);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    text.len() <= 200
        && text.chars().all(allowed)
        && !text.contains("..")
        && text.split('/').all(part)
}

/// Whether a revision is a whole commit, which always means the same.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && is_hexadecimal(revision)
}

pub(super) fn is_hexadecimal(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<Address>, HubError> {
        Address::of(Path::new(text))
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in [
            "hf:facebook/dinov2-small",
            "hf:timm/vit_small_patch14_dinov2.lvd142m@v1.0",
            "hf:a/b@refs/pr/1",
        ] {
            let address = of(text).unwrap().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(of(address.path().to_str().unwrap()).unwrap(), Some(address));
        }
        let plain = of("hf:a/b").unwrap().unwrap();
        assert_eq!(plain.revision(), "main");
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(plain.at(commit).is_revision_of(&plain));
        assert!(plain.at(commit).is_revision_of(&plain.at(commit)));
        assert!(!plain.at(commit).is_revision_of(&plain.at("main")));
        assert!(
            !plain
                .at(commit)
                .is_revision_of(&of("hf:a/c").unwrap().unwrap())
        );
        for path in ["runs/photos", "./hf:a/b", "hf", "/hf:/a"] {
            assert_eq!(of(path).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn what_leaves_the_cache_is_no_address() {
        for text in [
            "hf:",
            "hf:a",
            "hf:/b",
            "hf:a/",
            "hf:a/b/c",
            "hf:../b",
            "hf:a/..",
            "hf:a--b/c",
            "hf:a/b@",
            "hf:a/b@../x",
            "hf:a/b@/x",
            "hf:a/b@x/../y",
            "hf:a/b@.x",
            "hf:a/b@x y",
            "hf:a/b@x\\y",
            "hf:a/b@x\r\n",
            "hf:a b/c",
            "hf://a/b",
        ] {
            let error = of(text).unwrap_err();
            assert!(
                error.to_string().contains("hf:OWNER/NAME"),
                "{text}: {error}"
            );
        }
    }
}

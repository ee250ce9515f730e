//! Parsed remote locations.

use std::path::{Path, PathBuf};

use object_store::path::Path as Key;

use crate::{Error, Result};

/// Who keeps the objects of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    S3,
    Google,
    Azure,
    Http,
}

/// Where an object, or a folder of objects, lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) scheme: Scheme,
    /// A bucket, a container, or `https://host:port`; all of the address where that has a query.
    pub(super) store: String,
    /// The object's name in the store; of a folder, what the names of its objects begin with.
    pub(super) key: Key,
    /// As the user wrote it, without a slash at the end.
    text: String,
}

const KNOWN: &str = "known are s3://, gs://, az://, http:// and https://";

impl Location {
    /// Takes `s3://bucket/folder/name` and the like apart.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = |reason: String| Error::BadSource {
            path: text.into(),
            reason,
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| bad(format!("no location of another machine; {KNOWN}")))?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "s3" | "s3a" => Scheme::S3,
            "gs" => Scheme::Google,
            "az" | "azure" => Scheme::Azure,
            "http" | "https" => Scheme::Http,
            other => return Err(bad(format!("{other}:// is not known; {KNOWN}"))),
        };
        let (host, name) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return Err(bad(match kind {
                Scheme::Http => "no host after ://".into(),
                _ => format!("no bucket; write {scheme}://BUCKET/FOLDER"),
            }));
        }
        let text = text.trim_end_matches('/').to_owned();
        if kind == Scheme::Http && name.contains('?') {
            // A signed address: its query must go with every request.
            return Ok(Self {
                scheme: kind,
                store: text.clone(),
                key: Key::default(),
                text,
            });
        }
        let key = match kind {
            // Addresses are written with %20 for a space, names of objects are not.
            Scheme::Http => Key::from_url_path(name),
            _ => Key::parse(name),
        };
        let key = key.map_err(|error| bad(error.to_string()))?;
        let store = match kind {
            Scheme::Http => format!("{}://{host}", scheme.to_ascii_lowercase()),
            _ => host.to_owned(),
        };
        Ok(Self {
            scheme: kind,
            store,
            key,
            text,
        })
    }

    /// As the user wrote it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The same as a path, for errors. It is nowhere taken apart as one.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(&self.text)
    }

    /// Whether the address has a query, which only fits this one object.
    pub(super) fn has_query(&self) -> bool {
        self.scheme == Scheme::Http && self.text.contains('?')
    }

    /// The location without query, for the extension that it ends in.
    pub(super) fn name(&self) -> &Path {
        Path::new(match self.has_query() {
            true => self.text.split('?').next().unwrap_or_default(),
            false => &self.text,
        })
    }

    /// Returns the location `name` below this folder; `name` is a path with `/`.
    pub(super) fn below(&self, name: &str) -> Result<Self> {
        Self::parse(&below(&self.text, name))
    }
}

/// `name` below the folder `folder`, in writing.
pub(super) fn below(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

/// Returns the folder of a location as text.
pub(super) fn folder_of(location: &str) -> &str {
    let location = location.split('?').next().unwrap_or_default();
    let start = location.find("://").map_or(0, |at| at + 3);
    match location[start..].rfind('/') {
        Some(at) => &location[..start + at],
        None => location,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Scheme, String, String) {
        let location = Location::parse(text).unwrap();
        let key = location.key.to_string();
        (location.scheme, location.store, key)
    }

    #[test]
    fn locations_are_taken_apart() {
        let of = |scheme, store: &str, key: &str| (scheme, store.to_owned(), key.to_owned());
        assert_eq!(parts("s3://b/photos/"), of(Scheme::S3, "b", "photos"));
        assert_eq!(parts("s3://b"), of(Scheme::S3, "b", ""));
        assert_eq!(
            parts("gs://b/a b/c%20d.jpg"),
            of(Scheme::Google, "b", "a b/c%20d.jpg")
        );
        assert_eq!(parts("az://c/x.tar"), of(Scheme::Azure, "c", "x.tar"));
        assert_eq!(
            parts("HTTPS://host:8080/a%20b/x.tar"),
            of(Scheme::Http, "https://host:8080", "a b/x.tar")
        );
        let signed = Location::parse("https://host/x.tar?sig=a/b").unwrap();
        assert_eq!(signed.store, "https://host/x.tar?sig=a/b");
        assert_eq!(signed.name(), Path::new("https://host/x.tar"));
        for (bad, why) in [
            ("ftp://host/x", "known are"),
            ("s3:///x", "no bucket"),
            ("https://", "no host"),
            ("s3://b/a//b", "empty path segment"),
            ("s3://b/../b", "illegal"),
        ] {
            let error = Location::parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_lies_beside_and_below() {
        assert_eq!(folder_of("s3://b/lists/a.txt"), "s3://b/lists");
        assert_eq!(folder_of("s3://b/a.txt"), "s3://b");
        assert_eq!(folder_of("https://h/l/a.txt?x=/y"), "https://h/l");
        let folder = Location::parse("s3://b/photos/").unwrap();
        assert_eq!(
            folder.below("a/1.jpg").unwrap().text(),
            "s3://b/photos/a/1.jpg"
        );
    }
}

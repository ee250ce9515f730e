//! URI schemes.

/// `s3` of `s3://bucket/folder`.
pub(in crate::source) fn scheme(location: &str) -> Option<&str> {
    let (scheme, _) = location.split_once("://")?;
    let is_one = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_one.then_some(scheme)
}

/// Why a program without the feature does not read a location.
#[cfg(not(feature = "remote"))]
pub(in crate::source) fn not_built(scheme: &str) -> String {
    format!(
        "this build cannot read {scheme}:// locations: it needs the cargo feature `remote`; or copy \
         the images to a local folder first"
    )
}

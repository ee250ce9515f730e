//! Errors of a request: transient ones, which are retried, and permanent ones.

use std::error::Error as Cause;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

use super::location::{Location, Scheme};
use crate::Error;

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum RequestError {
    /// Another attempt may succeed.
    Transient {
        reason: String,
        /// Not even a connection was made.
        unconnected: bool,
    },
    /// Asking again is of no use; an error that ends a run.
    Permanent(String),
    /// There is no such object.
    Missing,
    /// The object is still the one that is known.
    Unchanged,
}

impl RequestError {
    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self::Transient {
            reason: reason.into(),
            unconnected: false,
        }
    }

    /// The message of an error of the client.
    pub(super) fn of(error: &object_store::Error, location: &Location, signed: bool) -> Self {
        use object_store::Error as Found;
        let causes = causes(error);
        let chain = || causes.iter().copied();
        let status = chain().find_map(|cause| status_in(&cause.to_string()));
        let asked_role = || {
            let text = error.to_string();
            ROLES.iter().any(|path| text.contains(path))
        };
        if status.is_some_and(|status| (400..500).contains(&status)) && asked_role() {
            return Self::Permanent(no_role(location.scheme));
        }
        match error {
            Found::NotFound { .. } => return Self::Missing,
            Found::NotModified { .. } => return Self::Unchanged,
            Found::Precondition { .. } => return Self::Permanent(CHANGED.into()),
            Found::InvalidPath { source } => return Self::Permanent(format!("{source}")),
            Found::NotSupported { .. } => {
                let reason = "the server does not give parts of files; copy it to a local folder";
                return Self::Permanent(reason.into());
            }
            _ => {}
        }
        if let Some(status) = status {
            return of_status(status, location, signed);
        }
        let http = chain().find_map(|cause| cause.downcast_ref::<HttpError>());
        let last = chain().last().map(ToString::to_string).unwrap_or_default();
        if let Some(http) = http {
            let (what, unconnected) = match http.kind() {
                HttpErrorKind::Connect => ("no connection", true),
                HttpErrorKind::Timeout => ("it took too long", false),
                _ => ("the connection broke off", false),
            };
            return Self::Transient {
                reason: format!("{what}: {last}"),
                unconnected,
            };
        }
        if chain().any(|cause| cause.to_string().contains("redirect without LOCATION")) {
            let reason = "the bucket is in another region; set AWS_REGION to its region";
            return Self::Permanent(reason.into());
        }
        // An answer that makes no sense, or one that was cut short.
        Self::transient(last)
    }

    /// The error to report after this many attempts.
    pub(super) fn into_error(self, location: &Location, attempts: u32) -> Error {
        let reason = match self {
            Self::Transient { reason, .. } | Self::Permanent(reason) => reason,
            Self::Unchanged => {
                "the server says that it did not change, but it was not known".into()
            }
            Self::Missing => {
                let source = io::Error::new(io::ErrorKind::NotFound, "not found");
                return Error::Io {
                    path: location.path(),
                    source,
                };
            }
        };
        Error::Unreachable {
            location: location.text().to_owned(),
            attempts,
            reason,
        }
    }
}

/// An object that is not the one that was listed.
pub(super) const CHANGED: &str = "it has changed since it was opened; run the command again to use \
                                  it as it is now";

/// The address from which machines of a cloud obtain their credentials.
const ROLES: [&str; 4] = [
    "/latest/api/token",
    "/latest/meta-data/",
    "/computeMetadata/",
    "/metadata/identity/",
];

/// A machine of a cloud that was given no role.
fn no_role(scheme: Scheme) -> String {
    let skip = match scheme {
        Scheme::Google => "GOOGLE_SKIP_SIGNATURE",
        Scheme::Azure => "AZURE_SKIP_SIGNATURE",
        _ => "AWS_SKIP_SIGNATURE",
    };
    format!(
        "no credentials were found and this machine has no role; set {}, or {skip}=true for what is \
         public",
        variables(scheme)
    )
}

/// An error and what caused it, the outermost first.
fn causes<'a>(error: &'a (dyn Cause + 'static)) -> Vec<&'a (dyn Cause + 'static)> {
    let mut causes = Vec::new();
    let mut next: Option<&'a (dyn Cause + 'static)> = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    causes
}

fn has_status(error: &(dyn Cause + 'static), status: u16) -> bool {
    let mut causes = causes(error).into_iter();
    causes.any(|cause| status_in(&cause.to_string()) == Some(status))
}

/// Whether another request to the same object was under way.
pub(super) fn is_conflict(error: &(dyn Cause + 'static)) -> bool {
    has_status(error, 409)
}

/// Whether a store does not know what it was asked for.
pub(super) fn is_not_implemented(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotImplemented { .. }) || has_status(error, 501)
}

/// The status in the client's "… status code: 503 Service Unavailable: …".
fn status_in(text: &str) -> Option<u16> {
    let (_, after) = text.split_once("status code: ")?;
    after.get(..3)?.parse().ok()
}

fn of_status(status: u16, location: &Location, signed: bool) -> RequestError {
    match status {
        404 | 410 => RequestError::Missing,
        401 | 403 => RequestError::Permanent(refused(status, location.scheme, signed)),
        412 => RequestError::Permanent(CHANGED.into()),
        408 | 429 | 500.. => RequestError::transient(format!("the server answered {status}")),
        301 | 307 | 400 if location.scheme == Scheme::S3 => RequestError::Permanent(format!(
            "the server answered {status}; is AWS_REGION the bucket's region?"
        )),
        _ => RequestError::Permanent(format!("the server answered {status}")),
    }
}

/// The variables that hold credentials.
fn variables(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        Scheme::Google => "GOOGLE_APPLICATION_CREDENTIALS",
        Scheme::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        Scheme::Http => "none",
    }
}

/// Who may not read something, and what to do.
fn refused(status: u16, scheme: Scheme, signed: bool) -> String {
    let variables = variables(scheme);
    if scheme == Scheme::Http {
        format!("access was refused ({status})")
    } else if signed {
        format!("access was refused ({status}): these credentials do not allow it ({variables})")
    } else {
        format!("access was refused ({status}): no credentials were found; set {variables}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_found_in_the_words_of_the_client() {
        let text = "Server returned non-2xx status code: 503 Service Unavailable: slow down";
        assert_eq!(status_in(text), Some(503));
        assert_eq!(status_in("status code: x"), None);
        assert_eq!(status_in("nothing"), None);
    }
}

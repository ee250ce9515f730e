//! Answers to requests, and failures as statuses with a sentence.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A request that cannot be answered.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    reason: String,
}

impl Failure {
    /// There is no such thing.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            reason: reason.into(),
        }
    }

    /// The request itself cannot be used.
    pub fn bad(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason: reason.into(),
        }
    }

    /// It exists, but not yet.
    pub fn not_yet(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::CONFLICT,
            reason: reason.into(),
        }
    }

    /// The request is not allowed.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            reason: reason.into(),
        }
    }

    fn failed(reason: String) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            reason,
        }
    }
}

/// The causes of an error that its own text does not quote yet, in one line.
pub fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

macro_rules! failure_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::failed(in_words(&error))
            }
        }
    )*};
}

failure_from!(
    dinolab_run::Error,
    dinolab_data::Error,
    dinolab_eval::Error,
    dinolab_features::Error,
    dinolab_view::Error,
    serde_json::Error,
    std::io::Error
);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, self.reason).into_response()
    }
}

/// The answer to a request.
pub type Answer<T = Response> = Result<T, Failure>;

/// Does work that takes a while on a thread of its own.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::failed("the request failed unexpectedly".into())),
    }
}

/// Bytes of a type, which the browser may keep for an hour if `lasting`.
pub fn bytes(kind: &'static str, bytes: impl Into<axum::body::Bytes>, lasting: bool) -> Response {
    let mut response = bytes.into().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if lasting {
        let kept = HeaderValue::from_static("private, max-age=3600");
        headers.insert(header::CACHE_CONTROL, kept);
    }
    response
}

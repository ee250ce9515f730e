//! Who may ask. A page of this machine answers to its own names only, so that a page of the internet cannot
//! have a browser read it; one for other machines demands a token.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

use crate::answer::Failure;
use crate::error::{Error, Result};
use crate::site::Site;

/// Scripts, styles and pictures of the page itself only.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The rule by which requests are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any request that names this machine by a loopback name.
    Local,
    /// Any request that has the token.
    Token(String),
}

impl Access {
    /// Demands a new random token.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn with_token() -> Result<Self> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        Ok(Self::Token(digits.collect()))
    }

    /// The address of the page.
    pub fn url(&self, address: SocketAddr) -> String {
        match self {
            Self::Local => format!("http://{address}/"),
            Self::Token(token) => format!("http://{address}/?token={token}"),
        }
    }
}

/// Answers what is allowed, and adds the headers of all answers.
pub async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let mut response = match check(&site.access, &request) {
        Pass::Allowed => next.run(request).await,
        Pass::Admitted(cookie) => admitted(request.uri(), &cookie),
        Pass::Refused(reason) => Failure::refused(reason).into_response(),
    };
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CACHE_CONTROL, "no-store");
    response
}

enum Pass {
    Allowed,
    /// The address has the token: the browser keeps this cookie, and the address loses it.
    Admitted(String),
    Refused(&'static str),
}

fn check(access: &Access, request: &Request) -> Pass {
    let headers = request.headers();
    if request.method() != Method::GET && !same_origin(headers) {
        return Pass::Refused("requests of other pages are refused");
    }
    match access {
        Access::Local if is_loopback(headers) => Pass::Allowed,
        Access::Local => Pass::Refused("open the page as 127.0.0.1 or localhost"),
        Access::Token(token) => {
            if cookies(headers).any(|given| equal(given, token)) {
                return Pass::Allowed;
            }
            let given = query(request.uri()).find_map(|pair| pair.strip_prefix("token="));
            match given.is_some_and(|given| equal(given, token)) {
                true => Pass::Admitted(format!(
                    "{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"
                )),
                false => Pass::Refused("open the address that was printed, with its token"),
            }
        }
    }
}

const COOKIE: &str = "dinolab-view";

fn admitted(uri: &Uri, cookie: &str) -> Response {
    let rest: Vec<&str> = query(uri)
        .filter(|pair| !pair.starts_with("token="))
        .collect();
    // A path of the page itself: `//host` would lead elsewhere.
    let path = format!("/{}", uri.path().trim_start_matches('/'));
    let place = match rest.is_empty() {
        true => path,
        false => format!("{path}?{}", rest.join("&")),
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    for (name, value) in [
        (header::LOCATION, place.as_str()),
        (header::SET_COOKIE, cookie),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn query(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let given = text(headers, header::COOKIE).unwrap_or_default();
    given
        .split(';')
        .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Compares in a time that does not depend on where the two differ.
fn equal(given: &str, token: &str) -> bool {
    let differences = given
        .bytes()
        .zip(token.bytes())
        .fold(0, |d, (a, b)| d | (a ^ b));
    given.len() == token.len() && differences == 0
}

fn is_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || plain
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether a request is of the page itself: browsers name the page that it comes from.
fn same_origin(headers: &HeaderMap) -> bool {
    match (text(headers, header::ORIGIN), text(headers, header::HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, o)| o == host),
        (Some(_), None) => false,
    }
}

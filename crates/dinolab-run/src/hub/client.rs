//! Requests to the hub: `HEAD` for what a file is, `GET` for its content.
//!
//! The hub answers for a small file itself, and redirects to another host for a large one. Either answer has
//! the commit (`X-Repo-Commit`) and the content's checksum: `X-Linked-Etag` of a large file, its SHA-256, or
//! `ETag`, the SHA-1 that git has for a small one. A refusal has its reason in `X-Error-Code`.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::Sha256;
use ureq::http::{HeaderMap, Response, Uri};

use super::address::{Address, is_commit, is_hexadecimal};
use super::cache::Repo;
use super::options::{Hub, Token};
use crate::checksum;
use crate::download::{self, Failure, RetryPolicy};
use crate::environment::Environment;
use crate::error::{Context, Error, HubError, Result};

/// Redirects that are followed for one answer.
const MAX_REDIRECTS: u32 = 5;

/// What the hub says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// The commit of the revision that was asked for.
    pub commit: String,
    /// Its checksum, a name in the cache.
    pub etag: String,
    /// Its length, if the answer has it.
    pub bytes: Option<u64>,
    /// Where it is.
    url: String,
}

/// The answer about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is there.
    File(Metadata),
    /// The model has no such file; the commit, if the answer has it.
    Missing { commit: Option<String> },
}

/// Asks about one model.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    address: &'a Address,
    retry: RetryPolicy,
    agent: ureq::Agent,
}

impl<'a> Client<'a> {
    /// One that makes up to `attempts` for each answer.
    pub fn new(hub: &'a Hub, address: &'a Address, attempts: u32) -> Self {
        let retry = RetryPolicy {
            attempts,
            ..hub.retry
        };
        Self {
            hub,
            address,
            retry,
            agent: download::agent(&retry, 0),
        }
    }

    /// What a file of a revision is.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn head(&self, env: &Environment<'_>, revision: &str, file: &str) -> Result<Reply> {
        let (owner, name) = (self.address.owner(), self.address.name());
        let revision = revision.replace('/', "%2F");
        let url = format!(
            "{}/{owner}/{name}/resolve/{revision}/{file}",
            self.hub.endpoint
        );
        let asked = || self.ask(&url);
        let reply = download::attempts(env, &self.retry, asked, || Ok(false));
        reply.map_err(|(error, given_up)| match given_up {
            None => error,
            Some(attempts) => HubError::Unreachable {
                url: url.clone(),
                attempts,
                source: Box::new(error),
            }
            .into(),
        })
    }

    /// The first of these files that a revision has.
    ///
    /// # Errors
    /// [`HubError::NoSuchFile`] if it has none.
    pub fn first<'n>(
        &self,
        env: &Environment<'_>,
        revision: &str,
        names: &[&'n str],
    ) -> Result<(&'n str, Metadata)> {
        for name in names {
            if let Reply::File(found) = self.head(env, revision, name)? {
                return Ok((name, found));
            }
        }
        Err(HubError::NoSuchFile {
            address: self.address.to_string(),
            files: names.iter().map(|&name| name.to_owned()).collect(),
        }
        .into())
    }

    fn ask(&self, url: &str) -> Result<Reply, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            // The length is that of the file itself.
            let mut request = self.agent.head(&url).header("Accept-Encoding", "identity");
            if let Some(value) = self.authorization(&url) {
                request = request.header("Authorization", value);
            }
            let answer = request.call().map_err(download::failure)?;
            let headers = answer.headers();
            let redirects = answer.status().is_redirection();
            if answer.status().is_success() || (redirects && headers.contains_key("x-linked-etag"))
            {
                let bytes = match redirects {
                    true => text(headers, "x-linked-size"),
                    false => text(headers, "x-linked-size").or(text(headers, "content-length")),
                };
                let bytes = bytes.and_then(|bytes| bytes.parse().ok());
                return metadata(headers, url, bytes).map(Reply::File);
            }
            if !redirects {
                return self.refused(&answer, url);
            }
            // A model that was renamed, or a mirror that sends on to the hub.
            let target = text(headers, "location").and_then(|target| join(&url, target));
            url = target.ok_or_else(|| not_a_hub(&url, "a redirect that leads nowhere"))?;
        }
        Err(not_a_hub(&url, "too many redirects"))
    }

    /// The token, for the hub itself and nobody else.
    fn authorization(&self, url: &str) -> Option<String> {
        let same = origin(url).is_some_and(|to| Some(to) == origin(&self.hub.endpoint));
        self.hub.token.as_ref().filter(|_| same).map(Token::header)
    }

    fn refused<B>(&self, answer: &Response<B>, url: String) -> Result<Reply, Failure> {
        let headers = answer.headers();
        let commit = text(headers, "x-repo-commit").filter(|commit| is_commit(commit));
        let code = text(headers, "x-error-code").unwrap_or_default();
        let status = answer.status().as_u16();
        let token = self
            .hub
            .token
            .as_ref()
            .map(|token| token.place().to_owned());
        let address = self.address.to_string();
        let endpoint = self.hub.endpoint.clone();
        let error = match (status, code) {
            (404, "EntryNotFound") | (404, "") => {
                let commit = commit.map(str::to_owned);
                return Ok(Reply::Missing { commit });
            }
            (_, "GatedRepo") => HubError::Gated {
                page: format!(
                    "{endpoint}/{}/{}",
                    self.address.owner(),
                    self.address.name()
                ),
                address,
                token,
            },
            (_, "RevisionNotFound") => HubError::NoSuchRevision {
                address,
                revision: self.address.revision().into(),
            },
            (_, "RepoNotFound") => self.no_such_model(),
            // The hub does not tell those who are not logged in what exists.
            (401, _) => match token {
                Some(token) => HubError::BadToken { endpoint, token },
                None => self.no_such_model(),
            },
            (400..500, _) if !matches!(status, 408 | 425 | 429) => {
                HubError::Refused { url, status }
            }
            _ => return Err(download::refusal(answer)),
        };
        Err(Failure::Permanent(error.into()))
    }

    /// The error of a model that the hub does not have, or does not show.
    pub fn no_such_model(&self) -> HubError {
        HubError::NoSuchModel {
            address: self.address.to_string(),
            endpoint: self.hub.endpoint.clone(),
            token: self
                .hub
                .token
                .as_ref()
                .map(|token| token.place().to_owned()),
        }
    }

    /// Makes a file of the cache, downloaded unless its content is there, and verified.
    ///
    /// # Errors
    /// [`HubError::Damaged`], [`Error::GaveUp`]; a cache that cannot be written.
    pub fn get(
        &self,
        env: &Environment<'_>,
        repo: &Repo,
        found: &Metadata,
        file: &str,
    ) -> Result<()> {
        let _lock = repo.lock(env, &found.etag)?;
        let blob = repo.blob(&found.etag);
        let there = fs::metadata(&blob).ok().map(|there| there.len());
        let is_whole = there.is_some_and(|length| found.bytes.is_none_or(|bytes| bytes == length));
        if !is_whole {
            let part = PathBuf::from(format!("{}.incomplete", blob.display()));
            // Of a file that it cannot be the beginning of.
            if fs::metadata(&part).is_ok_and(|part| found.bytes.is_some_and(|all| part.len() > all))
            {
                let _ = fs::remove_file(&part);
            }
            let authorization = self.authorization(&found.url);
            let request = download::Request {
                url: &found.url,
                authorization: authorization.as_deref(),
                part: &part,
                bytes: found.bytes,
            };
            download::download(env, &request, &self.retry)?;
            verify(env, &part, found)?;
            let done = fs::File::open(&part).and_then(|file| file.sync_all());
            done.and_then(|()| fs::rename(&part, &blob))
                .with_context(|| format!("cannot write {}", blob.display()))?;
        }
        repo.link(&found.commit, file, &found.etag)
    }
}

/// Compares a download with its checksum; removes it if it is another file.
fn verify(env: &Environment<'_>, part: &Path, found: &Metadata) -> Result<()> {
    let Some(sum) = sum(env, part, &found.etag)? else {
        return Ok(());
    };
    if sum == found.etag {
        return Ok(());
    }
    let _ = fs::remove_file(part);
    Err(Error::Hub(HubError::Damaged {
        url: found.url.clone(),
        wanted: found.etag.clone(),
        found: sum,
    }))
}

/// The checksum of the kind that `etag` is; `None` for one that is not known.
fn sum(env: &Environment<'_>, part: &Path, etag: &str) -> Result<Option<String>> {
    match etag.len() {
        _ if !is_hexadecimal(etag) => Ok(None),
        64 => checksum::of_file::<Sha256>(env, part, &[]).map(Some),
        #[cfg(feature = "https")]
        40 => {
            let length = fs::metadata(part).map(|found| found.len());
            let length = length.with_context(|| format!("cannot read {}", part.display()))?;
            // As git has it.
            let prefix = format!("blob {length}\0");
            checksum::of_file::<sha1::Sha1>(env, part, prefix.as_bytes()).map(Some)
        }
        _ => Ok(None),
    }
}

/// What the headers of an answer say of the file at `url`.
fn metadata(headers: &HeaderMap, url: String, bytes: Option<u64>) -> Result<Metadata, Failure> {
    let commit = text(headers, "x-repo-commit").filter(|commit| is_commit(commit));
    let Some(commit) = commit.map(str::to_owned) else {
        return Err(not_a_hub(&url, "it names no commit"));
    };
    let etag = text(headers, "x-linked-etag").or(text(headers, "etag"));
    let etag = etag.unwrap_or_default();
    let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if etag.is_empty() || etag.len() > 128 || !etag.bytes().all(allowed) {
        return Err(not_a_hub(&url, "it names no checksum"));
    }
    Ok(Metadata {
        commit,
        etag: etag.into(),
        bytes,
        url,
    })
}

fn not_a_hub(url: &str, reason: &str) -> Failure {
    let (url, reason) = (url.to_owned(), reason.to_owned());
    Failure::Permanent(HubError::NotAHub { url, reason }.into())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let default = if scheme == "https" { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(default);
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// The address that a redirect of `url` leads to.
fn join(url: &str, target: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next()?;
    match target {
        _ if target.starts_with("http://") || target.starts_with("https://") => Some(target.into()),
        _ if target.starts_with("//") => Some(format!("{scheme}:{target}")),
        _ if target.starts_with('/') => Some(format!("{scheme}://{host}{target}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_the_same_scheme_host_and_port_only() {
        let of = |url| origin(url).unwrap();
        assert_eq!(of("https://hub.co/a"), of("https://HUB.co:443/b?c"));
        for other in [
            "http://hub.co/a",
            "https://hub.co:8443/a",
            "https://hub.co.evil/a",
        ] {
            assert_ne!(of("https://hub.co/a"), of(other), "{other}");
        }
        assert_ne!(of("https://hub.co/a"), of("https://hub.co@evil/a"));
        assert_eq!(origin("hub.co"), None);
    }

    #[test]
    fn redirects_lead_to_addresses() {
        let join = |target| join("https://hub.co/a/b", target);
        assert_eq!(join("/c/d").as_deref(), Some("https://hub.co/c/d"));
        assert_eq!(join("//cdn.co/d").as_deref(), Some("https://cdn.co/d"));
        assert_eq!(join("http://x/y").as_deref(), Some("http://x/y"));
        assert_eq!(join("ftp:x"), None);
    }
}

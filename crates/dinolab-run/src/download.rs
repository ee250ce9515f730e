//! A file from a web server, resumed where it broke off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Progress};

/// An error in words.
macro_rules! invalid {
    ($($arg:tt)*) => { Error::Invalid(format!($($arg)*)) };
}

/// How long servers are waited for, and how often a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// For an answer, and for each further piece of it.
    pub answer: Duration,
    /// Before the first attempt that follows a failure; twice as long before the next.
    pub pause: Duration,
    /// Attempts in a row that bring nothing new.
    pub attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            attempts: 5,
        }
    }
}

impl RetryPolicy {
    /// How long to wait before the next attempt after `failed` in a row, the last of them with this
    /// answer: what the server asks for, up to [`LONGEST_PAUSE`], or else twice as long each time.
    fn before_next(&self, failed: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.pause * 2_u32.saturating_pow(failed.saturating_sub(1)).min(32);
        asked.map_or(doubled, |asked| asked.min(LONGEST_PAUSE))
    }
}

/// What is waited at most where a server asks for a pause (`Retry-After`).
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Another attempt may succeed, after the pause that the server asks for, if it does.
    Transient(Error, Option<Duration>),
    /// No other attempt will.
    Permanent(Error),
}

use Failure::{Permanent, Transient};

/// A file to download.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Its address.
    pub url: &'a str,
    /// Value of the header `Authorization`, for the server at `url` only: it is not sent on to where that
    /// server redirects to.
    pub authorization: Option<&'a str>,
    /// Where what has come is kept; resumed after what is there.
    pub part: &'a Path,
    /// Its length, if that is known.
    pub bytes: Option<u64>,
}

/// What all requests have in common: redirects are followed up to `redirects`, without the header
/// `Authorization`.
pub(crate) fn agent(retry: &RetryPolicy, redirects: u32) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("dinolab/", env!("CARGO_PKG_VERSION")))
        .max_redirects(redirects)
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::Never)
        .timeout_resolve(Some(retry.answer))
        .timeout_connect(Some(retry.answer))
        .timeout_recv_response(Some(retry.answer))
        .timeout_per_read(Some(retry.answer))
        .build()
        .into()
}

/// Makes attempts until one succeeds, one fails for good, or `retry` has no more. `progressed` says whether the
/// last one brought something new, which makes the next the first again.
///
/// # Errors
/// That of the last attempt, and how many there were if another might have succeeded.
pub(crate) fn attempts<T>(
    env: &Environment<'_>,
    retry: &RetryPolicy,
    mut attempt: impl FnMut() -> Result<T, Failure>,
    mut progressed: impl FnMut() -> Result<bool>,
) -> Result<T, (Error, Option<u32>)> {
    let mut failed = 0;
    loop {
        let (error, asked) = match attempt() {
            Ok(value) => return Ok(value),
            Err(Permanent(error)) => return Err((error, None)),
            Err(Transient(error, asked)) => (error, asked),
        };
        failed = match progressed().map_err(|error| (error, None))? {
            true => 1,
            false => failed + 1,
        };
        if failed >= retry.attempts {
            return Err((error, Some(failed)));
        }
        env.events.hear(Event::DownloadRetried { error: &error });
        thread::sleep(retry.before_next(failed, asked));
    }
}

/// Downloads a file.
///
/// # Errors
/// No https in this build, a refusal, another length than that of the request; [`Error::GaveUp`] if no
/// answer came in time. What has come stays.
pub(crate) fn download(
    env: &Environment<'_>,
    request: &Request<'_>,
    retry: &RetryPolicy,
) -> Result<()> {
    let Request {
        url, part, bytes, ..
    } = *request;
    let agent = agent(retry, 10);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    let there = length(&file, part)?;
    let megabytes = bytes.map(|bytes| bytes / 1_000_000);
    let progress = Progress::resumed(env.events, "MB", megabytes, there / 1_000_000);
    if there > 0 {
        env.events
            .hear(Event::DownloadResumed { part, bytes: there });
    }
    let mut most = there;
    let handle = file.try_clone();
    let handle = handle.with_context(|| format!("cannot write {}", part.display()))?;
    let result = attempts(
        env,
        retry,
        || attempt(env, &agent, request, &mut file, &progress),
        || {
            let now = length(&handle, part)?;
            let before = most;
            most = most.max(now);
            Ok(now > before)
        },
    );
    progress.finish();
    result
        .map_err(|(error, given_up)| match given_up {
            None => error,
            Some(attempts) => Error::GaveUp {
                attempts,
                part: part.into(),
                bytes: most,
                source: Box::new(error),
            },
        })
        .with_context(|| format!("cannot download {url}"))
}

fn length(file: &File, path: &Path) -> Result<u64> {
    Ok(file
        .metadata()
        .with_context(|| format!("cannot read {}", path.display()))?
        .len())
}

fn attempt(
    env: &Environment<'_>,
    agent: &ureq::Agent,
    request: &Request<'_>,
    file: &mut File,
    progress: &Progress<'_>,
) -> Result<(), Failure> {
    let Request {
        url,
        authorization,
        part,
        bytes: expected,
    } = *request;
    let mut have = length(file, part).map_err(Permanent)?;
    if let Some(expected) = expected {
        if have == expected {
            return Ok(());
        }
        if have > expected {
            return Err(Permanent(invalid!(
                "{} holds {have} bytes, more than the {expected} of the file there; remove it",
                part.display()
            )));
        }
    }
    // What is counted and added up has to be the file itself.
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if let Some(value) = authorization {
        request = request.header("Authorization", value);
    }
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let mut answer = request.call().map_err(failure)?;
    let total = match answer.status().as_u16() {
        206 if have > 0 => {
            let range = content_range(answer.headers())
                .ok_or_else(|| Permanent(invalid!("the server sends a part and not which one")))?;
            if range.start != Some(have) {
                return Err(Permanent(invalid!(
                    "the server sends another part than the one after {have} bytes"
                )));
            }
            range.total
        }
        200 => {
            if have > 0 {
                env.events.hear(Event::DownloadRestarted);
                file.set_len(0)
                    .and_then(|()| file.seek(SeekFrom::Start(0)))
                    .with_context(|| format!("cannot write {}", part.display()))
                    .map_err(Permanent)?;
                have = 0;
            }
            answer.body().content_length()
        }
        // Asked for what follows the end of a file of a length that nobody knew.
        416 if expected.is_none()
            && content_range(answer.headers()).is_some_and(|range| range.total == Some(have)) =>
        {
            return Ok(());
        }
        _ => return Err(refusal(&answer)),
    };
    if let (Some(total), Some(expected)) = (total, expected)
        && total != expected
    {
        return Err(Permanent(invalid!(
            "the file there has {total} bytes, not {expected}: it is another file"
        )));
    }
    let total = total.or(expected);
    let mut body = answer.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                let error = Err::<(), _>(error).context("the transfer was interrupted");
                return error.map_err(|error| Transient(error, None));
            }
        };
        have += read as u64;
        if total.is_some_and(|total| have > total) {
            return Err(Permanent(invalid!(
                "the server sent more bytes than announced"
            )));
        }
        file.write_all(&buffer[..read])
            .with_context(|| format!("cannot write {}", part.display()))
            .map_err(Permanent)?;
        progress.set((have / 1_000_000) as usize, "");
    }
    match total {
        Some(total) if have < total => Err(Transient(
            invalid!("the transfer was interrupted at {have} of {total} bytes"),
            None,
        )),
        _ => Ok(()),
    }
}

/// An answer that is neither a file nor a part of one.
pub(crate) fn refusal<B>(answer: &Response<B>) -> Failure {
    let status = answer.status();
    let asked = answer.headers().get("retry-after");
    let asked = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let asked = asked.map(Duration::from_secs);
    match status.as_u16() {
        408 | 425 | 429 | 500.. => {
            let pause = asked.map(|asked| asked.as_secs());
            let pause = pause.map_or(String::new(), |s| format!(" and asks to wait for {s} s"));
            Transient(invalid!("the server answers {status}{pause}"), asked)
        }
        _ => Permanent(invalid!("the server answers {status}")),
    }
}

/// Why no answer came.
pub(crate) fn failure(error: ureq::Error) -> Failure {
    use ureq::Error as E;
    match error {
        E::TlsRequired => Permanent(invalid!(
            "the server sends on to an https address, which this build cannot open"
        )),
        E::Io(_) | E::Timeout(_) | E::ConnectionFailed | E::HostNotFound | E::Protocol(_) => {
            Transient(error.into(), None)
        }
        _ => Permanent(error.into()),
    }
}

/// The `Content-Range` of an answer: `bytes 10-19/20`, `bytes 10-19/*` or `bytes */20`.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    start: Option<u64>,
    total: Option<u64>,
}

fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    parse_range(headers.get("content-range")?.to_str().ok()?)
}

fn parse_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some(ContentRange {
        start: match range.trim() {
            "*" => None,
            range => Some(range.split_once('-')?.0.parse().ok()?),
        },
        total: match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        },
    })
}

/// Refuses an address that this build has no transport for.
pub(crate) fn check_transport(url: &str) -> Result<()> {
    if cfg!(feature = "https") || !url.starts_with("https://") {
        return Ok(());
    }
    let url = url.to_owned();
    Err(Error::NoHttps { url })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_answers() {
        let range = |start, total| Some(ContentRange { start, total });
        assert_eq!(parse_range("bytes 10-19/20"), range(Some(10), Some(20)));
        assert_eq!(parse_range("bytes 10-19/*"), range(Some(10), None));
        assert_eq!(parse_range("bytes */20"), range(None, Some(20)));
        assert_eq!(parse_range("items 1-2/3"), None);
        assert_eq!(parse_range("bytes -/x"), None);
    }
}

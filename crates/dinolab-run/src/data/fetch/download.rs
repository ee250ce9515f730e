//! A file from a web server, resumed where it broke off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ureq::http::HeaderMap;

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

/// Why an attempt failed.
enum Failure {
    /// Another attempt may succeed.
    Transient(Error),
    /// No other attempt will.
    Permanent(Error),
}

use Failure::{Permanent, Transient};

/// Downloads `url` to the file `part`, resuming after what is there. `bytes` is its length, where
/// that is known.
///
/// # Errors
///
/// No https in this build, no answer in time, a refusal, another length than `bytes`.
/// What has come stays in `part`.
pub fn download(
    env: &Environment<'_>,
    url: &str,
    part: &Path,
    bytes: Option<u64>,
    retry: &RetryPolicy,
) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("dinolab/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(retry.answer))
        .timeout_connect(Some(retry.answer))
        .timeout_recv_response(Some(retry.answer))
        .timeout_per_read(Some(retry.answer))
        .build()
        .into();
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
    let mut failed = 0;
    let result = loop {
        let error = match attempt(env, &agent, url, &mut file, part, bytes, &progress) {
            Ok(()) => break Ok(()),
            Err(Permanent(error)) => break Err(error),
            Err(Transient(error)) => error,
        };
        let now = length(&file, part)?;
        failed = if now > most { 1 } else { failed + 1 };
        most = most.max(now);
        if failed >= retry.attempts {
            break Err(Error::In {
                what: format!(
                    "gave up after {failed} attempts with {:.1} MB downloaded to {}; run the same \
                     command to resume",
                    now as f64 / 1e6,
                    part.display()
                ),
                source: Box::new(error),
            });
        }
        env.events.hear(Event::DownloadRetried { error: &error });
        thread::sleep(retry.pause * 2_u32.saturating_pow(failed - 1).min(32));
    };
    progress.finish();
    result.with_context(|| format!("cannot download {url}"))
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
    url: &str,
    file: &mut File,
    part: &Path,
    expected: Option<u64>,
    progress: &Progress<'_>,
) -> Result<(), Failure> {
    let mut have = length(file, part).map_err(Permanent)?;
    if let Some(expected) = expected {
        if have == expected {
            return Ok(());
        }
        if have > expected {
            return Err(Permanent(invalid!(
                "{} holds {have} bytes, more than the {expected} of the archive; remove it",
                part.display()
            )));
        }
    }
    // What is counted and added up has to be the file itself.
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
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
        status => {
            let error = invalid!("the server answers {}", answer.status());
            return Err(match status {
                408 | 425 | 429 | 500.. => Transient(error),
                _ => Permanent(error),
            });
        }
    };
    if let (Some(total), Some(expected)) = (total, expected)
        && total != expected
    {
        return Err(Permanent(invalid!(
            "the file there has {total} bytes, the archive has {expected}: it is another file"
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
                return error.map_err(Transient);
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
        Some(total) if have < total => Err(Transient(invalid!(
            "the transfer was interrupted at {have} of {total} bytes"
        ))),
        _ => Ok(()),
    }
}

fn failure(error: ureq::Error) -> Failure {
    use ureq::Error as E;
    match error {
        E::TlsRequired => Permanent(invalid!(
            "the server sends on to an https address, which this build cannot open"
        )),
        E::Io(_) | E::Timeout(_) | E::ConnectionFailed | E::HostNotFound | E::Protocol(_) => {
            Transient(error.into())
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
pub fn check_transport(url: &str) -> Result<()> {
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

//! A file from a web server, resumed where it broke off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use ureq::http::HeaderMap;

use crate::progress::Progress;

/// How long servers are waited for, and how often they are asked again.
pub struct Patience {
    /// For an answer, and for each further piece of it.
    pub answer: Duration,
    /// Before the first of the tries that follow a failure; twice as long before the next.
    pub pause: Duration,
    /// Tries in a row that bring nothing new.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            tries: 5,
        }
    }
}

/// Why a try failed.
enum Failure {
    /// Another try may do.
    Passing(Error),
    /// No other try will.
    Lasting(Error),
}

use Failure::{Lasting, Passing};

/// Downloads `url` to the file `part`, going on after what is there. `bytes` is its length, where
/// that is known.
///
/// # Errors
///
/// No https in this build, no answer within the patience, a refusal, another length than `bytes`.
/// What has come stays in `part`.
pub fn download(url: &str, part: &Path, bytes: Option<u64>, patience: &Patience) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("dinolab/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(patience.answer))
        .timeout_connect(Some(patience.answer))
        .timeout_recv_response(Some(patience.answer))
        .timeout_per_read(Some(patience.answer))
        .build()
        .into();
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    let there = length(&file, part)?;
    let mut progress = match bytes {
        Some(bytes) => Progress::new("MB", bytes / 1_000_000, there / 1_000_000),
        None => Progress::open_ended("MB"),
    };
    if there > 0 {
        progress.line(&format!(
            "going on after {:.1} MB of {}",
            there as f64 / 1e6,
            part.display()
        ));
    }
    let mut most = there;
    let mut failed = 0;
    let result = loop {
        let error = match attempt(&agent, url, &mut file, part, bytes, &mut progress) {
            Ok(()) => break Ok(()),
            Err(Lasting(error)) => break Err(error),
            Err(Passing(error)) => error,
        };
        let now = length(&file, part)?;
        failed = if now > most { 1 } else { failed + 1 };
        most = most.max(now);
        if failed >= patience.tries {
            break Err(error.context(format!(
                "gave up after {failed} tries; {:.1} MB are in {}, the same command goes on",
                now as f64 / 1e6,
                part.display()
            )));
        }
        progress.line(&format!("trying again: {error:#}"));
        thread::sleep(patience.pause * 2_u32.saturating_pow(failed - 1).min(32));
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
    agent: &ureq::Agent,
    url: &str,
    file: &mut File,
    part: &Path,
    expected: Option<u64>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut have = length(file, part).map_err(Lasting)?;
    if let Some(expected) = expected {
        if have == expected {
            return Ok(());
        }
        if have > expected {
            return Err(Lasting(anyhow!(
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
                .ok_or_else(|| Lasting(anyhow!("the server sends a part and not which one")))?;
            if range.start != Some(have) {
                return Err(Lasting(anyhow!(
                    "the server sends another part than the one after {have} bytes"
                )));
            }
            range.total
        }
        200 => {
            if have > 0 {
                progress.line("this server cannot resume: starting over");
                file.set_len(0)
                    .and_then(|()| file.seek(SeekFrom::Start(0)))
                    .with_context(|| format!("cannot write {}", part.display()))
                    .map_err(Lasting)?;
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
            let error = anyhow!("the server answers {}", answer.status());
            return Err(match status {
                408 | 425 | 429 | 500.. => Passing(error),
                _ => Lasting(error),
            });
        }
    };
    if let (Some(total), Some(expected)) = (total, expected)
        && total != expected
    {
        return Err(Lasting(anyhow!(
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
            Err(error) => return Err(Passing(Error::new(error).context("the transfer broke off"))),
        };
        have += read as u64;
        if total.is_some_and(|total| have > total) {
            return Err(Lasting(anyhow!("the server sends more bytes than it said")));
        }
        file.write_all(&buffer[..read])
            .with_context(|| format!("cannot write {}", part.display()))
            .map_err(Lasting)?;
        progress.set(have / 1_000_000, "");
    }
    match total {
        Some(total) if have < total => Err(Passing(anyhow!(
            "the transfer broke off at {have} of {total} bytes"
        ))),
        _ => Ok(()),
    }
}

fn failure(error: ureq::Error) -> Failure {
    use ureq::Error as E;
    match error {
        E::TlsRequired => Lasting(anyhow!(
            "the server sends on to an https address, which this build cannot open"
        )),
        E::Io(_) | E::Timeout(_) | E::ConnectionFailed | E::HostNotFound | E::Protocol(_) => {
            Passing(error.into())
        }
        _ => Lasting(error.into()),
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

/// Refuses an address that this build has no transport for; `next` is the command that goes on with a
/// file.
pub fn check_transport(url: &str, archive: &str, next: &str) -> Result<()> {
    if cfg!(feature = "https") || !url.starts_with("https://") {
        return Ok(());
    }
    bail!(
        "this build has no https (cargo feature `https`); download the archive with another \
         program and go on with the file: curl -L -C - -o {archive} {url} && {next}"
    )
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

//! A hub on this machine, and the other host that its large files are on.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The token that opens gated and private models.
pub const TOKEN: &str = "hf_of_these_tests";

/// Who may have a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// Whoever sends [`TOKEN`].
    Gated,
    /// Nobody, whatever is sent.
    NotGranted,
}

/// How the servers misbehave.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// So many answers with large files end half-way.
    pub drops: usize,
    /// So many answers of the hub have this status.
    pub busy: usize,
    /// The status.
    pub status: u16,
    /// What they ask for in `Retry-After`.
    pub retry_after: Option<u64>,
    /// Contents have another last byte.
    pub alters: bool,
    /// Answers have no header of the hub.
    pub no_headers: bool,
    /// Checksums are those.
    pub etag: Option<String>,
    /// Large files take that long to begin.
    pub delay: Duration,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether the other host had it.
    pub elsewhere: bool,
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    /// Where the range begins that was asked for.
    pub from: Option<usize>,
}

#[derive(Default)]
struct State {
    /// Commits of `OWNER/NAME`, with their files.
    models: BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    /// The commits of `OWNER/NAME@REVISION`.
    refs: BTreeMap<String, String>,
    renamed: BTreeMap<String, String>,
    access: Access,
    manners: Manners,
    seen: Vec<Seen>,
}

/// The two servers, until the process ends.
#[derive(Clone)]
pub struct Server {
    hub: String,
    files: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// A hub without models.
    pub fn new() -> Self {
        let [hub, files] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            hub: address(&hub),
            files: address(&files),
            state: Arc::default(),
        };
        for (listener, elsewhere) in [(hub, false), (files, true)] {
            let server = server.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let server = server.clone();
                    // The other end may hang up at any time.
                    thread::spawn(move || server.answer(stream.unwrap(), elsewhere));
                }
            });
        }
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The hub's address.
    pub fn endpoint(&self) -> &str {
        &self.hub
    }

    /// A commit of a model, to which `main` leads from now on.
    pub fn commit(&self, model: &str, commit: &str, files: &[(&str, &[u8])]) {
        let files = files
            .iter()
            .map(|&(name, bytes)| (name.to_owned(), bytes.to_vec()));
        let mut state = self.state();
        let commits = state.models.entry(model.into()).or_default();
        commits.insert(commit.into(), files.collect());
        state.refs.insert(format!("{model}@main"), commit.into());
    }

    /// A branch or tag.
    pub fn set_ref(&self, model: &str, revision: &str, commit: &str) {
        let name = format!("{model}@{revision}");
        self.state().refs.insert(name, commit.into());
    }

    /// A model has another name now.
    pub fn rename(&self, from: &str, to: &str) {
        self.state().renamed.insert(from.into(), to.into());
    }

    /// Who may have the models.
    pub fn set_access(&self, access: Access) {
        self.state().access = access;
    }

    /// How the servers misbehave from now on.
    pub fn set_manners(&self, manners: Manners) {
        self.state().manners = manners;
    }

    /// The requests since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    fn answer(&self, stream: TcpStream, elsewhere: bool) -> io::Result<()> {
        let mut request = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        request.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let (mut authorization, mut from) = (None, None);
        for line in request.lines() {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = Some(value.to_owned()),
                "range" => {
                    let start = value
                        .strip_prefix("bytes=")
                        .and_then(|v| v.strip_suffix('-'));
                    from = start.and_then(|start| start.parse().ok());
                }
                _ => {}
            }
        }
        let seen = Seen {
            elsewhere,
            method,
            path,
            authorization,
            from,
        };
        self.state().seen.push(seen.clone());
        match elsewhere {
            true => self.answer_file(stream, &seen),
            false => self.answer_hub(stream, &seen),
        }
    }

    /// A large file, by its SHA-256.
    fn answer_file(&self, mut stream: TcpStream, seen: &Seen) -> io::Result<()> {
        let (bytes, drops, delay) = {
            let mut state = self.state();
            let drops = state.manners.drops > 0;
            state.manners.drops = state.manners.drops.saturating_sub(1);
            let files = state.models.values().flat_map(BTreeMap::values).flatten();
            let mut files = files.map(|(_, bytes)| bytes);
            let file = files
                .find(|bytes| seen.path == format!("/{}", sha256(bytes)))
                .cloned();
            (state.altered(file), drops, state.manners.delay)
        };
        thread::sleep(delay);
        let Some(bytes) = bytes else {
            return write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
        };
        let (all, from) = (bytes.len(), seen.from.unwrap_or(0));
        match seen.from {
            Some(_) => write!(
                stream,
                "HTTP/1.1 206 Part\r\nContent-Range: bytes {from}-{}/{all}\r\n",
                all - 1
            )?,
            None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
        }
        let body = &bytes[from..];
        let length = body.len();
        write!(
            stream,
            "Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        stream.write_all(&body[..if drops { length / 2 } else { length }])
    }

    fn answer_hub(&self, mut stream: TcpStream, seen: &Seen) -> io::Result<()> {
        let (status, headers, body) = self.state().reply(seen, &self.files);
        write!(stream, "HTTP/1.1 {status} Status\r\nConnection: close\r\n")?;
        for (name, value) in headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
        if seen.method == "GET" {
            stream.write_all(&body)?;
        }
        Ok(())
    }
}

type Headers = Vec<(&'static str, String)>;

impl State {
    fn altered(&self, file: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut file = file?;
        if self.manners.alters
            && let Some(last) = file.last_mut()
        {
            *last ^= 1;
        }
        Some(file)
    }

    fn reply(&mut self, seen: &Seen, files: &str) -> (u16, Headers, Vec<u8>) {
        let refused =
            |status, code: &str| (status, vec![("X-Error-Code", code.to_owned())], vec![]);
        if self.manners.busy > 0 {
            self.manners.busy -= 1;
            let pause = self.manners.retry_after;
            let pause = pause.map(|pause| ("Retry-After", pause.to_string()));
            return (self.manners.status, pause.into_iter().collect(), vec![]);
        }
        // /OWNER/NAME/resolve/REVISION/FILE
        let parts: Vec<&str> = seen.path.split('/').collect();
        let ["", owner, name, "resolve", revision, file] = parts[..] else {
            return (404, vec![], vec![]);
        };
        let model = format!("{owner}/{name}");
        if let Some(to) = self.renamed.get(&model) {
            return (
                307,
                vec![("Location", format!("/{to}/resolve/{revision}/{file}"))],
                vec![],
            );
        }
        let Some(commits) = self.models.get(&model) else {
            return refused(401, "RepoNotFound");
        };
        let token = seen
            .authorization
            .as_deref()
            .map(|value| value == format!("Bearer {TOKEN}"));
        match (self.access, token) {
            (_, Some(false)) => return (401, vec![], vec![]),
            (Access::Gated, None) => return refused(401, "GatedRepo"),
            (Access::NotGranted, _) => return refused(403, "GatedRepo"),
            _ => {}
        }
        let revision = revision.replace("%2F", "/");
        let known = self.refs.get(&format!("{model}@{revision}"));
        let commit = known.unwrap_or(&revision).clone();
        let Some(found) = commits.get(&commit) else {
            return refused(404, "RevisionNotFound");
        };
        if self.manners.no_headers {
            return (200, vec![], b"<html>".to_vec());
        }
        let mut headers = vec![("X-Repo-Commit", commit)];
        let Some(bytes) = found.get(file).cloned() else {
            headers.push(("X-Error-Code", "EntryNotFound".into()));
            return (404, headers, vec![]);
        };
        let large = [".safetensors", ".bin"]
            .iter()
            .any(|end| file.ends_with(end));
        if large {
            let sum = sha256(&bytes);
            let etag = self.manners.etag.clone().unwrap_or_else(|| sum.clone());
            headers.push(("ETag", "\"of the redirect\"".into()));
            headers.push(("X-Linked-Etag", format!("\"{etag}\"")));
            headers.push(("X-Linked-Size", bytes.len().to_string()));
            headers.push(("Location", format!("{files}/{sum}")));
            return (302, headers, vec![]);
        }
        let etag = self.manners.etag.clone().unwrap_or_else(|| of_git(&bytes));
        headers.push(("ETag", format!("\"{etag}\"")));
        (200, headers, self.altered(Some(bytes)).unwrap_or_default())
    }
}

/// A large file's checksum.
pub fn sha256(bytes: &[u8]) -> String {
    digits(&Sha256::digest(bytes))
}

/// A small file's checksum, which git has for it.
pub fn of_git(bytes: &[u8]) -> String {
    let mut digest = Sha1::new();
    digest.update(format!("blob {}\0", bytes.len()));
    digest.update(bytes);
    digits(&digest.finalize())
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

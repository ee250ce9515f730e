//! An S3-compatible server on loopback that can be told to misbehave.
//!
//! Speaks what reading and writing take: ListObjectsV2 with pages, HEAD, GET with ranges and
//! conditions, PUT of whole objects. Plain web clients can read from it, too. Faults come from a seeded sequence, before the answer or in the
//! middle of a body.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Out of 1000 answers, how many go wrong in which way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The connection is closed instead of an answer.
    pub refuse: u32,
    /// The connection is closed in the middle of the body.
    pub drop: u32,
    /// Nothing more comes from the middle of the body on.
    pub stall: u32,
    /// The answer is 500.
    pub internal: u32,
    /// The answer is 503.
    pub unavailable: u32,
    /// An object is stored, and the connection closed instead of an answer.
    pub lost: u32,
}

/// How often each went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub refuse: usize,
    pub drop: usize,
    pub stall: usize,
    pub internal: usize,
    pub unavailable: usize,
    pub lost: usize,
}

/// Lies that are told with every answer to GET.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    None,
    /// `Content-Range` is another range than the one that follows.
    Range,
    /// `Content-Length` and the body are shorter than `Content-Range` says.
    Length,
}

/// How the server behaves; may be changed while it runs.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub faults: Faults,
    pub lie: Lie,
    /// Whether objects have tags.
    pub tags: bool,
    /// Names in a page of a listing.
    pub page: usize,
    /// How long a stalled connection stays open.
    pub stall: Duration,
    /// Objects whose names contain this may not be read.
    pub forbidden: Option<String>,
    /// Whether ranges are honoured.
    pub ranges: bool,
    /// Whether PUT can be asked to leave an object that is there.
    pub create: bool,
    /// After so many requests, all answers are 500.
    pub outage_after: Option<usize>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            faults: Faults::default(),
            lie: Lie::None,
            tags: true,
            page: 1000,
            stall: Duration::from_secs(2),
            forbidden: None,
            ranges: true,
            create: true,
            outage_after: None,
        }
    }
}

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// `bucket/key`, or `bucket?` for a listing.
    pub target: String,
    /// First and last byte.
    pub range: Option<(u64, u64)>,
}

#[derive(Default)]
struct State {
    behaviour: Mutex<Behaviour>,
    /// `bucket/key` to content and seconds since 1970.
    objects: Mutex<BTreeMap<String, (Vec<u8>, u64)>>,
    counts: Mutex<Counts>,
    requests: Mutex<Vec<Request>>,
    /// Their number.
    made: Mutex<usize>,
    random: Mutex<u64>,
    end: AtomicBool,
}

/// Serves until it is dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

#[allow(dead_code, reason = "each test file uses its own part")]
impl Server {
    pub fn start(seed: u64, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            behaviour: Mutex::new(behaviour),
            random: Mutex::new(seed),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.end.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(connection), state) = (connection, Arc::clone(&shared)) else {
                    continue;
                };
                // A client that goes away in the middle is no failure of the server.
                std::thread::spawn(move || drop(state.serve(connection)));
            }
        });
        Self { address, state }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an object; another content makes another tag and time.
    pub fn put(&self, name: &str, content: impl Into<Vec<u8>>) {
        let mut objects = lock(&self.state.objects);
        let time = objects.get(name).map_or(1_700_000_000, |old| old.1 + 60);
        objects.insert(name.to_owned(), (content.into(), time));
    }

    /// Puts all files of a folder, under `name`.
    pub fn put_folder(&self, name: &str, folder: &std::path::Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                self.put_folder(&name, &entry.path());
            } else {
                self.put(&name, std::fs::read(entry.path()).unwrap());
            }
        }
    }

    /// What lies under a name.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let objects = lock(&self.state.objects);
        objects.get(name).map(|(content, _)| content.clone())
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<String> {
        lock(&self.state.objects).keys().cloned().collect()
    }

    pub fn remove(&self, name: &str) {
        lock(&self.state.objects).remove(name).unwrap();
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.state.behaviour));
    }

    pub fn counts(&self) -> Counts {
        *lock(&self.state.counts)
    }

    /// The requests since this was asked before.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.state.requests))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.end.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

/// What goes wrong with an answer.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Drop,
    Stall,
}

impl State {
    fn random(&self, below: u32) -> u32 {
        // SplitMix64.
        let mut state = lock(&self.random);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(below)) as u32
    }

    fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut connection = connection;
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    break;
                };
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            let mut words = first.split_whitespace();
            let (method, target) = (
                words.next().unwrap_or_default().to_owned(),
                words.next().unwrap_or_default().to_owned(),
            );
            let length = headers.get("content-length");
            let length = length.and_then(|length| length.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            // What breaks off on the way here is not stored.
            reader.read_exact(&mut body)?;
            if !self.answer(&mut connection, &method, &target, &headers, body)? {
                return Ok(());
            }
        }
    }

    /// Answers a request; `false` where the connection is to be closed.
    fn answer(
        &self,
        connection: &mut TcpStream,
        method: &str,
        target: &str,
        headers: &BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> std::io::Result<bool> {
        let behaviour = lock(&self.behaviour).clone();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let name = decoded(path.trim_start_matches('/'));
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), decoded(&value.replace('+', " "))))
            .collect();
        let listing = query.contains_key("list-type");
        let range = headers.get("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse().unwrap_or(u64::MAX)))
        });
        lock(&self.requests).push(Request {
            method: method.to_owned(),
            target: if listing {
                format!("{name}?")
            } else {
                name.clone()
            },
            range,
        });
        let mut made = lock(&self.made);
        *made += 1;
        if behaviour.outage_after.is_some_and(|after| *made > after) {
            drop(made);
            return status(connection, "500 Internal Server Error").map(|()| true);
        }
        drop(made);

        let mut fault = Fault::None;
        let drawn = self.random(1000);
        let faults = behaviour.faults;
        let mut bound = 0;
        let mut is = |share: u32| {
            bound += share;
            (bound - share..bound).contains(&drawn)
        };
        let mut counts = lock(&self.counts);
        if is(faults.refuse) {
            counts.refuse += 1;
            return Ok(false);
        }
        if is(faults.internal) {
            counts.internal += 1;
            drop(counts);
            return status(connection, "500 Internal Server Error").map(|()| true);
        }
        if is(faults.unavailable) {
            counts.unavailable += 1;
            drop(counts);
            return status(connection, "503 Slow Down").map(|()| true);
        }
        let lost = method == "PUT" && is(faults.lost);
        counts.lost += usize::from(lost);
        // What has no body cannot break off in the middle of it.
        if method == "GET" && is(faults.drop) {
            counts.drop += 1;
            fault = Fault::Drop;
        }
        if method == "GET" && is(faults.stall) {
            counts.stall += 1;
            fault = Fault::Stall;
        }
        drop(counts);

        if listing {
            let body = self.page(&name, &query, behaviour.page);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            return send(connection, &head, body.as_bytes(), fault, behaviour.stall);
        }
        if behaviour
            .forbidden
            .as_ref()
            .is_some_and(|part| name.contains(part))
        {
            return status(connection, "403 Forbidden").map(|()| true);
        }
        if method == "PUT" {
            return self.store(connection, &name, headers, body, (behaviour.create, lost));
        }
        let Some((content, time)) = lock(&self.objects).get(&name).cloned() else {
            return status(connection, "404 Not Found").map(|()| true);
        };
        let tag = format!("\"{:016x}\"", hash(&content));
        if behaviour.tags {
            if headers.get("if-match").is_some_and(|wanted| *wanted != tag) {
                return status(connection, "412 Precondition Failed").map(|()| true);
            }
            if headers
                .get("if-none-match")
                .is_some_and(|known| *known == tag)
            {
                let head = format!("HTTP/1.1 304 Not Modified\r\netag: {tag}\r\n\r\n");
                return connection.write_all(head.as_bytes()).map(|()| true);
            }
        }
        let size = content.len() as u64;
        let mut head = String::new();
        let mut body = &content[..];
        match range.filter(|_| behaviour.ranges) {
            Some((first, last)) if first < size => {
                let last = last.min(size - 1);
                body = &content[first as usize..=last as usize];
                head.push_str("HTTP/1.1 206 Partial Content\r\n");
                let by = u64::from(behaviour.lie == Lie::Range);
                let _ = write!(
                    head,
                    "content-range: bytes {}-{}/{size}\r\n",
                    first + by,
                    last + by
                );
            }
            Some(_) => return status(connection, "416 Range Not Satisfiable").map(|()| true),
            None => head.push_str("HTTP/1.1 200 OK\r\n"),
        }
        if behaviour.lie == Lie::Length {
            body = &body[..body.len() / 2];
        }
        let _ = write!(head, "content-length: {}\r\n", body.len());
        let _ = write!(head, "last-modified: {}\r\n", date(time));
        if behaviour.tags {
            let _ = write!(head, "etag: {tag}\r\n");
        }
        head.push_str("\r\n");
        if method == "HEAD" {
            return connection.write_all(head.as_bytes()).map(|()| true);
        }
        send(connection, &head, body, fault, behaviour.stall)
    }

    /// Stores an object, whole; `false` where the connection is to be closed.
    fn store(
        &self,
        connection: &mut TcpStream,
        name: &str,
        headers: &BTreeMap<String, String>,
        body: Vec<u8>,
        (create, lost): (bool, bool),
    ) -> std::io::Result<bool> {
        let new = headers.get("if-none-match").is_some_and(|tag| tag == "*");
        if new && !create {
            return status(connection, "501 Not Implemented").map(|()| true);
        }
        let tag = hash(&body);
        let mut objects = lock(&self.objects);
        if new && objects.contains_key(name) {
            return status(connection, "412 Precondition Failed").map(|()| true);
        }
        let time = objects.get(name).map_or(1_700_000_000, |old| old.1 + 60);
        objects.insert(name.to_owned(), (body, time));
        drop(objects);
        if lost {
            return Ok(false);
        }
        let answer =
            format!("HTTP/1.1 200 OK\r\netag: \"{tag:016x}\"\r\ncontent-length: 0\r\n\r\n");
        connection.write_all(answer.as_bytes()).map(|()| true)
    }

    /// A page of the listing of a bucket.
    fn page(&self, bucket: &str, query: &BTreeMap<String, String>, page: usize) -> String {
        let prefix = query.get("prefix").map_or("", String::as_str);
        let after = ["continuation-token", "start-after"].map(|key| query.get(key).cloned());
        let after = after.into_iter().flatten().next().unwrap_or_default();
        let bucket = format!("{bucket}/");
        let tags = lock(&self.behaviour).tags;
        let objects = lock(&self.objects);
        let mut keys = objects
            .iter()
            .filter_map(|(name, object)| Some((name.strip_prefix(&bucket)?, object)))
            .filter(|(key, _)| key.starts_with(prefix) && *key > after.as_str());
        let mut entries = String::new();
        let mut last = "";
        for (key, (content, time)) in keys.by_ref().take(page) {
            let _ = write!(
                entries,
                "<Contents><Key>{}</Key><Size>{}</Size><LastModified>{}</LastModified>",
                key.replace('&', "&amp;").replace('<', "&lt;"),
                content.len(),
                iso_date(*time),
            );
            if tags {
                let _ = write!(entries, "<ETag>&quot;{:016x}&quot;</ETag>", hash(content));
            }
            entries.push_str("</Contents>");
            last = key;
        }
        let last = last.replace('&', "&amp;");
        let more = match keys.next() {
            Some(_) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
            None => String::new(),
        };
        format!("<ListBucketResult><Name>b</Name>{more}{entries}</ListBucketResult>")
    }
}

fn status(connection: &mut TcpStream, status: &str) -> std::io::Result<()> {
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    connection.write_all(answer.as_bytes())
}

fn send(
    connection: &mut TcpStream,
    head: &str,
    body: &[u8],
    fault: Fault,
    stall: Duration,
) -> std::io::Result<bool> {
    connection.write_all(head.as_bytes())?;
    if fault == Fault::None {
        connection.write_all(body)?;
        return Ok(true);
    }
    connection.write_all(&body[..body.len() / 2])?;
    connection.flush()?;
    if fault == Fault::Stall {
        std::thread::sleep(stall);
    }
    Ok(false)
}

fn hash(bytes: &[u8]) -> u64 {
    // FNV-1a.
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Day, hour, minute and second of 14 November 2023 (1,700,000,000 is 22:13:20) and the days after.
fn clock(time: u64) -> (u64, u64, u64, u64) {
    let since = time - 1_700_000_000 + 22 * 3600 + 13 * 60 + 20;
    (
        14 + since / 86400,
        since / 3600 % 24,
        since / 60 % 60,
        since % 60,
    )
}

fn date(time: u64) -> String {
    let (day, hour, minute, second) = clock(time);
    let name = ["Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon"][(day as usize - 14) % 7];
    format!("{name}, {day} Nov 2023 {hour:02}:{minute:02}:{second:02} GMT")
}

fn iso_date(time: u64) -> String {
    let (day, hour, minute, second) = clock(time);
    format!("2023-11-{day}T{hour:02}:{minute:02}:{second:02}.000Z")
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let code = std::str::from_utf8(&rest[..2]).unwrap();
                bytes.push(u8::from_str_radix(code, 16).unwrap());
                rest = &rest[2..];
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

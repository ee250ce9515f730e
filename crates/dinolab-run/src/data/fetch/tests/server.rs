//! A web server on this machine, with good manners and bad ones.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the server misbehaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Not at all.
    Good,
    /// The first `n` answers end half-way through what they should send.
    Drops(usize),
    /// As `Drops`, and ranges are not known.
    DropsWithoutRanges(usize),
    /// The first `n` answers are 503.
    Busy(usize),
    /// Answers to ranges begin one byte too late.
    WrongPart,
    /// Sends the beginning, then nothing at all, without an end.
    Hangs,
}

/// A web server that sends the same bytes to every request, and the `Range` of each request.
pub struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    /// Serves until the process ends.
    pub fn new(bytes: Vec<u8>, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Option<usize>>>> = Arc::default();
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // The other end may hang up at any time.
                let _ = answer(stream.unwrap(), &bytes, manners, &log);
            }
        });
        Self { address, asked }
    }

    /// Where each request wanted to begin.
    pub fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }

    /// Address of a file of that name.
    pub fn url(&self, name: &str) -> &'static str {
        format!("{}/{name}", self.address).leak()
    }
}

fn answer(
    mut stream: TcpStream,
    bytes: &[u8],
    manners: Manners,
    log: &Mutex<Vec<Option<usize>>>,
) -> io::Result<()> {
    let mut range = None;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("range: bytes=") {
            range = text.strip_suffix('-').and_then(|text| text.parse().ok());
        }
    }
    let earlier = {
        let mut log = log.lock().unwrap();
        log.push(range);
        log.len() - 1
    };
    if matches!(manners, Manners::Busy(n) if earlier < n) {
        return write!(
            stream,
            "HTTP/1.1 503 Later\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let ranges = !matches!(manners, Manners::DropsWithoutRanges(_));
    let start = range.filter(|_| ranges);
    let total = bytes.len();
    let body = &bytes[start.unwrap_or(0)..];
    match start {
        Some(start) => {
            let said = start + usize::from(manners == Manners::WrongPart);
            write!(
                stream,
                "HTTP/1.1 206 Partial\r\nContent-Range: bytes {said}-{}/{total}\r\n",
                total - 1
            )?;
        }
        None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
    }
    write!(
        stream,
        "Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    let drops = match manners {
        Manners::Drops(n) | Manners::DropsWithoutRanges(n) => earlier < n,
        Manners::Hangs => true,
        _ => false,
    };
    let sent = if drops { body.len() / 2 } else { body.len() };
    stream.write_all(&body[..sent])?;
    if manners == Manners::Hangs {
        thread::sleep(Duration::from_secs(20));
    }
    Ok(())
}

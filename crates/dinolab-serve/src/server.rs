//! The address, and the loop that answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use dinolab_data::source::RemoteOptions;

use crate::access::Access;
use crate::error::{Error, Result};
use crate::routes;
use crate::site::Site;

/// The port, if it is free.
const PORT: u16 = 8642;

/// What is shown, and where.
#[derive(Clone, Debug, Default)]
pub struct ViewRequest<'a> {
    /// Run folders.
    pub runs: &'a [PathBuf],
    /// Features that `embed` wrote, for the map of images; by default they are computed.
    pub features: Option<&'a Path>,
    /// Images that the features are of; by default the run's.
    pub images: Option<&'a Path>,
    /// The address to listen on, which then demands a token; by default 127.0.0.1.
    pub host: Option<IpAddr>,
    /// The port, 0 for any that is free; by default 8642, or any that is free.
    pub port: Option<u16>,
    /// How images at other machines are read.
    pub remote: RemoteOptions,
}

/// A page that is about to be served.
pub struct Server {
    listener: TcpListener,
    router: Router,
    url: String,
}

impl Server {
    /// Listens on the address, and answers nothing yet.
    ///
    /// # Errors
    /// Folders that are not runs, an address that cannot be listened on.
    pub fn open(request: &ViewRequest<'_>) -> Result<Self> {
        let address = request.host.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let address = SocketAddr::new(address, request.port.unwrap_or(PORT));
        let listen = |source| Error::Listen { address, source };
        let access = match request.host {
            None => Access::Local,
            Some(_) => Access::with_token()?,
        };
        let site = open(request, access)?;
        let listener = match (TcpListener::bind(address), request.port) {
            (Err(_), None) => TcpListener::bind(SocketAddr::new(address.ip(), 0)),
            (bound, _) => bound,
        };
        let listener = listener.map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let url = site.access.url(listener.local_addr().map_err(listen)?);
        Ok(Self {
            listener,
            url,
            router: routes::of(Arc::new(site)),
        })
    }

    /// The address to open in a browser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers until standard input is closed, as it is when the process at its other end is gone.
    ///
    /// # Errors
    /// [`Error::Serve`].
    pub fn run_while_open(self) -> Result<()> {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            // Nothing is written, so nothing can be left half.
            std::process::exit(0);
        });
        self.run()
    }

    /// Answers until the process ends.
    ///
    /// # Errors
    /// [`Error::Serve`].
    pub fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Error::Serve)?;
        let serve = async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            axum::serve(listener, self.router).await
        };
        runtime.block_on(serve).map_err(Error::Serve)
    }
}

/// The page as a service, without a socket; with a `token`, requests must have it.
///
/// # Errors
/// Folders that are not runs.
pub fn router(request: &ViewRequest<'_>, token: Option<&str>) -> Result<Router> {
    let access = match token {
        None => Access::Local,
        Some(token) => Access::Token(token.to_owned()),
    };
    Ok(routes::of(Arc::new(open(request, access)?)))
}

fn open(request: &ViewRequest<'_>, access: Access) -> Result<Site> {
    if request.runs.is_empty() {
        return Err(Error::NoRun);
    }
    let marks = ["config.toml", "metrics.jsonl"];
    for path in request.runs {
        if !marks.iter().any(|mark| path.join(mark).is_file()) {
            return Err(Error::NotARun { path: path.clone() });
        }
    }
    Ok(Site::new(request, access))
}

//! Weights of the Hugging Face Hub: `hf:OWNER/NAME[@REVISION]`, in the cache that all programs of a machine
//! share.
//!
//! What is whole in the cache is used without any request, so that the same command has the same weights. A
//! branch or tag is looked up once; its commit is recorded in the cache, by this program or another.

mod address;
mod cache;
mod card;
mod client;
mod options;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

pub use self::address::Address;
use self::cache::{Presence, Repo};
use self::client::{Client, Reply};
pub use self::options::{Hub, Token};
use crate::environment::Environment;
use crate::error::{HubError, Result};
use crate::event::Event;

/// Files next to the weights: the network, the preparation of images, and the model card with the licence.
const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const CARD: &str = "README.md";

/// Files of weights, the first that a model has.
const WHOLE: &str = "model.safetensors";
const SHARDED: &str = "model.safetensors.index.json";
const PICKLED: &str = "pytorch_model.bin";

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The address, with the commit as its revision.
    pub address: Address,
    /// The folder of its files, which [`crate::weights::read`] reads.
    pub folder: PathBuf,
    /// The licence that the model card names.
    pub licence: Option<String>,
}

/// Returns the folder that an address leads to, downloaded unless it is in the cache; any other path as it is.
///
/// # Errors
/// [`HubError`]; a cache that cannot be written.
pub fn local<'w>(env: &Environment<'_>, w: &'w Path) -> Result<Cow<'w, Path>> {
    let Some(address) = Address::of(w)? else {
        return Ok(Cow::Borrowed(w));
    };
    Ok(Cow::Owned(Hub::from_env()?.fetch(env, &address)?.folder))
}

/// Whether a path is an address of the hub, or is meant to be one.
pub(crate) fn is_address(w: &Path) -> bool {
    !matches!(Address::of(w), Ok(None))
}

/// Returns an address with its commit, so that it means the same weights from now on; any other path as it is.
/// `before` are the weights that a run was to start from, which a model without a revision is taken to be. If
/// that run has `begun`, its weights are not needed again, and nothing is downloaded.
///
/// # Errors
/// As [`local`].
pub(crate) fn pinned(
    env: &Environment<'_>,
    w: &Path,
    before: Option<&Path>,
    begun: bool,
) -> Result<PathBuf> {
    let Some(address) = Address::of(w)? else {
        return Ok(w.into());
    };
    let before = before.map(Address::of).transpose()?.flatten();
    let hub = Hub::from_env()?;
    let address = match before.filter(|before| before.is_revision_of(&address)) {
        Some(before) if begun => return Ok(before.path()),
        Some(before) => before,
        None => address,
    };
    if begun {
        let commit = Repo::of(&hub.cache, &address).commit_of(&address);
        return Ok(commit
            .map_or(address.clone(), |commit| address.at(&commit))
            .path());
    }
    Ok(hub.fetch(env, &address)?.address.path())
}

/// Where results about the weights of an address are kept: in the cache, next to the model's own files.
/// `None` for other paths.
pub(crate) fn folder_for_results(w: &Path) -> Option<PathBuf> {
    let address = Address::of(w).ok().flatten()?;
    let hub = Hub::from_env().ok()?;
    Some(Repo::of(&hub.cache, &address).folder("dinolab"))
}

impl Hub {
    /// Finds the model in the cache, or downloads what is missing there: the configurations, the model card and
    /// the weights, as safetensors if the model has them.
    ///
    /// Each file is verified by its checksum and appears in the cache when it is complete; an interrupted
    /// download is resumed. Several processes may do this at the same time.
    ///
    /// # Errors
    /// [`HubError`]; a cache that cannot be written.
    pub fn fetch(&self, env: &Environment<'_>, address: &Address) -> Result<Snapshot> {
        let repo = Repo::of(&self.cache, address);
        let commit = repo.commit_of(address);
        let presence = commit
            .as_deref()
            .map_or(Presence::Absent, |at| repo.presence(at));
        let cached = || {
            commit
                .as_deref()
                .map(|at| self.snapshot(&repo, address, at))
        };
        if let (Presence::Whole, Some(snapshot)) = (&presence, cached()) {
            note(env, address, &snapshot, "from the cache");
            return Ok(snapshot);
        }
        let fetched = self
            .check_requests(address)
            .map_err(Into::into)
            .and_then(|()| self.download(env, &repo, address, commit.as_deref(), &presence));
        match (fetched, presence, cached()) {
            (Ok(commit), ..) => Ok(self.snapshot(&repo, address, &commit)),
            // The weights are there; whether the model has these files too could not be found out.
            (Err(error), Presence::Weights { unknown }, Some(snapshot)) => {
                note(env, address, &snapshot, "from the cache");
                env.warn(&format!(
                    "{address}: used without {}, which may exist: {error}",
                    unknown.join(" and ")
                ));
                Ok(snapshot)
            }
            (Err(error), ..) => Err(error),
        }
    }

    fn snapshot(&self, repo: &Repo, address: &Address, commit: &str) -> Snapshot {
        let folder = repo.snapshot(commit);
        Snapshot {
            address: address.at(commit),
            licence: card::licence_in(&folder.join(CARD)),
            folder,
        }
    }

    /// Whether requests can be made at all.
    fn check_requests(&self, address: &Address) -> Result<(), HubError> {
        let (name, cache) = (address.to_string(), self.cache.clone());
        if self.offline {
            return Err(HubError::Offline {
                address: name,
                cache,
            });
        }
        let https = !self.endpoint.starts_with("http://");
        if https && !cfg!(feature = "https") {
            let endpoint = self.endpoint.clone();
            return Err(HubError::NoHttps {
                address: name,
                cache,
                endpoint,
                command: download_command(address),
            });
        }
        Ok(())
    }

    /// Downloads what the cache lacks; returns the commit.
    fn download(
        &self,
        env: &Environment<'_>,
        repo: &Repo,
        address: &Address,
        commit: Option<&str>,
        presence: &Presence,
    ) -> Result<String> {
        // If there is something to work with, nobody has to wait for a server that does not answer.
        let attempts = match presence {
            Presence::Weights { .. } => 1,
            _ => self.retry.attempts,
        };
        let client = Client::new(self, address, attempts);
        let mut commit = commit.map(str::to_owned);
        for file in [CONFIG, PREPROCESSOR, CARD] {
            let known = commit.as_deref().is_some_and(|at| repo.knows(at, file));
            if known {
                continue;
            }
            let revision = commit.clone().unwrap_or_else(|| address.revision().into());
            match client.head(env, &revision, file)? {
                Reply::File(found) => {
                    client.get(&Environment::default(), repo, &found, file)?;
                    commit.get_or_insert(found.commit);
                }
                Reply::Missing { commit: at } => {
                    commit = commit.or(at);
                    if let Some(commit) = &commit {
                        repo.note_absent(commit, file);
                    }
                }
            }
        }
        let commit = match commit {
            Some(commit) => commit,
            None => return Err(client.no_such_model().into()),
        };
        let snapshot = self.snapshot(repo, address, &commit);
        if repo.weights(&commit).is_none() {
            let (name, found) = client.first(env, &commit, &[WHOLE, SHARDED, PICKLED])?;
            let size = found.bytes.map_or(String::new(), |bytes| {
                format!(" ({:.1} MB)", bytes as f64 / 1e6)
            });
            let place = self.cache.display();
            note(
                env,
                address,
                &snapshot,
                &format!("downloading {name}{size} to {place}"),
            );
            client.get(env, repo, &found, name)?;
            if name == SHARDED {
                let index = repo.snapshot(&commit).join(SHARDED);
                for shard in dinolab_nn::weights::shards(&index)? {
                    if !repo.has(&commit, &shard) {
                        let (_, found) = client.first(env, &commit, &[&shard])?;
                        client.get(env, repo, &found, &shard)?;
                    }
                }
            }
        } else {
            note(env, address, &snapshot, "from the cache");
        }
        repo.write_ref(address, &commit)?;
        Ok(commit)
    }
}

/// Tells which weights an address means.
fn note(env: &Environment<'_>, address: &Address, snapshot: &Snapshot, how: &str) {
    let licence = match &snapshot.licence {
        Some(licence) => format!("licence {licence}"),
        None => "licence not given".into(),
    };
    let commit = snapshot.address.revision();
    let text = format!("commit {commit}, {licence}, {how}");
    let source = &address.model().path();
    env.events.hear(Event::Note {
        source,
        note: &text,
    });
}

/// The command of the hub's own program that puts a model into the cache.
fn download_command(address: &Address) -> String {
    let model = format!("hf download {}/{}", address.owner(), address.name());
    match *address == address.model() {
        true => model,
        false => format!("{model} --revision {}", address.revision()),
    }
}

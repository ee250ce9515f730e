//! Models of the hub, downloaded from a server on this machine into a cache.

#[path = "hub/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use dinolab_run::data::fetch::RetryPolicy;
use dinolab_run::error::HubError;
use dinolab_run::hub::{Address, Hub, Snapshot, Token};
use dinolab_run::{Environment, Error, Event, Listener, Result};
use server::{Access, Manners, Seen, Server, TOKEN, of_git, sha256};
use tempfile::TempDir;

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";
const CONFIG: &[u8] = b"{\"model_type\": \"vit\"}";
const CARD: &[u8] = b"---\nlicense: apache-2.0\n---\n# A model\n";

/// What was said.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn hear(&self, event: Event<'_>) {
        let text = match event {
            Event::Note { .. } | Event::Warning(_) | Event::DownloadRetried { .. } => {
                event.to_string()
            }
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }
}

impl Heard {
    fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// A hub with the model `o/n`, and a cache.
struct Place {
    server: Server,
    root: TempDir,
    hub: Hub,
    heard: Heard,
}

fn weights() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i * i >> 7) as u8).collect()
}

impl Place {
    fn new() -> Self {
        let server = Server::new();
        let bytes = weights();
        let files = [
            ("config.json", CONFIG),
            ("preprocessor_config.json", b"{}"),
            ("README.md", CARD),
            ("model.safetensors", &bytes),
            ("pytorch_model.bin", b"not wanted"),
        ];
        server.commit("o/n", FIRST, &files);
        let root = tempfile::tempdir().unwrap();
        let hub = Hub {
            endpoint: server.endpoint().into(),
            cache: root.path().join("hub"),
            token: None,
            offline: false,
            retry: RetryPolicy {
                answer: Duration::from_secs(10),
                pause: Duration::from_millis(1),
                attempts: 3,
            },
        };
        Self {
            server,
            root,
            hub,
            heard: Heard::default(),
        }
    }

    fn with_token(mut self, secret: &str) -> Self {
        self.hub.token = Token::new(secret, "HF_TOKEN").unwrap();
        self
    }

    fn fetch(&self, address: &str) -> Result<Snapshot> {
        let address = Address::of(Path::new(address))?.unwrap();
        self.hub.fetch(&Environment::new(&self.heard), &address)
    }

    fn hub_error(&self, address: &str) -> HubError {
        match self.fetch(address).unwrap_err() {
            Error::Hub(error) => error,
            other => panic!("{other}"),
        }
    }

    fn repo(&self) -> PathBuf {
        self.root.path().join("hub/models--o--n")
    }

    /// Files and links below the model's folder.
    fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.repo()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(
                        path.strip_prefix(self.repo())
                            .unwrap()
                            .display()
                            .to_string(),
                    ),
                }
            }
        }
        found.sort();
        found
    }
}

/// Requests as `METHOD PATH`.
fn lines(seen: &[Seen]) -> Vec<String> {
    seen.iter()
        .map(|seen| format!("{} {}", seen.method, seen.path))
        .collect()
}

#[test]
fn a_model_is_downloaded_once_into_the_layout_that_all_programs_share() {
    let place = Place::new();
    let found = place.fetch("hf:o/n").unwrap();
    assert_eq!(found.address.to_string(), format!("hf:o/n@{FIRST}"));
    assert_eq!(found.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(found.folder, place.repo().join("snapshots").join(FIRST));
    assert_eq!(
        fs::read(found.folder.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(
        fs::read_to_string(place.repo().join("refs/main")).unwrap(),
        FIRST
    );
    let contents = [
        of_git(CONFIG),
        of_git(b"{}"),
        of_git(CARD),
        sha256(&weights()),
    ];
    let mut all: Vec<String> = contents
        .iter()
        .map(|etag| format!("blobs/{etag}"))
        .collect();
    all.sort();
    let files = [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ];
    all.push("refs/main".into());
    all.extend(files.map(|file| format!("snapshots/{FIRST}/{file}")));
    assert_eq!(place.listing(), all);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(found.folder.join("config.json")).unwrap(),
        PathBuf::from(format!("../../blobs/{}", of_git(CONFIG)))
    );
    let told = place.heard.all();
    assert!(
        told.contains(&format!(
            "hf:o/n: commit {FIRST}, licence apache-2.0, downloading"
        )),
        "{told}"
    );
    // Small files come from the hub, the large one from where it redirects to.
    let asked = lines(&place.server.seen());
    assert_eq!(asked[0], "HEAD /o/n/resolve/main/config.json");
    assert_eq!(
        asked[2],
        format!("HEAD /o/n/resolve/{FIRST}/preprocessor_config.json")
    );
    assert_eq!(
        asked.last().unwrap(),
        &format!("GET /{}", sha256(&weights()))
    );

    // From now on no request is made, however the model is named and wherever `main` leads to.
    place.server.commit("o/n", SECOND, &[]);
    assert_eq!(place.fetch("hf:o/n").unwrap(), found);
    assert_eq!(place.fetch(&format!("hf:o/n@{FIRST}")).unwrap(), found);
    assert!(place.server.seen().is_empty());
    assert!(place.heard.all().contains("from the cache"));
}

#[test]
fn revisions_are_resolved_and_share_contents() {
    let place = Place::new();
    place.fetch("hf:o/n").unwrap();
    let bytes = weights();
    let files = [
        ("config.json", b"{}".as_slice()),
        ("model.safetensors", &bytes),
    ];
    place.server.commit("o/n", SECOND, &files);
    place.server.set_ref("o/n", "refs/pr/1", SECOND);
    place.server.seen();
    let second = place.fetch("hf:o/n@refs/pr/1").unwrap();
    assert_eq!(second.address.revision(), SECOND);
    assert_eq!(second.licence, None);
    assert_eq!(fs::read(second.folder.join("config.json")).unwrap(), b"{}");
    assert_eq!(
        fs::read_to_string(place.repo().join("refs/refs/pr/1")).unwrap(),
        SECOND
    );
    let seen = place.server.seen();
    assert_eq!(
        lines(&seen)[0],
        "HEAD /o/n/resolve/refs%2Fpr%2F1/config.json"
    );
    assert!(
        seen.iter().all(|seen| seen.method == "HEAD"),
        "all contents were there: {seen:?}"
    );
    // That there is no preparation and no card is known.
    place.fetch(&format!("hf:o/n@{SECOND}")).unwrap();
    assert!(place.server.seen().is_empty());
    assert_eq!(place.fetch("hf:o/n").unwrap().address.revision(), FIRST);
}

#[test]
fn the_token_is_for_the_hub_only() {
    let place = Place::new().with_token(TOKEN);
    place.server.set_access(Access::Gated);
    place.server.rename("old/name", "o/n");
    place.fetch("hf:old/name").unwrap();
    let seen = place.server.seen();
    let bearer = format!("Bearer {TOKEN}");
    for request in &seen {
        let sent = (!request.elsewhere).then_some(bearer.as_str());
        assert_eq!(request.authorization.as_deref(), sent, "{request:?}");
    }
    assert!(
        seen.iter()
            .any(|request| request.elsewhere && request.method == "GET")
    );
}

#[test]
fn what_broke_off_is_resumed_and_is_not_in_the_cache_before() {
    let place = Place::new();
    place.server.set_manners(Manners {
        drops: 3,
        ..Manners::default()
    });
    let all = weights().len();
    let once = Place {
        hub: Hub {
            retry: RetryPolicy {
                attempts: 1,
                ..place.hub.retry
            },
            ..place.hub.clone()
        },
        ..place
    };
    let error = once.fetch("hf:o/n").unwrap_err();
    assert!(
        error.is_unreachable() && matches!(error, Error::In { .. }),
        "{error}"
    );
    let part = format!("blobs/{}.incomplete", sha256(&weights()));
    let listing = once.listing();
    assert!(listing.contains(&part), "{listing:?}");
    assert!(
        !listing
            .iter()
            .any(|file| file.ends_with("model.safetensors")),
        "{listing:?}"
    );
    assert!(!listing.contains(&"refs/main".to_owned()));
    assert_eq!(
        fs::metadata(once.repo().join(&part)).unwrap().len() as usize,
        all / 2
    );

    // Two further drops are within the attempts of one call, since each brings something new.
    once.server.seen();
    let place = Place {
        hub: Hub {
            retry: RetryPolicy {
                attempts: 2,
                ..once.hub.retry
            },
            ..once.hub.clone()
        },
        ..once
    };
    let found = place.fetch("hf:o/n").unwrap();
    assert_eq!(
        fs::read(found.folder.join("model.safetensors")).unwrap(),
        weights()
    );
    let seen = place.server.seen();
    let from: Vec<_> = seen
        .iter()
        .filter(|seen| seen.elsewhere)
        .map(|seen| seen.from)
        .collect();
    assert_eq!(
        from,
        [
            Some(all / 2),
            Some(all / 2 + all / 4),
            Some(all / 2 + all / 4 + all / 8)
        ]
    );
    assert!(!place.listing().contains(&part));
}

#[test]
fn another_file_is_not_used() {
    let place = Place::new();
    place.fetch("hf:o/n").unwrap();
    fs::remove_dir_all(place.repo().join("snapshots")).unwrap();
    fs::remove_file(place.repo().join("blobs").join(sha256(&weights()))).unwrap();
    place.server.set_manners(Manners {
        alters: true,
        ..Manners::default()
    });
    let error = place.hub_error("hf:o/n");
    assert!(
        matches!(&error, HubError::Damaged { wanted, .. } if *wanted == sha256(&weights())),
        "{error}"
    );
    let left = place.listing();
    assert!(
        !left
            .iter()
            .any(|file| file.contains("incomplete") || file.ends_with("model.safetensors"))
    );
    place.server.set_manners(Manners::default());
    place.fetch("hf:o/n").unwrap();
}

/// Builds with https verify the checksums of git too.
#[cfg(feature = "https")]
#[test]
fn another_small_file_is_not_used() {
    let place = Place::new();
    place.server.set_manners(Manners {
        alters: true,
        ..Manners::default()
    });
    let error = place.hub_error("hf:o/n");
    assert!(
        matches!(&error, HubError::Damaged { wanted, .. } if *wanted == of_git(CONFIG)),
        "{error}"
    );
    assert!(place.listing().is_empty());
}

#[test]
fn refusals_say_what_to_do() {
    let place = Place::new();
    place.server.set_access(Access::Gated);
    let error = place.hub_error("hf:o/n").to_string();
    let page = format!(
        "accept its conditions at {}/o/n, then set HF_TOKEN",
        place.server.endpoint()
    );
    assert!(
        error.starts_with("hf:o/n is gated") && error.contains(&page),
        "{error}"
    );
    let error = place.hub_error("hf:o/other").to_string();
    assert!(
        error.contains("no such model") && error.contains("hf auth login"),
        "{error}"
    );

    let place = place.with_token("hf_wrong");
    let error = place.hub_error("hf:o/n").to_string();
    assert!(
        error.contains("does not accept the token from HF_TOKEN"),
        "{error}"
    );
    let place = place.with_token(TOKEN);
    let error = place.hub_error("hf:o/other").to_string();
    assert!(
        error.contains("the token from HF_TOKEN has no access"),
        "{error}"
    );
    let error = place.hub_error("hf:o/n@v9").to_string();
    assert_eq!(
        error,
        "hf:o/n@v9: the model has no branch, tag or commit v9"
    );
    place.server.set_access(Access::NotGranted);
    let error = place.hub_error("hf:o/n").to_string();
    assert!(error.contains("which has no access yet"), "{error}");
    assert!(place.listing().is_empty());

    place.server.set_access(Access::Open);
    place
        .server
        .commit("o/n", FIRST, &[("config.json", CONFIG)]);
    let error = place.hub_error("hf:o/n").to_string();
    assert!(
        error.starts_with("hf:o/n has no model.safetensors, "),
        "{error}"
    );
    assert!(!error.contains(TOKEN));
    assert!(!place.heard.all().contains(TOKEN));
}

#[test]
fn busy_servers_are_asked_again_after_the_pause_they_ask_for() {
    let place = Place::new();
    let manners = |busy, status, retry_after| Manners {
        busy,
        status,
        retry_after,
        ..Manners::default()
    };
    place.server.set_manners(manners(2, 429, Some(0)));
    place.fetch("hf:o/n").unwrap();
    let told = place.heard.all();
    assert!(
        told.contains("retrying: the server answers 429") && told.contains("wait for 0 s"),
        "{told}"
    );
    fs::remove_dir_all(place.repo()).unwrap();
    place.server.set_manners(manners(usize::MAX, 503, None));
    let error = place.hub_error("hf:o/n");
    assert!(error.is_unreachable(), "{error}");
    assert!(
        error
            .to_string()
            .contains("no answer after 3 attempts: the server answers 503"),
        "{error}"
    );
    place.server.set_manners(manners(usize::MAX, 418, None));
    assert!(matches!(
        place.hub_error("hf:o/n"),
        HubError::Refused { status: 418, .. }
    ));
}

#[test]
fn whatever_is_no_hub_is_named() {
    let place = Place::new();
    place.server.set_manners(Manners {
        no_headers: true,
        ..Manners::default()
    });
    let error = place.hub_error("hf:o/n").to_string();
    assert!(
        error.contains("does not answer like a hub: it names no commit"),
        "{error}"
    );
    for etag in ["../../../escaped", "", "a/b", ".hidden"] {
        let etag = Some(etag.to_owned());
        place.server.set_manners(Manners {
            etag,
            ..Manners::default()
        });
        let error = place.hub_error("hf:o/n").to_string();
        assert!(error.contains("it names no checksum"), "{error}");
    }
    assert!(place.listing().is_empty());
}

#[test]
fn without_requests_the_cache_serves() {
    let mut place = Place::new();
    place.hub.offline = true;
    let error = place.hub_error("hf:o/n");
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    place.hub.endpoint = "https://127.0.0.1:9".into();
    assert!(place.server.seen().is_empty());
    #[cfg(not(feature = "https"))]
    {
        place.hub.offline = false;
        let error = place.hub_error("hf:o/n@v1").to_string();
        assert!(error.contains("the cargo feature https"), "{error}");
        assert!(error.contains("`hf download o/n --revision v1`"), "{error}");
    }
    // Nobody listens there.
    place.hub.endpoint = "http://127.0.0.1:9".into();
    place.hub.offline = false;
    let error = place.hub_error("hf:o/n");
    assert!(error.is_unreachable(), "{error}");

    place.hub.endpoint = place.server.endpoint().into();
    let found = place.fetch("hf:o/n").unwrap();
    place.hub.endpoint = "https://127.0.0.1:9".into();
    for offline in [true, false] {
        place.hub.offline = offline;
        assert_eq!(place.fetch("hf:o/n").unwrap(), found);
    }
}

/// As where another program downloaded only what it needs.
#[test]
fn weights_without_their_configuration_are_completed_or_used_with_a_warning() {
    let mut place = Place::new();
    let found = place.fetch("hf:o/n").unwrap();
    fs::remove_file(found.folder.join("preprocessor_config.json")).unwrap();
    for (endpoint, offline) in [("http://127.0.0.1:9", false), ("https://127.0.0.1:9", true)] {
        place.hub.endpoint = endpoint.into();
        place.hub.offline = offline;
        place.heard = Heard::default();
        assert_eq!(place.fetch("hf:o/n").unwrap(), found);
        let told = place.heard.all();
        assert!(
            told.contains("warning: hf:o/n: used without preprocessor_config.json"),
            "{told}"
        );
    }
    place.hub.endpoint = place.server.endpoint().into();
    place.hub.offline = false;
    place.heard = Heard::default();
    place.fetch("hf:o/n").unwrap();
    assert!(found.folder.join("preprocessor_config.json").is_file());
    assert!(!place.heard.all().contains("warning"));
    // timm's configuration says how images are prepared.
    let files = [
        ("config.json", b"{\"architecture\": \"vit\"}".as_slice()),
        ("model.safetensors", b"x"),
    ];
    place.server.commit("o/n", SECOND, &files);
    let address = format!("hf:o/n@{SECOND}");
    let timm = place.fetch(&address).unwrap();
    fs::remove_dir_all(place.repo().join(".no_exist")).unwrap();
    place.hub.offline = true;
    place.heard = Heard::default();
    assert_eq!(place.fetch(&address).unwrap(), timm);
    assert!(!place.heard.all().contains("warning"));
}

#[test]
fn weights_in_several_files_are_whole_with_all_of_them() {
    let place = Place::new();
    let index =
        |b: &str| format!("{{\"weight_map\": {{\"x\": \"a.safetensors\", \"y\": \"{b}\"}}}}");
    let commit = |index: &str| {
        let files = [
            ("config.json", CONFIG),
            ("model.safetensors.index.json", index.as_bytes()),
            ("a.safetensors", b"first"),
            ("b.safetensors", b"second"),
        ];
        place.server.commit("o/n", SECOND, &files);
    };
    commit(&index("b.safetensors"));
    let address = format!("hf:o/n@{SECOND}");
    let found = place.fetch(&address).unwrap();
    assert_eq!(
        fs::read(found.folder.join("b.safetensors")).unwrap(),
        b"second"
    );
    place.server.seen();
    place.fetch(&address).unwrap();
    assert!(place.server.seen().is_empty());
    fs::remove_file(found.folder.join("b.safetensors")).unwrap();
    place.fetch(&address).unwrap();
    assert!(found.folder.join("b.safetensors").is_file());

    fs::remove_dir_all(place.repo()).unwrap();
    commit(&index("../../../escaped.safetensors"));
    let error = place.fetch(&address).unwrap_err().to_string();
    assert!(error.contains("the file of y is not"), "{error}");
    commit(&index("c.safetensors"));
    fs::remove_dir_all(place.repo()).unwrap();
    let error = place.hub_error(&address).to_string();
    assert!(error.ends_with("has no c.safetensors"), "{error}");
}

#[test]
fn several_at_once_download_one_file() {
    let place = Place::new();
    place.server.set_manners(Manners {
        delay: Duration::from_millis(300),
        ..Manners::default()
    });
    thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| place.fetch("hf:o/n").unwrap()))
            .collect();
        for call in calls {
            let found = call.join().unwrap();
            assert_eq!(
                fs::read(found.folder.join("model.safetensors")).unwrap(),
                weights()
            );
        }
    });
    let seen = place.server.seen();
    assert_eq!(seen.iter().filter(|seen| seen.elsewhere).count(), 1);
}

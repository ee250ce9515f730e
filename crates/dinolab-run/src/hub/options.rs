//! The hub's address, the cache and the token, from the variables that the hub's own programs read.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::download::RetryPolicy;
use crate::error::HubError;

/// The hub unless `HF_ENDPOINT` says another.
const ENDPOINT: &str = "https://huggingface.co";

/// Where models are, and how they are downloaded.
#[derive(Clone, Debug)]
pub struct Hub {
    /// `https://…` or `http://…`, without a slash at the end.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Gives access to private and gated models; sent to the endpoint only.
    pub token: Option<Token>,
    /// No request is made.
    pub offline: bool,
    /// How long the hub is waited for, and how often a request is repeated.
    pub retry: RetryPolicy,
}

/// A secret, and where it is from. The secret is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: String,
    place: String,
}

impl Token {
    /// A token from `place`, a variable or a file; `None` if it is blank.
    ///
    /// # Errors
    /// A text that cannot be sent as a token.
    pub fn new(secret: &str, place: &str) -> Result<Option<Self>, HubError> {
        let secret = secret.trim();
        if !secret.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(HubError::BadVariable {
                variable: "HF_TOKEN",
                reason: format!("{place} does not contain a token, which is one word"),
            });
        }
        Ok((!secret.is_empty()).then(|| Self {
            secret: secret.into(),
            place: place.into(),
        }))
    }

    /// The value of the header `Authorization`.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.secret)
    }

    /// Where it is from.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token from {}", self.place)
    }
}

impl Hub {
    /// The hub and the cache of this machine's user:
    ///
    /// - cache: `HF_HUB_CACHE` (or `HUGGINGFACE_HUB_CACHE`), else `hub` in `HF_HOME`, by default
    ///   `huggingface` in `XDG_CACHE_HOME` or `~/.cache`;
    /// - endpoint: `HF_ENDPOINT`;
    /// - token: `HF_TOKEN` (or `HUGGING_FACE_HUB_TOKEN`), else the file `HF_TOKEN_PATH`, by default `token` in
    ///   `HF_HOME`, unless `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set;
    /// - offline: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`; seconds to wait: `HF_HUB_DOWNLOAD_TIMEOUT`.
    ///
    /// # Errors
    /// [`HubError::BadVariable`].
    pub fn from_env() -> Result<Self, HubError> {
        Self::of(|name| env::var_os(name))
    }

    /// As [`Hub::from_env`], with the values of variables by `var`.
    fn of(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
        let truth = |name: &str| {
            let value = text(name).unwrap_or_default().to_ascii_uppercase();
            ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
        };
        let user = set("HOME")
            .or_else(|| set("USERPROFILE"))
            .map(PathBuf::from);
        let path = |name: &str| {
            let path = PathBuf::from(set(name)?);
            match (path.strip_prefix("~"), &user) {
                (Ok(rest), Some(user)) => Some(user.join(rest)),
                _ => Some(path),
            }
        };
        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(user.as_ref()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home.as_ref()?.join("hub")))
            .ok_or(HubError::BadVariable {
                variable: "HF_HOME",
                reason: "is needed, since this user has no home folder".into(),
            })?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let schemes = ["http://", "https://"];
        if !schemes.iter().any(|scheme| endpoint.starts_with(scheme)) {
            return Err(HubError::BadVariable {
                variable: "HF_ENDPOINT",
                reason: format!("{endpoint} is not an address that begins with https://"),
            });
        }
        let mut token = None;
        if !truth("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
                if let (None, Some(value)) = (&token, text(name)) {
                    token = Token::new(&value, name)?;
                }
            }
            let file = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token")));
            if let (None, Some(file)) = (&token, file)
                && let Ok(value) = fs::read_to_string(&file)
            {
                token = Token::new(&value, &file.display().to_string())?;
            }
        }
        let mut retry = RetryPolicy::default();
        if let Some(seconds) = text("HF_HUB_DOWNLOAD_TIMEOUT") {
            let seconds = seconds.parse().ok().filter(|&seconds| seconds > 0);
            retry.answer = seconds
                .map(Duration::from_secs)
                .ok_or(HubError::BadVariable {
                    variable: "HF_HUB_DOWNLOAD_TIMEOUT",
                    reason: "must be a number of seconds".into(),
                })?;
        }
        Ok(Self {
            endpoint,
            cache,
            token,
            offline: truth("HF_HUB_OFFLINE") || truth("TRANSFORMERS_OFFLINE"),
            retry,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Hub, HubError> {
        Hub::of(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_other_programs_have_it() {
        let cache = |variables: &[(&str, &str)]| of(variables).unwrap().cache;
        let home = ("HOME", "/home/a");
        assert_eq!(
            cache(&[home]),
            PathBuf::from("/home/a/.cache/huggingface/hub")
        );
        let xdg = ("XDG_CACHE_HOME", "/caches");
        assert_eq!(
            cache(&[home, xdg]),
            PathBuf::from("/caches/huggingface/hub")
        );
        let hf = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[home, xdg, hf]), PathBuf::from("/home/a/hf/hub"));
        let old = ("HUGGINGFACE_HUB_CACHE", "/old");
        assert_eq!(cache(&[home, hf, old]), PathBuf::from("/old"));
        let new = ("HF_HUB_CACHE", "/new");
        assert_eq!(cache(&[home, hf, old, new]), PathBuf::from("/new"));
        assert!(of(&[]).unwrap_err().to_string().starts_with("HF_HOME: "));
    }

    #[test]
    fn tokens_are_found_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", folder.path().to_str().unwrap());
        let token = |more: &[(&str, &str)]| of(&[&[home], more].concat()).unwrap().token;
        assert_eq!(token(&[]).unwrap().header(), "Bearer hf_file");
        let given = token(&[("HF_TOKEN", " hf_given\n")]).unwrap();
        assert_eq!(
            (given.header().as_str(), given.place()),
            ("Bearer hf_given", "HF_TOKEN")
        );
        assert!(!format!("{given:?}").contains("hf_given"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_TOKEN_PATH", "/nowhere")]), None);
        let error = of(&[home, ("HF_TOKEN", "a\r\nb: c")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("HF_TOKEN") && !error.contains("b: c"),
            "{error}"
        );
    }

    #[test]
    fn other_variables() {
        let home = ("HOME", "/home/a");
        let hub = of(&[home]).unwrap();
        assert_eq!((hub.endpoint.as_str(), hub.offline), (ENDPOINT, false));
        let mirror = ("HF_ENDPOINT", "http://127.0.0.1:80/");
        assert_eq!(of(&[home, mirror]).unwrap().endpoint, "http://127.0.0.1:80");
        assert!(of(&[home, ("HF_ENDPOINT", "mirror")]).is_err());
        for (name, value, offline) in [
            ("HF_HUB_OFFLINE", "1", true),
            ("TRANSFORMERS_OFFLINE", "true", true),
            ("HF_HUB_OFFLINE", "0", false),
        ] {
            assert_eq!(of(&[home, (name, value)]).unwrap().offline, offline);
        }
        let waits = |value| of(&[home, ("HF_HUB_DOWNLOAD_TIMEOUT", value)]);
        assert_eq!(waits("7").unwrap().retry.answer, Duration::from_secs(7));
        assert!(waits("soon").is_err() && waits("0").is_err());
    }
}

//! What can go wrong with weights of the hub.

use std::path::PathBuf;

use super::Error;

/// Why weights of the hub cannot be used. Messages say what to do, since that does not depend on the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not an address.
    #[error("{given}: not hf:OWNER/NAME or hf:OWNER/NAME@REVISION: {reason}")]
    BadAddress {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable of the environment has a value that cannot be used.
    #[error("{variable}: {reason}")]
    BadVariable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The model is not in the cache, and requests are forbidden.
    #[error(
        "{address} is not whole in the cache {}, and HF_HUB_OFFLINE forbids downloading it",
        cache.display()
    )]
    Offline {
        /// The model.
        address: String,
        /// The cache's folder.
        cache: PathBuf,
    },
    /// The model is not in the cache, and this build has no transport for the hub's address.
    #[error(
        "{address} is not whole in the cache {}, and this build has no https to download it from \
         {endpoint}; build it with the cargo feature https, or download it with `{command}`",
        cache.display()
    )]
    NoHttps {
        /// The model.
        address: String,
        /// The cache's folder.
        cache: PathBuf,
        /// The hub.
        endpoint: String,
        /// The command of the hub's own program that puts the model into the cache.
        command: String,
    },
    /// There is no such model, or nobody without access may know of it.
    #[error(
        "{address}: no such model at {endpoint}, or a private one{}",
        match token {
            Some(token) => format!(" that the token from {token} has no access to"),
            None => "; set HF_TOKEN or log in with `hf auth login` for private models".into(),
        }
    )]
    NoSuchModel {
        /// The model.
        address: String,
        /// The hub.
        endpoint: String,
        /// Where the token is from that was sent.
        token: Option<String>,
    },
    /// The model has no such revision.
    #[error("{address}: the model has no branch, tag or commit {revision}")]
    NoSuchRevision {
        /// The model.
        address: String,
        /// The revision.
        revision: String,
    },
    /// The model has none of these files.
    #[error("{address} has no {}", files.join(", "))]
    NoSuchFile {
        /// The model.
        address: String,
        /// Names of files, any of which would do.
        files: Vec<String>,
    },
    /// The model is given to those only who accept its licence.
    #[error(
        "{address} is gated: accept its conditions at {page}, {}",
        match token {
            Some(token) => format!(
                "with the account of the token from {token}, which has no access yet; a fine-grained \
                 token also needs the permission to read gated models"
            ),
            None => "then set HF_TOKEN to a token of your account or log in with `hf auth login`".into(),
        }
    )]
    Gated {
        /// The model.
        address: String,
        /// The model's page.
        page: String,
        /// Where the token is from that was sent.
        token: Option<String>,
    },
    /// The token is not valid.
    #[error("{endpoint} does not accept the token from {token}: it is wrong or has expired")]
    BadToken {
        /// The hub.
        endpoint: String,
        /// Where the token is from.
        token: String,
    },
    /// A refusal without a known reason.
    #[error("{url}: the server answers {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// Whatever answers is not a hub.
    #[error("{url}: the server does not answer like a hub: {reason}")]
    NotAHub {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// No answer, though it was asked repeatedly.
    #[error("{url}: no answer after {attempts} attempt{}: {source}", if *attempts == 1 { "" } else { "s" })]
    Unreachable {
        /// What was asked for.
        url: String,
        /// How often.
        attempts: u32,
        /// Why the last attempt failed.
        source: Box<Error>,
    },
    /// What was downloaded is not what the hub has.
    #[error(
        "{url}: the download has the checksum {found} and not {wanted}; it was removed, run the same \
         command to download it again"
    )]
    Damaged {
        /// What was downloaded.
        url: String,
        /// The hub's checksum.
        wanted: String,
        /// That of what has come.
        found: String,
    },
}

impl HubError {
    /// Whether no answer came: it may work later.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

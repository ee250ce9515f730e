//! What the page shows: the runs, and for each its networks and images.

use std::path::Path;
use std::sync::Arc;

use crate::access::Access;
use crate::answer::{Answer, Failure};
use crate::gallery_job::{GalleryJob, GallerySource};
use crate::network::Networks;
use crate::server::ViewRequest;
use crate::watched_run::WatchedRun;

/// All that requests are answered from.
pub struct Site {
    /// In the order they were given.
    pub runs: Vec<SiteRun>,
    /// Who may ask.
    pub access: Access,
}

/// A run on the page.
pub struct SiteRun {
    /// Its figures.
    pub watched: WatchedRun,
    /// Its checkpoints' networks.
    pub networks: Networks,
    /// Its images by their features.
    pub gallery: Arc<GalleryJob>,
}

impl Site {
    /// The page of what was asked for.
    pub fn new(request: &ViewRequest<'_>, access: Access) -> Self {
        let names = names(request.runs.iter().map(|root| root.as_path()));
        let runs = request.runs.iter().zip(names).enumerate();
        let runs = runs
            .map(|(number, (root, name))| SiteRun {
                watched: WatchedRun::new(number, root, name),
                networks: Networks::new(root),
                gallery: Arc::new(GalleryJob::new(GallerySource {
                    run: root.clone(),
                    features: request.features.map(Path::to_owned),
                    images: request.images.map(Path::to_owned),
                    remote: request.remote.clone(),
                })),
            })
            .collect();
        Self { runs, access }
    }

    /// Run number `run`.
    pub fn run(&self, run: usize) -> Answer<&SiteRun> {
        self.runs
            .get(run)
            .ok_or_else(|| Failure::missing("there is no such run on this page"))
    }
}

/// The last part of each path, with those before it where that is not enough to tell them apart.
fn names<'a>(roots: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let parts: Vec<Vec<String>> = roots
        .map(|root| {
            let whole = std::path::absolute(root).unwrap_or_else(|_| root.into());
            let part = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
            whole.iter().map(part).collect()
        })
        .collect();
    let name =
        |parts: &[String], count: usize| parts[parts.len().saturating_sub(count)..].join("/");
    parts
        .iter()
        .map(|own| {
            let unique = |count: &usize| {
                let same = parts
                    .iter()
                    .filter(|p| name(p, *count) == name(own, *count));
                same.count() == 1
            };
            let count = (1..=own.len()).find(unique).unwrap_or(own.len());
            name(own, count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_by_what_tells_them_apart() {
        let roots = ["/a/x/run", "/a/y/run", "/a/z"];
        assert_eq!(names(roots.iter().map(Path::new)), ["x/run", "y/run", "z"]);
        let twice = ["/a/z", "/a/z"];
        assert_eq!(names(twice.iter().map(Path::new)).len(), 2);
    }
}

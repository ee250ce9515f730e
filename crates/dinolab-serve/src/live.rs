//! Runs as a stream of server-sent events: each time one changes, it as a whole.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};

use crate::site::Site;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The runs that changed since the versions `seen`, which are brought up to date.
fn changed(site: &Site, seen: &mut [u64]) -> Vec<Event> {
    let runs = site.runs.iter().zip(seen);
    runs.filter_map(|(run, seen)| {
        let (version, snapshot) = run.watched.snapshot();
        (std::mem::replace(seen, version) != version)
            .then(|| Event::default().event("run").json_data(&*snapshot).ok())?
    })
    .collect()
}

/// All runs, and then each that changes, until the reader leaves.
pub fn events(site: Arc<Site>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = vec![0; site.runs.len()];
    let batches = stream::unfold((site, first, true), |(site, mut seen, first)| async move {
        if !first {
            tokio::time::sleep(INTERVAL).await;
        }
        let look = {
            let site = site.clone();
            tokio::task::spawn_blocking(move || {
                let events = changed(&site, &mut seen);
                (seen, events)
            })
        };
        // A panic ends the stream, and the page asks again.
        let (seen, events) = look.await.ok()?;
        Some((
            stream::iter(events.into_iter().map(Ok)),
            (site, seen, false),
        ))
    });
    Sse::new(batches.flatten()).keep_alive(KeepAlive::default())
}

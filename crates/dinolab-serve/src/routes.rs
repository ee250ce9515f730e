//! What each address answers.

mod gallery;
mod run;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};

use crate::answer::{Answer, Failure, blocking};
use crate::site::Site;
use crate::{access, live, page, settings};

/// The largest photograph that can be dropped on the page, in bytes.
const LARGEST_PHOTOGRAPH: usize = 64 << 20;

/// All addresses.
pub fn of(site: Arc<Site>) -> Router {
    let of_run = Router::new()
        .route("/pictures", get(run::pictures))
        .route("/pictures/{name}", get(run::picture))
        .route("/networks", get(run::networks))
        .route("/attention", get(run::attention))
        .route("/map", get(gallery::progress).post(gallery::start))
        .route("/map/points", get(gallery::points))
        .route("/map/clusters", get(gallery::clusters))
        .route("/map/assignments", get(gallery::assignments))
        .route("/map/unusual", get(gallery::unusual))
        .route("/map/images/{row}", get(gallery::image))
        .route("/map/images/{row}/picture", get(gallery::picture))
        .route("/map/images/{row}/attention", get(gallery::attention))
        .route("/map/query", post(gallery::query));
    Router::new()
        .route("/", get(|| async { page::file("index.html") }))
        .route("/page/{name}", get(file))
        .route("/api/events", get(events))
        .route("/api/runs", get(runs))
        .route("/api/settings", get(settings))
        .nest("/api/runs/{run}", of_run)
        .fallback(|| async { Failure::missing("There is nothing at this address.") })
        .layer(DefaultBodyLimit::max(LARGEST_PHOTOGRAPH))
        .layer(middleware::from_fn_with_state(site.clone(), access::guard))
        .with_state(site)
}

async fn file(Path(name): Path<String>) -> Answer {
    page::file(&name)
}

async fn events(State(site): State<Arc<Site>>) -> Response {
    live::events(site).into_response()
}

async fn runs(State(site): State<Arc<Site>>) -> Answer {
    blocking(move || {
        let runs = site.runs.iter().map(|run| run.watched.snapshot().1);
        Ok(Json(runs.map(|run| (*run).clone()).collect::<Vec<_>>()).into_response())
    })
    .await
}

async fn settings(State(site): State<Arc<Site>>) -> Answer {
    blocking(move || {
        let runs = site.runs.iter().map(|run| &run.watched);
        let runs: Vec<_> = runs.map(|run| (&*run.name, &*run.root)).collect();
        Ok(Json(settings::table(&runs)).into_response())
    })
    .await
}

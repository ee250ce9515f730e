//! A run's pictures, and what its networks see.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use crate::answer::{Answer, blocking, bytes};
use crate::pictures;
use crate::site::Site;

type Page = State<Arc<Site>>;

/// Stored pictures, the earliest first.
pub async fn pictures(State(site): Page, Path(run): Path<usize>) -> Answer {
    blocking(move || {
        let run = site.run(run)?;
        Ok(Json(pictures::list(&run.watched.root)).into_response())
    })
    .await
}

/// A stored picture.
pub async fn picture(State(site): Page, Path((run, name)): Path<(usize, String)>) -> Answer {
    blocking(move || {
        let run = site.run(run)?;
        let png = pictures::read(&run.watched.root, &name)?;
        Ok(bytes("image/png", png, false))
    })
    .await
}

/// Stored checkpoints, the earliest first, and the images that can be followed over them.
pub async fn networks(State(site): Page, Path(run): Path<usize>) -> Answer {
    blocking(move || {
        let run = site.run(run)?;
        let answer = json!({
            "checkpoints": run.networks.stored(),
            "steps_per_epoch": run.watched.steps_per_epoch(),
            "images": run.networks.fixed_images()?,
        });
        Ok(Json(answer).into_response())
    })
    .await
}

/// Which image, and by which checkpoint.
#[derive(Deserialize)]
pub struct AttentionQuery {
    checkpoint: String,
    image: usize,
}

/// What the network of a checkpoint sees in an image.
pub async fn attention(
    State(site): Page,
    Path(run): Path<usize>,
    Query(query): Query<AttentionQuery>,
) -> Answer {
    blocking(move || {
        let run = site.run(run)?;
        let file = run.networks.file(&query.checkpoint)?;
        let image = run.networks.fixed_image(query.image)?;
        let seen = run.networks.load(&file)?.see(&image)?;
        Ok(Json(seen).into_response())
    })
    .await
}

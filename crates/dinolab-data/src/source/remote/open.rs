//! From a remote location to a source.

use std::path::Path;
use std::sync::Arc;

use super::client::{Client, Version};
use super::folder::{Folder, scan};
use super::location::{Location, Scheme};
use super::object::{Object, Walk};
use super::parallel::concurrently;
use super::uri_list::UriResolver;
use crate::source::file_kind::extension;
use crate::source::file_kind::not_a_source;
use crate::source::files::ReadRange;
use crate::source::list::List;
use crate::source::options::SourceOptions;
use crate::source::tar::Tar;
use crate::source::tar::entry::Contents;
use crate::source::{braces, compressed};
use crate::{Error, Result, Source};

/// Opens `s3://bucket/folder` and the like.
pub(in crate::source) fn open(path: &Path, options: &SourceOptions) -> Result<Box<dyn Source>> {
    let text = path.to_string_lossy();
    let client = Client::new(&options.remote)?;
    if let Some(shards) = braces::expand(path)? {
        let shards = shards
            .iter()
            .map(|shard| Location::parse(&shard.to_string_lossy()))
            .collect::<Result<Vec<_>>>()?;
        let found = with_versions(&client, shards)?;
        return if extension(path) == "parquet" {
            parquet(&client, path, found, options)
        } else {
            tar(&client, path, found, options)
        };
    }
    let location = Location::parse(&text)?;
    match extension(location.name()).as_str() {
        "tar" => {
            let found = with_versions(&client, vec![location])?;
            return tar(&client, path, found, options);
        }
        "parquet" => {
            let found = with_versions(&client, vec![location])?;
            return parquet(&client, path, found, options);
        }
        "txt" | "tsv" | "lst" => {
            let (bytes, _) = client.read(&location, None, None)?;
            let reach = UriResolver::beside(client, &options.remote, &location);
            return Ok(Box::new(List::of(
                &location.path(),
                &bytes,
                reach,
                options,
            )?));
        }
        compressed if compressed::is_extension(compressed) && location.scheme == Scheme::Http => {
            return Err(Error::BadSource {
                path: location.path(),
                reason: not_a_source(compressed),
            });
        }
        _ => {}
    }
    if location.scheme == Scheme::Http {
        return Err(Error::BadSource {
            path: location.path(),
            reason: "a web server does not tell which files a folder holds; give a .tar file, \
                     shards as name-{000..012}.tar, or a list of addresses (.txt, .tsv, .lst)"
                .into(),
        });
    }
    let found = scan(&client, &location, options)?;
    if !found.images.is_empty() {
        return Ok(Box::new(Folder::new(client, location, found, options)));
    }
    if !found.tars.is_empty() {
        return tar(&client, path, found.tars, options);
    }
    if !found.parquets.is_empty() {
        return parquet(&client, path, found.parquets, options);
    }
    if found.others > 0 {
        return Err(Error::NoImages {
            path: location.path(),
            reason: format!(
                "the folder holds {} files, none of them an image",
                found.others
            ),
        });
    }
    // A name that is no folder may still be that of an object.
    let is_object = !location.key.is_root() && client.version(&location).is_ok();
    Err(if is_object {
        Error::BadSource {
            path: location.path(),
            reason: not_a_source(&extension(location.name())),
        }
    } else {
        Error::NoImages {
            path: location.path(),
            reason: "there is nothing at this location".into(),
        }
    })
}

/// Objects of which only the locations are known.
fn with_versions(
    client: &Arc<Client>,
    locations: Vec<Location>,
) -> Result<Vec<(Location, Version)>> {
    let versions = concurrently(&locations, |location| client.version(location))?;
    Ok(locations.into_iter().zip(versions).collect())
}

/// Large objects of which parts are read.
fn objects(client: &Arc<Client>, found: Vec<(Location, Version)>) -> Vec<Object> {
    let bytes: u64 = found.iter().map(|(_, version)| version.size).sum();
    // Blocks serve any later read, but are worth it only where they are still there then.
    let blocks = client
        .cache
        .as_ref()
        .is_some_and(|cache| bytes <= cache.most() / 10 * 9);
    found
        .into_iter()
        .map(|(location, version)| Object::new(client, location, version, blocks))
        .collect()
}

fn tar(
    client: &Arc<Client>,
    source: &Path,
    found: Vec<(Location, Version)>,
    options: &SourceOptions,
) -> Result<Box<dyn Source>> {
    let objects = objects(client, found);
    let contents = concurrently(&objects, |object| contents(client, object, options))?;
    let shards = objects
        .into_iter()
        .map(|object| Box::new(object) as Box<dyn ReadRange>)
        .zip(contents)
        .collect();
    Ok(Box::new(Tar::new(source, shards, options)?))
}

#[cfg(feature = "parquet")]
fn parquet(
    client: &Arc<Client>,
    source: &Path,
    found: Vec<(Location, Version)>,
    options: &SourceOptions,
) -> Result<Box<dyn Source>> {
    let files = objects(client, found)
        .into_iter()
        .map(|object| Box::new(object) as Box<dyn ReadRange>)
        .collect();
    Ok(Box::new(crate::source::parquet::Parquet::new(
        source, files, options,
    )?))
}

#[cfg(not(feature = "parquet"))]
fn parquet(
    _: &Arc<Client>,
    source: &Path,
    _: Vec<(Location, Version)>,
    _: &SourceOptions,
) -> Result<Box<dyn Source>> {
    Err(crate::source::file_kind::no_parquet(source))
}

/// Returns the contents of a shard, from the cache or by walking over its headers.
fn contents(client: &Client, object: &Object, options: &SourceOptions) -> Result<Contents> {
    let described = client.described(object.location(), object.version())?;
    let description = format!("contents 2 {described} {:?}", options.pixels);
    if let Some(cache) = &client.cache
        && let Some(text) = cache.get(&description)
        && let Ok(contents) = serde_json::from_slice(&text)
    {
        return Ok(contents);
    }
    let walk = Walk::over(object);
    let contents = match Contents::of(&walk, 0, options.pixels) {
        Ok(contents) => contents,
        Err(error) => return Err(walk.failure().unwrap_or(error)),
    };
    if let Some(cache) = &client.cache
        // Fails for names that are not UTF-8.
        && let Ok(text) = serde_json::to_vec(&contents)
    {
        cache.put(&description, &text);
    }
    Ok(contents)
}

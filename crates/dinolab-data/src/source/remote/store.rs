//! Clients of the stores, and their credentials.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};

use super::RemoteOptions;
use super::location::{Location, Scheme};
use crate::{Error, Result};

/// A store ready for requests.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Where it is, beyond its name: two servers may have a bucket of the same name.
    pub(super) endpoint: Arc<str>,
    /// Whether requests carry a signature.
    pub(super) signed: bool,
}

impl Store {
    /// The store of a location.
    pub(super) fn of(location: &Location, options: &RemoteOptions) -> Result<Self> {
        let variables = match &options.environment {
            Some(variables) => variables.clone(),
            None => std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        };
        let built = match location.scheme {
            Scheme::S3 => s3(location, options, &variables),
            Scheme::Google => google(location, options, &variables),
            Scheme::Azure => azure(location, options, &variables),
            Scheme::Http => http(location, options),
        };
        built.map_err(|error| Error::BadSource {
            path: location.path(),
            reason: error.to_string(),
        })
    }
}

type Built = Result<Store, object_store::Error>;

/// Attempts are counted in one place, `client.rs`.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn timeouts(options: &RemoteOptions) -> [(ClientConfigKey, String); 2] {
    let text = |duration: Duration| format!("{} ms", duration.as_millis().max(1));
    [
        (
            ClientConfigKey::ConnectTimeout,
            text(options.connect_timeout),
        ),
        (ClientConfigKey::Timeout, text(options.request_timeout)),
    ]
}

/// The settings among environment variables that begin with `prefix`.
fn settings<'a, K: std::str::FromStr>(
    variables: &'a BTreeMap<String, String>,
    prefix: &'a str,
) -> impl Iterator<Item = (K, &'a str)> {
    variables.iter().filter_map(move |(name, value)| {
        let key = name
            .starts_with(prefix)
            .then(|| name.to_ascii_lowercase())?;
        Some((key.parse().ok()?, value.as_str()))
    })
}

/// Whether a variable is set to true, in any spelling that the client accepts.
fn is_on(value: Option<String>) -> bool {
    let value = value.unwrap_or_default().to_ascii_lowercase();
    ["1", "true", "on", "yes", "y"].contains(&value.as_str())
}

fn s3(location: &Location, options: &RemoteOptions, variables: &BTreeMap<String, String>) -> Built {
    use AmazonS3ConfigKey as Setting;
    let mut builder = AmazonS3Builder::new();
    for (key, value) in settings(variables, "AWS_") {
        builder = builder.with_config(key, value);
    }
    for (key, value) in timeouts(options) {
        builder = builder.with_config(Setting::Client(key), value);
    }
    let given = |key: Setting| builder.get_config_value(&key).is_some();
    let mut signed = !is_on(builder.get_config_value(&Setting::SkipSignature));
    let has_some = given(Setting::AccessKeyId)
        || given(Setting::SecretAccessKey)
        || given(Setting::WebIdentityTokenFile)
        || given(Setting::ContainerCredentialsRelativeUri)
        || given(Setting::ContainerCredentialsFullUri)
        || given(Setting::MetadataEndpoint);
    let endpoint = builder.get_config_value(&Setting::Endpoint);
    if signed && !has_some && !is_machine_of_a_cloud() {
        signed = false;
        builder = builder.with_skip_signature(true);
    }
    let objects = builder
        .with_bucket_name(&location.store)
        .with_retry(no_retries())
        .build()?;
    Ok(Store {
        objects: Arc::new(objects),
        endpoint: endpoint.unwrap_or_default().into(),
        signed,
    })
}

fn google(
    location: &Location,
    options: &RemoteOptions,
    variables: &BTreeMap<String, String>,
) -> Built {
    use GoogleConfigKey as Setting;
    let mut builder = GoogleCloudStorageBuilder::new();
    if let Some(path) = variables.get("SERVICE_ACCOUNT") {
        builder = builder.with_service_account_path(path);
    }
    for (key, value) in settings(variables, "GOOGLE_") {
        builder = builder.with_config(key, value);
    }
    for (key, value) in timeouts(options) {
        builder = builder.with_config(Setting::Client(key), value);
    }
    let given = |key: Setting| builder.get_config_value(&key).is_some();
    let mut signed = !is_on(builder.get_config_value(&Setting::SkipSignature));
    // Where `gcloud auth application-default login` leaves what it got.
    let login = [("HOME", ".config/gcloud"), ("APPDATA", "gcloud")].map(|(home, folder)| {
        let home = PathBuf::from(variables.get(home)?);
        let file = home
            .join(folder)
            .join("application_default_credentials.json");
        file.exists().then_some(())
    });
    let has_some = given(Setting::ServiceAccount)
        || given(Setting::ServiceAccountKey)
        || given(Setting::ApplicationCredentials)
        || login.iter().any(Option::is_some);
    let endpoint = builder.get_config_value(&Setting::BaseUrl);
    if signed && !has_some && !is_machine_of_a_cloud() {
        signed = false;
        builder = builder.with_skip_signature(true);
    }
    let objects = builder
        .with_bucket_name(&location.store)
        .with_retry(no_retries())
        .build()?;
    Ok(Store {
        objects: Arc::new(objects),
        endpoint: endpoint.unwrap_or_default().into(),
        signed,
    })
}

fn azure(
    location: &Location,
    options: &RemoteOptions,
    variables: &BTreeMap<String, String>,
) -> Built {
    use AzureConfigKey as Setting;
    let mut builder = MicrosoftAzureBuilder::new();
    for (key, value) in settings(variables, "AZURE_") {
        builder = builder.with_config(key, value);
    }
    if let Some(endpoint) = variables.get("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(endpoint);
    }
    for (key, value) in timeouts(options) {
        builder = builder.with_config(Setting::Client(key), value);
    }
    let given = |key: Setting| builder.get_config_value(&key).is_some();
    let is_true = |key: Setting| is_on(builder.get_config_value(&key));
    let mut signed = !is_true(Setting::SkipSignature);
    let has_some = given(Setting::AccessKey)
        || given(Setting::SasKey)
        || given(Setting::Token)
        || given(Setting::ClientSecret)
        || given(Setting::FederatedTokenFile)
        || given(Setting::MsiEndpoint)
        || is_true(Setting::UseAzureCli)
        || is_true(Setting::UseEmulator);
    let endpoint = builder
        .get_config_value(&Setting::Endpoint)
        .or_else(|| builder.get_config_value(&Setting::AccountName));
    if signed && !has_some && !is_machine_of_a_cloud() {
        signed = false;
        builder = builder.with_skip_signature(true);
    }
    let objects = builder
        .with_container_name(&location.store)
        .with_retry(no_retries())
        .build()?;
    Ok(Store {
        objects: Arc::new(objects),
        endpoint: endpoint.unwrap_or_default().into(),
        signed,
    })
}

fn http(location: &Location, options: &RemoteOptions) -> Built {
    let mut builder = HttpBuilder::new()
        .with_url(&location.store)
        .with_config(ClientConfigKey::AllowHttp, "true")
        .with_retry(no_retries());
    for (key, value) in timeouts(options) {
        builder = builder.with_config(key, value);
    }
    Ok(Store {
        objects: Arc::new(builder.build()?),
        endpoint: "".into(),
        signed: false,
    })
}

/// Whether this machine can obtain credentials from its cloud. All three clouds answer at one address;
/// elsewhere nothing does, and each request would wait for it.
fn is_machine_of_a_cloud() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let address = SocketAddr::from(([169, 254, 169, 254], 80));
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    })
}

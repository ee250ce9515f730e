//! Errors of libraries end the program with their codes.

use std::path::Path;

use anyhow::Error;
use dinolab::{ExitCode, Flags, Usage};

#[test]
fn errors_have_their_codes() {
    let flags = Flags::new(["batch-size", "lr"]);
    let unreachable = || dinolab_data::Error::Unreachable {
        location: "s3://bucket/a.jpg".into(),
        attempts: 5,
        reason: "refused".into(),
    };
    let setting = |field| dinolab_data::Error::BadSetting {
        field,
        reason: "must be above 0".into(),
    };
    let diverged = dinolab_features::Error::Diverged {
        lr: 1e9,
        loss: f64::NAN,
    };
    let patches = || dinolab_nn::check_patches(100_000, 100_000, 16).unwrap_err();
    let missing = || dinolab_data::Error::NoImages {
        path: Path::new("empty").into(),
        reason: "it is empty".into(),
    };
    let cases: Vec<(Error, ExitCode)> = vec![
        (missing().into(), ExitCode::Failure),
        (anyhow::anyhow!("whatever"), ExitCode::Failure),
        (Usage::new("--k: must be above 0").into(), ExitCode::Usage),
        (setting("batch-size").into(), ExitCode::Usage),
        // Not a flag of this command, but what a file says.
        (setting("depth").into(), ExitCode::Failure),
        (
            dinolab_train::Error::from(setting("lr")).into(),
            ExitCode::Usage,
        ),
        (diverged.into(), ExitCode::Diverged),
        (patches().into(), ExitCode::Failure),
        (unreachable().into(), ExitCode::TryAgain),
        (
            dinolab_features::Error::from(unreachable()).into(),
            ExitCode::TryAgain,
        ),
        (
            dinolab_train::Error::from(unreachable()).into(),
            ExitCode::TryAgain,
        ),
        (
            dinolab_run::Error::OfSetting {
                setting: "val",
                value: String::new(),
                source: Box::new(dinolab_features::Error::from(unreachable()).into()),
            }
            .into(),
            ExitCode::TryAgain,
        ),
        (
            dinolab_run::Error::from(dinolab_run::error::HubError::Unreachable {
                url: "https://hub".into(),
                attempts: 5,
                source: Box::new(dinolab_run::Error::Invalid("refused".into())),
            })
            .into(),
            ExitCode::TryAgain,
        ),
        (
            dinolab_run::Error::GaveUp {
                attempts: 5,
                part: "a.part".into(),
                bytes: 7,
                source: Box::new(dinolab_run::Error::Invalid("refused".into())),
            }
            .into(),
            ExitCode::TryAgain,
        ),
        (
            dinolab_run::Error::BadSetting {
                setting: "lr",
                value: "-1".into(),
                reason: "must not be below 0".into(),
            }
            .into(),
            ExitCode::Usage,
        ),
    ];
    let asked = Error::from(patches()).context("--crop 100000");
    assert_eq!(ExitCode::of(&asked, &flags), ExitCode::Usage);
    for (error, code) in cases {
        assert_eq!(ExitCode::of(&error, &flags), code, "{error}");
        let error = error.context("around").context("it");
        assert_eq!(ExitCode::of(&error, &flags), code, "{error:#}");
    }
}

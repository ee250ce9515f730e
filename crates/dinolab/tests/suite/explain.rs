//! Errors in one line, in the words of the command line.

use anyhow::{Error, anyhow};
use dinolab::{Flags, one_line};

#[test]
fn settings_get_the_dashes_of_their_flags() {
    let setting = |field| {
        Error::from(dinolab_nn::Error::BadSetting {
            field,
            reason: "must be above 0".into(),
        })
    };
    let flags = Flags::new(["depth", "weights"]);
    let line = |error: Error| one_line(&error, &flags);
    assert_eq!(line(setting("depth")), "--depth: must be above 0");
    assert_eq!(line(setting("heads")), "heads: must be above 0");
    assert_eq!(
        line(setting("depth").context("--depth")),
        "--depth: must be above 0"
    );
    assert_eq!(
        line(setting("depth").context("w.pth")),
        "w.pth: --depth: must be above 0"
    );
}

#[test]
fn settings_within_a_sentence_become_flags() {
    let all = Flags::new(["std", "mean", "in-chans", "a"]);
    let flags = |text: &str| {
        let error = Error::from(dinolab_run::Error::BadSetting {
            setting: "pixels",
            value: "rgb".into(),
            reason: text.to_owned(),
        });
        let line = one_line(&error, &all);
        line.strip_prefix("pixels rgb: ").unwrap().to_owned()
    };
    assert_eq!(flags("needs `std` too"), "needs --std too");
    assert_eq!(flags("`mean`, `std`: odd"), "--mean, --std: odd");
    assert_eq!(
        flags("a feature `https` and `in-chans` 4"),
        "a feature `https` and --in-chans 4"
    );
    assert_eq!(flags("`a`.jpg` is `"), "--a.jpg` is `");
    let flags = Flags::new(["pixels", "in-chans"]);
    let error = Error::from(dinolab_run::Error::BadSetting {
        setting: "pixels",
        value: "rgb".into(),
        reason: "has 3 channels, not `in-chans` 4".into(),
    });
    let line = "--pixels rgb: has 3 channels, not --in-chans 4";
    assert_eq!(one_line(&error, &flags), line);
    let nested = dinolab_run::Error::OfSetting {
        setting: "pixels",
        value: String::new(),
        source: Box::new(dinolab_run::Error::Data(dinolab_data::Error::BadSetting {
            field: "in-chans",
            reason: "must be above 0".into(),
        })),
    };
    let line = "--pixels: --in-chans: must be above 0";
    assert_eq!(one_line(&nested.into(), &flags), line);
}

#[test]
fn causes_are_said_once() {
    let flags = Flags::default();
    let error = anyhow!("the disk\n  is full").context("cannot write a: the disk is full");
    assert_eq!(one_line(&error, &flags), "cannot write a: the disk is full");
    let error = anyhow!("b").context("a");
    assert_eq!(one_line(&error, &flags), "a: b");
}

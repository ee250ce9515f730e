//! Weight files: what is read, what is refused, and what is never executed.

use crate::common;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dinolab_nn::weights::{
    Array, LoadOptions, NetworkRole, Value, Weights, arrays, file_arrays, load, read, to_bytes,
    write_pth,
};
use dinolab_nn::{Error, HeadConfig, Network, Parameters, VitConfig};

use crate::common::files::{floats, pickle, pth};

type Arrays = BTreeMap<String, Array>;

fn vit(image_size: usize) -> VitConfig {
    VitConfig {
        image_size,
        patch_size: 8,
        width: 12,
        depth: 2,
        heads: 3,
        ..Default::default()
    }
}

fn head() -> HeadConfig {
    HeadConfig {
        out_dim: 10,
        hidden_dim: 14,
        bottleneck_dim: 6,
        ..HeadConfig::default()
    }
}

fn network(image_size: usize, seed: u64) -> Network {
    Network::new(vit(image_size), &head(), seed, &common::device()).unwrap()
}

fn write(folder: &Path, all: &Arrays) -> PathBuf {
    let path = folder.join("weights.safetensors");
    fs::write(&path, to_bytes(all, &BTreeMap::new()).unwrap()).unwrap();
    path
}

/// A checkpoint of a method without a teacher: `network.…` learns, `average.…` is its average.
#[test]
fn the_metadata_names_the_network_to_use() {
    let folder = tempfile::tempdir().unwrap();
    let (learned, average) = (network(32, 3), network(32, 4));
    let mut all = arrays(&learned, "network");
    all.append(&mut arrays(&average, "average"));
    let of = |network: &Network| arrays(network, "");
    let expected = [
        (None, None, Ok((of(&average), NetworkRole::Average))),
        (
            Some("average"),
            None,
            Ok((of(&average), NetworkRole::Average)),
        ),
        (
            Some("network"),
            None,
            Ok((of(&learned), NetworkRole::Network)),
        ),
        (
            Some("network"),
            Some("average"),
            Ok((of(&average), NetworkRole::Average)),
        ),
        (
            Some("average"),
            Some("network"),
            Ok((of(&learned), NetworkRole::Network)),
        ),
        (
            Some("average"),
            Some("teacher"),
            Err("has no teacher, only average and network"),
        ),
        (
            Some("average"),
            Some("student"),
            Err("has no student, only average and network"),
        ),
        (
            Some("teacher"),
            None,
            Err("its metadata names teacher as the evaluated network"),
        ),
    ];
    for (evaluated, asked, expected) in expected {
        let said = evaluated.map(|name: &str| ("evaluated".to_owned(), name.to_owned()));
        let path = folder.path().join("checkpoint.safetensors");
        fs::write(&path, to_bytes(&all, &said.into_iter().collect()).unwrap()).unwrap();
        let role = asked.map(|key: &str| key.parse::<NetworkRole>().unwrap());
        match (read(&path, role), expected) {
            (Ok(weights), Ok((arrays, role))) => {
                assert_eq!(weights.arrays, arrays, "{evaluated:?} {asked:?}");
                assert_eq!(weights.role, Some(role));
            }
            (Err(error), Err(told)) => {
                assert!(error.to_string().contains(told), "{error}");
            }
            (found, _) => panic!(
                "{evaluated:?} {asked:?}: {:?}",
                found.map(|found| found.role)
            ),
        }
    }
    assert!(
        "both"
            .parse::<NetworkRole>()
            .unwrap_err()
            .contains("student, average")
    );
}

#[test]
fn safetensors_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let (student, teacher) = (network(32, 1), network(32, 2));
    let mut all = arrays(&student, "student");
    all.append(&mut arrays(&teacher, "teacher"));
    let centre = Array {
        shape: vec![10],
        data: (0..10).map(|i| i as f32).collect(),
    };
    all.insert("centre".into(), centre);
    let facts = BTreeMap::from([("made".to_owned(), "by hand, \"quoted\"\n".to_owned())]);
    let path = folder.path().join("both.safetensors");
    fs::write(&path, to_bytes(&all, &facts).unwrap()).unwrap();
    let back = file_arrays(&path, &fs::read(&path).unwrap()).unwrap();
    assert_eq!(back, (all, facts.clone()));

    for (which, network) in [
        (NetworkRole::Student, &student),
        (NetworkRole::Teacher, &teacher),
    ] {
        let weights = read(&path, which).unwrap();
        assert_eq!(weights.arrays, arrays(network, ""));
        assert_eq!(weights.metadata, facts);
        assert_eq!(weights.centre.as_ref().unwrap()[9], 9.0);
        // The number of heads does not show in shapes; three were said.
        assert_eq!(weights.vit_config(Some(3)).unwrap(), vit(32));
        assert_eq!(weights.head_config().unwrap(), head());
        let mut fresh = self::network(32, 7);
        let report = load(&mut fresh, "", &weights, LoadOptions::default()).unwrap();
        assert_eq!(arrays(&fresh, ""), arrays(network, ""));
        assert_eq!(report.loaded.len(), weights.arrays.len());
        assert!(report.missing.is_empty() && report.left_over.is_empty());
    }
}

#[test]
fn any_length_of_the_header_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let all = arrays(&network(32, 1), "");
    let mut first_bytes = std::collections::BTreeSet::new();
    for note in (0..256).step_by(8) {
        let facts = BTreeMap::from([("note".to_owned(), "x".repeat(note))]);
        let bytes = to_bytes(&all, &facts).unwrap();
        first_bytes.insert(bytes[0]);
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path, NetworkRole::Teacher).unwrap().arrays, all);
    }
    // What a pickle begins with is among them.
    assert!(first_bytes.contains(&0x80), "{first_bytes:?}");
}

#[test]
fn prefixes_of_wrappers_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let all = arrays(&network(32, 1), "");
    let newer = |key: &str| {
        key.replace("weight_g", "parametrizations.weight.original0")
            .replace("weight_v", "parametrizations.weight.original1")
    };
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(&str, Rename<'_>); 5] = [
        ("distributed", &|k| format!("module.{k}")),
        ("compiled", &|k| format!("_orig_mod.{k}")),
        ("both", &|k| format!("_orig_mod.module.{k}")),
        ("wrapped inside", &|k| {
            k.replace("backbone.", "backbone.module.")
        }),
        ("newer weight norm", &newer),
    ];
    for (what, rename) in cases {
        let renamed: Arrays = all.iter().map(|(k, v)| (rename(k), v.clone())).collect();
        assert_ne!(renamed, all);
        let weights = read(&write(folder.path(), &renamed), NetworkRole::Teacher).unwrap();
        assert_eq!(weights.arrays, all, "{what}");
    }
    // What other programs put before a backbone's names, in either kind of file; each has a second
    // network that is not the one.
    let lone: Arrays = all
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix("backbone.")?.to_owned(), v.clone())))
        .collect();
    let other = arrays(&network(32, 9).backbone, "");
    let path = folder.path().join("nested.pth");
    for (teacher, student) in [
        ("model.teacher.", "model.student."),
        ("net.ema.trunk.", "net.trunk."),
        (
            "state_dict.model_teacher.encoder.",
            "state_dict.model_student.encoder.",
        ),
        ("momentum_encoder.0.", "encoder.0."),
        ("EMA.module.", "online.module."),
    ] {
        let put = |to: &mut Arrays, prefix: &str, from: &Arrays| {
            to.extend(
                from.iter()
                    .map(|(k, v)| (format!("{prefix}{k}"), v.clone())),
            );
        };
        let mut both = Arrays::new();
        put(&mut both, teacher, &lone);
        put(&mut both, student, &other);
        for (which, network) in [
            (NetworkRole::Teacher, &lone),
            (NetworkRole::Student, &other),
        ] {
            let weights = read(&write(folder.path(), &both), which).unwrap();
            assert_eq!(weights.role, Some(which), "{teacher}");
            let (outer, _) = teacher.split_once('.').unwrap();
            let nested = both.iter().map(|(name, array)| {
                let rest = name.split_once('.').unwrap().1.to_owned();
                (name.starts_with(outer), rest, Value::Tensor(array.clone()))
            });
            let of = |first: bool| {
                let part = nested.clone().filter(|(found, ..)| *found == first);
                Value::dict(part.map(|(_, name, value)| (name, value)))
            };
            let beside = student.split_once('.').unwrap().0;
            let mut value = vec![(outer, of(true))];
            if beside != outer {
                value.push((beside, of(false)));
            }
            write_pth(&path, &Value::dict(value)).unwrap();
            let torch = read(&path, which).unwrap();
            let expected: Arrays = network
                .iter()
                .map(|(k, v)| (format!("backbone.{k}"), v.clone()))
                .collect();
            assert_eq!(weights.arrays, expected, "{teacher}");
            assert_eq!(torch.arrays, expected, "{teacher}");
        }
    }
    // A lone backbone, as exported checkpoints are.
    let strip =
        |(k, v): (&String, &Array)| Some((k.strip_prefix("backbone.")?.to_owned(), v.clone()));
    let lone: Arrays = all.iter().filter_map(strip).collect();
    let weights = read(&write(folder.path(), &lone), NetworkRole::Teacher).unwrap();
    assert_eq!(weights.arrays.len(), lone.len());
    assert!(
        weights
            .arrays
            .contains_key("backbone.blocks.1.mlp.fc2.bias")
    );
    assert!(weights.head_config().is_none());
    let mut backbone = network(32, 5).backbone;
    load(&mut backbone, "backbone", &weights, LoadOptions::default()).unwrap();
    assert_eq!(arrays(&backbone, ""), lone);
}

#[test]
fn missing_and_left_over_tensors_are_accounted_for() {
    let mut weights = Weights {
        arrays: arrays(&network(32, 1), ""),
        ..Weights::default()
    };
    let all = weights.arrays.len();
    let taken = weights.arrays.remove("head.mlp.2.weight").unwrap();
    weights.arrays.insert("head.mlp.9.weight".into(), taken);
    weights.arrays.remove("backbone.norm.bias").unwrap();

    let mut network = network(32, 2);
    let before = arrays(&network, "");
    let error = load(&mut network, "", &weights, LoadOptions::default()).unwrap_err();
    let Error::Missing {
        missing,
        total,
        first,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (*missing, *total, first.as_str()),
        (2, all, "backbone.norm.bias")
    );
    assert_eq!(arrays(&network, ""), before, "nothing is loaded by halves");

    let options = LoadOptions {
        allow_missing: true,
        ..LoadOptions::default()
    };
    let report = load(&mut network, "", &weights, options).unwrap();
    assert_eq!(report.missing, ["backbone.norm.bias", "head.mlp.2.weight"]);
    assert_eq!(report.left_over, ["head.mlp.9.weight"]);
    assert_eq!(report.loaded.len(), all - 2);
    let after = arrays(&network, "");
    assert_eq!(after["head.mlp.2.weight"], before["head.mlp.2.weight"]);
    assert_eq!(
        after["head.mlp.0.weight"],
        weights.arrays["head.mlp.0.weight"]
    );
    let table = report.to_string();
    let row = |what: &str| {
        let line = table
            .lines()
            .find_map(|line| line.strip_prefix(what))
            .unwrap();
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("loaded")[0], (all - 2).to_string());
    assert_eq!(
        row("missing"),
        ["2", "backbone.norm.bias", "…", "head.mlp.2.weight"]
    );
    assert_eq!(row("unused"), ["1", "head.mlp.9.weight"]);
}

#[test]
fn position_embeddings_are_resized_on_demand_only() {
    let weights = Weights {
        arrays: arrays(&network(32, 1), ""),
        ..Weights::default()
    };
    let mut larger = network(48, 2);
    let before = arrays(&larger, "");
    let error = load(&mut larger, "", &weights, LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::PositionSize { .. }));
    let told = error.to_string();
    assert!(told.contains("another image size"), "{told}");
    assert!(!told.contains("--"), "{told}");
    assert!(
        told.contains("[1, 37, 12]") && told.contains("[1, 17, 12]"),
        "{told}"
    );
    assert_eq!(arrays(&larger, ""), before);

    let options = LoadOptions {
        resize_positions: true,
        ..LoadOptions::default()
    };
    let report = load(&mut larger, "", &weights, options).unwrap();
    let name = "backbone.pos_embed";
    assert_eq!(
        report.resized,
        [(name.to_owned(), vec![1, 17, 12], vec![1, 37, 12])]
    );
    let (from, to) = (&weights.arrays[name].data, &arrays(&larger, "")[name].data);
    assert_eq!(to[..12], from[..12], "the class token's own stays");
    // What the network would have resampled on the fly.
    let grid = dinolab_nn::position::resample(&from[12..], 12, 4, 6, 6, Default::default());
    assert_eq!(to[12..], grid);
    // Other shapes are not negotiable.
    let mut odd = weights.clone();
    let longer = Array {
        shape: vec![13],
        data: vec![1.0; 13],
    };
    odd.arrays.insert("backbone.norm.weight".into(), longer);
    let error = load(&mut larger, "", &odd, options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("backbone.norm.weight") && error.contains("[13]"),
        "{error}"
    );
}

#[test]
fn files_that_hold_no_network_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.bin");
    let refuse = |bytes: &[u8], why: &str| {
        fs::write(&path, bytes).unwrap();
        let error = read(&path, NetworkRole::Teacher).unwrap_err();
        assert!(matches!(error, Error::BadWeights { .. }), "{error}");
        let told = error.to_string();
        assert!(told.contains("file.bin") && told.contains(why), "{told}");
    };
    refuse(b"", "neither");
    refuse(b"\xff\xd8\xff\xe0 a picture", "neither");
    let array = Array {
        shape: vec![2],
        data: vec![1.0, 2.0],
    };
    let other = BTreeMap::from([("conv1.weight".to_owned(), array.clone())]);
    refuse(
        &to_bytes(&other, &BTreeMap::new()).unwrap(),
        "no vision transformer",
    );
    let error = read(&folder.path().join("absent"), NetworkRole::Teacher).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("absent"));

    // A safetensors file cut off anywhere.
    let whole = to_bytes(&arrays(&network(32, 1), ""), &BTreeMap::new()).unwrap();
    let ends = (0..whole.len())
        .step_by(997)
        .chain([7, 8, 9, whole.len() - 1]);
    for length in ends {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            read(&path, NetworkRole::Teacher).is_err(),
            "cut to {length}"
        );
    }
    // Values that do not fill their shape cannot be written either.
    let short = Array {
        shape: vec![3],
        ..array
    };
    assert!(to_bytes(&BTreeMap::from([("x".to_owned(), short)]), &BTreeMap::new()).is_err());
}

#[test]
fn pth_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let values = [1.5, -2.0, 0.25];
    let single = pickle::tensor("0", "FloatStorage", 3);
    let network = pickle::dict(&[("module.backbone.cls_token", single.clone())]);
    let other = pickle::dict(&[("module.backbone.mask_token", single.clone())]);
    let checkpoint = pickle::dict(&[("student", other), ("teacher", network.clone())]);
    for (what, body) in [
        ("a training checkpoint", checkpoint),
        (
            "a state dictionary inside",
            pickle::dict(&[("state_dict", network.clone())]),
        ),
        ("a state dictionary", network),
        ("a lone backbone", pickle::dict(&[("cls_token", single)])),
    ] {
        fs::write(&path, pth(&pickle::whole(&body), &floats(&values))).unwrap();
        let weights = read(&path, NetworkRole::Teacher).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(weights.arrays.len(), 1, "{what}");
        let array = &weights.arrays["backbone.cls_token"];
        assert_eq!(array.shape, [1, 1, 3], "{what}");
        assert_eq!(array.data, values, "{what}");
    }
    // Half and double precision become single.
    let sixteen = |bits: [u16; 3]| {
        bits.iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let doubles = values
        .iter()
        .flat_map(|&v| f64::from(v).to_le_bytes())
        .collect();
    for (kind, storage) in [
        ("HalfStorage", sixteen([0x3E00, 0xC000, 0x3400])),
        ("BFloat16Storage", sixteen([0x3FC0, 0xC000, 0x3E80])),
        ("DoubleStorage", doubles),
    ] {
        let body = pickle::dict(&[("cls_token", pickle::tensor("0", kind, 3))]);
        fs::write(&path, pth(&pickle::whole(&body), &storage)).unwrap();
        let weights = read(&path, NetworkRole::Teacher).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(weights.arrays["backbone.cls_token"].data, values, "{kind}");
    }
}

#[test]
fn a_pth_cut_off_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pth");
    let body = pickle::dict(&[("cls_token", pickle::tensor("0", "FloatStorage", 3))]);
    let whole = pth(&pickle::whole(&body), &floats(&[1.0, 2.0, 3.0]));
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = read(&path, NetworkRole::Teacher).err();
        let error = error.unwrap_or_else(|| panic!("cut to {length} of {}", whole.len()));
        assert!(error.to_string().contains("cut.pth"), "{error}");
    }
    // The archive whole, but the storage too short for its tensor, or not there.
    for storage in [&floats(&[1.0, 2.0])[..], &[]] {
        fs::write(&path, pth(&pickle::whole(&body), storage)).unwrap();
        assert!(
            read(&path, NetworkRole::Teacher).is_err(),
            "{} bytes",
            storage.len()
        );
    }
    let body = pickle::dict(&[("cls_token", pickle::tensor("7", "FloatStorage", 3))]);
    fs::write(&path, pth(&pickle::whole(&body), &floats(&[1.0, 2.0, 3.0]))).unwrap();
    assert!(read(&path, NetworkRole::Teacher).is_err());
}

#[test]
fn a_pickle_is_never_executed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, trace) = (folder.path().join("evil.pth"), folder.path().join("trace"));
    let command = format!("touch {}", trace.display());
    let single = || pickle::tensor("0", "FloatStorage", 1);
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("subprocess", "check_output"),
    ] {
        let call = || pickle::reduce(pickle::global(module, name), &[pickle::text(&command)]);
        let bodies = [
            ("alone", call(), false),
            (
                "as the network",
                pickle::dict(&[("teacher", call())]),
                false,
            ),
            ("as a tensor", pickle::dict(&[("cls_token", call())]), false),
            // Beside a network, where PyTorch puts the arguments of a run.
            (
                "as args",
                pickle::dict(&[("cls_token", single()), ("args", call())]),
                true,
            ),
        ];
        for (what, body, may_be_read) in bodies {
            let bytes = pickle::whole(&body);
            for file in [bytes.clone(), pth(&bytes, &floats(&[1.0]))] {
                fs::write(&path, &file).unwrap();
                let found = read(&path, NetworkRole::Teacher);
                assert!(!trace.exists(), "{module}.{name} {what} was executed");
                match found {
                    Ok(weights) => {
                        assert!(may_be_read, "{module}.{name} {what} passed for weights");
                        assert_eq!(weights.arrays.len(), 1);
                        assert!(
                            !weights
                                .metadata
                                .values()
                                .any(|value| value.contains("touch"))
                        );
                    }
                    Err(error) => assert!(error.to_string().contains("evil.pth"), "{error}"),
                }
            }
        }
    }
}

#[test]
fn every_parameter_has_the_references_name() {
    let mut names = Vec::new();
    network(32, 0).visit("", &mut |name, _| names.push(name.to_owned()));
    for name in [
        "backbone.cls_token",
        "backbone.pos_embed",
        "backbone.patch_embed.proj.weight",
        "backbone.blocks.0.norm1.weight",
        "backbone.blocks.1.attn.qkv.bias",
        "backbone.blocks.1.attn.proj.weight",
        "backbone.blocks.1.mlp.fc1.weight",
        "backbone.norm.bias",
        "head.mlp.0.weight",
        "head.mlp.2.bias",
        "head.mlp.4.weight",
        "head.last_layer.weight_g",
        "head.last_layer.weight_v",
    ] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    assert_eq!(names.len(), 4 + 2 * 12 + 2 + 6 + 2);
}

//! Damaged and malicious weight files: an error, and no panic, no execution, and no more memory
//! than a few times the file.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "suite/common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{device, files};
use dinolab_nn::init::Init;
use dinolab_nn::weights::{
    Array, Backbone, LoadOptions, Naming, NetworkRole, Value, arrays, load, read, to_bytes,
    write_pth,
};
use dinolab_nn::{Head, HeadConfig, Network, ProjectionHead, Vit, VitConfig};
use files::{floats, pickle, pth};
use proptest::prelude::*;

/// Remembers the largest request for memory.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

/// No single allocation of a test here has a reason to be larger: the files are of a few tens of
/// kilobytes, and the reader of archives keeps buffers.
const MOST: usize = 16 << 20;

fn config() -> VitConfig {
    VitConfig {
        image_size: 16,
        patch_size: 8,
        width: 8,
        depth: 2,
        heads: 2,
        registers: 1,
        layer_scale: true,
        ..VitConfig::default()
    }
}

/// All that a program does with a file: read it, find the sizes, make the networks, load them.
fn use_weights(path: &Path) -> Result<(), String> {
    LARGEST.store(0, Ordering::Relaxed);
    let result = (|| {
        let weights = read(path, NetworkRole::Teacher)?;
        let config = weights.vit_config(None)?;
        let mut vit = Vit::new(&config, &mut Init::new(0), &device())?;
        load(&mut vit, "backbone", &weights, LoadOptions::default())?;
        if let Some(head) = weights.head_config() {
            let mut head = Head::new(&head, config.width, &mut Init::new(0), &device())?;
            load(&mut head, "head", &weights, LoadOptions::default())?;
        }
        Ok::<_, dinolab_nn::Error>(())
    })();
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(
        largest < MOST,
        "an allocation of {largest} bytes for {}",
        path.display()
    );
    result.map_err(|error| error.to_string())
}

/// Whole files of every kind, by name.
fn seeds(folder: &Path) -> Vec<PathBuf> {
    let vit = Vit::new(&config(), &mut Init::new(0), &device()).unwrap();
    let backbone = Backbone::new(&vit, &BTreeMap::new(), None);
    let names = [
        "hub.pth",
        "timm.safetensors",
        "full.pth",
        "stem.safetensors",
    ];
    let [pth, timm, full, stem] = names.map(|n| folder.join(n));
    backbone.write_pth(&pth, Naming::Reference).unwrap();
    backbone.write_safetensors(&timm, Naming::Timm).unwrap();
    let (plain, head) = (
        VitConfig {
            registers: 0,
            layer_scale: false,
            ..config()
        },
        HeadConfig {
            out_dim: 6,
            hidden_dim: 5,
            bottleneck_dim: 4,
            ..HeadConfig::default()
        },
    );
    let network = Network::<Head>::new(&plain, &head, 0, &device()).unwrap();
    let state = || {
        let named = arrays(&network, "").into_iter();
        Value::dict(named.map(|(name, array)| (name, Value::Tensor(array))))
    };
    let centre = Array {
        shape: vec![1, 6],
        data: vec![0.5; 6],
    };
    let whole = Value::dict([
        ("student", state()),
        ("teacher", state()),
        ("epoch", Value::Int(70_000)),
        ("args", Value::dict([("num_heads", Value::Int(2))])),
        (
            "dino_loss",
            Value::dict([("center", Value::Tensor(centre))]),
        ),
    ]);
    write_pth(&full, &whole).unwrap();
    let convolutional = VitConfig {
        conv_stem: true,
        ..config()
    };
    let vit = Vit::new(&convolutional, &mut Init::new(0), &device()).unwrap();
    let backbone = Backbone::new(&vit, &BTreeMap::new(), None);
    backbone.write_safetensors(&stem, Naming::Timm).unwrap();
    vec![pth, timm, full, stem]
}

#[test]
fn whole_files_pass() {
    let root = tempfile::tempdir().unwrap();
    for path in seeds(root.path()) {
        use_weights(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn files_cut_off_anywhere_are_errors() {
    let root = tempfile::tempdir().unwrap();
    for path in seeds(root.path()) {
        let whole = fs::read(&path).unwrap();
        let cut = root.path().join("cut");
        for length in (0..whole.len()).step_by(whole.len() / 120 + 1) {
            fs::write(&cut, &whole[..length]).unwrap();
            assert!(use_weights(&cut).is_err(), "{}: {length}", path.display());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn altered_bytes_do_no_harm(
        which in 0usize..3, places in prop::collection::vec((0.0f64..1.0, any::<u8>()), 1..6),
        near_the_ends: bool,
    ) {
        let root = tempfile::tempdir().unwrap();
        let path = &seeds(root.path())[which];
        let mut bytes = fs::read(path).unwrap();
        let len = bytes.len();
        for (place, value) in places {
            // Headers and directories are at the ends; the values between matter less.
            let at = match near_the_ends {
                true if place < 0.5 => (place * 4000.0) as usize,
                true => len - 1 - ((place - 0.5) * 4000.0) as usize,
                false => (place * len as f64) as usize,
            };
            bytes[at.min(len - 1)] = value;
        }
        fs::write(path, bytes).unwrap();
        let _ = use_weights(path);
    }

    /// Headers of safetensors with shapes and offsets of any size.
    #[test]
    fn invented_shapes_do_no_harm(
        dims in prop::collection::vec(
            prop_oneof![0u64..9, Just(1 << 20), Just(1 << 40), any::<u64>()], 1..5),
        name in prop::sample::select(vec![
            "cls_token", "pos_embed", "reg_token", "patch_embed.proj.weight",
            "blocks.0.mlp.fc1.weight", "blocks.0.attn.qkv.weight", "blocks.0.norm1.weight",
            "blocks.0.ls1.gamma", "norm.weight",
        ]),
    ) {
        let root = tempfile::tempdir().unwrap();
        let path = seeds(root.path()).remove(1);
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        // Nobody vouches for the sizes.
        header.as_object_mut().unwrap().remove("__metadata__");
        header[name]["shape"] = serde_json::json!(dims);
        let header = header.to_string().into_bytes();
        let all = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]];
        fs::write(&path, all.concat()).unwrap();
        let _ = use_weights(&path);
    }

    #[test]
    fn altered_configurations_do_no_harm(
        key in prop::sample::select(vec![
            "num_attention_heads", "layer_norm_eps", "hidden_act", "model_type", "image_size",
            "use_swiglu_ffn", "hidden_size", "rope_theta", "pos_embed_rescale",
        ]),
        value in prop_oneof![
            Just(serde_json::json!(null)), Just(serde_json::json!([])),
            Just(serde_json::json!("text")), any::<i64>().prop_map(|n| serde_json::json!(n)),
            any::<f64>().prop_map(|x| serde_json::json!(x)),
            any::<bool>().prop_map(|b| serde_json::json!(b)),
        ],
        cut in 0.0f64..1.3,
    ) {
        let root = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights/hf_dinov2");
        for name in ["model.safetensors", "config.json", "preprocessor_config.json"] {
            fs::copy(from.join(name), root.path().join(name)).unwrap();
        }
        for name in ["config.json", "preprocessor_config.json"] {
            let path = root.path().join(name);
            let mut json: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            json[key] = value.clone();
            if name == "preprocessor_config.json" {
                json["crop_size"] = value.clone();
                json["size"] = value.clone();
                json["image_mean"] = value.clone();
            }
            let text = json.to_string();
            let length = ((cut * text.len() as f64) as usize).min(text.len());
            fs::write(&path, &text.as_bytes()[..length]).unwrap();
        }
        let _ = use_weights(root.path());
    }
}

/// A tensor of `shape` with strides of 0: a pickle of a few bytes that claims any number.
fn repeated(shape: &[i32]) -> Vec<u8> {
    let ints = |values: &[i32]| -> Vec<u8> {
        let items: Vec<u8> = values
            .iter()
            .flat_map(|n| [&b"J"[..], &n.to_le_bytes()].concat())
            .collect();
        [b"(", &items[..], b"t"].concat()
    };
    let storage = [
        &b"("[..],
        &pickle::text("storage"),
        &pickle::global("torch", "FloatStorage"),
        &pickle::text("0"),
        &pickle::text("cpu"),
        b"K\x01tQ",
    ]
    .concat();
    let hooks = [&pickle::global("collections", "OrderedDict")[..], b")R"].concat();
    let strides = vec![0; shape.len()];
    pickle::reduce(
        pickle::global("torch._utils", "_rebuild_tensor_v2"),
        &[
            storage,
            b"K\0".to_vec(),
            ints(shape),
            ints(&strides),
            vec![0x89],
            hooks,
        ],
    )
}

#[test]
fn small_files_cannot_claim_large_networks() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("large.pth");
    let refuse = |body: &[u8]| {
        fs::write(&path, pth(&pickle::whole(body), &floats(&[1.0]))).unwrap();
        let told = use_weights(&path).unwrap_err();
        assert!(told.contains("large.pth"), "{told}");
        told
    };
    // Within the reader's own limit of some gigabytes.
    let told = refuse(&pickle::dict(&[("cls_token", repeated(&[1, 1, 1 << 29]))]));
    assert!(told.contains("claims more"), "{told}");
    let many: Vec<(String, Vec<u8>)> = (0..200)
        .map(|i| (format!("blocks.{i}.norm1.weight"), repeated(&[1 << 10])))
        .collect();
    let many: Vec<(&str, Vec<u8>)> = many.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    refuse(&pickle::dict(&many));

    // Many blocks of which only the first tensor is there: the network would be far larger than
    // the file.
    let vit = Vit::new(&config(), &mut Init::new(0), &device()).unwrap();
    let mut some = arrays(&vit, "");
    for i in 2..20_000 {
        let one = Array {
            shape: vec![1],
            data: vec![1.0],
        };
        some.insert(format!("blocks.{i}.norm1.weight"), one);
    }
    let path = root.path().join("blocks.safetensors");
    fs::write(&path, to_bytes(&some, &BTreeMap::new()).unwrap()).unwrap();
    let told = use_weights(&path).unwrap_err();
    assert!(told.contains("blocks.2."), "{told}");

    // Metadata that says more than the tensors.
    let lie = VitConfig {
        width: 1 << 40,
        ..config()
    };
    let facts = BTreeMap::from([("vit".to_owned(), serde_json::to_string(&lie).unwrap())]);
    fs::write(&path, to_bytes(&arrays(&vit, ""), &facts).unwrap()).unwrap();
    let told = use_weights(&path).unwrap_err();
    assert!(told.contains("does not fit"), "{told}");
}

/// Calls hidden anywhere, in what looks like a reference checkpoint.
#[test]
fn calls_are_never_made_wherever_they_hide() {
    let root = tempfile::tempdir().unwrap();
    let (path, trace) = (root.path().join("evil.pth"), root.path().join("trace"));
    let command = format!("touch {}", trace.display());
    let tensor = || pickle::tensor("0", "FloatStorage", 1);
    for (module, name) in [("os", "system"), ("builtins", "eval"), ("builtins", "exec")] {
        let call = || pickle::reduce(pickle::global(module, name), &[pickle::text(&command)]);
        let nested = || {
            let inner = pickle::dict(&[("a", [&b"]("[..], &call(), b"e"].concat())]);
            pickle::dict(&[("deep", pickle::dict(&[("deeper", inner)]))])
        };
        // An object whose state is set by a call, as a namespace is built.
        let built = || {
            let class = pickle::global("argparse", "Namespace");
            let state = pickle::dict(&[("arch", call())]);
            [&class[..], b")\x81", &state, b"b"].concat()
        };
        for (what, args) in [("nested", nested()), ("built", built()), ("alone", call())] {
            let body = pickle::dict(&[
                ("teacher", pickle::dict(&[("backbone.cls_token", tensor())])),
                ("args", args),
            ]);
            fs::write(&path, pth(&pickle::whole(&body), &floats(&[1.0]))).unwrap();
            // The network is read; what cannot be without a call is left out.
            let weights =
                read(&path, NetworkRole::Teacher).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(weights.arrays.len(), 1);
            assert!(
                weights
                    .metadata
                    .values()
                    .all(|fact| !fact.contains("touch"))
            );
        }
        // As a tensor's own part it cannot be left out.
        let hooks = call();
        let bad = pickle::reduce(
            pickle::global("torch._utils", "_rebuild_tensor_v2"),
            &[hooks],
        );
        let body = pickle::dict(&[("teacher", pickle::dict(&[("backbone.cls_token", bad)]))]);
        fs::write(&path, pth(&pickle::whole(&body), &floats(&[1.0]))).unwrap();
        let told = use_weights(&path).unwrap_err();
        assert!(told.contains("evil.pth"), "{told}");
        assert!(!trace.exists(), "{module}.{name} was executed");
    }
}

/// `torch.save` ends archives twice over; for one length of name its first entry used to mislead
/// the reader of archives.
#[test]
fn names_of_any_length_are_read() {
    let root = tempfile::tempdir().unwrap();
    let tensor = pickle::tensor("0", "FloatStorage", 3);
    let body = pickle::whole(&pickle::dict(&[("cls_token", tensor)]));
    for length in 1..60 {
        let name = "n".repeat(length);
        let entry = |what: &str| format!("{name}/{what}");
        let (pickle, storage) = (entry("data.pkl"), entry("data/0"));
        let values = floats(&[1.0, 2.0, 3.0]);
        let plain = files::zip(&[(&pickle, &body), (&storage, &values)]);
        // The records of large archives between the directory and its short end.
        let end = plain.len() - 22;
        let number = |at: usize| u32::from_le_bytes(plain[at..at + 4].try_into().unwrap());
        let (size, start) = (u64::from(number(end + 12)), u64::from(number(end + 16)));
        let long = [
            &b"PK\x06\x06"[..],
            &44u64.to_le_bytes(),
            &[0x1E, 3, 0x2D, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &2u64.to_le_bytes(),
            &2u64.to_le_bytes(),
            &size.to_le_bytes(),
            &start.to_le_bytes(),
            b"PK\x06\x07\0\0\0\0",
            &(end as u64).to_le_bytes(),
            &1u32.to_le_bytes(),
        ];
        let path = root.path().join("w.pth");
        fs::write(
            &path,
            [&plain[..end], &long.concat(), &plain[end..]].concat(),
        )
        .unwrap();
        let weights = read(&path, NetworkRole::Teacher).unwrap_or_else(|e| panic!("{length}: {e}"));
        let array = &weights.arrays["backbone.cls_token"];
        assert_eq!(array.data, [1.0, 2.0, 3.0], "{length}");
    }
}

/// Weights as people's training runs leave them: values that are no numbers, in one of many tensors.
#[test]
fn values_that_are_no_numbers_are_named() {
    let root = tempfile::tempdir().unwrap();
    let network = Network::<Head>::new(
        &VitConfig {
            registers: 0,
            layer_scale: false,
            ..config()
        },
        &HeadConfig {
            out_dim: 6,
            hidden_dim: 5,
            bottleneck_dim: 4,
            ..HeadConfig::default()
        },
        0,
        &device(),
    )
    .unwrap();
    let sound = arrays(&network, "");
    let with = |name: &str, place: usize, value: f32| {
        let mut all = sound.clone();
        all.get_mut(name).unwrap().data[place] = value;
        all
    };
    let state = |all: &BTreeMap<String, Array>| {
        let named = all
            .iter()
            .map(|(k, v)| (k.clone(), Value::Tensor(v.clone())));
        Value::dict(named)
    };
    let safe = root.path().join("w.safetensors");
    let torch = root.path().join("w.pth");
    let both = |all: &BTreeMap<String, Array>| {
        fs::write(&safe, to_bytes(all, &BTreeMap::new()).unwrap()).unwrap();
        write_pth(&torch, &Value::dict([("model", state(all))])).unwrap();
        [&safe, &torch].map(|path| {
            use_weights(path).map_err(|told| {
                assert!(told.starts_with(&path.display().to_string()), "{told}");
                told
            })
        })
    };
    for read in both(&sound) {
        read.unwrap();
    }
    // A matrix's place has two numbers; biases, the head and positions are looked at too.
    for (name, place, value, told) in [
        (
            "backbone.blocks.1.mlp.fc2.weight",
            2 * 32 + 5,
            f32::NAN,
            "NaN at [2, 5]",
        ),
        ("backbone.norm.bias", 7, f32::INFINITY, "inf at [7]"),
        (
            "backbone.pos_embed",
            8,
            f32::NEG_INFINITY,
            "-inf at [0, 1, 0]",
        ),
        ("head.last_layer.weight_v", 0, f32::NAN, "NaN at [0, 0]"),
    ] {
        for read in both(&with(name, place, value)) {
            let error = read.unwrap_err();
            let all = format!("{name} has 1 of {} values", sound[name].data.len());
            assert!(error.contains(&all) && error.contains(told), "{error}");
        }
    }
    // Of a whole checkpoint only what is used: the teacher and the centre.
    let checkpoint = |student: &BTreeMap<String, Array>, teacher: &_, centre: f32| {
        let centre = Array {
            shape: vec![1, 6],
            data: vec![0.0, 0.0, centre, 0.0, 0.0, 0.0],
        };
        let value = Value::dict([
            ("student", state(student)),
            ("teacher", state(teacher)),
            (
                "dino_loss",
                Value::dict([("center", Value::Tensor(centre))]),
            ),
        ]);
        write_pth(&torch, &value).unwrap();
        use_weights(&torch)
    };
    let broken = with("backbone.cls_token", 3, f32::NAN);
    checkpoint(&broken, &sound, 0.5).unwrap();
    let told = checkpoint(&sound, &broken, 0.5).unwrap_err();
    assert!(told.contains("teacher.backbone.cls_token"), "{told}");
    let told = checkpoint(&sound, &sound, f32::NAN).unwrap_err();
    assert!(
        told.contains("dino_loss.center") && told.contains("[0, 2]"),
        "{told}"
    );
}

/// Numbers that are finite in the file, and not in the precision that is computed in.
#[test]
fn doubles_that_are_too_large_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("double.pth");
    let doubles: Vec<u8> = [1.0, 1e300, -1e300]
        .iter()
        .flat_map(|v: &f64| v.to_le_bytes())
        .collect();
    let body = pickle::dict(&[("cls_token", pickle::tensor("0", "DoubleStorage", 3))]);
    fs::write(&path, pth(&pickle::whole(&body), &doubles)).unwrap();
    let told = read(&path, NetworkRole::Teacher).unwrap_err().to_string();
    assert!(
        told.contains("cls_token has 2 of 3") && told.contains("inf"),
        "{told}"
    );
    // And half precision's own infinity.
    let halves: Vec<u8> = [0x3C00u16, 0x7C00, 0x7E00]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let body = pickle::dict(&[("cls_token", pickle::tensor("0", "HalfStorage", 3))]);
    fs::write(&path, pth(&pickle::whole(&body), &halves)).unwrap();
    let told = read(&path, NetworkRole::Teacher).unwrap_err().to_string();
    assert!(told.contains("cls_token has 2 of 3"), "{told}");
}

/// A file of 64 GB that takes no room on the disk, and begins as weights do.
#[test]
fn large_files_are_not_read_to_be_refused() {
    let root = tempfile::tempdir().unwrap();
    for seed in seeds(root.path()) {
        let file = fs::OpenOptions::new().write(true).open(&seed).unwrap();
        file.set_len(1 << 36).unwrap();
        use_weights(&seed).unwrap_err();
    }
}

//! Weight files and the configurations beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dinolab_nn::init::Init;
use dinolab_nn::weights::{
    Backbone, LoadOptions, Naming, NetworkRole, Value, arrays, load, read, write_pth,
};
use dinolab_nn::{Head, HeadConfig, Network, ProjectionHead, Vit, VitConfig, device};

/// Any bytes as a weight file, or as a configuration beside one: reads it, finds the sizes, and
/// makes and loads the networks. The first byte says which.
///
/// It must return, whatever the bytes are.
pub fn read_and_load(data: &[u8]) {
    let Some((kind, content)) = data.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path();
    match kind % 4 {
        0 | 1 => fs::write(path.join("model.safetensors"), content),
        kind => {
            seed(path, &path.join("model.safetensors"), 2);
            let name = if kind == 2 {
                "config.json"
            } else {
                "preprocessor_config.json"
            };
            fs::write(path.join(name), content)
        }
    }
    .expect("a file in it");
    let _ = use_weights(path);
}

fn use_weights(path: &Path) -> dinolab_nn::Result<()> {
    let device = device::by_name("cpu")?;
    for which in [NetworkRole::Teacher, NetworkRole::Student] {
        let weights = read(path, which)?;
        let config = weights.vit_config(None)?;
        let mut vit = Vit::new(&config, &mut Init::new(0), &device)?;
        load(&mut vit, "backbone", &weights, LoadOptions::default())?;
        if let Some(head) = weights.head_config() {
            let mut head = Head::new(&head, config.width, &mut Init::new(0), &device)?;
            load(&mut head, "head", &weights, LoadOptions::default())?;
        }
    }
    Ok(())
}

/// Whole inputs of [`read_and_load`]: a `.pth` of a backbone, one of a training checkpoint, a
/// safetensors file of Hugging Face's with its two configurations.
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path();
    let mut seeds = Vec::new();
    for which in 0..3 {
        let file = path.join("model.safetensors");
        seed(path, &file, which);
        seeds.push([vec![0], fs::read(&file).expect("just written")].concat());
    }
    for (kind, name) in [(2, "config.json"), (3, "preprocessor_config.json")] {
        seeds.push([vec![kind], fs::read(path.join(name)).expect("just written")].concat());
    }
    seeds
}

fn seed(folder: &Path, file: &Path, which: usize) {
    let plain = VitConfig {
        image_size: 4,
        patch_size: 2,
        width: 4,
        depth: 1,
        heads: 1,
        ..VitConfig::default()
    };
    let config = VitConfig {
        registers: 1,
        layer_scale: true,
        ..plain.clone()
    };
    let device = device::by_name("cpu").expect("every machine has one");
    let vit = Vit::new(&config, &mut Init::new(0), &device).expect("sizes that fit");
    let backbone = Backbone::new(&vit, &BTreeMap::new(), None);
    let head = HeadConfig {
        out_dim: 3,
        hidden_dim: 4,
        bottleneck_dim: 2,
        ..HeadConfig::default()
    };
    match which {
        0 => backbone.write_pth(file, Naming::Reference),
        1 => {
            let network: Network<Head> =
                Network::new(&plain, &head, 0, &device).expect("sizes that fit");
            let state = || {
                let named = arrays(&network, "").into_iter();
                Value::dict(named.map(|(name, array)| (name, Value::Tensor(array))))
            };
            let args = Value::dict([("num_heads", Value::Int(1))]);
            let whole = [("student", state()), ("teacher", state()), ("args", args)];
            write_pth(file, &Value::dict(whole))
        }
        _ => {
            let kind = dinolab_nn::weights::Kind::Dinov2WithRegisters;
            backbone.write_folder(folder, Naming::HuggingFace(kind))
        }
    }
    .expect("a folder to write to");
}

//! Training from the command line to the files of the run folder.

use crate::common;
use std::fs;
use std::path::Path;

use crate::common::{
    Train, assert_same, checkpoint_steps, figures, metrics, of_kind, picture, pictures, program,
    relative, tensors, text,
};

#[test]
fn a_run_writes_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let said = Train::tiny(&run)
        .with("eval-every", 2)
        .with("saveckp-freq", 1)
        .succeed();
    assert!(
        said.contains("32 images of the built-in shapes set"),
        "{said}"
    );
    assert!(said.contains("report.html"), "{said}");
    assert!(
        said.contains("k-NN accuracy") && said.contains("attention Jaccard"),
        "{said}"
    );

    // 32 images in batches of 8: four steps an epoch, three epochs.
    let steps: Vec<f64> = (1..=12).map(f64::from).collect();
    assert_eq!(figures(&run, "train", "step"), steps);
    assert_eq!(figures(&run, "epoch", "step"), [4.0, 8.0, 12.0]);
    // Untrained, after every second epoch, and at the end.
    assert_eq!(figures(&run, "evaluation", "epochs"), [0.0, 2.0, 3.0]);
    for line in metrics(&run) {
        for (key, value) in &line {
            assert!(
                !value.is_null() || key.contains("grad_norm"),
                "{key} of {line:?}"
            );
        }
    }
    let rates = figures(&run, "train", "lr");
    assert_eq!(rates[0], 0.0, "the first step of the warm-up");
    assert!(
        figures(&run, "train", "loss")
            .iter()
            .all(|loss| loss.is_finite() && *loss > 0.0)
    );

    assert_eq!(
        checkpoint_steps(&run),
        [12, 8, 4],
        "saveckp-freq 1 keeps every epoch's"
    );
    let latest = fs::read_to_string(run.join("checkpoints/latest")).unwrap();
    assert_eq!(latest, "step-000000012.safetensors");
    for epochs in [0, 2, 3] {
        let sheet =
            image::open(run.join(format!("pictures/attention-epoch-{epochs:04}.png"))).unwrap();
        assert!(sheet.width() > sheet.height() / 2 && sheet.height() >= 128);
    }
    let config: toml::Table = fs::read_to_string(run.join("config.toml"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(config["out-dim"].as_integer(), Some(32));
    assert_eq!(
        config["warmup-epochs"].as_float(),
        Some(1.0),
        "the recipe of the shapes set"
    );
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert_eq!(report.matches("data:image/png;base64,").count(), 3);
    assert!(report.contains("<svg") && report.contains("teacher"));
    for outside in ["src=\"http", "href=\"http", "<script src"] {
        assert!(
            !report.contains(outside),
            "the report needs nothing from elsewhere"
        );
    }
    assert!(
        !run.join("skipped.tsv").exists(),
        "every image could be used"
    );
}

#[test]
fn the_network_learns_and_the_teacher_follows() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    Train::tiny(&run)
        .with("saveckp-freq", 1)
        .with("momentum-teacher", 0.9)
        .succeed();
    let last = tensors(&run);
    let first = run.join("checkpoints/step-000000004.safetensors");
    let (first, _) = dinolab_nn::weights::file_arrays(&first, &fs::read(&first).unwrap()).unwrap();
    let moved = |who: &str| {
        let name = format!("{who}.backbone.blocks.0.attn.qkv.weight");
        relative(&last[&name].data, &first[&name].data)
    };
    assert!(moved("student") > 0.0);
    assert!(moved("teacher") > 0.0 && moved("teacher") < moved("student"));
    // The prototypes are frozen during the first epoch, and their lengths for good. The
    // teacher's are an average of equal values, which rounding alone moves.
    let [student, teacher] =
        ["student", "teacher"].map(|who| format!("{who}.head.last_layer.weight_v"));
    assert!(relative(&first[&teacher].data, &first[&student].data) < 1e-6);
    assert!(relative(&last[&student].data, &first[&student].data) > 1e-4);
    assert!(
        !first.contains_key("optimiser.0.head.last_layer.weight_v"),
        "not even its moments"
    );
    assert!(last.contains_key("optimiser.0.head.last_layer.weight_v"));
    let lengths = &last["student.head.last_layer.weight_g"].data;
    assert!(lengths.iter().all(|&g| g == 1.0));
    assert!(last["centre"].data.iter().any(|&c| c != 0.0));
}

#[test]
fn a_recorded_configuration_gives_the_same_run() {
    let root = tempfile::tempdir().unwrap();
    let (a, b, c) = (
        root.path().join("a"),
        root.path().join("b"),
        root.path().join("c"),
    );
    Train::tiny(&a)
        .with("eval-every", 3)
        .with("seed", 5)
        .succeed();
    let again = |out: &Path| Train::bare(out).with("config", a.join("config.toml").display());
    again(&b).succeed();
    assert_same(&a, &b);
    let read = |run: &Path| fs::read_to_string(run.join("config.toml")).unwrap();
    assert_eq!(read(&a), read(&b));
    // A flag overrides the file.
    again(&c).with("seed", 6).succeed();
    assert_ne!(figures(&a, "train", "loss"), figures(&c, "train", "loss"));
    let config: toml::Table = read(&c).parse().unwrap();
    assert_eq!(config["seed"].as_integer(), Some(6));
    assert_eq!(config["width"].as_integer(), Some(32));
}

/// Large enough that every operation has work for several threads.
fn wide(out: &Path) -> Train {
    Train::tiny(out)
        .with("width", 96)
        .with("heads", 3)
        .with("global-crops-size", 64)
        .with("local-crops-size", 32)
        .with("local-crops-number", 4)
        .with("head-hidden-dim", 256)
        .with("head-bottleneck-dim", 64)
        .with("out-dim", 2048)
        .with("batch-size", 16)
        .with("shapes-images", 48)
        .with("epochs", 2)
}

#[test]
fn threads_change_nothing() {
    for (name, settings) in [("tiny", Train::tiny as fn(&Path) -> Train), ("wide", wide)] {
        let root = tempfile::tempdir().unwrap();
        let runs = ["one", "two", "three"].map(|run| root.path().join(run));
        // Evaluation runs on threads too.
        let run = |out: &Path| settings(out).with("eval-every", if name == "tiny" { 3 } else { 0 });
        run(&runs[0]).threads(1).with("num-workers", 1).succeed();
        run(&runs[1]).threads(2).with("num-workers", 3).succeed();
        run(&runs[2])
            .threads(3)
            .with("num-workers", 2)
            .with("cache-mb", 0)
            .succeed();
        assert_same(&runs[0], &runs[1]);
        assert_same(&runs[0], &runs[2]);
    }
}

#[test]
fn accumulated_micro_batches_follow_the_large_batch() {
    let root = tempfile::tempdir().unwrap();
    let (whole, halves, quarters) = (
        root.path().join("whole"),
        root.path().join("halves"),
        root.path().join("quarters"),
    );
    let run = |out: &Path| {
        Train::tiny(out)
            .with("drop-path-rate", 0.2)
            .with("clip-grad", 0.3)
    };
    run(&whole).succeed();
    run(&halves)
        .with("batch-size", 4)
        .with("accumulate", 2)
        .succeed();
    run(&quarters)
        .with("batch-size", 2)
        .with("accumulate", 4)
        .succeed();
    let losses = |run: &Path| figures(run, "train", "loss");
    let expected = losses(&whole);
    for parts in [&halves, &quarters] {
        let found = losses(parts);
        assert_eq!(found.len(), expected.len(), "as many steps");
        for (step, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!((a - b).abs() < 1e-3, "step {step}: {a} {b}");
        }
        assert_eq!(
            figures(parts, "train", "lr"),
            figures(&whole, "train", "lr")
        );
        let (ours, theirs) = (tensors(parts), tensors(&whole));
        assert!(relative(&ours["centre"].data, &theirs["centre"].data) < 1e-3);
        let name = "teacher.backbone.blocks.1.mlp.fc1.weight";
        assert!(relative(&ours[name].data, &theirs[name].data) < 1e-3);
    }
    // The draws of stochastic depth were part of it.
    let without = root.path().join("without");
    run(&without).with("drop-path-rate", 0).succeed();
    let last = |run: &Path| *losses(run).last().unwrap();
    assert!(
        (last(&without) - last(&whole)).abs() > 1e-3,
        "dropping paths shows in the loss"
    );
}

#[test]
fn a_fraction_of_an_epoch_is_a_run() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    Train::tiny(&run)
        .with("epochs", 0.5)
        .with("eval-every", 1)
        .succeed();
    assert_eq!(figures(&run, "train", "step"), [1.0, 2.0]);
    assert_eq!(
        figures(&run, "epoch", "step"),
        [2.0],
        "what there was of the epoch is summed up"
    );
    assert_eq!(figures(&run, "evaluation", "step"), [0.0, 2.0]);
    assert_eq!(checkpoint_steps(&run), [2]);
    // The same command finds nothing left to do and changes nothing.
    let before = (metrics(&run), tensors(&run));
    Train::tiny(&run)
        .with("epochs", 0.5)
        .with("eval-every", 1)
        .succeed();
    assert_eq!((metrics(&run), tensors(&run)), before);
    // Less than a step is one step.
    let short = root.path().join("short");
    Train::tiny(&short).with("epochs", 0.001).succeed();
    assert_eq!(figures(&short, "train", "step"), [1.0]);
}

#[test]
fn a_planned_stop_keeps_the_schedules() {
    let root = tempfile::tempdir().unwrap();
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    Train::tiny(&whole).succeed();
    // In the middle of an epoch, at the end of one, then on to the end.
    for (epochs, steps) in [(0.75, 3), (2.0, 8), (0.0, 12)] {
        Train::tiny(&parts)
            .with("stop-after-epochs", epochs)
            .succeed();
        assert_eq!(checkpoint_steps(&parts)[0], steps);
    }
    assert_same(&whole, &parts);
}

#[test]
fn few_images_make_a_smaller_batch() {
    let root = tempfile::tempdir().unwrap();
    for count in [5, 1] {
        let (folder, run) = (
            root.path().join(format!("{count}")),
            root.path().join(format!("run-{count}")),
        );
        pictures(&folder, count);
        let said = Train::tiny(&run)
            .on(&folder)
            .without("shapes-images")
            .succeed();
        assert!(
            said.contains(&format!("--batch-size {count} (instead of 8")),
            "{said}"
        );
        assert_eq!(
            figures(&run, "train", "step"),
            [1.0, 2.0, 3.0],
            "one step an epoch"
        );
        assert!(of_kind(&run, "evaluation").is_empty());
    }
    // More micro-batches than images cannot be helped, and is said.
    let error = Train::tiny(&root.path().join("run-a"))
        .on(&root.path().join("5"))
        .with("accumulate", 2)
        .fail();
    assert!(
        error.contains("accumulate") && error.contains("only 5"),
        "{error}"
    );
}

#[test]
fn training_starts_from_given_weights() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (root.path().join("first"), root.path().join("second"));
    Train::tiny(&first).succeed();
    let said = Train::tiny(&second)
        .with("weights", first.display())
        .with("seed", 9)
        .with("lr", 0)
        .with("min-lr", 0)
        .with("epochs", 1)
        .succeed();
    assert!(said.contains("loaded"), "{said}");
    let (given, kept) = (tensors(&first), tensors(&second));
    // Nothing moves at a learning rate of 0: what is there is what was given, for both.
    for (name, array) in given
        .iter()
        .filter(|(name, _)| name.starts_with("teacher."))
    {
        assert!(relative(&kept[name].data, &array.data) < 1e-6, "{name}");
        let student = name.replace("teacher.", "student.");
        assert!(
            relative(&kept[&student].data, &array.data) < 1e-6,
            "{student}"
        );
    }
    let other = Train::tiny(&root.path().join("other"));
    let error = other
        .clone()
        .with("weights", first.display())
        .with("width", 64)
        .fail();
    assert!(
        error.contains("--weights") && error.contains("shape"),
        "{error}"
    );
    // Another trained size needs a flag, which is named.
    let error = other
        .clone()
        .with("weights", first.display())
        .with("image-size", 48)
        .fail();
    assert!(error.contains("--resize-pos-embed"), "{error}");
    let said = other
        .with("weights", first.display())
        .with("image-size", 48)
        .with("resize-pos-embed", true)
        .with("epochs", 0.25)
        .succeed();
    assert!(said.contains("resized"), "{said}");
}

#[test]
fn every_optimiser_trains() {
    let root = tempfile::tempdir().unwrap();
    let losses = ["adamw", "sgd", "lars", "muon"].map(|optimiser| {
        let run = root.path().join(optimiser);
        Train::tiny(&run)
            .with("optimizer", optimiser)
            .with("epochs", 2)
            .succeed();
        figures(&run, "train", "loss")
    });
    // The first step's rate is 0, so they part after the second.
    for pair in losses.windows(2) {
        assert_eq!(pair[0][..2], pair[1][..2]);
        assert_ne!(pair[0].last(), pair[1].last());
    }
}

#[test]
fn labelled_images_are_held_out_and_judged() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    // Two classes that differ in brightness alone: trivial to tell apart.
    for i in 0..24u8 {
        let (class, level) = if i % 2 == 0 {
            ("dark", 10 + i)
        } else {
            ("light", 220 + i)
        };
        let path = folder.join(class).join(format!("{i}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(40, 40, image::Rgb([level, level, level]))
            .save(path)
            .unwrap();
    }
    let said = Train::tiny(&run)
        .on(&folder)
        .with("holdout", 0.25)
        .with("eval-every", 1)
        .with("knn-k", 3)
        .with("epochs", 1)
        .succeed();
    assert!(said.contains("6 of them held out"), "{said}");
    let accuracy = figures(&run, "evaluation", "knn");
    assert_eq!(accuracy, [100.0, 100.0], "{accuracy:?}");

    let judge = |extra: &[&str]| {
        let mut command = program();
        command
            .args(["eval", "knn", "--k", "3,5", "--weights"])
            .arg(&run);
        command
            .arg("--train")
            .arg(&folder)
            .arg("--val")
            .arg(&folder)
            .args(extra);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let found: serde_json::Value = serde_json::from_str(&judge(&["--json"])).unwrap();
    assert_eq!(found["knn"][0]["k"], 3);
    assert_eq!(found["knn"][0]["top1"], 100.0);
    assert_eq!(found["knn"].as_array().unwrap().len(), 2);
    assert!(judge(&[]).contains("100.00"));
}

#[test]
fn embed_of_a_run_prepares_images_as_the_run_did() {
    let root = tempfile::tempdir().unwrap();
    let (folder, run) = (root.path().join("images"), root.path().join("run"));
    pictures(&folder, 3);
    picture(&folder.join("deep/er/one.png"), 40, 9);
    Train::tiny(&run).on(&folder).with("epochs", 1).succeed();
    let embed = |weights: &Path, key: &str| {
        let out = root.path().join(format!("{key}.npy"));
        let mut command = program();
        command
            .arg("embed")
            .arg("--weights")
            .arg(weights)
            .args(["--checkpoint-key", key]);
        let output = command
            .arg(&folder)
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        dinolab_run::npy::read_npy_f32(&out).unwrap()
    };
    let teacher = embed(&run, "teacher");
    assert_eq!(teacher.shape, [4, 32]);
    assert_eq!(
        embed(&common::newest(&run), "teacher"),
        teacher,
        "the folder or its checkpoint"
    );
    assert_ne!(embed(&run, "student"), teacher);

    // The same, by hand: the run's crop is the global crops' 32, its resize 8/7 of that.
    let weights = dinolab_nn::weights::read(&common::newest(&run), None).unwrap();
    let device = dinolab_nn::device::by_name("cpu").unwrap();
    let config = weights.vit_config(None).unwrap();
    assert_eq!(
        (config.heads, config.image_size),
        (2, 32),
        "as the checkpoint says, not by width"
    );
    let mut vit =
        dinolab_nn::Vit::new(&config, &mut dinolab_nn::init::Init::new(0), &device).unwrap();
    dinolab_nn::weights::load(&mut vit, "backbone", &weights, Default::default()).unwrap();
    let source = dinolab_data::source::open(&folder, &Default::default()).unwrap();
    let preprocess = dinolab_features::Preprocess {
        resize: 37.into(),
        crop: 32.into(),
        ..Default::default()
    };
    let by_hand = dinolab_features::embed(
        &vit,
        dinolab_nn::Feature::Class,
        &*source,
        &[0, 1, 2, 3],
        &preprocess,
        4,
        &mut |_| {},
    )
    .unwrap();
    assert!(relative(&teacher.data, &by_hand.data) < 1e-6);
}

//! What the program's messages advise works when it is done.
//!
//! The messages are collected from the source: a new one that names a flag fails the first test
//! until it is tried here, or in a test that is named here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Train, picture, pictures, program, text};
use dinolab_nn::weights::{file_arrays, to_bytes};
use dinolab_run::npy::write_npy_f32;
use dinolab_train::checkpoint::list;

/// Where the advice of a message is carried out.
enum Tried {
    /// In [`advice_works_when_followed`].
    Here,
    /// In another file by another test.
    In(&'static str, &'static str),
    /// Says what flags there are, or what goes wrong, and nothing to do.
    NoAdvice,
}

use Tried::{Here, In, NoAdvice};

/// A part of each message that names a flag.
const MESSAGES: &[(&str, Tried)] = &[
    (
        "allow more with --max-unusable-percent",
        In("folder", "too_many_unusable_images_end_the_run"),
    ),
    (
        "with --resize-pos-embed true",
        In("training", "training_starts_from_given_weights"),
    ),
    ("give the number of their channels with --in-chans", Here),
    ("give a lower --lr", In("exit_codes", "divergence_is_3")),
    (
        "make one with dinolab eval linear",
        In(
            "exit_codes",
            "a_file_that_is_no_classifier_is_followed_by_one",
        ),
    ),
    ("takes a --threshold", Here),
    (
        "(--allow-other-weights uses these all the same)",
        In("linear", "what_does_not_fit_is_refused_in_one_line"),
    ),
    ("cannot read --weights", NoAdvice),
    ("keeps its --image-size", NoAdvice),
    ("outputs of an .onnx file", NoAdvice),
    (
        "without --full, its weights",
        In(
            "convert",
            "a_run_becomes_a_checkpoint_of_the_reference_and_comes_back",
        ),
    ),
    (
        "without --full, the weights are written",
        In(
            "conv_stem",
            "weights_are_written_where_a_format_has_the_stem",
        ),
    ),
    (
        "(--image-size resamples them once, here)",
        In("convert", "what_a_format_cannot_say_is_said"),
    ),
    ("has only one format, and cannot be", NoAdvice),
    ("--resize-pos-embed true resamples them", Here),
    ("(see --match-prefix, or list pairs in a .tsv)", Here),
    ("--mean {} --std {}", NoAdvice),
    (
        "(--augment for random views)",
        In(
            "linear",
            "random_views_change_with_the_epoch_and_repeat_with_the_seed",
        ),
    ),
    ("give labelled images, --train and --val", Here),
    ("name the benchmark's images with --image-folder", Here),
    ("or give --mean and --std", Here),
    ("channels as stored: --mean", NoAdvice),
    ("start from others or leave --weights out", Here),
    ("--crops-scale, --crop", NoAdvice),
    ("give a VOC tree instead of --train and --val", NoAdvice),
    ("start from them with --weights", Here),
    (
        "belongs to transformers; leave it out or give --arch custom",
        In("conv_stem", "networks_without_it_refuse_it"),
    ),
    ("holds a run with another", Here),
    (
        "--index chooses another file",
        In("results", "an_index_that_is_not_kept_is_not_named"),
    ),
    ("--video takes the images of a folder for one", Here),
    ("--heads sets another number", Here),
    ("use --arch custom for other sizes", Here),
    ("needs --width and --depth", Here),
    (
        "--time 8h chooses a run of 8 hours, --recipe paper",
        In(
            "budget",
            "a_folder_on_a_processor_gets_the_small_recipe_and_says_how_long_that_takes",
        ),
    ),
    (
        "chooses --epochs, which are given too",
        In(
            "budget",
            "times_that_make_no_run_are_refused_with_one_that_does",
        ),
    ),
    (
        "leave it out or give --method",
        In(
            "budget",
            "a_folder_on_a_processor_gets_the_small_recipe_and_says_how_long_that_takes",
        ),
    ),
    (
        "give --evaluated average",
        In("simdino", "an_average_is_evaluated_in_place_of_the_teacher"),
    ),
    ("for images taken as stored", NoAdvice),
    ("use --pixels stored", Here),
    ("numbers for --in-chans", NoAdvice),
    ("use one or the other", Here),
    ("--in-chans and --pixels need IMAGES", Here),
    ("(--holdout 0 trains on all)", Here),
    (
        "use the file with --mean and --std",
        In(
            "weights",
            "a_network_of_one_channel_is_used_by_the_numbers_that_are_asked_for",
        ),
    ),
    (
        "--mean and --std write it into the output",
        In(
            "weights",
            "a_network_of_one_channel_is_used_by_the_numbers_that_are_asked_for",
        ),
    ),
    (
        "needs --std too",
        In(
            "weights",
            "a_network_of_one_channel_is_used_by_the_numbers_that_are_asked_for",
        ),
    ),
    (
        "needs --mean too",
        In(
            "weights",
            "a_network_of_one_channel_is_used_by_the_numbers_that_are_asked_for",
        ),
    ),
    ("--mean, --std", NoAdvice),
    (
        "with --whole, images of different sizes go to a file that ends in .safetensors, or to --format parquet",
        In("weights", "patch_tokens_are_written_as_they_are_asked_for"),
    ),
    (
        "--size HEIGHTxWIDTH instead of --whole",
        In("weights", "strips_are_left_out_with_advice_that_helps"),
    ),
    (
        "--size HEIGHTxWIDTH, such as --size 480x480",
        In("weights", "strips_are_left_out_with_advice_that_helps"),
    ),
    ("choose by --checkpoint-key", Here),
    (
        "continue with the file",
        In("data", "without_https_the_commands_are_named"),
    ),
    (
        "adapts weights that there are; give them with --weights",
        In("adapt", "what_adapts_no_weights_is_refused"),
    ),
    (
        "needs --teacher-weights",
        In("distill", "what_it_does_not_have_is_refused_by_name"),
    ),
    ("leave --resume out to begin a run", Here),
    (
        "use the file with --feature",
        In("feature", "exported_weights_know_their_feature"),
    ),
    (
        "the last block's feature, without --n-last-blocks and --avgpool-patchtokens",
        In("retrieval", "revisited_protocol_with_boxes_and_scales"),
    ),
    ("{error}; give another --out", NoAdvice),
    // Of another program.
    ("{model} --revision {}", NoAdvice),
    (
        "wait until it ends, stop it, or give another --out",
        In(
            "in_use",
            "a_second_process_is_refused_and_a_dead_one_does_not_block",
        ),
    ),
    ("holds a run that started from other --weights", Here),
    // Only in builds that have Parquet.
    (
        "another --feature",
        In("parts", "another_set_or_network_is_refused"),
    ),
    (
        "put them back to resume it",
        In("same_set", "a_changed_set_is_told_and_refused"),
    ),
];

#[test]
fn every_message_that_names_a_flag_is_tried() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = vec![false; MESSAGES.len()];
    let mut untried = Vec::new();
    let library = crate_root.join("../dinolab-run/src");
    for file in [sources(&crate_root.join("src")), sources(&library)].concat() {
        for literal in literals(&fs::read_to_string(&file).unwrap()) {
            let literal = match file.starts_with(&library) {
                true => with_flags(&literal),
                false => literal,
            };
            if !names_a_flag(&literal) {
                continue;
            }
            let known = MESSAGES.iter().position(|(part, _)| literal.contains(part));
            match known {
                Some(place) => used[place] = true,
                None => untried.push(format!("{}: {literal}", file.display())),
            }
        }
    }
    assert!(untried.is_empty(), "not tried:\n{}", untried.join("\n"));
    for ((part, tried), used) in MESSAGES.iter().zip(used) {
        assert!(used, "no message says {part:?} any more");
        if let In(file, test) = tried {
            let path = ["tests/suite", "tests"]
                .map(|folder| crate_root.join(folder).join(file).with_extension("rs"))
                .into_iter()
                .find(|path| path.is_file())
                .unwrap_or_else(|| panic!("no test file {file}"));
            let tests = fs::read_to_string(&path).unwrap();
            assert!(tests.contains(&format!("fn {test}(")), "{file}: no {test}");
        }
    }
}

/// A text of the library, which names settings in backticks, as the program prints it.
fn with_flags(text: &str) -> String {
    let mut parts: Vec<String> = text.split('`').map(str::to_owned).collect();
    let name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    for part in parts
        .iter_mut()
        .skip(1)
        .step_by(2)
        .filter(|part| name(part))
    {
        part.insert_str(0, "--");
    }
    parts.concat()
}

/// Whether a text names a flag; at its beginning that is the one which is wrong.
fn names_a_flag(text: &str) -> bool {
    let after_first: String = text.chars().skip(1).collect();
    after_first
        .match_indices("--")
        .filter_map(|(at, _)| after_first[at + 2..].chars().next())
        .any(|c| c.is_ascii_lowercase())
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The texts in quotes of a source file, without those in comments and in its own tests.
fn literals(source: &str) -> Vec<String> {
    let end = source.find("#[cfg(test)]\nmod tests");
    let code: Vec<&str> = source[..end.unwrap_or(source.len())]
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n").replace("'\"'", "");
    let mut found = Vec::new();
    let mut chars = code.chars().peekable();
    let mut open: Option<String> = None;
    while let Some(c) = chars.next() {
        match (&mut open, c) {
            (None, '"') => open = Some(String::new()),
            (None, _) => {}
            (Some(_), '"') => found.extend(open.take()),
            (Some(text), '\\') => match chars.next() {
                // A line that continues.
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                Some(escaped) => text.push(escaped),
                None => {}
            },
            (Some(text), c) => text.push(c),
        }
    }
    found
}

/// A command whose message gives advice, and commands that follow it.
struct Try {
    says: &'static str,
    wrong: Command,
    right: Vec<Command>,
}

#[test]
fn advice_works_when_followed() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let mut count = 0;
    let mut out = || {
        count += 1;
        root.path().join(format!("out-{count}"))
    };
    let images = at("images");
    pictures(&images.join("a"), 4);
    for i in 0..4 {
        picture(&images.join(format!("b/{i}.png")), 48, 20 + i);
    }
    // So many that some are held out.
    let many = at("many");
    pictures(&many.join("a"), 10);
    pictures(&many.join("b"), 10);
    let grey = at("grey");
    fs::create_dir(&grey).unwrap();
    for i in 0..4u32 {
        let pixel = |x, y| image::Luma([(x * (3 + i) + y * 5) as u8]);
        let image = image::GrayImage::from_fn(48, 48, pixel);
        image.save(grey.join(format!("{i}.png"))).unwrap();
    }
    let run = at("run");
    let tiny = |out: &Path| Train::tiny(out).with("epochs", 0.25);
    tiny(&run).succeed();
    let with_weights = |words: &[&str]| {
        let mut command = program();
        command.args(words).arg("--weights").arg(&run);
        command
    };

    let attend = |out: &Path, more: &[&str]| {
        let mut command = with_weights(&["attend", "--size", "48"]);
        command.arg(&images).arg("--out").arg(out).args(more);
        command
    };
    let gif = out().with_extension("gif");
    let retrieval = |more: &[&Path]| {
        let mut command = with_weights(&["eval", "retrieval", "--crop", "32", "--resize", "32"]);
        command.args(more);
        command
    };
    let copies = at("copies");
    picture(&copies.join("image-000 other.png"), 48, 0);
    picture(&copies.join("imagexyz.png"), 48, 1);
    let copy = |queries: &Path, more: &[&str]| {
        let mut command = with_weights(&["eval", "copy", "--imsize", "32"]);
        command.arg(images.join("a")).arg("--queries").arg(queries);
        command.args(more);
        command
    };
    let pairs = copies.join("pairs.tsv");
    fs::write(&pairs, "imagexyz.png\timage-001.jpg\n").unwrap();
    let truth = at("benchmark/truth.json");
    fs::create_dir(at("benchmark")).unwrap();
    let query = r#"{"easy": [1], "hard": [], "junk": [], "bbx": [0, 0, 40, 40]}"#;
    let text = format!(
        r#"{{"imlist": ["image-000", "image-001"], "qimlist": ["image-001"], "gnd": [{query}]}}"#
    );
    fs::write(&truth, text).unwrap();
    let benchmark = |more: &[&Path]| {
        let mut command = with_weights(&["eval", "retrieval", "--imsize", "32"]);
        command.arg("--ground-truth").arg(&truth).args(more);
        command
    };

    let flat = at("flat");
    fs::create_dir(&flat).unwrap();
    for i in 0..4 {
        let same = image::GrayImage::from_pixel(48, 48, image::Luma([7]));
        same.save(flat.join(format!("{i}.png"))).unwrap();
    }
    let arrays = at("arrays");
    fs::create_dir(&arrays).unwrap();
    for i in 0..4 {
        let values: Vec<f32> = (0..48 * 48 * 2)
            .map(|v| ((v * (i + 3)) % 97) as f32 / 97.0)
            .collect();
        write_npy_f32(arrays.join(format!("{i}.npy")), &[48, 48, 2], &values).unwrap();
    }
    let stored = |images: &Path, out: &Path| tiny(out).on(images).with("in-chans", 1);

    let converted = at("converted");
    let convert = |out: &Path, more: &[&str]| {
        let mut command = program();
        command
            .arg("convert")
            .arg(&run)
            .arg(out)
            .args(["--to", "run"]);
        command.args(more);
        command
    };
    assert!(convert(&converted, &[]).output().unwrap().status.success());
    let recorded = at("recorded");
    tiny(&recorded).succeed();
    let bare = at("bare.pth");
    let mut reference = program();
    reference.arg("convert").arg(&run).arg(&bare);
    assert!(reference.output().unwrap().status.success());
    let embed_bare = |more: &[&str]| {
        let mut command = program();
        command
            .arg("embed")
            .arg(&images)
            .arg("--weights")
            .arg(&bare);
        command.args(["--crop", "32", "--resize", "32", "--out"]);
        command.arg(at("bare.npy")).args(more);
        command
    };

    let embed_with = |weights: &Path, more: &[&str]| {
        let mut command = program();
        command
            .arg("embed")
            .arg(&images)
            .arg("--weights")
            .arg(weights);
        command.args(["--heads", "2", "--crop", "32", "--resize", "32", "--out"]);
        command.arg(at("students.npy")).args(more);
        command
    };
    // A file of the student alone.
    let taught = at("student.safetensors");
    let newest = list(&run.join("checkpoints")).remove(0);
    let (mut arrays_of_run, _) = file_arrays(&newest, &fs::read(&newest).unwrap()).unwrap();
    arrays_of_run.retain(|name, _| name.starts_with("student.backbone."));
    fs::write(&taught, to_bytes(&arrays_of_run, &BTreeMap::new()).unwrap()).unwrap();
    let begun = at("begun");
    let started = at("started");
    tiny(&started).with("weights", run.display()).succeed();

    let paper = |out: &Path| tiny(out).on(&images).with("recipe", "paper");
    let tries = [
        Try {
            says: "takes a --threshold",
            wrong: attend(&out(), &["--show", "mask"]),
            right: vec![attend(&out(), &["--show", "mask", "--threshold", "0.5"])],
        },
        Try {
            says: "--video takes the images of a folder for one",
            wrong: attend(&gif, &[]),
            right: vec![attend(&gif, &["--video"])],
        },
        Try {
            says: "give labelled images, --train and --val",
            wrong: retrieval(&[]),
            right: vec![
                retrieval(&[&images]),
                retrieval(&["--train".as_ref(), &images, "--val".as_ref(), &images]),
            ],
        },
        Try {
            says: "name the benchmark's images with --image-folder",
            wrong: benchmark(&[]),
            right: vec![benchmark(&["--image-folder".as_ref(), &images.join("a")])],
        },
        Try {
            says: "(see --match-prefix, or list pairs in a .tsv)",
            wrong: copy(&copies, &[]),
            right: vec![copy(&copies, &["--match-prefix", "5"]), copy(&pairs, &[])],
        },
        Try {
            says: "use --arch custom for other sizes",
            wrong: tiny(&out()).with("arch", "vit_tiny").command(),
            right: vec![tiny(&out()).with("arch", "custom").command()],
        },
        Try {
            says: "needs --width and --depth",
            wrong: paper(&out()).without("depth").command(),
            right: vec![paper(&out()).with("depth", 1).command()],
        },
        Try {
            says: "use --pixels stored",
            wrong: stored(&grey, &out()).with("pixels", "rgb").command(),
            right: vec![stored(&grey, &out()).with("pixels", "stored").command()],
        },
        Try {
            says: "give the number of their channels with --in-chans",
            wrong: tiny(&out()).on(&arrays).command(),
            right: vec![stored(&arrays, &out()).with("in-chans", 2).command()],
        },
        Try {
            says: "or give --mean and --std",
            wrong: stored(&flat, &out()).command(),
            right: vec![
                stored(&flat, &out())
                    .with("mean", 0.5)
                    .with("std", 0.25)
                    .command(),
            ],
        },
        Try {
            says: "start from others or leave --weights out",
            wrong: stored(&grey, &out())
                .with("weights", run.display())
                .command(),
            right: vec![stored(&grey, &out()).command()],
        },
        Try {
            says: "use one or the other",
            wrong: tiny(&out())
                .with("use-bn-in-head", true)
                .with("accumulate", 2)
                .command(),
            right: vec![
                tiny(&out()).with("use-bn-in-head", true).command(),
                tiny(&out()).with("accumulate", 2).command(),
            ],
        },
        Try {
            says: "--in-chans and --pixels need IMAGES",
            wrong: tiny(&out()).with("in-chans", 1).command(),
            right: vec![stored(&grey, &out()).command()],
        },
        Try {
            says: "start from them with --weights",
            wrong: tiny(&converted).command(),
            right: vec![tiny(&out()).with("weights", converted.display()).command()],
        },
        Try {
            says: "holds a run with another",
            wrong: tiny(&recorded).with("lr", 0.7).command(),
            right: vec![
                tiny(&recorded).command(),
                tiny(&out()).with("lr", 0.7).command(),
                tiny(&recorded).with("lr", 0.7).switch("fresh").command(),
            ],
        },
        Try {
            says: "--resize-pos-embed true resamples them",
            wrong: convert(&out(), &["--image-size", "48"]),
            right: vec![
                tiny(&out())
                    .with("weights", run.display())
                    .with("image-size", 48)
                    .with("resize-pos-embed", true)
                    .command(),
            ],
        },
        Try {
            says: "choose by --checkpoint-key",
            wrong: embed_with(&taught, &["--checkpoint-key", "teacher"]),
            right: vec![embed_with(&taught, &["--checkpoint-key", "student"])],
        },
        Try {
            says: "leave --resume out to begin a run",
            wrong: tiny(&begun).switch("resume").command(),
            right: vec![tiny(&begun).command()],
        },
        Try {
            says: "holds a run that started from other --weights",
            wrong: tiny(&started).with("weights", recorded.display()).command(),
            right: vec![
                Train::bare(&started).switch("resume").command(),
                tiny(&out()).with("weights", recorded.display()).command(),
            ],
        },
        // These two only say what was decided.
        Try {
            says: "(--holdout 0 trains on all)",
            wrong: tiny(&out()).on(&many).command(),
            right: vec![tiny(&out()).on(&many).with("holdout", 0).command()],
        },
        Try {
            says: "--heads sets another number",
            wrong: embed_bare(&[]),
            right: vec![embed_bare(&["--heads", "2"])],
        },
    ];
    let mut tried = BTreeSet::new();
    for Try { says, wrong, right } in tries {
        let told = heard(wrong).1;
        assert!(told.contains(says), "{says:?} is not in {told}");
        for command in right {
            let (success, told) = heard(command);
            assert!(success, "after {says:?}: {told}");
            assert!(!told.contains(says), "{says:?} again: {told}");
        }
        tried.insert(says);
    }
    for (part, _) in MESSAGES.iter().filter(|(_, tried)| matches!(tried, Here)) {
        assert!(tried.contains(part), "{part:?} is not tried");
    }
}

/// Whether a command succeeded, and all that it said.
fn heard(mut command: Command) -> (bool, String) {
    let output = command.output().unwrap();
    let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!told.contains("panicked"), "{told}");
    (output.status.success(), told)
}

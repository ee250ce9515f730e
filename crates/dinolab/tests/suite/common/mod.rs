//! What the tests of the program share: a tiny run and a look into its folder.

pub mod convolutional;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dinolab_nn::weights::{Array, file_arrays};
use dinolab_train::checkpoint;
use serde_json::{Map, Value};

/// Named arrays of a file.
pub type Arrays = BTreeMap<String, Array>;

/// The program, without what the terminal or an earlier shell may add.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dinolab"));
    command.stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
    command
}

/// Weights of a small network to learn from, in patches of other pixels than those of tiny runs.
pub fn teacher() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dinolab-nn/tests/fixtures/weights/hf_dinov2_with_registers")
}

/// The name of the device that the tests of the model run on.
pub fn device_name() -> String {
    std::env::var("DINOLAB_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// That device.
pub fn device() -> dinolab_nn::Device {
    dinolab_nn::device::by_name(&device_name()).expect("DINOLAB_TEST_DEVICE names a device")
}

/// A command line of `dinolab train` whose flags can be given again with another value.
#[derive(Clone)]
pub struct Train {
    images: Option<PathBuf>,
    flags: BTreeMap<String, String>,
    switches: Vec<String>,
    threads: Option<usize>,
}

impl Train {
    /// No flags at all.
    pub fn bare(out: &Path) -> Self {
        let flags = BTreeMap::from([("out".to_owned(), out.display().to_string())]);
        Self {
            images: None,
            flags,
            switches: Vec::new(),
            threads: None,
        }
    }

    /// A run of DINO of four steps an epoch that takes a fraction of a second.
    pub fn tiny(out: &Path) -> Self {
        Self::tiny_lejepa(out)
            .with("method", "dino")
            .with("head-bottleneck-dim", 16)
            .with("out-dim", 32)
            .without("proj-dim")
            .without("directions")
    }

    /// As [`Train::tiny`], of SimDINO.
    pub fn tiny_simdino(out: &Path) -> Self {
        Self::tiny(out).with("method", "simdino").without("out-dim")
    }

    /// As [`Train::tiny`], of DINOv2.
    pub fn tiny_dinov2(out: &Path) -> Self {
        Self::tiny(out)
            .with("method", "dinov2")
            .with("ibot-out-dim", 24)
    }

    /// As [`Train::tiny`], of distillation from [`teacher`].
    pub fn tiny_distill(out: &Path) -> Self {
        Self::tiny_lejepa(out)
            .with("method", "distill")
            .with("teacher-weights", teacher().display())
            .without("proj-dim")
            .without("directions")
            .without("local-crops-size")
            .without("local-crops-number")
    }

    /// As [`Train::tiny`], of VISReg.
    pub fn tiny_visreg(out: &Path) -> Self {
        Self::tiny_lejepa(out).with("method", "visreg")
    }

    /// As [`Train::tiny`], of LeJEPA.
    pub fn tiny_lejepa(out: &Path) -> Self {
        Self::bare(out)
            .with("method", "lejepa")
            .with("proj-dim", 8)
            .with("directions", 16)
            .with("arch", "custom")
            .with("width", 32)
            .with("depth", 2)
            .with("heads", 2)
            .with("patch-size", 8)
            .with("global-crops-size", 32)
            .with("local-crops-size", 16)
            .with("local-crops-number", 2)
            .with("head-hidden-dim", 32)
            .with("batch-size", 8)
            .with("shapes-images", 32)
            .with("epochs", 3)
            .with("drop-path-rate", 0.1)
            .with("eval-every", 0)
            .with("log-every", 1)
            .with("num-workers", 2)
    }

    /// With `--flag value`, in place of an earlier one.
    pub fn with(mut self, flag: &str, value: impl ToString) -> Self {
        self.flags.insert(flag.to_owned(), value.to_string());
        self
    }

    /// Without a flag.
    pub fn without(mut self, flag: &str) -> Self {
        self.flags.remove(flag);
        self
    }

    /// With a flag that has no value.
    pub fn switch(mut self, flag: &str) -> Self {
        self.switches.push(format!("--{flag}"));
        self
    }

    /// On these images.
    pub fn on(mut self, images: &Path) -> Self {
        self.images = Some(images.into());
        self
    }

    /// With this many threads for computing.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The command.
    pub fn command(&self) -> Command {
        let mut command = program();
        command.arg("train").args(&self.images).args(&self.switches);
        for (flag, value) in &self.flags {
            // One argument, so that a value may begin with a minus.
            command.arg(format!("--{flag}={value}"));
        }
        if let Some(threads) = self.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        command
    }

    /// Runs it to its end.
    pub fn output(&self) -> Output {
        self.command().output().expect("the program starts")
    }

    /// Runs it; it must succeed. Returns what it said, both streams.
    pub fn succeed(&self) -> String {
        let output = self.output();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}: {said}", output.status);
        said
    }

    /// Runs it; it must fail with one line, which is returned.
    pub fn fail(&self) -> String {
        one_error(&self.output())
    }
}

/// The one error line of a command that failed as it should: no panic, no backtrace.
/// Warnings, progress and tables before it do not count.
pub fn one_error(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(
        !output.status.success(),
        "must fail, but said {}{said}",
        text(&output.stdout)
    );
    assert!(
        output.status.code().is_some(),
        "must end by itself: {}",
        output.status
    );
    assert!(!said.contains("panicked"), "{said}");
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(
        said.ends_with(&format!("{}\n", errors[0])),
        "the error is the last line: {said}"
    );
    errors[0].to_owned()
}

/// The first line of a refused command line, which names the flag.
pub fn usage_error(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said.lines().next().unwrap_or_default().to_owned()
}

/// A stream as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a run's metrics.
pub fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Those of one kind.
pub fn of_kind(run: &Path, kind: &str) -> Vec<Map<String, Value>> {
    metrics(run)
        .into_iter()
        .filter(|line| line["kind"] == kind)
        .collect()
}

/// The value of `key` in every line of one kind.
pub fn figures(run: &Path, kind: &str, key: &str) -> Vec<f64> {
    of_kind(run, kind)
        .iter()
        .map(|line| line[key].as_f64().unwrap())
        .collect()
}

/// Steps of the checkpoints of a run, newest first.
pub fn checkpoint_steps(run: &Path) -> Vec<u64> {
    checkpoint::list(&run.join("checkpoints"))
        .iter()
        .map(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            stem.strip_prefix("step-").unwrap().parse().unwrap()
        })
        .collect()
}

/// The file of a run's newest checkpoint.
pub fn newest(run: &Path) -> PathBuf {
    checkpoint::list(&run.join("checkpoints"))
        .into_iter()
        .next()
        .expect("a checkpoint")
}

/// The tensors of a run's newest checkpoint: networks, centre, moments.
pub fn tensors(run: &Path) -> Arrays {
    let path = newest(run);
    file_arrays(&path, &fs::read(&path).unwrap()).unwrap().0
}

/// A run of three epochs is the same on two threads, on one, and in pieces that end within an epoch and at
/// the end of one. Returns its folder.
pub fn same_however_it_is_run(root: &Path, train: impl Fn(&Path) -> Train) -> PathBuf {
    let path = |name: &str| root.join(name);
    let run = |name: &str| train(&path(name)).with("eval-every", 1);
    run("whole").threads(2).succeed();
    run("alone").threads(1).with("num-workers", 1).succeed();
    for epochs in ["0.5", "2", "0"] {
        run("parts").with("stop-after-epochs", epochs).succeed();
    }
    assert_same(&path("whole"), &path("alone"));
    assert_same(&path("whole"), &path("parts"));
    path("whole")
}

/// Both runs wrote the same metrics and ended with the same tensors, to the last bit.
pub fn assert_same(a: &Path, b: &Path) {
    let lines = |run: &Path| fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let (first, second) = (lines(a), lines(b));
    assert!(!first.is_empty());
    for (i, (x, y)) in first.lines().zip(second.lines()).enumerate() {
        assert_eq!(x, y, "line {}", i + 1);
    }
    assert_eq!(first, second);
    assert_eq!(newest(a).file_name(), newest(b).file_name());
    let (first, second) = (tensors(a), tensors(b));
    assert!(first.keys().eq(second.keys()));
    for (name, x) in &first {
        let y = &second[name];
        assert_eq!(x.shape, y.shape, "{name}");
        let bits = |array: &Array| array.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(x) == bits(y), "{name} differs");
    }
}

/// ‖a − b‖ / ‖b‖.
pub fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(&x, &y)| f64::from(x) - f64::from(y)));
    difference / norm(&mut b.iter().map(|&y| f64::from(y)))
}

/// Writes a colourful picture, another one for each `seed`; the format is by the extension.
pub fn picture(path: &Path, side: u32, seed: u32) {
    let image = image::RgbImage::from_fn(side, side, |x, y| {
        let wave = |k: u32| (x * (3 + (seed + k) % 5) + y * (2 + (seed * k) % 7) + 40 * seed) as u8;
        image::Rgb([wave(1), wave(2), wave(3)])
    });
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

/// A folder of `count` JPEGs.
pub fn pictures(folder: &Path, count: u32) {
    for i in 0..count {
        picture(&folder.join(format!("image-{i:03}.jpg")), 48, i);
    }
}

/// Waits until a run that does not end by itself has a checkpoint beyond `step`.
pub fn wait_for_checkpoint(run: &Path, step: u64, child: &mut Child) {
    let patience = Instant::now();
    while checkpoint_steps(run).first().is_none_or(|&s| s <= step) {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the run ended with {status}");
        }
        assert!(patience.elapsed() < Duration::from_secs(120), "no progress");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal, named without SIG, to a process.
#[cfg(unix)]
pub fn signal(name: &str, child: &Child) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(child.id().to_string())
        .status();
    assert!(sent.unwrap().success());
}

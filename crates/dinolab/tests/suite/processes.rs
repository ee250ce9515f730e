//! Training in several processes that `mpirun` starts:
//! `cargo test --release --workspace --features dinolab/mpi --test suite processes::`.

use crate::common::Train;
#[cfg(not(feature = "mpi"))]
use crate::common::{one_error, text};

#[cfg(not(feature = "mpi"))]
#[test]
fn one_of_several_processes_is_refused_where_nothing_connects_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let started = |rank: &str, size: &str| {
        let mut command = Train::tiny(&run).command();
        command.env("OMPI_COMM_WORLD_RANK", rank);
        command.env("OMPI_COMM_WORLD_SIZE", size);
        command.env("OMPI_COMM_WORLD_LOCAL_RANK", rank);
        command.output().unwrap()
    };
    let error = one_error(&started("0", "4"));
    assert!(error.contains("mpirun started 4 processes"), "{error}");
    assert!(error.contains("Cargo's feature mpi"), "{error}");
    assert!(!run.exists());
    let alone = started("0", "1");
    assert!(alone.status.success(), "{}", text(&alone.stderr));
}

#[cfg(feature = "mpi")]
mod mpi {
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::Train;
    use crate::common::{
        assert_same, checkpoint_steps, of_kind, signal, text, wait_for_checkpoint,
    };

    const TRY_AGAIN: i32 = 75;

    fn mpirun() -> Command {
        let mut command = Command::new("mpirun");
        command.args(["--oversubscribe", "--bind-to", "none"]);
        // In containers.
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1");
        command.env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        // Containers may forbid one process to read another's memory.
        command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
        command.stdin(Stdio::null());
        command
    }

    /// A part of a command of `mpirun`: so many processes of this run.
    fn add(command: &mut Command, processes: usize, train: &Train) {
        let own = train.command();
        command.args(["-n", &processes.to_string()]);
        command.arg(own.get_program()).args(own.get_args());
    }

    fn among(processes: usize, train: &Train) -> Command {
        let mut command = mpirun();
        add(&mut command, processes, train);
        command
    }

    fn output(command: &mut Command) -> Output {
        command
            .output()
            .expect("mpirun is installed (Debian: openmpi-bin)")
    }

    fn succeed(processes: usize, train: &Train) -> String {
        let ended = output(&mut among(processes, train));
        assert!(
            ended.status.success(),
            "{}: {}",
            ended.status,
            text(&ended.stderr)
        );
        text(&ended.stdout)
    }

    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }
        fn run(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }
    }

    fn start(command: &mut Command) -> Child {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet
            .spawn()
            .expect("mpirun is installed (Debian: openmpi-bin)")
    }

    /// The processes that a launcher has started.
    fn ranks(launcher: &Child) -> Vec<String> {
        let list = Command::new("pgrep")
            .args(["-P", &launcher.id().to_string()])
            .output();
        text(&list.unwrap().stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn ends_within(child: &mut Child, limit: Duration) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < limit, "it goes on after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    type Tiny = fn(&Path) -> Train;

    #[test]
    fn one_process_prints_and_any_number_gives_the_same_bits() {
        let place = Place::new();
        let methods: [(&str, Tiny); 6] = [
            ("dino", Train::tiny),
            ("lejepa", Train::tiny_lejepa),
            ("visreg", Train::tiny_visreg),
            ("simdino", Train::tiny_simdino),
            ("dinov2", Train::tiny_dinov2),
            ("distill", Train::tiny_distill),
        ];
        for (name, tiny) in methods {
            let train = |run: &str| {
                let run = place.run(&format!("{name}-{run}"));
                tiny(&run)
                    .with("reproducible-ranks", 4)
                    .with("eval-every", 1)
            };
            train("one").succeed();
            for processes in [2, 4] {
                let run = format!("{processes}");
                let said = succeed(processes, &train(&run));
                assert_eq!(said.matches("a new run in").count(), 1, "{said}");
                assert_same(
                    &place.run(&format!("{name}-one")),
                    &place.run(&format!("{name}-{run}")),
                );
            }
        }
    }

    #[test]
    fn batch_normalisation_is_of_the_whole_batch() {
        let place = Place::new();
        let train = |run: &str| {
            // Adam would make whole steps of the rounding of gradients that vanish; as it is, rounding grows
            // from step to step, since the last grid of a view has one position.
            let train = Train::tiny(&place.run(run))
                .with("arch", "resnet18")
                .with("optimizer", "sgd");
            ["patch-size", "width", "depth", "heads"]
                .into_iter()
                .fold(train, Train::without)
        };
        train("one").succeed();
        succeed(2, &train("two"));
        let losses = |run: &str| {
            let steps = of_kind(&place.run(run), "train");
            let losses = steps.iter().map(|step| step["loss"].as_f64().unwrap());
            losses.collect::<Vec<_>>()
        };
        let (one, two) = (losses("one"), losses("two"));
        assert!(one.len() > 2 && one.len() == two.len(), "{one:?}");
        for (step, (a, b)) in one.iter().zip(&two).enumerate() {
            let limit = if step < 2 { 2e-5 } else { 1e-3 };
            assert!((a - b).abs() < limit, "{one:?} {two:?}");
        }
    }

    /// Two batches of the bank and one of the images that are judged; both have an image that cannot be used.
    #[test]
    fn evaluation_is_divided_and_gives_the_same() {
        let place = Place::new();
        let images = |set: &str| place.run(set);
        for (set, count) in [("bank", 40), ("judged", 6)] {
            for class in ["first", "second"] {
                crate::common::pictures(&images(set).join(class), count);
            }
            std::fs::write(images(set).join("first/image-003.jpg"), b"no picture").unwrap();
        }
        let train = |run: &str| {
            Train::tiny(&place.run(run))
                .without("shapes-images")
                .on(&images("bank"))
                .with("val", images("judged").display())
                .with("epochs", 1)
                .with("eval-every", 1)
                .with("max-unusable-percent", 5)
                .with("tensorboard", true)
                .with("reproducible-ranks", 2)
        };
        train("one").succeed();
        succeed(2, &train("two"));
        assert_same(&place.run("one"), &place.run("two"));
        let metrics = std::fs::read_to_string(place.run("two").join("metrics.jsonl")).unwrap();
        assert!(metrics.contains("\"knn_whitened\":"), "{metrics}");
        let projected = |run: &str| {
            let features = place.run(run).join("tensorboard/features.tsv");
            std::fs::read(features).unwrap()
        };
        assert!(
            projected("one") == projected("two"),
            "features for TensorBoard"
        );
    }

    #[test]
    fn a_killed_process_ends_all_and_another_number_goes_on() {
        let place = Place::new();
        let train = |run: &str| {
            let train = Train::tiny(&place.run(run)).with("reproducible-ranks", 4);
            train.with("epochs", 60).with("checkpoint-every-steps", 2)
        };
        train("whole").succeed();
        for (processes, victim, beyond) in [(2, 0, 3), (4, 2, 20), (2, 1, 40)] {
            let mut started = start(&mut among(processes, &train("killed")));
            wait_for_checkpoint(&place.run("killed"), beyond, &mut started);
            let ranks = ranks(&started);
            assert_eq!(ranks.len(), processes);
            let killed = Command::new("kill")
                .args(["-KILL", &ranks[victim]])
                .status();
            assert!(killed.unwrap().success());
            let code = ends_within(&mut started, Duration::from_secs(60));
            assert_ne!(code, Some(0));
        }
        succeed(4, &train("killed"));
        assert_same(&place.run("whole"), &place.run("killed"));
    }

    /// `mpirun` passes SIGUSR1 on to all; one would do.
    #[test]
    fn a_warning_before_the_time_limit_saves_and_asks_for_another_try() {
        let place = Place::new();
        let train = |run: &str| {
            let train = Train::tiny(&place.run(run)).with("reproducible-ranks", 2);
            train.with("epochs", 60).with("checkpoint-every", 1000)
        };
        train("whole").succeed();
        let mut started = start(&mut among(2, &train("warned")));
        let begun = Instant::now();
        while !place.run("warned").join("metrics.jsonl").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
        signal("USR1", &started);
        assert_eq!(
            ends_within(&mut started, Duration::from_secs(60)),
            Some(TRY_AGAIN)
        );
        assert_eq!(checkpoint_steps(&place.run("warned")).len(), 1, "saved");
        succeed(1, &train("warned"));
        assert_same(&place.run("whole"), &place.run("warned"));
    }

    #[test]
    fn what_does_not_fit_is_said_once() {
        let place = Place::new();
        let errors = |ended: &Output| -> Vec<String> {
            let said = text(&ended.stderr);
            assert!(!ended.status.success(), "{said}");
            let lines = said.lines().filter(|line| line.starts_with("error: "));
            lines.map(str::to_owned).collect()
        };
        let uneven = output(&mut among(3, &Train::tiny(&place.run("uneven"))));
        assert_eq!(uneven.status.code(), Some(2));
        let [error] = &errors(&uneven)[..] else {
            panic!("{}", text(&uneven.stderr));
        };
        assert!(
            error.contains(
                "--batch-size: 8 images cannot be divided among 3 processes; give 6 or 9"
            ),
            "{error}"
        );
        assert!(!place.run("uneven").exists());

        let mut different = mpirun();
        add(&mut different, 1, &Train::tiny(&place.run("different")));
        different.arg(":");
        add(
            &mut different,
            1,
            &Train::tiny(&place.run("different")).with("lr", 0.01),
        );
        let different = output(&mut different);
        let [error] = &errors(&different)[..] else {
            panic!("{}", text(&different.stderr));
        };
        assert!(error.contains("process 1 has lr = 0.01"), "{error}");

        let timed = Train::tiny(&place.run("timed"))
            .without("epochs")
            .with("time", "1m");
        let timed = output(&mut among(2, &timed));
        assert!(
            errors(&timed)[0].contains("several need a number of epochs"),
            "{}",
            text(&timed.stderr)
        );
    }

    #[test]
    fn other_images_in_one_process_are_named() {
        let place = Place::new();
        for (name, count) in [("all", 12), ("fewer", 11)] {
            crate::common::pictures(&place.run(name), count);
        }
        // One path, which leads to another folder in the second process, as with disks of their own.
        let link = |at: &str, to: &str| {
            let folder = place.run(at);
            std::fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink(place.run(to), folder.join("photos")).unwrap();
            folder
        };
        let (first, second) = (link("first", "all"), link("second", "fewer"));
        let mut command = mpirun();
        let train = Train::tiny(&place.run("run"))
            .without("shapes-images")
            .on(Path::new("/proc/self/cwd/photos"));
        for folder in [first, second] {
            command.args(["-wdir".as_ref(), folder.as_os_str()]);
            add(&mut command, 1, &train);
            command.arg(":");
        }
        let ended = output(&mut command);
        let said = text(&ended.stderr);
        assert!(
            said.contains("process 1 has other images than process 0: 1 gone (image-011.jpg)"),
            "{said}"
        );
    }
}

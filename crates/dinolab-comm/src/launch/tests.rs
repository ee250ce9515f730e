use super::{Expected, Launch, LaunchError};

fn find(variables: &[(&str, &str)]) -> Result<Option<Launch>, LaunchError> {
    Launch::find(|name| {
        variables
            .iter()
            .find(|(set, _)| *set == name)
            .map(|(_, value)| (*value).into())
    })
}

fn found(variables: &[(&str, &str)]) -> Option<Launch> {
    find(variables).unwrap()
}

fn error(variables: &[(&str, &str)]) -> String {
    find(variables).unwrap_err().to_string()
}

/// The environment of a batch script that asked for four tasks.
const BATCH: [(&str, &str); 6] = [
    ("SLURM_JOB_ID", "17"),
    ("SLURM_NTASKS", "4"),
    ("SLURM_PROCID", "0"),
    ("SLURM_LOCALID", "0"),
    ("SLURM_NODEID", "0"),
    ("SLURM_TASKS_PER_NODE", "2(x2)"),
];

#[test]
fn nothing_is_one_process() {
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[("RANK", ""), ("WORLD_SIZE", "")]), None);
}

#[test]
fn torchrun_is_found() {
    let variables = [
        ("RANK", "5"),
        ("WORLD_SIZE", "8"),
        ("LOCAL_RANK", "1"),
        ("LOCAL_WORLD_SIZE", "4"),
    ];
    let launch = found(&variables).unwrap();
    assert_eq!(
        launch,
        Launch {
            rank: 5,
            size: 8,
            local_rank: 1,
            local_size: Some(4),
            by: "torchrun"
        }
    );
    assert!(!launch.by_mpi());
    assert_eq!(found(&variables[..3]).unwrap().local_size, None);
}

#[test]
fn open_mpi_is_found() {
    let variables = [
        ("OMPI_COMM_WORLD_RANK", "3"),
        ("OMPI_COMM_WORLD_SIZE", "4"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ("PMIX_RANK", "3"),
    ];
    let launch = found(&variables).unwrap();
    assert_eq!(
        launch,
        Launch {
            rank: 3,
            size: 4,
            local_rank: 1,
            local_size: Some(2),
            by: "mpirun"
        }
    );
    assert!(launch.by_mpi());
}

#[test]
fn pmi_is_found() {
    let hydra = [
        ("PMI_RANK", "1"),
        ("PMI_SIZE", "2"),
        ("MPI_LOCALRANKID", "1"),
        ("MPI_LOCALNRANKS", "2"),
    ];
    let launch = found(&hydra).unwrap();
    assert_eq!(
        launch,
        Launch {
            rank: 1,
            size: 2,
            local_rank: 1,
            local_size: Some(2),
            by: "mpiexec"
        }
    );
    assert!(launch.by_mpi());
    let cray = [
        ("PMI_RANK", "1"),
        ("PMI_SIZE", "2"),
        ("PMI_LOCAL_RANK", "0"),
        ("PMI_LOCAL_SIZE", "1"),
    ];
    let launch = found(&cray).unwrap();
    assert_eq!((launch.local_rank, launch.local_size), (0, Some(1)));
}

#[test]
fn a_batch_script_is_one_process() {
    assert_eq!(found(&BATCH), None);
    // An interactive shell.
    assert_eq!(
        found(
            &[
                &BATCH[..],
                &[("SLURM_STEP_NUM_TASKS", "1"), ("PMIX_RANK", "0")]
            ]
            .concat()
        ),
        None
    );
}

#[test]
fn tasks_of_srun_are_found() {
    let step = [
        ("SLURM_PROCID", "2"),
        ("SLURM_LOCALID", "0"),
        ("SLURM_NODEID", "1"),
        ("SLURM_NTASKS", "16"),
        ("SLURM_STEP_NUM_TASKS", "3"),
        ("SLURM_STEP_TASKS_PER_NODE", "2,1"),
    ];
    let expected = Launch {
        rank: 2,
        size: 3,
        local_rank: 0,
        local_size: Some(1),
        by: "srun",
    };
    assert_eq!(found(&step), Some(expected));
    assert!(expected.by_mpi());
    // `srun --mpi=pmi2` and `--mpi=pmix`.
    assert_eq!(
        found(&[&step[..], &[("PMI_RANK", "2"), ("PMI_SIZE", "3")]].concat()),
        Some(expected)
    );
    assert_eq!(
        found(&[&step[..], &[("PMIX_RANK", "2")]].concat()),
        Some(expected)
    );
    assert_eq!(
        find(&[&step[..5], &[("SLURM_STEP_TASKS_PER_NODE", "3")]].concat()),
        Err(LaunchError::Value {
            variable: "SLURM_STEP_TASKS_PER_NODE",
            value: "3".into(),
            expected: Expected::Tasks { node: 1, above: 0 },
        })
    );
}

#[test]
fn mpirun_within_slurm_is_found() {
    // What a daemon of `mpirun`, started by `srun` on the second node, passes on.
    let variables = [
        ("SLURM_PROCID", "0"),
        ("SLURM_LOCALID", "0"),
        ("SLURM_STEP_NUM_TASKS", "2"),
        ("OMPI_COMM_WORLD_RANK", "7"),
        ("OMPI_COMM_WORLD_SIZE", "8"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "3"),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "4"),
    ];
    assert_eq!(found(&variables).unwrap().rank, 7);
}

#[test]
fn a_single_process_yields_to_other_launchers() {
    let single = [("RANK", "0"), ("WORLD_SIZE", "1")];
    assert_eq!(found(&single), None);
    let several = [
        ("OMPI_COMM_WORLD_RANK", "1"),
        ("OMPI_COMM_WORLD_SIZE", "2"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
    ];
    assert_eq!(
        found(&[&single[..], &several].concat()).unwrap().by,
        "mpirun"
    );
}

#[test]
fn incomplete_variables_are_named() {
    assert_eq!(
        error(&[("RANK", "3")]),
        "RANK=3 is set, but WORLD_SIZE is not; set both or neither"
    );
    assert_eq!(
        error(&[("WORLD_SIZE", "4")]),
        "WORLD_SIZE=4 is set, but RANK is not; set both or neither"
    );
    assert_eq!(
        error(&[("RANK", "3"), ("WORLD_SIZE", "4")]),
        "RANK=3 is set, but LOCAL_RANK is not; set both or neither"
    );
    assert_eq!(
        error(&[("SLURM_STEP_NUM_TASKS", "4")]),
        "SLURM_STEP_NUM_TASKS=4 is set, but SLURM_PROCID is not; set both or neither"
    );
    assert_eq!(
        error(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]),
        "PMI_RANK=0 is set, but MPI_LOCALRANKID is not; set both or neither"
    );
    assert!(error(&[("PMIX_RANK", "1")]).starts_with("PMIX_RANK=1 is set, but no variable holds"));
}

#[test]
fn unreadable_values_are_named() {
    let rank = |rank| error(&[("RANK", rank), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0")]);
    assert_eq!(
        rank("first"),
        "RANK=first is not a number below 4; correct or unset it"
    );
    assert_eq!(
        rank("-1"),
        "RANK=-1 is not a number below 4; correct or unset it"
    );
    assert_eq!(
        rank("4"),
        "RANK=4 is not a number below 4; correct or unset it"
    );
    assert_eq!(
        error(&[("RANK", "0"), ("WORLD_SIZE", "0")]),
        "WORLD_SIZE=0 is not a number of at least 1; correct or unset it"
    );
}

//! Tasks of `srun`.

use super::{Expected, Family, Launch, LaunchError, Variables};

const SRUN: Family = Family {
    by: "srun",
    rank: "SLURM_PROCID",
    size: "SLURM_STEP_NUM_TASKS",
    local_rank: "SLURM_LOCALID",
    // SLURM_NTASKS_PER_NODE repeats an option of the job, if given, and some nodes may have fewer.
    local_size: None,
};

const TASKS_PER_NODE: &str = "SLURM_STEP_TASKS_PER_NODE";

/// Whether this process belongs to a job step.
///
/// A batch script has SLURM_PROCID=0 and the SLURM_NTASKS of its job, but is not one of these tasks: only
/// a job step has SLURM_STEP_NUM_TASKS. An interactive shell is a job step of one task. Where `srun -n`
/// starts fewer tasks than the job has, those of the step are the right number.
pub(super) fn is_step(variables: &Variables<'_>) -> bool {
    variables.get(SRUN.size).is_some()
}

/// The task that this process is, if it is one.
pub(super) fn find(variables: &Variables<'_>) -> Result<Option<Launch>, LaunchError> {
    if !is_step(variables) {
        return Ok(None);
    }
    let Some(launch) = SRUN.find(variables)? else {
        return Ok(None);
    };
    let Some(value) = variables.get(TASKS_PER_NODE) else {
        return Ok(Some(launch));
    };
    let node = variables.at_least(0, "SLURM_NODEID")?.unwrap_or(0);
    match tasks_of(&value, node) {
        Some(tasks) if tasks > launch.local_rank => Ok(Some(Launch {
            local_size: Some(tasks),
            ..launch
        })),
        _ => {
            let expected = Expected::Tasks {
                node,
                above: launch.local_rank,
            };
            Err(LaunchError::Value {
                variable: TASKS_PER_NODE,
                value,
                expected,
            })
        }
    }
}

/// The number of tasks of a node in a list such as `4(x2),3`: four on nodes 0 and 1, three on node 2.
fn tasks_of(list: &str, node: usize) -> Option<usize> {
    let mut end = 0_usize;
    for entry in list.split(',') {
        let (tasks, nodes) = match entry.split_once("(x") {
            Some((tasks, nodes)) => (tasks, nodes.strip_suffix(')')?.parse().ok()?),
            None => (entry, 1),
        };
        end = end.checked_add(nodes)?;
        if node < end {
            return tasks.trim().parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::tasks_of;

    #[test]
    fn lists_of_tasks_are_read() {
        let tasks = |list| [0, 1, 2, 3].map(|node| tasks_of(list, node));
        assert_eq!(tasks("4"), [Some(4), None, None, None]);
        assert_eq!(tasks("4(x2),3"), [Some(4), Some(4), Some(3), None]);
        assert_eq!(tasks("1,2(x3)"), [Some(1), Some(2), Some(2), Some(2)]);
        assert_eq!(tasks("few"), [None; 4]);
        assert_eq!(tasks("4(x"), [None; 4]);
        assert_eq!(tasks("4(xmany)"), [None; 4]);
        assert_eq!(tasks("4(x99999999999999999999)"), [None; 4]);
    }
}

//! Mistakes are named from a run's figures alone, and right runs are not accused.

use dinolab_run::doctor::examine;
use dinolab_run::mistakes::{EPOCHS, Mistake, ShortRun};

/// Trains, writes the figures, and has them examined as those of anybody's run.
fn check(mistake: Option<Mistake>, seed: u64, epochs: usize) {
    let run = ShortRun::train(mistake, seed, epochs, &mut |_| ()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    run.write(folder.path()).unwrap();
    let found = examine(folder.path(), None).unwrap();
    let expected = mistake.map(Mistake::failure);
    assert_eq!(found.cause(), expected, "{mistake:?}, seed {seed}: {found}");
    assert_eq!(found.is_healthy(), mistake.is_none(), "{found}");
    assert_eq!((found.epochs, found.not_judged), (epochs, vec![]));
}

#[test]
fn mistakes_are_named_within_two_epochs() {
    check(None, 0, 2);
    for mistake in Mistake::ALL {
        check(Some(mistake), 0, 2);
    }
}

/// `cargo test --release -p dinolab-run --test mistakes -- --ignored`, 20 minutes.
#[test]
#[ignore = "takes 20 minutes"]
fn mistakes_of_five_seeds_are_named() {
    for seed in 0..5 {
        check(None, seed, EPOCHS);
        for mistake in Mistake::ALL {
            check(Some(mistake), seed, EPOCHS);
        }
    }
}

//! Mistakes are named from a run's figures, and right runs are not accused.

use dinolab_run::mistakes::{Mistake, ShortRun};

#[test]
#[ignore]
fn explore() {
    let only = std::env::var("ONLY").ok();
    for mistake in [None].into_iter().chain(Mistake::ALL.map(Some)) {
        if only
            .as_ref()
            .is_some_and(|o| o.as_str() != mistake.map_or("none", Mistake::name))
        {
            continue;
        }
        let began = std::time::Instant::now();
        let run = ShortRun::train(mistake, 0, &mut |_| ()).unwrap();
        println!("== {mistake:?} {:.1} s", began.elapsed().as_secs_f64());
        for (health, warnings) in run.epochs.iter().zip(&run.warnings) {
            println!("{}", serde_json::to_string(health).unwrap());
            for w in warnings {
                println!("   {:?} {w}", w.failure);
            }
        }
    }
}

//! Trains VICReg on the built-in shapes: a method of one's own, with public names only.
//! `docs/architecture.md` explains it under "Add a method".
//!
//! ```sh
//! cargo run --release --bin vicreg -- runs/vicreg 320
//! ```

mod vicreg;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use dinolab_data::{LoaderConfig, Size, augment::MultiCrop, shapes::Shapes};
use dinolab_nn::{ProjectionConfig, VitConfig, device};
use dinolab_train::checkpoint::Checkpoint;
use dinolab_train::{Event, Method, Observer, Result, ScheduleConfig, TrainConfig, Trainer};

use crate::vicreg::VicReg;

/// Prints every tenth step.
struct Print;
impl Observer for Print {
    fn name(&self) -> &'static str {
        "print"
    }
    fn on(&mut self, event: &Event, _: &dyn Method) -> Result<()> {
        if let Event::Stepped {
            hp,
            report,
            log: true,
            ..
        } = event
        {
            println!(
                "step {:>4}  loss {:.3}  {:.3?}",
                hp.step + 1,
                report.loss,
                report.terms
            );
        }
        Ok(())
    }
}

const BATCH: usize = 32;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, steps] = &arguments[..] else {
        return Err("usage: vicreg FOLDER STEPS".into());
    };
    let images = Arc::new(Shapes::new(0, 1024));
    let config = TrainConfig {
        schedule: ScheduleConfig {
            epochs: 10.0,
            warmup_epochs: 1.0,
            lr: 1e-3,
            ..Default::default()
        },
        crops: MultiCrop {
            global_size: Size::square(48),
            local_views: 0,
            ..Default::default()
        },
        loader: LoaderConfig {
            batch_size: BATCH,
            ..Default::default()
        },
        stop_after_epochs: Some(steps.parse::<f64>()? * BATCH as f64 / 1024.0),
        config: "method = \"vicreg\"".into(),
        ..Default::default()
    };
    let vit = VitConfig {
        image_size: 48,
        patch_size: 8,
        width: 64,
        depth: 3,
        heads: 2,
        ..Default::default()
    };
    let method = VicReg::new(vit, &ProjectionConfig::default(), device::by_name("cpu")?)?;
    let folder = Path::new(folder);
    let newest = Checkpoint::latest(folder)?.map(|(newest, _)| newest);
    let trainer = Trainer::new(&config, Box::new(method), images, folder, newest)?;
    let (_, outcome) = trainer.run(&mut [&mut Print])?;
    println!("{outcome:?}");
    Ok(())
}

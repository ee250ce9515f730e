//! From a step's outputs to the figures of health that its method has.

use dinolab_nn::Tensor;
use dinolab_nn::device::to_host_f32;
use dinolab_train::{Outputs, StepReport};

use crate::Result;
use crate::health::{EmbeddingSample, HealthMeter, PatchSample, PrototypeSample, Sample};

/// Rows of outputs that are looked at in a sampled step.
const ROWS: usize = 64;

/// Counts a step, and looks at its outputs if it is `sampled`. The first step makes the meter.
pub(super) fn measure(
    meter: &mut Option<HealthMeter>,
    report: &StepReport,
    sampled: bool,
) -> Result<()> {
    let outputs = &report.outputs;
    let meter = match meter {
        Some(meter) => meter,
        empty => {
            let prototypes = outputs.prototypes.as_ref();
            let out_dim = prototypes.map(|prototypes| prototypes.teacher.dims()[1]);
            empty.insert(HealthMeter::new(out_dim, ROWS)?)
        }
    };
    let squares = report
        .grad_norms
        .iter()
        .map(|&norm| f64::from(norm).powi(2));
    meter.step(report.loss, Some(squares.sum::<f64>().sqrt()));
    meter.terms(&report.terms);
    match sampled {
        true => sample(meter, outputs),
        false => Ok(()),
    }
}

fn sample(meter: &mut HealthMeter, outputs: &Outputs) -> Result<()> {
    let features = to_host_f32(outputs.features.clone());
    let prototypes = outputs.prototypes.as_ref().map(|prototypes| {
        let rows = prototypes.teacher.dims()[0] / 2;
        let student = |first: usize| prototypes.student.clone().narrow(0, first, rows);
        // Each teacher row beside the student's other global view of the same image.
        let crossed = Tensor::cat(vec![student(rows), student(0)], 0);
        let teacher = to_host_f32(prototypes.teacher.clone());
        let centre = prototypes.centre.clone().map(to_host_f32);
        (teacher, to_host_f32(crossed), centre)
    });
    sample_patches(meter, outputs)?;
    let embeddings = outputs.embeddings.as_ref();
    let embeddings = embeddings.map(|z| (to_host_f32(z.clone()), z.dims()[1]));
    meter.sample(&Sample {
        features: &features,
        feature_dim: outputs.features.dims()[1],
        prototypes: outputs.prototypes.as_ref().zip(prototypes.as_ref()).map(
            |(settings, (teacher, student, centre))| PrototypeSample {
                teacher,
                student,
                centre: centre.as_deref(),
                teacher_temp: settings.teacher_temp,
                student_temp: settings.student_temp,
            },
        ),
        embeddings: embeddings
            .as_ref()
            .map(|(rows, dim)| EmbeddingSample { rows, dim: *dim }),
    })
}

/// Looks at what was masked, if the method masks patches.
fn sample_patches(meter: &mut HealthMeter, outputs: &Outputs) -> Result<()> {
    let (Some(patches), Some(settings)) = (&outputs.patches, &outputs.prototypes) else {
        return Ok(());
    };
    let rows = |rows: &Option<Tensor<2>>| rows.clone().map(to_host_f32).unwrap_or_default();
    let (teacher, student) = (rows(&patches.teacher), rows(&patches.student));
    let centre = patches.centre.clone().map(to_host_f32);
    meter.patches(&PatchSample {
        out_dim: patches.prototypes,
        masked: patches.masked,
        prototypes: PrototypeSample {
            teacher: &teacher,
            student: &student,
            centre: centre.as_deref(),
            teacher_temp: settings.teacher_temp,
            student_temp: settings.student_temp,
        },
    })
}

//! Event files that TensorBoard reads: scalars, pictures and features of a run.
//!
//! They lie in `tensorboard/` of the run folder. Each process that trains writes a file of its own, whose first
//! events tell at which step it begins: TensorBoard drops what an earlier file has of later steps.

mod event;
mod projector;
mod record;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use serde_json::{Map, Value};

use self::event::{Event, Image, Scalar, SessionLog, Summary, What};
pub(crate) use self::projector::Projection;

/// The folder in a run's.
const FOLDER: &str = "tensorboard";
/// The name of an event file, by which TensorBoard knows it, with a number of ten digits in between.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".dinolab";

/// Removes what was written of a run in `root`, and nothing else.
///
/// # Errors
/// A file that cannot be removed.
pub(crate) fn clear(root: &Path) -> io::Result<()> {
    for (path, _) in written(root)? {
        fs::remove_file(path)?;
    }
    // Stays where something else is in it.
    let _ = fs::remove_dir(root.join(FOLDER));
    Ok(())
}

/// The files of a run in `root`; of event files, with their number.
fn written(root: &Path) -> io::Result<Vec<(PathBuf, Option<u64>)>> {
    let entries = match fs::read_dir(root.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let number = name
            .strip_prefix(PREFIX)
            .and_then(|name| name.strip_suffix(SUFFIX))
            .and_then(|number| number.parse().ok());
        if number.is_some() || projector::FILES.contains(&&*name) {
            found.push((entry.path(), number));
        }
    }
    Ok(found)
}

/// The event file of a process that trains.
pub(crate) struct EventFile {
    folder: PathBuf,
    out: BufWriter<File>,
}

impl EventFile {
    /// Begins a file of the run in `root` after `step` steps.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn create(root: &Path, step: u64) -> io::Result<Self> {
        let folder = root.join(FOLDER);
        if step == 0 {
            // Of a run that was begun anew.
            clear(root)?;
        }
        fs::create_dir_all(&folder)?;
        // TensorBoard reads files in the order of their names, whatever the clock says.
        let earlier = written(root)?.into_iter().filter_map(|(_, second)| second);
        let second = earlier.max().map_or(0, |last| last + 1).max(now() as u64);
        let file = File::create_new(folder.join(format!("{PREFIX}{second:010}{SUFFIX}")))?;
        let mut this = Self {
            folder,
            out: BufWriter::new(file),
        };
        this.write(0, What::FileVersion("brain.Event:2".into()))?;
        if step > 0 {
            let began = SessionLog {
                status: SessionLog::START,
            };
            this.write(step + 1, What::SessionLog(began))?;
        }
        Ok(this)
    }

    /// Writes the numbers among `values` after `step` steps, as `kind/name`, or `kind/group/name` in a group.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn scalars(
        &mut self,
        kind: &str,
        step: u64,
        values: &Map<String, Value>,
    ) -> io::Result<()> {
        let mut value = Vec::new();
        numbers(kind, values, &mut value);
        match value.is_empty() {
            true => Ok(()),
            false => self.write(step, What::Summary(Summary { value })),
        }
    }

    /// Writes the PNG file at `path` as `name`, after `step` steps; none where there is no file.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn picture(&mut self, name: &str, step: u64, path: &Path) -> io::Result<()> {
        let png = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            png => png?,
        };
        let side = |at: usize| {
            let bytes = png.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, i32::from_be_bytes)
        };
        let image = Image {
            width: side(16),
            height: side(20),
            colorspace: Image::RGB,
            encoded_image_string: png,
        };
        let value = vec![Scalar::image(name.into(), image)];
        self.write(step, What::Summary(Summary { value }))
    }

    /// Writes features for the page `Projector`, in place of earlier ones.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn projection(&self, projection: &Projection) -> io::Result<()> {
        projection.write(&self.folder)
    }

    /// Brings what was written to whoever reads.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn write(&mut self, step: u64, what: What) -> io::Result<()> {
        let event = Event {
            wall_time: now(),
            step: step as i64,
            what: Some(what),
        };
        record::write(&mut self.out, &event.encode_to_vec())
    }
}

fn numbers(group: &str, values: &Map<String, Value>, found: &mut Vec<Scalar>) {
    for (name, value) in values {
        let name = format!("{group}/{name}");
        match (value.as_f64(), value) {
            (Some(number), _) => found.push(Scalar::number(name, number as f32)),
            (None, Value::Object(values)) => numbers(&name, values, found),
            _ => {}
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a file.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            events.push(Event::decode(&rest[12..12 + length]).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    fn files(root: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(root.join(FOLDER)).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn each_process_has_a_file_that_tells_where_it_begins() {
        let root = tempfile::tempdir().unwrap();
        let line = serde_json::json!({"loss": 1.5, "terms": {"sigreg": 2}, "text": "no number"});
        let line = line.as_object().unwrap();
        for step in [0, 7] {
            let mut file = EventFile::create(root.path(), step).unwrap();
            file.scalars("train", step + 1, line).unwrap();
            file.flush().unwrap();
        }
        let found = files(root.path());
        assert_eq!(found.len(), 2);
        // A clock that is behind makes no earlier file.
        let late = root.path().join(FOLDER);
        fs::write(late.join(format!("{PREFIX}9999999998{SUFFIX}")), "").unwrap();
        EventFile::create(root.path(), 9).unwrap();
        let last = files(root.path()).pop().unwrap();
        assert!(last.to_string_lossy().contains("9999999999"), "{last:?}");
        let events = read(&found[1]);
        assert_eq!(
            events[0].what,
            Some(What::FileVersion("brain.Event:2".into()))
        );
        assert_eq!(events[1].step, 8);
        let start = SessionLog {
            status: SessionLog::START,
        };
        assert_eq!(events[1].what, Some(What::SessionLog(start)));
        let Some(What::Summary(summary)) = &events[2].what else {
            panic!("{:?}", events[2]);
        };
        let tags: Vec<&str> = summary.value.iter().map(|one| one.tag.as_str()).collect();
        assert_eq!(tags, ["train/loss", "train/terms/sigreg"]);
        // A run that is begun anew has nothing of the one before; what others wrote stays.
        let other = root.path().join(FOLDER).join("events.out.tfevents.1.other");
        fs::write(&other, "").unwrap();
        EventFile::create(root.path(), 0).unwrap();
        assert_eq!(files(root.path()).len(), 2);
        clear(root.path()).unwrap();
        assert_eq!(files(root.path()), [other]);
    }
}

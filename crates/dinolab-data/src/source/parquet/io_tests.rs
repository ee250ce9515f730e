//! Tests of the number of reads from storage, and of what is kept in memory.

use std::io;
use std::sync::Mutex;

use ::parquet::basic::Compression;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::*;

const ROWS: usize = 60;
const IMAGE: usize = 10_000;
const GROUP: usize = 20;
const PAGE: usize = 5;

/// Offsets and lengths.
type Reads = Arc<Mutex<Vec<(u64, usize)>>>;

#[derive(Debug)]
struct Counted {
    bytes: Vec<u8>,
    reads: Reads,
}

impl ReadRange for Counted {
    fn path(&self) -> &Path {
        Path::new("set.parquet")
    }
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read(&self, start: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.reads.lock().unwrap().push((start, bytes.len()));
        bytes.copy_from_slice(&self.bytes[start as usize..][..bytes.len()]);
        Ok(())
    }
}

fn image(row: usize) -> Vec<u8> {
    vec![row as u8; IMAGE]
}

/// Three row groups of four pages of five images.
fn source(index: bool) -> (Parquet, Reads) {
    let schema = parse_message_type("message schema { required binary image; }").unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(PAGE)
        .set_write_batch_size(PAGE)
        .set_offset_index_disabled(!index)
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties)).unwrap();
    for first in (0..ROWS).step_by(GROUP) {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let images: Vec<ByteArray> = (first..first + GROUP)
            .map(|row| image(row).into())
            .collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&images, None, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    let reads = Reads::default();
    let file = Counted {
        bytes,
        reads: Arc::clone(&reads),
    };
    let options = SourceOptions::default();
    let source = Parquet::new(Path::new("set"), vec![Box::new(file)], &options).unwrap();
    // The footer's end, and the footer.
    assert_eq!(std::mem::take(&mut *reads.lock().unwrap()).len(), 2);
    (source, reads)
}

/// In an order that comes back to each page again and again.
fn scattered() -> impl Iterator<Item = usize> {
    (0..ROWS).map(|i| i * 7 % ROWS)
}

#[test]
fn each_page_is_read_once_while_it_fits() {
    for (index, lookups) in [(true, 1), (false, GROUP / PAGE)] {
        let (source, reads) = source(index);
        for row in scattered() {
            assert_eq!(source.encoded(row).unwrap(), Some(image(row)));
        }
        let groups = ROWS / GROUP;
        let pages = ROWS / PAGE;
        let reads = reads.lock().unwrap();
        assert_eq!(reads.len(), groups * lookups + pages, "{reads:?}");
    }
}

#[test]
fn memory_is_bounded_whatever_is_asked_for() {
    let (mut source, reads) = source(true);
    let page = PAGE * (IMAGE + 4 + size_of::<Option<ByteArray>>());
    source.cache = Cache::new(2 * page);
    for row in scattered() {
        assert_eq!(source.encoded(row).unwrap(), Some(image(row)));
        assert!(source.cache.held() <= 3 * page);
    }
    // Rows that lie apart take a page each; there is no way around it.
    assert!(reads.lock().unwrap().len() > ROWS / 2);
    reads.lock().unwrap().clear();
    // From front to back each page is read once all the same.
    let mut row = 0;
    let all: Vec<usize> = (0..ROWS).collect();
    while row < ROWS {
        let run = source.read_contiguous(&all[row..], u64::MAX).unwrap();
        assert!(run.iter().zip(row..).all(|(file, row)| *file == image(row)));
        row += run.len();
    }
    assert_eq!(reads.lock().unwrap().len(), ROWS / PAGE);
}

#[test]
fn threads_that_want_a_page_wait_for_one_of_them() {
    let (source, reads) = source(true);
    std::thread::scope(|scope| {
        for row in 0..PAGE {
            let source = &source;
            scope.spawn(move || assert_eq!(source.encoded(row).unwrap(), Some(image(row))));
        }
    });
    let page = |read: &&(u64, usize)| read.1 < IMAGE * PAGE && read.0 < 4 + 4096;
    assert_eq!(reads.lock().unwrap().iter().filter(page).count(), 1);
}

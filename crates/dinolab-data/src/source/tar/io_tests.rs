//! Tests of the number of reads from storage.

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use image::{ImageFormat, Rgb, RgbImage};

use super::*;
use crate::augment::MultiCrop;
use crate::{Crops, Loader, LoaderConfig, Pixels};

/// Which shard, from where.
type Reads = Arc<Mutex<Vec<(usize, u64)>>>;

#[derive(Debug)]
struct Counted {
    shard: usize,
    path: PathBuf,
    bytes: Vec<u8>,
    reads: Reads,
}

impl ReadRange for Counted {
    fn path(&self) -> &Path {
        &self.path
    }
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read(&self, start: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.reads.lock().unwrap().push((self.shard, start));
        bytes.copy_from_slice(&self.bytes[start as usize..][..bytes.len()]);
        Ok(())
    }
}

/// Two shards of forty images, 270 kB each.
fn shards() -> (Arc<Tar>, Reads) {
    let reads = Reads::default();
    let shards = (0..2).map(|shard| {
        let mut archive = ::tar::Builder::new(Vec::new());
        for i in 0..40u8 {
            let mut file = Cursor::new(Vec::new());
            RgbImage::from_fn(300, 300, |x, y| Rgb([x as u8, y as u8, shard * 100 + i]))
                .write_to(&mut file, ImageFormat::Bmp)
                .unwrap();
            let mut header = ::tar::Header::new_gnu();
            header.set_size(file.get_ref().len() as u64);
            archive
                .append_data(&mut header, format!("{i:02}.bmp"), &file.get_ref()[..])
                .unwrap();
        }
        let file = Counted {
            shard: shard.into(),
            path: format!("{shard}.tar").into(),
            bytes: archive.into_inner().unwrap(),
            reads: Arc::clone(&reads),
        };
        let contents = Contents::of(&file, 4096, Pixels::Rgb).unwrap();
        (Box::new(file) as Box<dyn ReadRange>, contents)
    });
    let tar = Tar::new(
        Path::new("set"),
        shards.collect(),
        &SourceOptions::default(),
    );
    (Arc::new(tar.unwrap()), reads)
}

#[test]
fn a_shuffle_buffer_reads_shards_from_front_to_back_in_large_parts() {
    let (source, reads) = shards();
    let epoch = |shuffle_buffer, first, read_ahead| -> (Vec<Crops>, Vec<(usize, u64)>) {
        reads.lock().unwrap().clear();
        let crops = MultiCrop {
            global_size: 16.into(),
            local_size: 8.into(),
            local_views: 1,
            ..MultiCrop::default()
        };
        let config = LoaderConfig {
            batch_size: 5,
            workers: 2,
            read_ahead,
            shuffle_buffer,
            ..LoaderConfig::default()
        };
        let loader = Loader::new(source.clone(), crops, config).unwrap();
        let batches = loader.epoch(0, first).map(Result::unwrap).collect();
        (batches, std::mem::take(&mut *reads.lock().unwrap()))
    };
    let (_, single) = epoch(0, 0, 4);
    assert_eq!(single.len(), 80, "one read an image");

    let (whole, mut large) = epoch(10, 0, 4);
    assert_eq!(whole.len(), 16);
    // 15 images fit into 4 MiB, so that 40 take three reads.
    assert_eq!(large.len(), 6, "{large:?}");
    // Which of two threads is the first to read its part is not decided.
    large[..3].sort_unstable();
    large[3..].sort_unstable();
    for shard in [&large[..3], &large[3..]] {
        assert!(shard.iter().all(|read| read.0 == shard[0].0), "{large:?}");
        assert!(shard[0].1 < 4096 && shard[1].1 > 3 << 20 && shard[2].1 > 7 << 20);
    }

    // Resumed inside the first shard: what was used before is not read again.
    let (rest, reads) = epoch(10, 5, 4);
    assert_eq!(rest, whole[5..]);
    assert!(reads.len() <= 6, "{reads:?}");
    // Without readers each worker reads for itself; the crops are the same.
    let (same, reads) = epoch(10, 0, 0);
    assert_eq!((same, reads.len()), (whole, 80));
}

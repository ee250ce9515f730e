//! Videos frame by frame: GIF, Motion JPEG, and AVI files of it.

use std::fs;
use std::path::Path;

use dinolab_data::video::{Frame, is_video, open};
use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{Delay, RgbImage, RgbaImage};

const LIMIT: u64 = 1 << 20;

fn jpeg(shade: u8) -> Vec<u8> {
    let picture = RgbImage::from_pixel(16, 8, image::Rgb([shade; 3]));
    let mut bytes = Vec::new();
    picture
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 95))
        .unwrap();
    bytes
}

fn chunk(id: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut out = id.to_vec();
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(content);
    out.resize(out.len() + content.len() % 2, 0);
    out
}

fn list(id: &[u8; 4], kind: &[u8; 4], parts: &[Vec<u8>]) -> Vec<u8> {
    chunk(id, &[&kind[..], &parts.concat()].concat())
}

/// An AVI file with a sound stream before the pictures'.
fn avi(codec: &[u8; 4], frames: &[Vec<u8>]) -> Vec<u8> {
    let header = |kind: &[u8; 4], scale: u32, rate: u32| {
        let mut content = vec![0; 56];
        content[..4].copy_from_slice(kind);
        content[20..24].copy_from_slice(&scale.to_le_bytes());
        content[24..28].copy_from_slice(&rate.to_le_bytes());
        chunk(b"strh", &content)
    };
    let mut format = vec![0; 40];
    format[16..20].copy_from_slice(codec);
    let sound = list(
        b"LIST",
        b"strl",
        &[header(b"auds", 1, 8000), chunk(b"strf", &[0; 18])],
    );
    let pictures = list(
        b"LIST",
        b"strl",
        &[header(b"vids", 1, 12), chunk(b"strf", &format)],
    );
    let headers = list(
        b"LIST",
        b"hdrl",
        &[chunk(b"avih", &[0; 56]), sound, pictures],
    );
    let mut movie = Vec::new();
    for frame in frames {
        // An odd length, so that padding matters.
        movie.push(chunk(b"00wb", &[0xFF; 7]));
        movie.push(list(b"LIST", b"rec ", &[chunk(b"01dc", frame)]));
    }
    let movie = list(b"LIST", b"movi", &movie);
    list(
        b"RIFF",
        b"AVI ",
        &[headers, movie, chunk(b"idx1", &[0; 16])],
    )
}

fn shades(path: &Path) -> Vec<u8> {
    let frames: Vec<Frame> = open(path, LIMIT).unwrap().map(Result::unwrap).collect();
    assert!(
        frames
            .iter()
            .all(|f| (f.image.width, f.image.height) == (16, 8))
    );
    frames.iter().map(|f| f.image.data[0]).collect()
}

#[test]
fn motion_jpeg() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let frames: Vec<Vec<u8>> = [10, 100, 200].map(jpeg).into();
    fs::write(at("a.mjpeg"), frames.concat()).unwrap();
    fs::write(at("a.avi"), avi(b"MJPG", &frames)).unwrap();
    assert_eq!(shades(&at("a.mjpeg")), [10, 100, 200]);
    assert_eq!(shades(&at("a.avi")), [10, 100, 200]);
    let first = open(&at("a.avi"), LIMIT).unwrap().next().unwrap().unwrap();
    assert!((first.seconds - 1.0 / 12.0).abs() < 1e-12);
    // An empty frame repeats the one before.
    let repeated = [frames[0].clone(), Vec::new(), frames[1].clone()];
    fs::write(at("b.avi"), avi(b"MJPG", &repeated)).unwrap();
    assert_eq!(shades(&at("b.avi")), [10, 10, 100]);
    assert!(is_video(&at("a.avi")) && is_video(&at("a.mjpeg")));
    fs::write(at("a.jpg"), &frames[0]).unwrap();
    assert!(!is_video(&at("a.jpg")) && !is_video(folder.path()) && !is_video(&at("none.gif")));
    // Too large, and cut short wherever.
    let error = open(&at("a.avi"), 100)
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("frame 0"), "{error}");
    let whole = avi(b"MJPG", &frames);
    for length in (12..whole.len() - 30).step_by(11) {
        fs::write(at("cut.avi"), &whole[..length]).unwrap();
        if let Ok(video) = open(&at("cut.avi"), LIMIT) {
            let read: Vec<_> = video.collect();
            assert!(read.len() <= 4);
            assert!(read.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}

#[test]
fn animated_gif() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut bytes = Vec::new();
    {
        let mut encoder = GifEncoder::new(&mut bytes);
        for (shade, delay) in [(10, 250), (100, 0), (200, 40)] {
            let picture = RgbaImage::from_pixel(16, 8, image::Rgba([shade, shade, shade, 255]));
            let delay = Delay::from_numer_denom_ms(delay, 1);
            let frame = image::Frame::from_parts(picture, 0, 0, delay);
            encoder.encode_frame(frame).unwrap();
        }
    }
    // Whatever the name.
    fs::write(at("a.dat"), &bytes).unwrap();
    assert!(is_video(&at("a.dat")));
    assert_eq!(shades(&at("a.dat")), [10, 100, 200]);
    let seconds: Vec<f64> = open(&at("a.dat"), LIMIT)
        .unwrap()
        .map(|frame| frame.unwrap().seconds)
        .collect();
    assert_eq!(seconds, [0.25, 0.1, 0.04]);
    assert!(open(&at("a.dat"), 100).is_err());
    for length in 6..bytes.len() - 1 {
        fs::write(at("cut.gif"), &bytes[..length]).unwrap();
        if let Ok(video) = open(&at("cut.gif"), LIMIT) {
            assert!(video.count() <= 4);
        }
    }
    fs::write(at("empty.gif"), "").unwrap();
    let error = open(&at("empty.gif"), LIMIT).err().unwrap().to_string();
    assert!(error.contains("damaged GIF"), "{error}");
}

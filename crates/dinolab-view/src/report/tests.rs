use dinolab_data::Size;

use super::chart::{Axis, MAX_POINTS, thinned};
use super::*;
use crate::{ColourMap, encode_png, heat_map, write_png};

fn chart(lines: Vec<Line>) -> Chart {
    Chart {
        title: "Loss".into(),
        note: "It should <fall>.".into(),
        y_label: "nats".into(),
        x_label: "step".into(),
        lines,
    }
}

fn page_of(chart: Chart) -> String {
    Report {
        title: "t".into(),
        charts: vec![chart],
        ..Report::default()
    }
    .to_html()
}

/// Every tag that is opened is closed, in order.
fn assert_balanced(page: &str) {
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        let name = tag.split([' ', '/']).find(|n| !n.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') && !["!DOCTYPE", "meta", "img"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_full_page() {
    let ramp: Vec<f32> = (0..64).map(|i| i as f32 / 63.0).collect();
    let heat = heat_map(&ramp, Size::square(8), ColourMap::Tide).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("heat.png");
    write_png(&file, &heat).unwrap();
    let report = Report {
        title: "Run <1> & \"co\"".into(),
        summary: vec![("lr".into(), "5e-4".into())],
        warnings: vec!["a < b".into()],
        charts: vec![chart(vec![("train".into(), vec![(0.0, 1.0), (1.0, 0.5)])])],
        tables: vec![Table {
            title: "k-NN".into(),
            note: "What it <says>.".into(),
            header: vec!["k".into(), "top-1".into()],
            rows: vec![vec!["20".into(), "70.1".into()], vec!["<x>".into()]],
        }],
        pictures: vec![
            (
                "one".into(),
                PictureSource::Bytes(encode_png(&heat).unwrap()),
            ),
            ("two".into(), PictureSource::File(file)),
            ("gone".into(), PictureSource::File("no/such.png".into())),
            ("odd".into(), PictureSource::Bytes(vec![1, 2, 3])),
        ],
    };
    let path = folder.path().join("report.html");
    report.write(&path).unwrap();
    let page = std::fs::read_to_string(path).unwrap();
    assert_balanced(&page);
    assert!(page.contains("Run &lt;1&gt; &amp; &quot;co&quot;"));
    assert!(page.contains("a &lt; b") && page.contains("&lt;x&gt;"));
    assert!(page.contains("<p>What it &lt;says&gt;.</p>"));
    assert_eq!(page.matches("data:image/png;base64,").count(), 2);
    assert!(page.contains("no/such.png") && page.contains("not a PNG"));
    for outside in ["http:", "https:", "<script", "src=\"/", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn odd_series() {
    for lines in [
        vec![],
        vec![("empty".to_string(), vec![])],
        vec![(
            "nan".to_string(),
            vec![(0.0, f64::NAN), (f64::INFINITY, 1.0)],
        )],
    ] {
        let page = page_of(chart(lines));
        assert_balanced(&page);
        assert!(page.contains("No data yet"));
    }
    let page = page_of(chart(vec![
        ("one".into(), vec![(3.0, 2.0)]),
        (
            "gap".into(),
            vec![(0.0, 1.0), (1.0, 1.1), (2.0, f64::NAN), (3.0, 1.2)],
        ),
        ("huge".into(), vec![(0.0, f64::MAX), (1.0, f64::MIN)]),
        ("none".into(), vec![]),
    ]));
    assert_balanced(&page);
    assert_eq!(page.matches("<circle").count(), 2);
    assert!(page.contains("(1 not finite)") && page.contains("(no data)"));
    let drawn = page.split("<svg").nth(1).unwrap();
    assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
}

#[test]
fn many_points_are_averaged() {
    let points: Vec<_> = (0..10_001)
        .map(|i| (f64::from(i), f64::from(i % 2)))
        .collect();
    let thin = thinned(&points, MAX_POINTS);
    assert!(thin.len() <= MAX_POINTS);
    assert!((thin[10].1 - 0.5).abs() < 0.11);
    let few = &points[..MAX_POINTS];
    assert_eq!(thinned(few, MAX_POINTS), few);
    let mut gap = points;
    gap[..100].iter_mut().for_each(|p| p.1 = f64::NAN);
    let thin = thinned(&gap, MAX_POINTS);
    assert!(thin[0].1.is_nan() && thin[100].1.is_finite());
}

#[test]
fn ticks_are_round() {
    let axis = |low, high| Axis::over([low, high].into_iter()).unwrap();
    let labels = |a: &Axis| a.ticks().iter().map(|&t| a.label(t)).collect::<Vec<_>>();
    assert_eq!(labels(&axis(0.0, 10.0)), ["0", "2", "4", "6", "8", "10"]);
    assert_eq!(
        labels(&axis(0.996, 1.0)),
        ["0.996", "0.997", "0.998", "0.999", "1.000"]
    );
    let tiny = labels(&axis(0.0, 5e-4));
    assert_eq!(tiny, ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]);
    for (low, high) in [
        (5.0, 5.0),
        (0.0, 0.0),
        (-1e300, 1e300),
        (1e-12, 1e12),
        (-3.0, -2.0),
    ] {
        let n = axis(low, high).ticks().len();
        assert!((2..=12).contains(&n), "{low} {high}: {n}");
    }
    assert!(Axis::over(std::iter::empty()).is_none());
}

//! The revisited Oxford/Paris protocol: against the benchmark's published evaluation in Python
//! (NumPy, double precision; figures in `published.json`), against a definition that goes image
//! by image, and its ground-truth files as Python writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dinolab_eval::retrieval::{Difficulty, GroundTruth, Query, Score};
use proptest::prelude::*;

const KS: [usize; 3] = [1, 5, 10];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/retrieval")
        .join(name)
}

#[test]
fn equals_the_published_evaluation() {
    #[derive(serde::Deserialize)]
    struct Expected {
        map: f64,
        precision: Vec<f64>,
        per_query: Vec<Option<f64>>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        dim: usize,
        #[serde(flatten)]
        truth: GroundTruth,
        database: Vec<f32>,
        queries: Vec<f32>,
        expected: std::collections::BTreeMap<String, Expected>,
    }
    let text = std::fs::read_to_string(fixture("published.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let places = case
            .truth
            .ranks(&case.database, &case.queries, case.dim)
            .unwrap();
        for difficulty in Difficulty::ALL {
            let ours = Score::of(difficulty, &places, &KS);
            let theirs = &case.expected[difficulty.name()];
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
            close(ours.map.unwrap(), theirs.map);
            for (a, b) in ours.precision.iter().zip(&theirs.precision) {
                close(*a, *b);
            }
            assert_eq!(ours.per_query.len(), theirs.per_query.len());
            for (a, b) in ours.per_query.iter().zip(&theirs.per_query) {
                assert_eq!(a.is_some(), b.is_some());
                close(a.unwrap_or(0.0), b.unwrap_or(0.0));
            }
        }
    }
}

#[test]
fn ground_truth_as_python_writes_it() {
    let json = GroundTruth::read(fixture("gnd.json")).unwrap();
    assert_eq!(json.images.len(), 5);
    assert_eq!(json.truth[1].hard, [2, 0]);
    assert_eq!(json.truth[0].bbx, Some([136.5, 34.1, 648.5, 955.7]));
    for name in [
        "lists-0",
        "lists-2",
        "lists-3",
        "lists-4",
        "lists-5",
        "arrays-2",
        "arrays-4",
        "arrays-5",
        "arrays-big-endian",
        "scalars",
    ] {
        let read = GroundTruth::read(fixture(&format!("{name}.pkl")));
        let read = read.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read, json, "{name}");
    }
}

#[test]
fn wrong_ground_truth_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnd.pkl");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let told = GroundTruth::read(&path).unwrap_err().to_string();
        assert!(told.contains("gnd.pkl"), "{told}");
        told
    };
    assert!(refused(b"").contains("cut short"));
    assert!(refused(b"cposix\nsystem\n(S'true'\ntR.").contains("posix.system"));
    assert!(refused(b"{\"imlist\": [\"a\"]}").contains("qimlist"));
    assert!(refused(b"\x80\x02}.").contains("imlist"));
    let of = |gnd: &str| format!("{{\"imlist\":[\"a\",\"b\"],\"qimlist\":[\"q\"],\"gnd\":{gnd}}}");
    assert!(refused(of("[{\"easy\":[2]}]").as_bytes()).contains("gnd[0].easy"));
    assert!(refused(of("[]").as_bytes()).contains("0 entries"));
    assert!(refused(of("[{\"bbx\":[5,0,5,9]}]").as_bytes()).contains("bbx"));
    let whole = std::fs::read(fixture("arrays-4.pkl")).unwrap();
    for length in 0..whole.len() {
        refused(&whole[..length]);
    }
    assert!(GroundTruth::read(folder.path().join("none")).is_err());
}

/// The protocol, image by image: the ranking is made, what is left out is taken out of it,
/// and precision is counted anew at every place.
fn by_definition(
    ranking: &[usize],
    wanted: &[usize],
    left_out: &[usize],
) -> Option<(f64, Vec<f64>)> {
    let wanted: BTreeSet<_> = wanted.iter().collect();
    let left_out: BTreeSet<_> = left_out.iter().collect();
    if wanted.is_empty() {
        return None;
    }
    let kept: Vec<bool> = ranking
        .iter()
        .filter(|image| !left_out.contains(image))
        .map(|image| wanted.contains(image))
        .collect();
    let precision = |length: usize| match length {
        0 => 1.0,
        _ => kept[..length].iter().filter(|&&hit| hit).count() as f64 / length as f64,
    };
    let mut area = 0.0;
    for (place, &hit) in kept.iter().enumerate() {
        if hit {
            area += (precision(place) + precision(place + 1)) / 2.0 / wanted.len() as f64;
        }
    }
    let last = 1 + kept.iter().rposition(|&hit| hit).unwrap();
    let at = KS.iter().map(|&k| precision(k.min(last))).collect();
    Some((area, at))
}

/// A database on a line, its images' kinds (0 negative, 1 easy, 2 hard, 3 junk) per query.
fn cases() -> impl Strategy<Value = (Vec<u16>, Vec<(u16, Vec<u8>)>)> {
    (2usize..40).prop_flat_map(|n| {
        let positions = proptest::collection::vec(any::<u16>(), n);
        let query = (any::<u16>(), proptest::collection::vec(0u8..4, n));
        (positions, proptest::collection::vec(query, 1..5))
    })
}

/// A point on the unit half-circle.
fn point(position: u16) -> [f32; 2] {
    let angle = f32::from(position) / 65535.0 * std::f32::consts::PI;
    [angle.cos(), angle.sin()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_definition((positions, queries) in cases()) {
        let database: Vec<f32> = positions.iter().flat_map(|&p| point(p)).collect();
        let asked: Vec<f32> = queries.iter().flat_map(|(p, _)| point(*p)).collect();
        let of = |kinds: &[u8], kind: u8| -> Vec<usize> {
            (0..kinds.len()).filter(|&i| kinds[i] == kind).collect()
        };
        let truth = GroundTruth {
            images: positions.iter().map(u16::to_string).collect(),
            queries: queries.iter().map(|(p, _)| p.to_string()).collect(),
            truth: queries
                .iter()
                .map(|(_, kinds)| Query {
                    easy: of(kinds, 1),
                    hard: of(kinds, 2),
                    junk: of(kinds, 3),
                    bbx: None,
                })
                .collect(),
        };
        let places = truth.ranks(&database, &asked, 2).unwrap();
        for difficulty in Difficulty::ALL {
            let ours = Score::of(difficulty, &places, &KS);
            let mut all = Vec::new();
            for (i, (position, kinds)) in queries.iter().enumerate() {
                let q = point(*position);
                let mut ranking: Vec<usize> = (0..positions.len()).collect();
                // The dot product in the order in which two values can be added.
                let similarity = |i: usize| database[2 * i].mul_add(q[0], 0.0) + database[2 * i + 1] * q[1];
                ranking.sort_by(|&a, &b| similarity(b).total_cmp(&similarity(a)).then(a.cmp(&b)));
                // Images so near each other that rounding decides are another test's concern.
                let near = ranking.windows(2).any(|w| {
                    positions[w[0]] != positions[w[1]] && (similarity(w[0]) - similarity(w[1])).abs() < 1e-6
                });
                prop_assume!(!near);
                let (easy, hard, junk) = (of(kinds, 1), of(kinds, 2), of(kinds, 3));
                let (wanted, left_out) = match difficulty {
                    Difficulty::Easy => (easy, [hard, junk].concat()),
                    Difficulty::Medium => ([easy, hard].concat(), junk),
                    Difficulty::Hard => (hard, [easy, junk].concat()),
                };
                let expected = by_definition(&ranking, &wanted, &left_out);
                prop_assert_eq!(ours.per_query[i].is_some(), expected.is_some());
                if let Some((area, at)) = expected {
                    prop_assert!((ours.per_query[i].unwrap() - area).abs() < 1e-12);
                    prop_assert!((0.0..=1.0 + 1e-12).contains(&area));
                    all.push((area, at));
                }
            }
            let count = all.len() as f64;
            prop_assert_eq!(ours.map.is_some(), count > 0.0);
            if let Some(map) = ours.map {
                prop_assert!((map - all.iter().map(|(area, _)| area).sum::<f64>() / count).abs() < 1e-12);
                for (k, mean) in ours.precision.iter().enumerate() {
                    let expected = all.iter().map(|(_, at)| at[k]).sum::<f64>() / count;
                    prop_assert!((mean - expected).abs() < 1e-12);
                }
            }
        }
    }

    /// Junk may be anywhere: moving it changes nothing.
    #[test]
    fn junk_has_no_influence((positions, queries) in cases(), elsewhere: u16) {
        let (position, kinds) = &queries[0];
        let truth = |_: ()| GroundTruth {
            images: positions.iter().map(u16::to_string).collect(),
            queries: vec!["q".into()],
            truth: vec![Query {
                easy: (0..kinds.len()).filter(|&i| kinds[i] == 1).collect(),
                hard: (0..kinds.len()).filter(|&i| kinds[i] == 2).collect(),
                junk: (0..kinds.len()).filter(|&i| kinds[i] == 3).collect(),
                bbx: None,
            }],
        };
        let database: Vec<f32> = positions.iter().flat_map(|&p| point(p)).collect();
        let moved: Vec<f32> = positions
            .iter()
            .zip(kinds)
            .flat_map(|(&p, &kind)| point(if kind == 3 { elsewhere } else { p }))
            .collect();
        for difficulty in Difficulty::ALL {
            let judge = |database: &[f32]| {
                Score::of(difficulty, &truth(()).ranks(database, &point(*position), 2).unwrap(), &KS)
            };
            prop_assert_eq!(judge(&database), judge(&moved));
        }
    }
}

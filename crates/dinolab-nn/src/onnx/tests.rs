//! The bytes of messages, position embeddings in the graph, and graphs that are not sound.

use burn::tensor::{Tensor, TensorData};
use proptest::prelude::*;
use rten_tensor::prelude::*;

use super::graph::{Dim, Graph};
use super::positions::{Grid, resampled};
use super::proto::*;
use super::*;
use crate::init::Init;
use crate::position::{PositionRule, resample};
use crate::{HeadConfig, ProjectionHead, Vit, VitConfig, device};

fn small(edit: impl FnOnce(&mut VitConfig)) -> AnyBackbone {
    let mut config = VitConfig {
        image_size: 20,
        patch_size: 4,
        width: 12,
        depth: 2,
        heads: 3,
        ..VitConfig::default()
    };
    edit(&mut config);
    let mut vit = Vit::new(&config, &mut Init::new(5), &device::by_name("cpu").unwrap()).unwrap();
    // Larger than at the start of training, so that no part of the network is without weight.
    let mut init = Init::new(6);
    vit.visit_mut("", &mut |_, param| {
        let values = init.truncated_normal(param.len(), 0.4);
        let device = param.flat().device();
        param.set_flat(Tensor::from_data(
            TensorData::new(values, [param.len()]),
            &device,
        ));
    });
    vit.into()
}

#[test]
fn messages_have_the_bytes_of_the_standard() {
    let attribute = AttributeProto {
        name: "a".into(),
        f: Some(1.0),
        i: Some(0),
        ints: vec![2, -1],
        r#type: 7,
    };
    let attribute_bytes = [
        b"\x0a\x01a\x15\x00\x00\x80\x3f\x18\x00\x40\x02\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xa0\x01\x07".as_slice(),
    ]
    .concat();
    assert_eq!(attribute.encode_to_vec(), attribute_bytes);
    let node = NodeProto {
        input: vec!["x".into(), "y".into()],
        output: vec!["z".into()],
        name: "n".into(),
        op_type: "Op".into(),
        attribute: vec![attribute],
        domain: "d".into(),
    };
    let mut node_bytes = b"\x0a\x01x\x0a\x01y\x12\x01z\x1a\x01n\x22\x02Op\x2a\x1a".to_vec();
    node_bytes.extend(attribute_bytes);
    node_bytes.extend(b"\x3a\x01d");
    assert_eq!(node.encode_to_vec(), node_bytes);
    let tensor = TensorProto {
        dims: vec![2, 300],
        data_type: 1,
        name: "w".into(),
        raw_data: vec![9],
    };
    let tensor_bytes = b"\x08\x02\x08\xac\x02\x10\x01\x42\x01w\x4a\x01\x09";
    assert_eq!(tensor.encode_to_vec(), tensor_bytes);
    let dims = [DimensionValue::Size(3), DimensionValue::Name("h".into())];
    let info = ValueInfoProto {
        name: "v".into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: 1,
                shape: Some(TensorShapeProto {
                    dim: dims
                        .map(|value| DimensionProto { value: Some(value) })
                        .to_vec(),
                }),
            }),
        }),
        doc_string: "?".into(),
    };
    let info_bytes =
        b"\x0a\x01v\x12\x0f\x0a\x0d\x08\x01\x12\x09\x0a\x02\x08\x03\x0a\x03\x12\x01h\x1a\x01?";
    assert_eq!(info.encode_to_vec(), info_bytes);
    let (n, t, v) = (
        node_bytes.len() as u8,
        tensor_bytes.len() as u8,
        info_bytes.len() as u8,
    );
    let graph = GraphProto {
        node: vec![node],
        name: "g".into(),
        initializer: vec![tensor],
        input: vec![info.clone()],
        output: vec![info],
    };
    let graph_bytes = [
        &[0x0a, n],
        node_bytes.as_slice(),
        b"\x12\x01g",
        &[0x2a, t],
        tensor_bytes,
        &[0x5a, v],
        info_bytes,
        &[0x62, v],
        info_bytes,
    ]
    .concat();
    assert_eq!(graph.encode_to_vec(), graph_bytes);
    // The length of up to 127 bytes is one byte.
    let g = i8::try_from(graph_bytes.len()).unwrap() as u8;
    let model = ModelProto {
        ir_version: 8,
        producer_name: "p".into(),
        producer_version: "1".into(),
        doc_string: "s".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: "d".into(),
            version: 17,
        }],
        metadata_props: vec![StringStringEntryProto {
            key: "k".into(),
            value: "v".into(),
        }],
    };
    let mut model_bytes = b"\x08\x08\x12\x01p\x1a\x011\x32\x01s\x3a".to_vec();
    model_bytes.push(g);
    model_bytes.extend(graph_bytes);
    model_bytes.extend(b"\x42\x05\x0a\x01d\x10\x11\x72\x06\x0a\x01k\x12\x01v");
    assert_eq!(model.encode_to_vec(), model_bytes);
    assert_eq!(ModelProto::decode(model_bytes.as_slice()).unwrap(), model);
}

/// What the graph makes of a grid of embeddings, `[side, side, 2]`.
fn resampled_in_graph(
    grid: &[f32],
    side: usize,
    h: usize,
    w: usize,
    rule: PositionRule,
) -> Vec<f32> {
    let mut g = Graph::new("positions");
    let embeddings = g.input("x", &[Dim::Size(side), Dim::Size(2 * side)], "");
    let size = Grid {
        h: g.int(h as i64),
        w: g.int(w as i64),
    };
    let y = resampled(&mut g, &embeddings, side, 2, &size, rule);
    g.output("y", y, &[], "");
    let model = ModelProto {
        ir_version: IR_VERSION,
        graph: Some(g.finish()),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        ..ModelProto::default()
    };
    let program = rten::Model::load(model.encode_to_vec()).unwrap();
    let input = rten_tensor::Tensor::from_data(&[side, 2 * side], grid.to_vec());
    let y = program.run_one(input.into(), None).unwrap();
    let y: rten_tensor::Tensor<f32> = y.try_into().unwrap();
    assert_eq!(y.shape(), [1, h * w, 2]);
    y.into_data()
}

const RULES: [PositionRule; 3] = [
    PositionRule::Dino,
    PositionRule::Ratio,
    PositionRule::RatioAntialias,
];

#[test]
fn the_graph_keeps_embeddings_of_the_trained_size() {
    for side in [1, 2, 7, 14, 37] {
        let grid: Vec<f32> = Init::new(1).truncated_normal(2 * side * side, 1.0);
        for rule in RULES {
            let found = resampled_in_graph(&grid, side, side, side, rule);
            assert_eq!(found, grid, "{rule}, {side}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_graph_resamples_embeddings_as_the_network_does(
        side in 1usize..40, h in 1usize..90, w in 1usize..90, rule in 0..3usize, square: bool
    ) {
        // Squares are rare otherwise, and a rectangle may share one side with the trained size.
        let w = if square { h } else { w };
        let grid: Vec<f32> = Init::new(2).truncated_normal(2 * side * side, 1.0);
        let found = resampled_in_graph(&grid, side, h, w, RULES[rule]);
        let expected = if (h, w) == (side, side) {
            grid
        } else {
            resample(&grid, 2, side, h, w, RULES[rule])
        };
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-5, "{} {}", found, expected);
        }
    }
}

#[test]
fn unsound_graphs_are_found() {
    let good = model(&small(|_| ()), None, &Options::default())
        .graph
        .unwrap();
    check::check(&good).unwrap();
    let refused = |edit: &dyn Fn(&mut GraphProto)| {
        let mut graph = good.clone();
        edit(&mut graph);
        check::check(&graph).unwrap_err()
    };
    let weight = |graph: &GraphProto| {
        let mut names = graph.initializer.iter().map(|constant| &constant.name);
        names.position(|name| name == "norm.weight").unwrap()
    };
    let error = refused(&|graph| {
        let at = weight(graph);
        graph.initializer[at].raw_data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(
        error.contains("norm.weight") && error.contains("not finite"),
        "{error}"
    );
    let error = refused(&|graph| {
        let at = weight(graph);
        graph.initializer[at].raw_data.truncate(8);
    });
    assert!(
        error.contains("norm.weight") && error.contains("8 bytes"),
        "{error}"
    );
    let error = refused(&|graph| {
        let at = weight(graph);
        graph.initializer.remove(at);
    });
    assert!(error.contains("uses norm.weight"), "{error}");
    let error = refused(&|graph| graph.node.swap(0, 1));
    assert!(error.contains("not made before"), "{error}");
    let error = refused(&|graph| graph.node.push(graph.node[0].clone()));
    assert!(error.contains("two values"), "{error}");
    let error = refused(&|graph| {
        graph.node.pop();
    });
    assert!(error.contains("output features is not made"), "{error}");
}

#[test]
fn names_are_used_once_and_parameters_keep_theirs() {
    let vit = small(|config| {
        config.registers = 2;
        config.layer_scale = true;
    });
    let config = HeadConfig {
        out_dim: 6,
        hidden_dim: 5,
        bottleneck_dim: 4,
        ..HeadConfig::default()
    };
    let head = Head::new(
        &config,
        12,
        &mut Init::new(0),
        &device::by_name("cpu").unwrap(),
    )
    .unwrap();
    let options = Options {
        patch_features: true,
        attention: true,
        ..Options::default()
    };
    let graph = model(&vit, Some(&head), &options).graph.unwrap();
    let mut names: Vec<&str> = graph.initializer.iter().map(|c| c.name.as_str()).collect();
    vit.visit("", &mut |name, _| {
        let name = if name == "pos_embed" {
            "pos_embed.patches"
        } else {
            name
        };
        assert!(names.contains(&name), "{name}");
    });
    names.extend(graph.input.iter().map(|input| input.name.as_str()));
    names.extend(
        graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(String::as_str)),
    );
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    let outputs: Vec<&str> = graph
        .output
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    assert_eq!(outputs, [FEATURES, PATCH_FEATURES, ATTENTION, LOGITS]);
}

#[test]
fn more_than_a_file_holds_is_refused() {
    // DINOv2's giant has 1136 million, its large one 304 million.
    assert!(too_large(1_136_000_000).unwrap().contains("2 GiB"));
    assert_eq!(too_large(304_000_000), None);
}

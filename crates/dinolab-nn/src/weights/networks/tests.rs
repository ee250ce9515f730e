//! Networks of this program and of others, found by prefixes.

use super::*;

fn find(prefixes: &[&str], role: impl Into<Option<NetworkRole>>) -> Result<Network> {
    find_evaluated(prefixes, role, None)
}

fn find_evaluated(
    prefixes: &[&str],
    role: impl Into<Option<NetworkRole>>,
    evaluated: Option<&str>,
) -> Result<Network> {
    let names: Vec<String> = prefixes
        .iter()
        .flat_map(|prefix| ["cls_token", "patch_embed.proj.weight"].map(|n| format!("{prefix}{n}")))
        .collect();
    let names = names.iter().map(String::as_str);
    Network::find("file".as_ref(), names, role.into(), evaluated)
}

#[test]
fn teachers_and_students_of_other_programs_are_found() {
    // What names begin with, then what of them is the teacher's and the student's root.
    for (prefixes, teacher, student) in [
        (
            ["student.module.backbone.", "teacher.backbone."],
            "teacher.",
            "student.",
        ),
        (
            ["model.student.backbone.", "model.teacher.backbone."],
            "model.teacher.",
            "model.student.",
        ),
        (
            [
                "state_dict.student_backbone.vit.",
                "state_dict.teacher_backbone.vit.",
            ],
            "state_dict.teacher_backbone.vit.",
            "state_dict.student_backbone.vit.",
        ),
        (
            ["state_dict.backbone.", "state_dict.momentum_backbone."],
            "state_dict.momentum_backbone.",
            "state_dict.",
        ),
        (["model.", "model_ema."], "model_ema.", "model."),
        (
            ["state_dict.", "state_dict_ema."],
            "state_dict_ema.",
            "state_dict.",
        ),
        (
            ["encoder.module.", "target_encoder.module."],
            "target_encoder.",
            "encoder.",
        ),
        (
            ["module.encoder_q.", "module.encoder_k."],
            "encoder_k.",
            "encoder_q.",
        ),
        (
            ["module.base_encoder.", "module.momentum_encoder."],
            "momentum_encoder.",
            "base_encoder.",
        ),
        (
            ["online_network.0.", "target_network.0."],
            "target_network.0.",
            "online_network.0.",
        ),
        (
            ["_orig_mod.module.teacher.", "_orig_mod.module.student."],
            "teacher.",
            "student.",
        ),
    ] {
        for (role, root) in [
            (NetworkRole::Teacher, teacher),
            (NetworkRole::Student, student),
        ] {
            let found = find(&prefixes, role).unwrap();
            assert_eq!(
                (found.root.as_str(), found.role),
                (root, Some(role)),
                "{prefixes:?}"
            );
        }
        assert_eq!(find(&prefixes, None).unwrap().root, teacher);
    }
}

#[test]
fn an_unlabelled_lone_network_is_taken_for_every_role() {
    for prefix in [
        "",
        "state_dict.model.",
        "backbone.model.",
        "encoder.",
        "base_encoder.",
        "network.",
    ] {
        for role in NetworkRole::ALL.into_iter().map(Some).chain([None]) {
            let found = find(&[prefix], role).unwrap();
            assert_eq!((found.root.as_str(), found.role), (prefix, None));
        }
    }
    assert_eq!(
        find(&["backbone.module."], NetworkRole::Teacher)
            .unwrap()
            .root,
        ""
    );
    assert!(
        find(&["module._orig_mod."], NetworkRole::Teacher)
            .unwrap()
            .is_bare()
    );
    assert!(!find(&["model."], NetworkRole::Teacher).unwrap().is_bare());
}

#[test]
fn absent_and_ambiguous_networks_are_refused() {
    assert!(matches!(
        find(&["student."], NetworkRole::Teacher),
        Err(Error::NoSuchNetwork {
            found,
            ..
        }) if found == [NetworkRole::Student]
    ));
    assert!(matches!(
        find(&["net.target_encoder."], NetworkRole::Student),
        Err(Error::NoSuchNetwork {
            found,
            ..
        }) if found == [NetworkRole::Teacher]
    ));
    let told = find(&["image.", "depth."], NetworkRole::Teacher)
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("depth., image.") && told.contains("teacher"),
        "{told}"
    );
    let names = ["conv1.weight", "layer1.0.weight", "fc.weight", "fc.bias"];
    let told = Network::find("file".as_ref(), names.into_iter(), None, None)
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("4 tensors (conv1.weight, fc.bias, fc.weight, …)"),
        "{told}"
    );
}

#[test]
fn other_networks_and_moments_are_left_out() {
    let found = find(&["backbone.", "momentum_backbone."], NetworkRole::Student).unwrap();
    assert_eq!(
        found.local("backbone.cls_token").unwrap(),
        "backbone.cls_token"
    );
    assert_eq!(found.local("head.weight").unwrap(), "head.weight");
    assert_eq!(found.local("momentum_backbone.cls_token"), None);
    let found = find(
        &["teacher.backbone.", "optimiser.0.backbone."],
        NetworkRole::Teacher,
    )
    .unwrap();
    let head = found.local("teacher._orig_mod.head.module.mlp.0.weight");
    assert_eq!(head.unwrap(), "head.mlp.0.weight");
    assert_eq!(found.local("optimiser.0.backbone.cls_token"), None);
}

#[test]
fn what_a_run_adapts_is_no_network() {
    let all = [
        "average.backbone.",
        "network.backbone.",
        "original.backbone.",
    ];
    let found = find_evaluated(&all, None, Some("average")).unwrap();
    assert_eq!(found.role, Some(NetworkRole::Average));
    let found = find(&all, NetworkRole::Network).unwrap();
    assert_eq!(found.local("network.norm.weight").unwrap(), "norm.weight");
    let of_run = [
        "network.lora.backbone.blocks.0.attn.qkv.base",
        "original.backbone.norm.weight",
    ];
    assert!(of_run.iter().all(|name| found.local(name).is_none()));
    let missing = find(&all, NetworkRole::Student).unwrap_err().to_string();
    assert!(missing.contains("student"), "{missing}");
}

#[test]
fn roles_of_this_program_are_exact() {
    let own = ["average.backbone.", "network.backbone."];
    let dino = ["student.backbone.", "teacher.backbone."];
    for (prefixes, evaluated) in [(own, "network"), (own, "average"), (dino, "student")] {
        let evaluated = Some(evaluated);
        let found = find_evaluated(&prefixes, None, evaluated).unwrap();
        assert_eq!(found.role.map(NetworkRole::key), evaluated);
        assert_eq!(found.root.strip_suffix('.'), evaluated);
        for role in NetworkRole::ALL {
            let root = format!("{}.", role.key());
            let there = prefixes.iter().any(|prefix| prefix.starts_with(&root));
            // Whether the metadata says so or not.
            for evaluated in [evaluated, None] {
                match find_evaluated(&prefixes, role, evaluated) {
                    Ok(found) if there => {
                        assert_eq!((found.root, found.role), (root.clone(), Some(role)));
                    }
                    Err(Error::NoSuchNetwork { wanted, found, .. }) if !there => {
                        assert_eq!((wanted, found.len()), (role, 2));
                    }
                    other => panic!("{prefixes:?} {role}: {other:?}"),
                }
            }
        }
    }
    let refused = find(&own, NetworkRole::Teacher).unwrap_err().to_string();
    assert!(
        refused.ends_with("has no teacher, only average and network"),
        "{refused}"
    );
    // Of a method without an average, only the metadata shows the role.
    let lone = find_evaluated(
        &["network.backbone."],
        NetworkRole::Teacher,
        Some("network"),
    );
    assert!(matches!(
        lone,
        Err(Error::NoSuchNetwork { found, .. }) if found == [NetworkRole::Network]
    ));
}

#[test]
fn by_default_the_best_network_is_taken() {
    let found = find(&["average.backbone.", "network.backbone."], None).unwrap();
    assert_eq!(
        (found.root.as_str(), found.role),
        ("average.", Some(NetworkRole::Average))
    );
    let found = find(&["student.backbone."], None).unwrap();
    assert_eq!(found.role, Some(NetworkRole::Student));
    assert!(matches!(
        find(&["teacher.", "average."], None),
        Err(Error::SeveralNetworks { wanted: None, .. })
    ));
    let wrong = find_evaluated(&["student.", "teacher."], None, Some("average"));
    let told = wrong.unwrap_err().to_string();
    assert!(
        told.contains("average") && told.contains("student., teacher."),
        "{told}"
    );
    // A name that only begins alike is another network's.
    assert!(find_evaluated(&["averaged."], None, Some("average")).is_err());
}

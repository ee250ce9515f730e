//! Messages of the program in the words of Python.

#[path = "../src/wording.rs"]
mod wording;

use wording::in_python;

#[test]
fn settings_are_named_as_arguments() {
    for (text, expected) in [
        (
            "--batch-size 0: must be at least 1",
            "batch_size 0: must be at least 1",
        ),
        ("lr: must be above 0", "lr: must be above 0"),
        (
            "needs `std` and `in-chans` 4",
            "needs `std` and `in_chans` 4",
        ),
        ("start over with --fresh", "start over with `fresh`"),
        ("it's --lr <X>, or --fresh", "it's `lr` <X>, or `fresh`"),
        (
            "unexpected argument '--epoch' found",
            "unexpected argument `epoch` found",
        ),
        (
            "invalid value 'x' for '--lr <X>': no number",
            "invalid value 'x' for `lr`: no number",
        ),
        ("invalid value 'x' for 'lr'", "invalid value 'x' for 'lr'"),
        ("a `b`.jpg` is `", "a `b`.jpg` is `"),
    ] {
        assert_eq!(in_python(text), expected);
    }
}

#[test]
fn what_is_no_setting_stays() {
    for text in [
        "",
        "cannot read runs/my--run/a-b.pth",
        "half-size photographs: no usable image",
        "2 − 3 – 4 — 5 -- 6 - 7",
        "ünï-cödé: `Ü`",
    ] {
        assert_eq!(in_python(text), text);
    }
}

#[test]
fn commands_become_calls() {
    let text = "runs/a holds a run; resume it: dinolab train --out runs/a --resume; or change it: dinolab \
                train 'my photos' --out runs/a --resume --change-settings --lr 1e-4 --norm-last-layer \
                false; or give another --out";
    let expected = "runs/a holds a run; resume it: dinolab.train(out='runs/a', resume=True); or change it: \
                    dinolab.train('my photos', out='runs/a', resume=True, change_settings=True, lr=1e-4, \
                    norm_last_layer=False); or give another `out`";
    assert_eq!(in_python(text), expected);
}

#[test]
fn quotes_of_a_shell_are_read() {
    let text = r"dinolab train 'it'\''s; here' --out 'a\b' --lr 0.1";
    let expected = r"dinolab.train('it\'s; here', out='a\\b', lr=0.1)";
    assert_eq!(in_python(text), expected);
    assert_eq!(
        in_python("dinolab train IMAGES --lr"),
        "dinolab.train(IMAGES, lr=)"
    );
    assert_eq!(in_python("dinolab train 'open"), "dinolab.train('open')");
}

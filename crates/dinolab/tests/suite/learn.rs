//! The lines of code that docs/learn.md shows are those of the sources.

use std::fs;
use std::path::Path;

#[test]
fn the_lines_that_the_page_shows_are_still_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/learn.md")).unwrap();
    let mut shown = 0;
    for block in page.split("```rust\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        let (first, code) = block.split_once('\n').unwrap();
        let path = first
            .strip_prefix("// ")
            .expect("a block begins with its file");
        let source = fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(source.contains(code), "{path} no longer has:\n{code}");
        shown += 1;
    }
    assert!(shown >= 8, "{shown}");
}

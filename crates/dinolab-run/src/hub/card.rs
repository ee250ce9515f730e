//! The licence in a model card: a README.md that begins with YAML between two lines `---`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Larger beginnings of a card are not looked at.
const MAX_BYTES: u64 = 1 << 20;

/// The licence that the card at `path` names; `None` without one.
pub(super) fn licence_in(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    licence(&String::from_utf8_lossy(&text))
}

/// `license: …`, or `license_name: …` if that is `other`. Only what is printed is read, and not all of YAML.
fn licence(card: &str) -> Option<String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    (lines.next()?.trim_end() == "---").then_some(())?;
    let lines: Vec<&str> = lines.take_while(|line| line.trim_end() != "---").collect();
    let licence = value(&lines, "license:")?;
    match (licence.as_str(), value(&lines, "license_name:")) {
        ("other", Some(name)) => Some(name),
        _ => Some(licence),
    }
}

/// The value of a key: on its line, or as a list below it.
fn value(lines: &[&str], key: &str) -> Option<String> {
    let at = lines.iter().position(|line| line.starts_with(key))?;
    let inline = lines[at][key.len()..].trim();
    let words: Vec<String> = match inline {
        "" => {
            let items = lines[at + 1..].iter();
            items
                .map_while(|line| line.trim_start().strip_prefix("- "))
                .map(plain)
                .collect()
        }
        _ => {
            let list = inline
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            list.unwrap_or(inline).split(',').map(plain).collect()
        }
    };
    let text = words.join(", ");
    let printable = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    printable.then_some(text)
}

/// A word without quotes and comment.
fn plain(word: &str) -> String {
    let word = word.split(" #").next().unwrap_or_default().trim();
    let inside = |quote| word.strip_prefix(quote)?.strip_suffix(quote);
    inside('"')
        .or_else(|| inside('\''))
        .unwrap_or(word)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_of_cards() {
        let of = |yaml: &str| licence(&format!("---\n{yaml}\n---\n# Model\nlicense: not-this\n"));
        assert_eq!(
            of("tags:\n- vision\nlicense: apache-2.0").as_deref(),
            Some("apache-2.0")
        );
        assert_eq!(of("license: \"mit\"  # free").as_deref(), Some("mit"));
        assert_eq!(
            of("license: [mit, apache-2.0]").as_deref(),
            Some("mit, apache-2.0")
        );
        assert_eq!(
            of("license:\n- mit\n- 'bsd'\ntags: x").as_deref(),
            Some("mit, bsd")
        );
        let named = "license: other\nlicense_name: dinov3-license\nlicense_link: x";
        assert_eq!(of(named).as_deref(), Some("dinov3-license"));
        assert_eq!(of("license: other").as_deref(), Some("other"));
        assert_eq!(of("tags: x"), None);
        assert_eq!(of("license: \u{1b}[31m"), None);
        assert_eq!(licence("license: mit"), None);
        assert_eq!(
            licence("---\r\nlicense: mit\r\n---\r\n").as_deref(),
            Some("mit")
        );
        assert_eq!(licence(""), None);
    }
}

//! The original of a query, by its file name.

use std::collections::BTreeMap;

/// Original images by name.
#[derive(Clone, Debug)]
pub struct Originals {
    /// File names without folders and extension, and their rows, in order.
    stems: BTreeMap<String, Vec<usize>>,
    prefix: Option<usize>,
}

impl Originals {
    /// Indexes the names of the originals. With `prefix`, names are matched by that many first
    /// characters (4 for Copydays' strong copies).
    pub fn new(names: impl IntoIterator<Item = String>, prefix: Option<usize>) -> Self {
        let mut stems: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (row, name) in names.into_iter().enumerate() {
            let stem = stem(&name);
            let key = prefix.map_or(stem.clone(), |count| start(&stem, count));
            stems.entry(key).or_default().push(row);
        }
        Self { stems, prefix }
    }

    /// Returns the rows of the originals of a query: those with its name, else those with the
    /// longest name that the query's name starts with, not followed by a letter or digit
    /// (`cat-crop.png` is a copy of `cat.jpg`). Empty if there are none.
    pub fn of(&self, query: &str) -> &[usize] {
        let stem = stem(query);
        if let Some(count) = self.prefix {
            return self.stems.get(&start(&stem, count)).map_or(&[], |v| v);
        }
        let ends = stem
            .char_indices()
            .filter(|(_, c)| !c.is_alphanumeric())
            .map(|(at, _)| at)
            .chain([stem.len()]);
        let ends: Vec<usize> = ends.collect();
        ends.iter()
            .rev()
            .find_map(|&end| self.stems.get(&stem[..end]))
            .map_or(&[], |v| v)
    }
}

/// Returns a name without folders and extension.
fn stem(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    match file.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => file.to_owned(),
    }
}

fn start(text: &str, count: usize) -> String {
    text.chars().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_originals() {
        let names = ["a/cat.jpg", "a/cat-2.jpg", "dog.png", "b/dog.png"].map(str::to_owned);
        let originals = Originals::new(names, None);
        for (query, rows) in [
            ("jpeg/3/cat.jpg", &[0][..]),
            ("cat-crop.png", &[0]),
            ("cat-2.png", &[1]),
            ("cat-2_blur.png", &[1]),
            ("cats.png", &[]),
            ("dog.webp", &[2, 3]),
            ("other.jpg", &[]),
        ] {
            assert_eq!(originals.of(query), rows, "{query}");
        }
        let names = ["200000.jpg", "200100.jpg"].map(str::to_owned);
        let copydays = Originals::new(names, Some(4));
        assert_eq!(copydays.of("strong/200003.jpg"), [0]);
        assert_eq!(copydays.of("200199.jpg"), [1]);
        assert_eq!(copydays.of("300000.jpg"), [] as [usize; 0]);
    }
}

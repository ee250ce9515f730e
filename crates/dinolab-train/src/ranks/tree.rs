//! A sum along a balanced binary tree.

/// Adds up summands in pairs, pairs of pairs, and so on: `((a + b) + (c + d)) + …`. Holds no more
/// partial sums than the tree has levels.
#[derive(Clone, Debug)]
pub struct TreeSum<T> {
    /// Partial sums, each of a number of summands.
    partial: Vec<(usize, T)>,
}

impl<T> Default for TreeSum<T> {
    fn default() -> Self {
        Self {
            partial: Vec::new(),
        }
    }
}

impl<T> TreeSum<T> {
    /// Adds the next summand, by `add`.
    pub fn push(&mut self, value: T, add: impl Fn(T, T) -> T) {
        let (mut count, mut value) = (1, value);
        while self.partial.last().is_some_and(|(of, _)| *of == count) {
            let (of, before) = self.partial.pop().expect("it was just seen");
            (count, value) = (count + of, add(before, value));
        }
        self.partial.push((count, value));
    }

    /// The sum; `None` without summands. Of a number that is no power of two, the rest is added last.
    pub fn finish(self, add: impl Fn(T, T) -> T) -> Option<T> {
        let sums = self.partial.into_iter().rev().map(|(_, sum)| sum);
        sums.reduce(|after, before| add(before, after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(parts: impl IntoIterator<Item = String>) -> String {
        let add = |a: String, b: String| format!("({a}{b})");
        let mut sum = TreeSum::default();
        for part in parts {
            sum.push(part, add);
        }
        sum.finish(add).unwrap()
    }

    #[test]
    fn any_cut_into_equal_parts_gives_the_same_tree() {
        let leaves: Vec<String> = ('a'..='h').map(String::from).collect();
        let whole = tree(leaves.clone());
        assert_eq!(whole, "(((ab)(cd))((ef)(gh)))");
        for part in [1, 2, 4] {
            let parts = leaves.chunks(part).map(|part| tree(part.to_vec()));
            assert_eq!(tree(parts), whole);
        }
    }
}

//! Similarities of very many rows to one.

use crate::simd::{dot, multiversioned};

multiversioned! {
    /// Cosines of `query` `[D]` and each row of `rows` `[N, D]`, `N` of them, in one pass over `rows`.
    ///
    /// In single precision: the relative error of products and lengths is some 1e-6. A row of zeros has a
    /// cosine of 0.
    ///
    /// # Panics
    /// If `query` is empty or `rows` are not rows of its width.
    pub fn cosines(rows: &[f32], query: &[f32]) -> Vec<f32> {
        assert!(!query.is_empty() && rows.len().is_multiple_of(query.len()));
        let of_query = dot::<FMA>(query, query).sqrt().max(1e-12);
        // A loop: a closure would not be compiled for the processor.
        let mut found = vec![0.0; rows.len() / query.len()];
        for (row, found) in rows.chunks_exact(query.len()).zip(&mut found) {
            let length = dot::<FMA>(row, row).sqrt().max(1e-12);
            *found = dot::<FMA>(row, query) / (length * of_query);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_of_odd_widths_are_those_of_double_precision() {
        for width in [1, 3, 16, 17, 47, 384] {
            let value = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0;
            let mut rows: Vec<f32> = (0..5 * width).map(value).collect();
            rows[..width].fill(0.0);
            let query: Vec<f32> = (0..width).map(|i| value(3 * i + 1)).collect();
            let wide = |x: &[f32], y: &[f32]| -> f64 {
                x.iter()
                    .zip(y)
                    .map(|(&x, &y)| f64::from(x) * f64::from(y))
                    .sum()
            };
            let found = cosines(&rows, &query);
            assert_eq!(found.len(), 5);
            assert_eq!(found[0], 0.0);
            for (row, found) in rows.chunks(width).zip(found).skip(1) {
                let lengths = (wide(row, row) * wide(&query, &query)).sqrt();
                let expected = wide(row, &query) / lengths;
                assert!(
                    (f64::from(found) - expected).abs() < 2e-6,
                    "{width}: {found} {expected}"
                );
            }
        }
        assert!(cosines(&[], &[1.0]).is_empty());
    }
}

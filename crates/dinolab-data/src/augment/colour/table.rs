//! Lookup tables over the 256 levels.

/// The new level of each of the 256.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table(pub(super) [u8; 256]);

impl Table {
    /// Leaves all levels as they are.
    pub(super) fn identity() -> Self {
        Self(std::array::from_fn(|level| level as u8))
    }

    /// Replaces every value by what the table has for it.
    pub(super) fn apply(&self, values: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vbmi")
        {
            // SAFETY: the processor has what the function is compiled for.
            unsafe { x86::apply(self, values) };
            return;
        }
        self.apply_one_by_one(values);
    }

    fn apply_one_by_one(&self, values: &mut [u8]) {
        for value in values {
            *value = self.0[usize::from(*value)];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Table;

    /// 64 values at a time: the whole table lies in four registers.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn apply(table: &Table, values: &mut [u8]) {
        let (parts, _) = table.0.as_chunks::<64>();
        // SAFETY: each part is 64 bytes that can be read.
        let part = |i: usize| unsafe { _mm512_loadu_si512(parts[i].as_ptr().cast()) };
        let (a, b, c, d) = (part(0), part(1), part(2), part(3));
        let (chunks, rest) = values.as_chunks_mut::<64>();
        for chunk in chunks {
            let pointer: *mut __m512i = chunk.as_mut_ptr().cast();
            // SAFETY: a chunk is 64 bytes that can be read and written.
            let levels = unsafe { _mm512_loadu_si512(pointer) };
            // The lower seven bits pick from 128 levels, the highest one between two picks.
            let dark = _mm512_permutex2var_epi8(a, levels, b);
            let bright = _mm512_permutex2var_epi8(c, levels, d);
            let new = _mm512_mask_blend_epi8(_mm512_movepi8_mask(levels), dark, bright);
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(pointer, new) };
        }
        table.apply_one_by_one(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_identity_changes_nothing() {
        let mut levels = Table::identity().0;
        Table::identity().apply(&mut levels);
        assert_eq!(levels, Table::identity().0);
    }

    proptest! {
        #[test]
        fn every_value_is_looked_up(
            levels in proptest::collection::vec(any::<u8>(), 256),
            values in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let table = Table(levels.try_into().unwrap());
            let expected: Vec<u8> = values.iter().map(|&v| table.0[usize::from(v)]).collect();
            let (mut found, mut slow) = (values.clone(), values);
            table.apply(&mut found);
            table.apply_one_by_one(&mut slow);
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(slow, expected);
        }
    }
}

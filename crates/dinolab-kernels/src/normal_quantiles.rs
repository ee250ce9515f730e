//! Quantiles of the standard normal distribution.

/// `Φ⁻¹(i / (count + 1))` for `i` from 1 to `count`, in ascending order and symmetric about 0.
pub fn normal_quantiles(count: usize) -> Vec<f32> {
    let share = 1.0 / (count + 1) as f64;
    (1..=count)
        .map(|i| {
            let mirrored = count + 1 - i;
            if i <= mirrored {
                quantile(i as f64 * share) as f32
            } else {
                -quantile(mirrored as f64 * share) as f32
            }
        })
        .collect()
}

/// `Φ⁻¹(p)` for `p` from 1e-10 to a half, by Wichura's algorithm AS 241 (1988) to double precision.
fn quantile(p: f64) -> f64 {
    const NEAR: [[f64; 8]; 2] = [
        [
            3.387_132_872_796_366_5,
            133.141_667_891_784_38,
            1_971.590_950_306_551_3,
            13_731.693_765_509_46,
            45_921.953_931_549_87,
            67_265.770_927_008_7,
            33_430.575_583_588_13,
            2_509.080_928_730_122_7,
        ],
        [
            1.0,
            42.313_330_701_600_91,
            687.187_007_492_057_9,
            5_394.196_021_424_751,
            21_213.794_301_586_597,
            39_307.895_800_092_71,
            28_729.085_735_721_943,
            5_226.495_278_852_854,
        ],
    ];
    const FAR: [[f64; 8]; 2] = [
        [
            1.423_437_110_749_683_5,
            4.630_337_846_156_546,
            5.769_497_221_460_691,
            3.647_848_324_763_204_5,
            1.270_458_252_452_368_4,
            0.241_780_725_177_450_6,
            0.022_723_844_989_269_184,
            7.745_450_142_783_414e-4,
        ],
        [
            1.0,
            2.053_191_626_637_759,
            1.676_384_830_183_803_8,
            0.689_767_334_985_1,
            0.148_103_976_427_480_08,
            0.015_198_666_563_616_457,
            5.475_938_084_995_345e-4,
            1.050_750_071_644_416_9e-9,
        ],
    ];
    let ratio = |coefficients: [[f64; 8]; 2], x: f64| {
        let [above, below] = coefficients.map(|c| c.iter().rev().fold(0.0, |sum, c| sum * x + c));
        above / below
    };
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        q * ratio(NEAR, 0.180_625 - q * q)
    } else {
        -ratio(FAR, (-p.ln()).sqrt() - 1.6)
    }
}

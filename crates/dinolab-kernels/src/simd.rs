//! Loops compiled for what the processor can do, and the arithmetic they share.

/// Defines functions whose loops exist several times: for AVX-512 and for AVX2 with fused
/// multiply-add, chosen at run time, and for the compilation's own target. All are compiled from
/// the same body, in which the constant `FMA` is true if fused multiply-add is an instruction.
macro_rules! multiversioned {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block
    )*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[allow(unused, clippy::too_many_arguments)]
            #[inline(always)]
            fn body<const FMA: bool>($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $type),*) $(-> $ret)? {
                    body::<true>($($arg),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
                fn widest($($arg: $type),*) $(-> $ret)? {
                    body::<true>($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has these features, as just detected, and they
                    // imply all others.
                    return unsafe { widest($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                {
                    // SAFETY: the processor has both features, as just detected.
                    return unsafe { wide($($arg),*) };
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    )*};
}
pub(crate) use multiversioned;

/// Lanes of a sum: fixed, so that every target adds in the same order.
pub(crate) const LANES: usize = 16;

/// `a · b + c`, fused where that is one instruction (elsewhere it would be a library call).
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The sum of the lanes, in pairs.
#[inline(always)]
pub(crate) fn sum_lanes<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut n = N;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}

/// The dot product, in a fixed order.
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] = fma::<FMA>(a[i], b[i], lanes[i]);
        }
    }
    sum_lanes(lanes) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The squared distance, in a fixed order.
#[inline(always)]
pub(crate) fn squared_distance<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            let difference = a[i] - b[i];
            lanes[i] = fma::<FMA>(difference, difference, lanes[i]);
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    sum_lanes(lanes) + rest.map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
}

/// `eˣ` for `x ≤ 88`, relative error below 2e-7; 0 below −87. NaN stays NaN.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`: a polynomial in `r`, and `2ⁿ` by the exponent's bits.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first short enough that its multiples are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let inside = if x < -87.0 { -87.0 } else { x };
    let shifted = fma::<FMA>(inside, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, inside));
    // Minimax coefficients of (eʳ − 1 − r) / r² (Cephes library).
    let p = fma::<FMA>(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = fma::<FMA>(p, r, 8.333_452e-3);
    let p = fma::<FMA>(p, r, 4.166_579_6e-2);
    let p = fma::<FMA>(p, r, 1.666_666_5e-1);
    let p = fma::<FMA>(p, r, 0.5);
    let p = fma::<FMA>(p, r * r, r + 1.0);
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let power = f32::from_bits((exponent.wrapping_add(127) << 23) as u32);
    if x < -87.0 { 0.0 } else { power * p }
}

/// The normal distribution function and its density at `x`, absolute error below 2e-7.
///
/// Both share one exponential (Abramowitz & Stegun, 7.1.26).
#[inline(always)]
pub(crate) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fma::<FMA>(0.327_591_1, z, 1.0);
    let p = fma::<FMA>(1.061_405_4, t, -1.453_152);
    let p = fma::<FMA>(p, t, 1.421_413_7);
    let p = fma::<FMA>(p, t, -0.284_496_74);
    let p = fma::<FMA>(p, t, 0.254_829_6);
    let e = exp::<FMA>(-z * z);
    let tail = 0.5 * p * t * e;
    (if x < 0.0 { tail } else { 1.0 - tail }, DENSITY_AT_ZERO * e)
}

multiversioned! {
    /// `sum += x`, element by element.
    pub(crate) fn add_to(sum: &mut [f32], x: &[f32]) {
        for (s, x) in sum.iter_mut().zip(x) {
            *s += x;
        }
    }

    /// `sums[j] += Σ rows[r][j]` over the rows, each as wide as `sums`.
    pub(crate) fn add_columns(sums: &mut [f32], rows: &[f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (s, x) in sums.iter_mut().zip(row) {
                *s += x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    multiversioned! {
        fn exp_of(x: f32) -> f32 {
            exp::<FMA>(x)
        }
        fn normal_of(x: f32) -> (f32, f32) {
            normal::<FMA>(x)
        }
    }

    #[test]
    fn exp_is_close_over_its_range() {
        let steps = if cfg!(miri) { 200 } else { 200_000 };
        for i in 0..steps {
            let x = -86.9 + i as f32 * (174.0 / steps as f32);
            let exact = f64::from(x).exp();
            for ours in [exp_of(x), exp::<false>(x)] {
                assert!((f64::from(ours) / exact - 1.0).abs() < 2e-7, "{x}");
            }
        }
        assert_eq!(exp_of(0.0), 1.0);
        assert_eq!(exp_of(f32::NEG_INFINITY), 0.0);
        assert!(exp_of(f32::NAN).is_nan());
    }

    #[test]
    #[cfg_attr(miri, ignore = "no unsafe code, and slow")]
    fn normal_is_close_to_its_integral() {
        // Simpson's rule from −12, where nothing is left.
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let step = 1e-3;
        let mut phi = 0.0;
        for i in 0..24_000 {
            let x = -12.0 + i as f64 * step;
            let (cdf, pdf) = normal_of(x as f32);
            // Half a rounding step of `x` moves the value by less than this.
            assert!((f64::from(cdf) - phi).abs() < 3e-7, "{x}: {cdf} {phi}");
            assert!((f64::from(pdf) - density(x)).abs() < 3e-7, "{x}");
            phi += step / 6.0 * (density(x) + 4.0 * density(x + step / 2.0) + density(x + step));
        }
    }
}

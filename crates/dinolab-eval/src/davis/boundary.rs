//! Boundaries of masks and their dilation.

/// Returns the benchmark's boundary map of a mask: the pixels that differ from their right, lower
/// or lower right neighbour. In the last row only the right neighbour counts, in the last column
/// only the lower one, and the last pixel is not a boundary.
pub(super) fn boundary(mask: &[bool], height: usize, width: usize) -> Vec<bool> {
    let mut out = vec![false; mask.len()];
    for y in 0..height {
        for x in 0..width {
            let here = mask[y * width + x];
            let differs = |dy: usize, dx: usize| {
                let (y, x) = (y + dy, x + dx);
                y < height && x < width && mask[y * width + x] != here
            };
            out[y * width + x] = differs(0, 1) || differs(1, 0) || differs(1, 1);
        }
    }
    out
}

/// Returns the pixels at most `radius` away from one of `pixels`.
pub(super) fn dilated(pixels: &[bool], height: usize, width: usize, radius: usize) -> Vec<bool> {
    // Half the width of the disk at each distance from its middle row.
    let half: Vec<usize> = (0..=radius)
        .map(|dy| (radius * radius - dy * dy).isqrt())
        .collect();
    let mut out = vec![false; pixels.len()];
    for y in 0..height {
        for x in (0..width).filter(|x| pixels[y * width + x]) {
            for row in y.saturating_sub(radius)..(y + radius + 1).min(height) {
                let half = half[row.abs_diff(y)];
                let (left, right) = (x.saturating_sub(half), (x + half + 1).min(width));
                out[row * width + left..row * width + right].fill(true);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rows: &[&str]) -> Vec<bool> {
        rows.concat().chars().map(|c| c == '#').collect()
    }

    #[test]
    fn boundaries_lie_half_a_pixel_towards_the_origin() {
        let mask = parse(&[".....", "..##.", "..##.", "....."]);
        let expected = parse(&[".###.", ".#.#.", ".###.", "....."]);
        assert_eq!(boundary(&mask, 4, 5), expected);
        // A mask up to the last row and column has no boundary there.
        let mask = parse(&["...", ".##", ".##"]);
        let expected = parse(&["###", "#..", "#.."]);
        assert_eq!(boundary(&mask, 3, 3), expected);
        assert_eq!(boundary(&parse(&["##", "##"]), 2, 2), [false; 4]);
    }

    #[test]
    fn dilates_by_a_disk() {
        let dot = parse(&[".....", ".....", "..#..", ".....", "....."]);
        let one = parse(&[".....", "..#..", ".###.", "..#..", "....."]);
        let two = parse(&["..#..", ".###.", "#####", ".###.", "..#.."]);
        assert_eq!(dilated(&dot, 5, 5, 0), dot);
        assert_eq!(dilated(&dot, 5, 5, 1), one);
        assert_eq!(dilated(&dot, 5, 5, 2), two);
        let corner = parse(&["#..", "...", "..."]);
        assert_eq!(dilated(&corner, 3, 3, 1), parse(&["##.", "#..", "..."]));
    }
}

//! Text files in the encodings and line endings of common editors.

/// The text of a UTF-8 file, without the byte order mark that some programs put in front of it.
///
/// # Errors
/// Why it is not UTF-8, and what to do.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    check(bytes)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(without_mark(text)),
        Err(error) => {
            let line = bytes[..error.valid_up_to()]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count();
            Err(format!(
                "line {}: not valid UTF-8; save the file as UTF-8",
                line + 1
            ))
        }
    }
}

/// Finds the encodings that are told from UTF-8 at once.
fn check(bytes: &[u8]) -> Result<(), String> {
    let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    // Without a mark, every second byte of such a text is zero; no text has a zero otherwise.
    if is_utf16 || bytes.contains(&0) {
        return Err("UTF-16 or no text at all; save the file as UTF-8".into());
    }
    Ok(())
}

/// A text, or a line of one that was put together from several, without its byte order mark.
pub(super) fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// Lines that end in `\n`, `\r\n` or, in a text without any of these, `\r`; with their numbers from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = if text.contains('\n') { '\n' } else { '\r' };
    text.split(end)
        .enumerate()
        .map(|(place, line)| (place + 1, without_mark(line.trim_end_matches('\r'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_line_ends_are_no_part_of_the_lines() {
        let of = |bytes: &'static [u8]| -> Vec<(usize, &str)> {
            lines(utf8(bytes).unwrap())
                .filter(|(_, line)| !line.is_empty())
                .collect()
        };
        assert_eq!(of(b"\xef\xbb\xbfa\r\n\r\nb\r\n"), [(1, "a"), (3, "b")]);
        assert_eq!(of(b"a\n\xef\xbb\xbfb"), [(1, "a"), (2, "b")]);
        assert_eq!(of(b"a\rb\r"), [(1, "a"), (2, "b")]);
        assert!(utf8(b"\xff\xfea\0\n\0").unwrap_err().contains("UTF-16"));
        assert!(utf8(b"a\0\n\0").unwrap_err().contains("UTF-16"));
        assert!(utf8(b"a\nb\n\xe9").unwrap_err().contains("line 3"));
    }
}

//! Text for a reader that may be slow, or not there any more.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// How long a pipe that is full is left alone.
const PAUSE: Duration = Duration::from_millis(5);

/// Writes all of `bytes`. Unlike [`Write::write_all`] it waits where the reader of a pipe that does not
/// block is slower.
///
/// # Errors
/// As [`Write::write`]: [`ErrorKind::BrokenPipe`] if the reader left.
pub fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The system's words, without its number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and each other time none.
    struct Slow {
        taken: Vec<u8>,
        ready: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.ready = !self.ready;
            if !self.ready {
                let kinds = [ErrorKind::WouldBlock, ErrorKind::Interrupted];
                return Err(kinds[self.taken.len() % 2].into());
            }
            let count = bytes.len().min(3);
            self.taken.extend(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn slow_readers_get_everything() {
        let mut slow = Slow {
            taken: Vec::new(),
            ready: false,
        };
        write_all(&mut slow, b"every byte of it").unwrap();
        assert_eq!(slow.taken, b"every byte of it");
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = write_all(&mut Full, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn reasons_have_no_numbers() {
        let error = io::Error::from_raw_os_error(2);
        assert!(!reason(&error).contains("os error"), "{}", reason(&error));
        assert_eq!(reason(&io::Error::other("odd")), "odd");
    }
}

//! Reads Python pickles as data.
//!
//! A pickle is a program for a stack machine that may call any function it can name. This reader
//! supports the instructions that build plain values (protocols 0 to 5) and the few functions that
//! NumPy's arrays consist of, which it interprets itself; any other function is an error. Nothing is
//! ever called or imported.
//!
//! Values are stored in one list and refer to each other by number, so that memory is proportional
//! to the length of the file even if values share parts.
//!
//! Kept instead of the crate serde-pickle: that reads no NumPy arrays and copies shared parts, so
//! that a file of a few hundred bytes could fill the memory.

mod machine;

/// The number of a value in [`Pickle`].
pub(super) type Id = usize;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Number(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A list or a tuple.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A NumPy array of numbers, flat.
    Numbers(Vec<f64>),
    /// A supported function.
    Function(Function),
    /// A NumPy type: its code (`i8`, `f4`, …) and whether it is big-endian.
    Type(String, bool),
    /// An array whose values are not set yet.
    Unfilled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Array,
    ArrayClass,
    FromBuffer,
    Scalar,
    Type,
    Encode,
    NoBytes,
}

/// All values of a file.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

/// A result, or the reason for the failure.
type Outcome<T> = Result<T, String>;

impl Pickle {
    /// Reads a pickle; the error is the reason.
    pub(super) fn read(bytes: &[u8]) -> Outcome<Self> {
        let (values, root) = machine::run(bytes)?;
        Ok(Self { values, root })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// Returns the value of a key of a dictionary.
    pub(super) fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.get(dict) else {
            return None;
        };
        // If a key is set twice, the later value is used.
        let found = entries.iter().rev().find(|(k, _)| match self.get(*k) {
            Value::Text(text) => text == key,
            Value::Bytes(bytes) => bytes == key.as_bytes(),
            _ => false,
        });
        found.map(|&(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(bytes: &[u8]) -> String {
        Pickle::read(bytes).unwrap_err()
    }

    #[test]
    fn plain_values() {
        // pickle.dumps({"a": [1, 300, -7, 70000], "b": (2.5, None, "é")}, protocol=2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01M,\x01J\xf9\xff\xff\xffJp\x11\x01\x00eX\x01\x00\x00\x00bq\x03G@\x04\x00\x00\x00\x00\x00\x00NX\x02\x00\x00\x00\xc3\xa9q\x04\x87q\x05u.";
        let pickle = Pickle::read(bytes).unwrap();
        let list = |key| match pickle.get(pickle.entry(pickle.root(), key).unwrap()) {
            Value::List(items) => items
                .iter()
                .map(|&id| pickle.get(id).clone())
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            list("a"),
            [1.0, 300.0, -7.0, 70000.0].map(Value::Number).to_vec()
        );
        assert_eq!(
            list("b"),
            [Value::Number(2.5), Value::None, Value::Text("é".into())]
        );
        assert_eq!(pickle.entry(pickle.root(), "c"), None);
    }

    #[test]
    fn what_would_run_is_refused() {
        // os.system("echo"), by the instructions of both families of protocols.
        let told = refused(b"cos\nsystem\n(S'echo'\ntR.");
        assert!(told.contains("os.system"), "{told}");
        let told = refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.");
        assert!(told.contains("builtins.eval"), "{told}");
        for other in [
            &b"(ios\nsystem\n."[..],
            b"P1\n.",
            b"\x82\x01.",
            b"\x80\x02)\x81.",
        ] {
            assert!(refused(other).contains("instruction"));
        }
        // A known function by a longer road.
        assert!(refused(b"\x80\x02cnumpy.core.multiarray\nscalar\nN\x85R.").contains("missing"));
    }

    #[test]
    fn shared_parts_take_no_room() {
        // A list that holds the list before it twice, forty times over: 2^40 leaves.
        let mut bytes = b"\x80\x04]\x94".to_vec();
        for level in 0..40u8 {
            bytes.extend(b"](h");
            bytes.push(level);
            bytes.push(b'h');
            bytes.push(level);
            bytes.extend(b"e\x94");
        }
        bytes.push(b'.');
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(pickle.values.len(), 41);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pickle::read(&bytes);
        }

        #[test]
        fn instructions_in_any_order(
            codes in proptest::collection::vec(proptest::sample::select(
                b"().012NKJMGILFXTUSVBC]lteasdu}cRbpqrghj\x80\x81\x85\x86\x87\x88\x8a\x8c\x93\x94".to_vec()
            ), 0..60)
        ) {
            let _ = Pickle::read(&codes);
        }
    }
}

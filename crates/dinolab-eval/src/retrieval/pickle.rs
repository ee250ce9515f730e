//! A Python pickle as data.
//!
//! A pickle is a program for a stack machine that may call any function it can name. This reader
//! knows the instructions that build plain values (protocols 0 to 5) and of functions those
//! few that NumPy's arrays are made of, which it interprets itself; it refuses a file that
//! names any other. Nothing is ever called or imported.
//!
//! Values live in one list and refer to each other by number, so that a file in which values
//! share parts takes memory in proportion to its own length.

use std::collections::HashMap;

/// A value's number in [`Pickle`].
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
    /// A function that is known here.
    Function(Function),
    /// A NumPy type: its code (`i8`, `f4`, …) and whether it is big-endian.
    Type(String, bool),
    /// An array before its values.
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

type Outcome<T> = Result<T, String>;

impl Pickle {
    /// Reads a pickle; the error is the reason why it cannot be used.
    pub(super) fn read(bytes: &[u8]) -> Outcome<Self> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        Ok(Self {
            values: machine.values,
            root,
        })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// The value of a key of a dictionary.
    pub(super) fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.get(dict) else {
            return None;
        };
        // Of a key that is set twice the later value holds.
        let found = entries.iter().rev().find(|(k, _)| match self.get(*k) {
            Value::Text(text) => text == key,
            Value::Bytes(bytes) => bytes == key.as_bytes(),
            _ => false,
        });
        found.map(|&(_, value)| value)
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Outcome<Id> {
        loop {
            let code = self.take(1)?[0];
            match code {
                b'.' => return self.pop(),
                // The protocol's number; the length of a frame.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.since_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Number(1.0)),
                0x89 => self.push(Value::Number(0.0)),
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Value::Number(f64::from(number)));
                }
                b'K' => {
                    let number = self.take(1)?[0];
                    self.push(Value::Number(f64::from(number)));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.push(Value::Number(f64::from(number)));
                }
                b'G' => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.push(Value::Number(number));
                }
                b'I' | b'L' | b'F' => {
                    let line = self.line()?;
                    let number = line.trim_end_matches('L').parse();
                    let number = number.map_err(|_| format!("{line:?} is no number"))?;
                    self.push(Value::Number(number));
                }
                0x8a => {
                    let length = usize::from(self.take(1)?[0]);
                    self.long(length)?;
                }
                0x8b => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.long(length as usize)?;
                }
                b'X' | b'T' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(u64::from(length))?;
                }
                0x8c | b'U' => {
                    let length = self.take(1)?[0];
                    self.text(u64::from(length))?;
                }
                0x8d => {
                    let length = u64::from_le_bytes(self.array()?);
                    self.text(length)?;
                }
                b'S' => {
                    let line = self.line()?;
                    let inner = line.trim();
                    let quoted = |q| inner.strip_prefix(q).and_then(|l| l.strip_suffix(q));
                    let inner = quoted('\'').or_else(|| quoted('"'));
                    let text = inner.ok_or("a text without quotes")?.to_owned();
                    self.plain_text(text)?;
                }
                b'V' => {
                    let text = self.line()?;
                    self.plain_text(text)?;
                }
                b'B' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.raw(u64::from(length))?;
                }
                b'C' => {
                    let length = self.take(1)?[0];
                    self.raw(u64::from(length))?;
                }
                0x8e | 0x96 => {
                    let length = u64::from_le_bytes(self.array()?);
                    self.raw(length)?;
                }
                b']' | b')' => self.push(Value::List(Vec::new())),
                b'l' | b't' => {
                    let items = self.since_mark()?;
                    self.push(Value::List(items));
                }
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84);
                    let from = self.stack.len().checked_sub(count).ok_or(EMPTY)?;
                    let items = self.stack.split_off(from);
                    self.push(Value::List(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.append(items)?;
                }
                b'}' => self.push(Value::Dict(Vec::new())),
                b'd' => {
                    let items = self.since_mark()?;
                    self.push(Value::Dict(Vec::new()));
                    self.set(items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set(vec![key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set(items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.function(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Text(module), Value::Text(name)) =
                        (self.values[module].clone(), self.values[name].clone())
                    else {
                        return Err("a function without a name".into());
                    };
                    self.function(&module, &name)?;
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    let value = self.reduce(function, arguments)?;
                    self.push(value);
                }
                b'b' => {
                    let state = self.pop()?;
                    let value = self.build(state)?;
                    let top = self.top()?;
                    self.values[top] = value;
                }
                b'p' => {
                    let line = self.line()?;
                    let key = line.parse().map_err(|_| "a memo without a number")?;
                    self.remember(key)?;
                }
                b'q' => {
                    let key = self.take(1)?[0];
                    self.remember(u64::from(key))?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.remember(u64::from(key))?;
                }
                0x94 => self.remember(self.memo.len() as u64)?,
                b'g' => {
                    let line = self.line()?;
                    let key = line.parse().map_err(|_| "a memo without a number")?;
                    self.recall(key)?;
                }
                b'h' => {
                    let key = self.take(1)?[0];
                    self.recall(u64::from(key))?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(u64::from(key))?;
                }
                other => return Err(format!("instruction {other:#04x} builds no plain value")),
            }
        }
    }

    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let end = self
            .at
            .checked_add(count)
            .filter(|&e| e <= self.bytes.len());
        let end = end.ok_or("is cut short")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many as asked for"))
    }

    fn line(&mut self) -> Outcome<String> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or("is cut short")?;
        let line = self.take(length)?;
        self.take(1)?;
        let line = std::str::from_utf8(line).map_err(|_| "a line that is no text")?;
        Ok(line.to_owned())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Outcome<Id> {
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    fn top(&self) -> Outcome<Id> {
        self.stack.last().copied().ok_or_else(|| EMPTY.into())
    }

    fn since_mark(&mut self) -> Outcome<Vec<Id>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        if mark > self.stack.len() {
            return Err(EMPTY.into());
        }
        Ok(self.stack.split_off(mark))
    }

    fn text(&mut self, length: u64) -> Outcome<()> {
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            // Python 2 wrote any bytes as text.
            Err(_) => bytes.iter().map(|&b| char::from(b)).collect(),
        };
        self.push(Value::Text(text));
        Ok(())
    }

    fn plain_text(&mut self, text: String) -> Outcome<()> {
        if text.contains('\\') {
            return Err("a text with escapes; save it by protocol 2 or later".into());
        }
        self.push(Value::Text(text));
        Ok(())
    }

    fn raw(&mut self, length: u64) -> Outcome<()> {
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        self.push(Value::Bytes(bytes.to_vec()));
        Ok(())
    }

    /// An integer of `length` bytes, little-endian, in two's complement.
    fn long(&mut self, length: usize) -> Outcome<()> {
        let bytes = self.take(length)?;
        if length > 8 {
            return Err("an integer of more than 64 bits".into());
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut all = [if negative { 0xff } else { 0 }; 8];
        all[..length].copy_from_slice(bytes);
        self.push(Value::Number(i64::from_le_bytes(all) as f64));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Outcome<()> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            _ => return Err("something is appended to what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Id>) -> Outcome<()> {
        let top = self.top()?;
        let Value::Dict(entries) = &mut self.values[top] else {
            return Err("something is entered into what is no dictionary".into());
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key without a value".into());
        }
        entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Outcome<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Outcome<()> {
        let id = *self.memo.get(&key).ok_or("a memo that was never set")?;
        self.stack.push(id);
        Ok(())
    }

    fn function(&mut self, module: &str, name: &str) -> Outcome<()> {
        // NumPy 2 renamed its core.
        let place = module.replace("numpy._core", "numpy.core");
        let function = match (place.as_str(), name) {
            ("numpy.core.multiarray", "_reconstruct") => Function::Array,
            ("numpy.core.multiarray", "scalar") => Function::Scalar,
            ("numpy.core.numeric", "_frombuffer") => Function::FromBuffer,
            ("numpy", "ndarray") => Function::ArrayClass,
            ("numpy", "dtype") => Function::Type,
            ("_codecs", "encode") => Function::Encode,
            ("__builtin__" | "builtins", "bytes") => Function::NoBytes,
            _ => {
                return Err(format!(
                    "names the Python function {module}.{name}, which no ground truth needs; \
                     it is refused, and nothing in it was run"
                ));
            }
        };
        self.push(Value::Function(function));
        Ok(())
    }

    fn items(&self, list: Id) -> Outcome<&[Id]> {
        match &self.values[list] {
            Value::List(items) => Ok(items),
            _ => Err("arguments that are no tuple".into()),
        }
    }

    fn argument(&self, list: Id, place: usize) -> Outcome<&Value> {
        let id = self
            .items(list)?
            .get(place)
            .ok_or("an argument is missing")?;
        Ok(&self.values[*id])
    }

    fn reduce(&self, function: Id, arguments: Id) -> Outcome<Value> {
        let Value::Function(function) = self.values[function] else {
            return Err("a call of what is no function".into());
        };
        let argument = |place| self.argument(arguments, place);
        Ok(match function {
            Function::Array => Value::Unfilled,
            Function::Type => match argument(0)? {
                Value::Text(code) => Value::Type(code.clone(), false),
                _ => return Err("a NumPy type without a name".into()),
            },
            Function::Encode => match argument(0)? {
                // Latin-1, in which Python 3 writes bytes for Python 2.
                Value::Text(text) => Value::Bytes(
                    text.chars()
                        .map(|c| u8::try_from(u32::from(c)).map_err(|_| "bytes beyond 255".into()))
                        .collect::<Outcome<_>>()?,
                ),
                _ => return Err("bytes that are no text".into()),
            },
            Function::Scalar => {
                let numbers = numbers(argument(0)?, argument(1)?)?;
                match numbers[..] {
                    [number] => Value::Number(number),
                    _ => return Err("a NumPy number of several values".into()),
                }
            }
            Function::FromBuffer => Value::Numbers(numbers(argument(1)?, argument(0)?)?),
            // How Python 3 writes empty bytes for Python 2.
            Function::NoBytes if self.items(arguments)?.is_empty() => Value::Bytes(Vec::new()),
            Function::NoBytes => return Err("a call of bytes".into()),
            Function::ArrayClass => return Err("a call of numpy.ndarray".into()),
        })
    }

    /// What the value on top becomes by `state`.
    fn build(&self, state: Id) -> Outcome<Value> {
        match &self.values[self.top()?] {
            // (version, byte order, …)
            Value::Type(code, _) => {
                let big = matches!(self.argument(state, 1)?, Value::Text(order) if order == ">");
                Ok(Value::Type(code.clone(), big))
            }
            // (version, shape, type, Fortran order, values)
            Value::Unfilled => match self.argument(state, 4)? {
                Value::List(items) => Ok(Value::List(items.clone())),
                raw => numbers(self.argument(state, 2)?, raw).map(Value::Numbers),
            },
            _ => Err("a state for what has none".into()),
        }
    }
}

const EMPTY: &str = "the stack is empty";

/// Numbers of a NumPy type from their bytes.
fn numbers(kind: &Value, raw: &Value) -> Outcome<Vec<f64>> {
    let (Value::Type(code, big), Value::Bytes(raw)) = (kind, raw) else {
        return Err("a NumPy array without a type or without bytes".into());
    };
    macro_rules! read {
        ($t:ty) => {{
            let (whole, rest) = raw.as_chunks::<{ size_of::<$t>() }>();
            if !rest.is_empty() {
                return Err("a NumPy array that is cut short".into());
            }
            whole
                .iter()
                .map(|b| {
                    if *big {
                        <$t>::from_be_bytes(*b) as f64
                    } else {
                        <$t>::from_le_bytes(*b) as f64
                    }
                })
                .collect()
        }};
    }
    Ok(match code.as_str() {
        "i1" => read!(i8),
        "i2" => read!(i16),
        "i4" => read!(i32),
        "i8" => read!(i64),
        "u1" | "b1" => read!(u8),
        "u2" => read!(u16),
        "u4" => read!(u32),
        "u8" => read!(u64),
        "f4" => read!(f32),
        "f8" => read!(f64),
        other => return Err(format!("a NumPy array of type {other}; wanted are numbers")),
    })
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

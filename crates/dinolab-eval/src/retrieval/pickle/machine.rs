//! The stack machine of pickles.

use std::collections::HashMap;

use super::{Function, Id, Outcome, Value};

/// Runs a pickle and returns all its values and the number of the result.
pub(super) fn run(bytes: &[u8]) -> Outcome<(Vec<Value>, Id)> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run()?;
    Ok((machine.values, root))
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
                    let number = number.map_err(|_| format!("{line:?} is not a number"))?;
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
        let line = std::str::from_utf8(line).map_err(|_| "a line that is not text")?;
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

    /// Reads an integer of `length` bytes, little-endian, in two's complement.
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
            _ => return Err("a value is appended to something that is not a list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Id>) -> Outcome<()> {
        let top = self.top()?;
        let Value::Dict(entries) = &mut self.values[top] else {
            return Err("a value is entered into something that is not a dictionary".into());
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
                     the file is refused, and nothing in it was executed"
                ));
            }
        };
        self.push(Value::Function(function));
        Ok(())
    }

    fn items(&self, list: Id) -> Outcome<&[Id]> {
        match &self.values[list] {
            Value::List(items) => Ok(items),
            _ => Err("arguments that are not a tuple".into()),
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
            return Err("a call of something that is not a function".into());
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
                _ => return Err("bytes that are not text".into()),
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

    /// Applies `state` to the value on top.
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
            _ => Err("a state for a value without state".into()),
        }
    }
}

const EMPTY: &str = "the stack is empty";

/// Decodes numbers of a NumPy type.
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
        other => return Err(format!("a NumPy array of type {other}, not of numbers")),
    })
}

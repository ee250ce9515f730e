//! The stack machine of pickles.

mod numpy;

use std::collections::HashMap;

use super::{Id, Outcome, Value};

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
}

const EMPTY: &str = "the stack is empty";

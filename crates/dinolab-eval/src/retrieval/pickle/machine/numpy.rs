//! The functions that NumPy's arrays are pickled with, interpreted.

use super::super::{Function, Id, Outcome, Value};
use super::Machine;

impl Machine<'_> {
    /// Pushes a function by its name, if it is one of those that are supported.
    pub(super) fn function(&mut self, module: &str, name: &str) -> Outcome<()> {
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

    /// Calls a function that is supported.
    pub(super) fn reduce(&self, function: Id, arguments: Id) -> Outcome<Value> {
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
    pub(super) fn build(&self, state: Id) -> Outcome<Value> {
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

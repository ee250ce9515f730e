//! Writes the few opcodes of pickle that PyTorch's checkpoints need.

use super::super::Array;

/// A Python value to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// A bool.
    Bool(bool),
    /// An int.
    Int(i64),
    /// A float.
    Float(f64),
    /// A str.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A dict, in this order.
    Dict(Vec<(Value, Value)>),
    /// A `float32` tensor on the CPU.
    Tensor(Array),
}

impl Value {
    /// A dict with str keys.
    pub fn dict<K: Into<String>>(items: impl IntoIterator<Item = (K, Self)>) -> Self {
        let items = items.into_iter();
        Self::Dict(items.map(|(k, v)| (Self::Text(k.into()), v)).collect())
    }
}

/// Returns a pickle of protocol 2 and the tensors that it refers to as storages 0, 1, ….
pub(super) fn pickle(value: &Value) -> (Vec<u8>, Vec<&Array>) {
    let mut pickle = vec![0x80, 2];
    let mut storages = Vec::new();
    put(value, &mut pickle, &mut storages);
    pickle.push(b'.');
    (pickle, storages)
}

fn put<'a>(value: &'a Value, out: &mut Vec<u8>, storages: &mut Vec<&'a Array>) {
    match value {
        Value::None => out.push(b'N'),
        Value::Bool(true) => out.push(0x88),
        Value::Bool(false) => out.push(0x89),
        Value::Int(n) => int(*n, out),
        Value::Float(x) => {
            out.push(b'G');
            out.extend(x.to_be_bytes());
        }
        Value::Text(text) => str(text, out),
        Value::List(items) => {
            out.extend(b"](");
            items.iter().for_each(|item| put(item, out, storages));
            out.push(b'e');
        }
        Value::Tuple(items) => {
            out.push(b'(');
            items.iter().for_each(|item| put(item, out, storages));
            out.push(b't');
        }
        Value::Dict(items) => {
            out.extend(b"}(");
            for (key, value) in items {
                put(key, out, storages);
                put(value, out, storages);
            }
            out.push(b'u');
        }
        Value::Tensor(array) => {
            tensor(array, storages.len(), out);
            storages.push(array);
        }
    }
}

fn int(n: i64, out: &mut Vec<u8>) {
    if let Ok(n) = u8::try_from(n) {
        out.extend([b'K', n]);
    } else if let Ok(n) = i32::try_from(n) {
        out.push(b'J');
        out.extend(n.to_le_bytes());
    } else {
        // A long of eight bytes.
        out.extend([0x8A, 8]);
        out.extend(n.to_le_bytes());
    }
}

fn str(text: &str, out: &mut Vec<u8>) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// `torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
fn tensor(array: &Array, storage: usize, out: &mut Vec<u8>) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(");
    out.push(b'(');
    str("storage", out);
    out.extend(b"ctorch\nFloatStorage\n");
    str(&storage.to_string(), out);
    str("cpu", out);
    int(array.data.len() as i64, out);
    out.extend(b"tQ");
    int(0, out);
    let mut strides = vec![1; array.shape.len()];
    for i in (1..array.shape.len()).rev() {
        strides[i - 1] = strides[i] * array.shape[i].max(1);
    }
    for numbers in [&array.shape, &strides] {
        out.push(b'(');
        numbers.iter().for_each(|&n| int(n as i64, out));
        out.push(b't');
    }
    out.push(0x89);
    out.extend(b"ccollections\nOrderedDict\n)RtR");
}

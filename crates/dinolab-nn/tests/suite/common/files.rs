//! Files made by hand: pickles, archives, checkpoints.

/// Enough of pickle to write what PyTorch writes, and what it would never.
pub mod pickle {
    pub fn text(value: &str) -> Vec<u8> {
        let length = (value.len() as u32).to_le_bytes();
        [b"X", &length[..], value.as_bytes()].concat()
    }

    pub fn global(module: &str, name: &str) -> Vec<u8> {
        format!("c{module}\n{name}\n").into_bytes()
    }

    pub fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![b'}'];
        for (key, value) in items {
            bytes.extend([&text(key), value, &b"s"[..]].concat());
        }
        bytes
    }

    /// A call of `function` with `arguments`.
    pub fn reduce(function: Vec<u8>, arguments: &[Vec<u8>]) -> Vec<u8> {
        [&function, &b"("[..], &arguments.concat(), b"tR"].concat()
    }

    fn numbers(values: &[u8]) -> Vec<u8> {
        let items: Vec<u8> = values.iter().flat_map(|&n| [b'K', n]).collect();
        [b"(", &items[..], b"t"].concat()
    }

    /// A tensor `[1, 1, n]` over the whole of a storage, whose kind is a class of torch.
    pub fn tensor(storage: &str, kind: &str, n: u8) -> Vec<u8> {
        let storage = [
            &b"("[..],
            &text("storage"),
            &global("torch", kind),
            &text(storage),
            &text("cpu"),
            &[b'K', n, b't', b'Q'],
        ]
        .concat();
        let hooks = [&global("collections", "OrderedDict")[..], b")R"].concat();
        let offset = vec![b'K', 0];
        let (shape, strides) = (numbers(&[1, 1, n]), numbers(&[n, n, 1]));
        let requires_grad = vec![0x89];
        reduce(
            global("torch._utils", "_rebuild_tensor_v2"),
            &[storage, offset, shape, strides, requires_grad, hooks],
        )
    }

    pub fn whole(body: &[u8]) -> Vec<u8> {
        [&[0x80, 2][..], body, b"."].concat()
    }
}

/// A zip archive of stored files.
pub fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    fn crc(bytes: &[u8]) -> u32 {
        let step = |c: u32, _| (c >> 1) ^ (0xEDB8_8320 * (c & 1));
        !bytes
            .iter()
            .fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
    }
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let offset = (bytes.len() as u32).to_le_bytes();
        let size = (content.len() as u32).to_le_bytes();
        let common = [
            // Version, flags, method (stored), time, date.
            &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..],
            &crc(content).to_le_bytes(),
            &size,
            &size,
            &(name.len() as u16).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        bytes.extend([b"PK\x03\x04", &common[..], name.as_bytes(), content].concat());
        let entry = [
            b"PK\x01\x02",
            &[20, 0][..],
            &common,
            &[0; 10],
            &offset,
            name.as_bytes(),
        ];
        directory.extend(entry.concat());
    }
    let (start, count) = (
        (bytes.len() as u32).to_le_bytes(),
        (files.len() as u16).to_le_bytes(),
    );
    let length = (directory.len() as u32).to_le_bytes();
    bytes.extend(directory);
    bytes.extend(
        [
            b"PK\x05\x06\0\0\0\0",
            &count[..],
            &count,
            &length,
            &start,
            &[0, 0],
        ]
        .concat(),
    );
    bytes
}

/// A `.pth` as PyTorch lays it out: the pickle and one storage.
pub fn pth(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip(&[
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", storage),
        ("archive/version", b"3\n"),
    ])
}

pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

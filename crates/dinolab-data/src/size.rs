//! Height and width in pixels.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

/// A height and a width in pixels. Written as one number where they are equal, else as
/// `HEIGHTxWIDTH`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Sides larger than this are taken for a mistake (and keep all products far from overflow).
pub const MAX_SIDE: usize = 1 << 14;

impl Size {
    /// A rectangle.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// A square.
    pub const fn square(side: usize) -> Self {
        Self {
            height: side,
            width: side,
        }
    }

    /// Pixels.
    pub fn area(self) -> usize {
        self.height * self.width
    }

    /// Whether the sides are equal.
    pub fn is_square(self) -> bool {
        self.height == self.width
    }

    /// The longer side.
    pub fn longest(self) -> usize {
        self.height.max(self.width)
    }

    /// The shorter side.
    pub fn shortest(self) -> usize {
        self.height.min(self.width)
    }

    /// Both sides by the same function.
    pub fn map(self, each: impl Fn(usize) -> usize) -> Self {
        Self {
            height: each(self.height),
            width: each(self.width),
        }
    }

    /// Whether both sides are within 1 and [`MAX_SIDE`].
    pub fn is_usable(self) -> bool {
        self.shortest() >= 1 && self.longest() <= MAX_SIDE
    }
}

impl From<usize> for Size {
    fn from(side: usize) -> Self {
        Self::square(side)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_square() {
            write!(f, "{}", self.height)
        } else {
            write!(f, "{}x{}", self.height, self.width)
        }
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.parse()
                .map_err(|_| "SIDE or HEIGHTxWIDTH, in pixels".to_owned())
        };
        match text.split_once('x') {
            Some((height, width)) => Ok(Self {
                height: number(height)?,
                width: number(width)?,
            }),
            None => number(text).map(Self::square),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_square() {
            serializer.serialize_u64(self.height as u64)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl serde::de::Visitor<'_> for Either {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a side or \"HEIGHTxWIDTH\"")
            }
            fn visit_u64<E: serde::de::Error>(self, side: u64) -> Result<Size, E> {
                usize::try_from(side).map(Size::square).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, side: i64) -> Result<Size, E> {
                usize::try_from(side).map(Size::square).map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer
            .deserialize_any(Either)
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_it_is_read() {
        for (text, size, json) in [
            ("224", Size::square(224), "224"),
            (
                "224x320",
                Size {
                    height: 224,
                    width: 320,
                },
                "\"224x320\"",
            ),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), size);
            assert_eq!(size.to_string(), text);
            assert_eq!(serde_json::to_string(&size).unwrap(), json);
            assert_eq!(serde_json::from_str::<Size>(json).unwrap(), size);
        }
        for wrong in ["", "x", "3x", "-4", "4x4x4", "4.5"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Size>("-3").is_err());
        assert!(!Size::square(0).is_usable() && !Size::square(1 << 15).is_usable());
    }
}

//! Which columns hold images, their names and their labels.

use parquet::basic::Type;
use parquet::schema::types::SchemaDescriptor;
use serde_json::Value;

use crate::decode::Reason;

/// Where images may be, in this order: `image: {bytes, path}` is how Hugging Face stores them.
const IMAGES: &[&[&str]] = &[
    &["image", "bytes"],
    &["img", "bytes"],
    &["image"],
    &["img"],
    &["image_bytes"],
    &["bytes"],
];

/// Where labels may be, in this order.
const LABELS: &[&str] = &["label", "labels", "fine_label", "class", "target"];

/// Numbers of the columns that are read.
#[derive(Debug, PartialEq)]
pub(super) struct Columns {
    pub(super) image: usize,
    pub(super) path: Option<usize>,
    pub(super) label: Option<usize>,
}

impl Columns {
    /// Looks for them.
    pub(super) fn of(schema: &SchemaDescriptor) -> Result<Self, Reason> {
        let find = |path: &[&str], kinds: &[Type]| {
            schema.columns().iter().position(|column| {
                let parts = column.path().parts();
                // No lists: their rows have any number of values.
                column.max_rep_level() == 0
                    && kinds.contains(&column.physical_type())
                    && parts.iter().map(String::as_str).eq(path.iter().copied())
            })
        };
        let image = IMAGES
            .iter()
            .find_map(|path| Some((*path, find(path, &[Type::BYTE_ARRAY])?)));
        let Some((path, image)) = image else {
            let wanted: Vec<String> = IMAGES.iter().map(|path| path.join(".")).collect();
            return Err(format!(
                "no column of images; wanted is one of {} (binary), there are {}",
                wanted.join(", "),
                listed(schema)
            ));
        };
        let beside = [&path[..path.len() - 1], &["path"]].concat();
        Ok(Self {
            image,
            path: find(&beside, &[Type::BYTE_ARRAY]),
            label: LABELS
                .iter()
                .find_map(|name| find(&[name], &[Type::INT64, Type::INT32, Type::BYTE_ARRAY])),
        })
    }
}

/// The columns that there are, and what they hold.
fn listed(schema: &SchemaDescriptor) -> String {
    const MOST: usize = 20;
    let columns = schema.columns().iter();
    let mut names: Vec<String> = columns
        .take(MOST)
        .map(|column| {
            let list = if column.max_rep_level() > 0 {
                "list of "
            } else {
                ""
            };
            let kind = format!("{:?}", column.physical_type()).to_lowercase();
            format!("{} ({list}{kind})", column.path().string())
        })
        .collect();
    match schema.num_columns() {
        0 => return "none".into(),
        more if more > MOST => names.push(format!("{} more", more - MOST)),
        _ => {}
    }
    names.join(", ")
}

/// The names of a column's classes, from the description that Hugging Face's `datasets` puts into
/// a file: `{"info": {"features": {"label": {"names": […], "_type": "ClassLabel"}}}}`.
pub(super) fn classes(description: &str, column: &str) -> Option<Vec<String>> {
    let description: Value = serde_json::from_str(description).ok()?;
    let feature = description.get("info")?.get("features")?.get(column)?;
    if feature.get("_type")?.as_str()? != "ClassLabel" {
        return None;
    }
    let names = feature.get("names")?.as_array()?;
    names
        .iter()
        .map(|name| name.as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn of(columns: &str) -> Result<Columns, Reason> {
        let schema = parse_message_type(&format!("message root {{ {columns} }}")).unwrap();
        Columns::of(&SchemaDescriptor::new(Arc::new(schema)))
    }

    #[test]
    fn columns_go_by_their_names_and_kinds() {
        let found = |image, path, label| Ok(Columns { image, path, label });
        let group = "optional group image { optional binary bytes; optional binary path (UTF8); }";
        assert_eq!(
            of(&format!("{group} optional int64 label;")),
            found(0, Some(1), Some(2))
        );
        assert_eq!(
            of(&format!(
                "optional int64 fine_label; {group} optional double label;"
            )),
            found(1, Some(2), Some(0))
        );
        assert_eq!(
            of("required binary bytes; optional group img { optional binary bytes; }"),
            found(1, None, None)
        );
        assert_eq!(
            of("optional binary path (UTF8); required binary image_bytes; optional binary class;"),
            found(1, Some(0), Some(2))
        );
    }

    #[test]
    fn where_there_are_no_images_the_columns_are_told() {
        let told = of("optional int64 image; optional group pixels { repeated binary bytes; }");
        let told = told.unwrap_err();
        assert!(told.contains("image.bytes"), "{told}");
        assert!(
            told.ends_with("there are image (int64), pixels.bytes (list of byte_array)"),
            "{told}"
        );
    }

    #[test]
    fn classes_are_those_of_the_label_column() {
        let text = r#"{"info": {"features": {"image": {"_type": "Image"},
            "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
            "other": {"dtype": "int64", "_type": "Value"}}}}"#;
        assert_eq!(classes(text, "label").unwrap(), ["cat", "dog"]);
        for (text, column) in [
            (text, "image"),
            (text, "other"),
            (text, "none"),
            ("{", "label"),
        ] {
            assert_eq!(classes(text, column), None);
        }
    }
}

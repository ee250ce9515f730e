//! Parquet files for tests, laid out as Hugging Face lays out images.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

/// A row: the image's file and its name, and a label.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub bytes: Option<Vec<u8>>,
    pub path: Option<String>,
    pub label: Option<i64>,
}

/// How a file is written.
#[derive(Clone, Debug)]
pub struct How {
    pub compression: Compression,
    pub version: WriterVersion,
    pub dictionary: bool,
    /// Of the images, where there is no dictionary.
    pub encoding: Encoding,
    /// Where pages begin, in the file's own list.
    pub index: bool,
    pub group_rows: usize,
    pub page_rows: usize,
    /// Names of the classes, in the description of Hugging Face's.
    pub classes: Option<Vec<String>>,
}

impl Default for How {
    fn default() -> Self {
        Self {
            compression: Compression::SNAPPY,
            version: WriterVersion::PARQUET_1_0,
            dictionary: false,
            encoding: Encoding::PLAIN,
            index: false,
            group_rows: 7,
            page_rows: 3,
            classes: None,
        }
    }
}

impl How {
    fn properties(&self) -> WriterProperties {
        let mut properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_writer_version(self.version)
            .set_dictionary_enabled(self.dictionary)
            .set_data_page_row_count_limit(self.page_rows)
            .set_write_batch_size(self.page_rows)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(!self.index);
        if !self.dictionary {
            let image = ColumnPath::from(vec!["image".to_owned(), "bytes".to_owned()]);
            properties = properties.set_column_encoding(image, self.encoding);
            // What the writer falls back to for text differs by its version.
            let path = ColumnPath::from(vec!["image".to_owned(), "path".to_owned()]);
            properties = properties.set_column_encoding(path, Encoding::PLAIN);
        }
        let names = self.classes.as_ref().map(|names| {
            let label = serde_json::json!({ "names": names, "_type": "ClassLabel" });
            let image = serde_json::json!({ "_type": "Image" });
            let features = serde_json::json!({ "image": image, "label": label });
            let whole = serde_json::json!({ "info": { "features": features } });
            vec![KeyValue::new("huggingface".to_owned(), whole.to_string())]
        });
        properties.set_key_value_metadata(names).build()
    }
}

/// A whole file.
pub fn parquet(rows: &[Row], how: &How) -> Vec<u8> {
    let schema = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label;
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut file, schema, Arc::new(how.properties())).unwrap();
    for rows in rows.chunks(how.group_rows) {
        let mut group = writer.next_row_group().unwrap();
        let levels = |there: &dyn Fn(&Row) -> bool, most: i16| -> Vec<i16> {
            rows.iter()
                .map(|row| most - i16::from(!there(row)))
                .collect()
        };
        let mut column = group.next_column().unwrap().unwrap();
        let images: Vec<ByteArray> = rows
            .iter()
            .filter_map(|row| row.bytes.clone().map(ByteArray::from))
            .collect();
        let there = levels(&|row| row.bytes.is_some(), 2);
        column
            .typed::<ByteArrayType>()
            .write_batch(&images, Some(&there), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let paths: Vec<ByteArray> = rows
            .iter()
            .filter_map(|row| row.path.as_deref().map(ByteArray::from))
            .collect();
        let there = levels(&|row| row.path.is_some(), 2);
        column
            .typed::<ByteArrayType>()
            .write_batch(&paths, Some(&there), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let labels: Vec<i64> = rows.iter().filter_map(|row| row.label).collect();
        let there = levels(&|row| row.label.is_some(), 1);
        column
            .typed::<Int64Type>()
            .write_batch(&labels, Some(&there), None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    file.flush().unwrap();
    file
}

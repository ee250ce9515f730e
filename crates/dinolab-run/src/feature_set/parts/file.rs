//! One part: a Parquet file with what it is of in its footer.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float16Array, Float32Array, ListArray, RecordBatch,
    StringArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema};
use half::f16;
use half::slice::HalfFloatSliceExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use super::folder::{PartFolder, PartReader, refused};
use super::tokens::GridColumns;
use super::{FeatureType, Grid, Hash, TokenShape};
use crate::error::{Context, Result};
use crate::feature_set::FeatureSet;

const IDENTITY: &str = "dinolab.manifest";
const NUMBER: &str = "dinolab.part";
const SKIPPED: &str = "dinolab.skipped";
const CHECKSUM: &str = "dinolab.checksum";
/// Rows, columns and width, as JSON ([`TokenShape`]).
const TOKENS: &str = "dinolab.patch_tokens";

/// The column of features.
const FEATURE: &str = "feature";
/// The column of patch tokens, `[rows, columns, width]` in one list.
const PATCH_TOKENS: &str = "patch_tokens";

/// What a part holds.
pub(crate) struct Part {
    identity: String,
    number: usize,
    kind: FeatureType,
    /// What a row is, if it is the patch tokens of an image.
    tokens: Option<TokenShape>,
    /// The grid of each row, if they differ.
    grids: Vec<Grid>,
    dim: usize,
    data: Vec<f32>,
    names: Vec<String>,
    /// `None` where no image of the set has a class.
    labels: Option<Vec<Option<String>>>,
    /// Names of images that could not be used.
    pub skipped: Vec<String>,
}

impl Part {
    /// Part `number` of the folder that is known by `identity`: `features` of those images of `all` that could
    /// be used.
    pub fn new(
        identity: &str,
        number: usize,
        kind: FeatureType,
        all: &[String],
        features: FeatureSet,
        labelled: bool,
    ) -> Self {
        let names = features.names.unwrap_or_default();
        let used: BTreeSet<&String> = names.iter().collect();
        let skipped = all
            .iter()
            .filter(|name| !used.contains(name))
            .cloned()
            .collect();
        let labels = features.labels.unwrap_or_else(|| vec![None; names.len()]);
        Self {
            identity: identity.to_owned(),
            number,
            kind,
            tokens: None,
            grids: Vec::new(),
            dim: features.dim,
            data: features.data,
            names,
            labels: labelled.then_some(labels),
            skipped,
        }
    }

    /// The same of patch tokens: each row is those of an image, one after the other. `grids` has one for each row if
    /// `shape` has none.
    pub fn of_tokens(self, shape: TokenShape, grids: Vec<Grid>) -> Self {
        Self {
            tokens: Some(shape),
            dim: shape.grid.map_or(0, |grid| shape.values(grid)),
            grids,
            ..self
        }
    }

    /// Writes the part into the folder.
    ///
    /// # Errors
    /// A place that cannot be written.
    pub fn write(self, folder: &PartFolder) -> Result<()> {
        let number = self.number;
        let bytes = self.into_parquet();
        let bytes = bytes.with_context(|| folder.path_of(number).display().to_string())?;
        folder.write_part(number, bytes)
    }

    /// The content of the file.
    fn into_parquet(self) -> io::Result<Vec<u8>> {
        let mut checksum = Hash::default();
        for name in &self.names {
            checksum.name(name);
        }
        let values: ArrayRef = match self.kind {
            FeatureType::F32 => Arc::new(Float32Array::from(self.data)),
            FeatureType::F16 => Arc::new(Float16Array::from_iter_values(
                self.data.into_iter().map(f16::from_f32),
            )),
        };
        add_values(&mut checksum, &values);
        let differ = self.tokens.filter(|shape| shape.grid.is_none());
        let rows: ArrayRef = match differ {
            Some(shape) => {
                let lengths = self.grids.iter().map(|&grid| shape.values(grid));
                Arc::new(lists(values, lengths)?)
            }
            None => Arc::new(lists_of_one_size(values, self.dim)?),
        };
        let column = match self.tokens {
            Some(_) => PATCH_TOKENS,
            None => FEATURE,
        };
        let mut fields = vec![
            Field::new("path", DataType::Utf8, false),
            Field::new(column, rows.data_type().clone(), false),
        ];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(self.names)), rows];
        if differ.is_some() {
            let mut grids = GridColumns::default();
            for (name, counts) in grids.of(&self.grids)? {
                fields.push(Field::new(name, DataType::Int32, false));
                columns.push(Arc::new(counts));
            }
            grids.add_to(&mut checksum);
        }
        if let Some(labels) = self.labels {
            let mut builder = StringBuilder::new();
            for label in labels {
                checksum.name(label.as_deref().unwrap_or_default());
                builder.append_option(label);
            }
            fields.push(Field::new("label", DataType::Utf8, true));
            columns.push(Arc::new(builder.finish()));
        }
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(io::Error::other)?;
        let skipped = serde_json::to_string(&self.skipped).map_err(io::Error::other)?;
        let shape = self.tokens.map(|shape| (TOKENS, shape.to_string()));
        let said = [
            (IDENTITY, self.identity),
            (NUMBER, self.number.to_string()),
            (SKIPPED, skipped),
            (CHECKSUM, checksum.digits()),
        ];
        let said = said.into_iter().chain(shape);
        let said = said.map(|(key, value)| KeyValue::new(key.to_owned(), value));
        // Features have no two values alike: neither dictionaries nor statistics help.
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_key_value_metadata(Some(said.collect()))
            .build();
        let mut out = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut out, schema, Some(properties)).map_err(io::Error::other)?;
        writer.write(&batch).map_err(io::Error::other)?;
        writer.close().map_err(io::Error::other)?;
        Ok(out)
    }
}

/// Lists of `width` values each.
fn lists_of_one_size(values: ArrayRef, width: usize) -> io::Result<FixedSizeListArray> {
    let width = i32::try_from(width).map_err(io::Error::other)?;
    FixedSizeListArray::try_new(element(&values), width, values, None).map_err(io::Error::other)
}

/// Lists of these lengths.
fn lists(values: ArrayRef, lengths: impl Iterator<Item = usize>) -> io::Result<ListArray> {
    if i32::try_from(values.len()).is_err() {
        let reason = format!(
            "{} values are too many for a part; make smaller parts",
            values.len()
        );
        return Err(io::Error::other(reason));
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    ListArray::try_new(element(&values), offsets, values, None).map_err(io::Error::other)
}

fn element(values: &ArrayRef) -> Arc<Field> {
    Arc::new(Field::new("element", values.data_type().clone(), false))
}

/// Adds the bits of all values to a checksum.
fn add_values(checksum: &mut Hash, values: &dyn Array) {
    if let Some(values) = values.as_any().downcast_ref::<Float32Array>() {
        checksum.values(values.values());
    }
    if let Some(values) = values.as_any().downcast_ref::<Float16Array>() {
        for value in values.values() {
            checksum.bytes(&value.to_le_bytes());
        }
    }
}

/// What the footer of a part says of it.
pub(super) struct Footer {
    pub identity: String,
    pub number: usize,
    pub skipped: Vec<String>,
    checksum: String,
    /// Of patch tokens: rows and columns, if they are those of all images, and width.
    tokens: Option<(Option<usize>, Option<usize>, usize)>,
}

/// The footer of a part; `None` where the file has none that a part has.
fn footer(metadata: &ParquetMetaData) -> Option<Footer> {
    let said = metadata.file_metadata().key_value_metadata()?;
    let value = |key: &str| said.iter().find(|one| one.key == key)?.value.clone();
    Some(Footer {
        identity: value(IDENTITY)?,
        number: value(NUMBER)?.parse().ok()?,
        skipped: serde_json::from_str(&value(SKIPPED)?).ok()?,
        checksum: value(CHECKSUM)?,
        tokens: match value(TOKENS) {
            Some(shape) => Some(serde_json::from_str(&shape).ok()?),
            None => None,
        },
    })
}

/// Whether part `number` of the folder that is known by `identity` is there. It appeared whole, so that its
/// footer tells.
///
/// # Errors
/// A part that could not be read.
pub(crate) fn is_whole(folder: &PartFolder, identity: &str, number: usize) -> Result<bool> {
    let path = || folder.path_of(number).display().to_string();
    let Some(part) = folder.part(number).with_context(path)? else {
        return Ok(false);
    };
    match open(part, identity, number) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unreachable() => Err(error),
        Err(_) => Ok(false),
    }
}

/// A part of the folder that is known by `identity`, to be read.
///
/// # Errors
/// A part that is damaged or of another folder, or that could not be fetched.
pub(super) fn open<R: ChunkReader + 'static>(
    part: R,
    identity: &str,
    number: usize,
) -> Result<SerializedFileReader<R>> {
    let reader = SerializedFileReader::new(part).map_err(|error| refused(&error))?;
    match footer(reader.metadata()) {
        Some(found) if found.identity == identity && found.number == number => Ok(reader),
        _ => bail!("is damaged, or a part of another folder"),
    }
}

/// A column of text of a part: `path`, or `label`, which a part may lack. The part's checksum is not compared.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) says what is wrong with the file.
pub(super) fn texts(
    folder: &PartFolder,
    identity: &str,
    number: usize,
    column: &str,
) -> Result<Option<Vec<Option<String>>>> {
    let part = folder.part(number)?.context("is missing")?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(part).map_err(|error| refused(&error))?;
    match footer(reader.metadata()) {
        Some(found) if found.identity == identity && found.number == number => {}
        _ => bail!("is damaged, or a part of another folder"),
    }
    if reader.schema().field_with_name(column).is_err() {
        return Ok(None);
    }
    let mask = ProjectionMask::columns(reader.parquet_schema(), [column]);
    let reader = reader.with_projection(mask).build();
    let mut texts = Vec::new();
    for batch in reader.map_err(|error| refused(&error))? {
        let batch = batch.map_err(|error| refused(&error.into()))?;
        let Some(found) = batch.column(0).as_any().downcast_ref::<StringArray>() else {
            bail!("has no text in its column {column}");
        };
        texts.extend(found.iter().map(|text| text.map(str::to_owned)));
    }
    Ok(Some(texts))
}

/// Adds stored features, as `f32`.
fn append(data: &mut Vec<f32>, values: &ArrayRef) -> Result<()> {
    if let Some(values) = values.as_any().downcast_ref::<Float32Array>() {
        data.extend_from_slice(values.values());
    } else if let Some(values) = values.as_any().downcast_ref::<Float16Array>() {
        let first = data.len();
        data.resize(first + values.len(), 0.0);
        values.values().convert_to_f32_slice(&mut data[first..]);
    } else {
        bail!("has features of {}", values.data_type());
    }
    Ok(())
}

/// The values of a column of lists, and the lengths of those lists where they may differ.
fn of_lists(column: &ArrayRef) -> Option<(ArrayRef, Vec<usize>)> {
    if let Some(lists) = column.as_any().downcast_ref::<FixedSizeListArray>() {
        return Some((Arc::clone(lists.values()), Vec::new()));
    }
    let lists = column.as_any().downcast_ref::<ListArray>()?;
    let (first, last) = (
        lists.value_offsets().first()?,
        lists.value_offsets().last()?,
    );
    let [first, len] = [*first, last - first].map(i32::unsigned_abs);
    let values = lists.values().slice(first as usize, len as usize);
    Some((values, lists.offsets().lengths().collect()))
}

/// The names and features of a part, its footer, and their checksum, all read. Patch tokens of grids that differ
/// are one row after the other, of width 0.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) says what is wrong with the file.
pub(super) fn read(part: PartReader) -> Result<(FeatureSet, Footer)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(part.whole()?);
    let reader = reader.map_err(|error| refused(&error))?;
    let footer = footer(reader.metadata()).context("is damaged, or no part")?;
    let differ = footer.tokens.filter(|(rows, ..)| rows.is_none());
    let reader = reader.build().map_err(|error| refused(&error))?;
    let (mut checksum, mut of_values) = (Hash::default(), Vec::new());
    let mut grids = GridColumns::default();
    let mut set = FeatureSet {
        names: Some(Vec::new()),
        ..FeatureSet::default()
    };
    let mut labels: Option<Vec<Option<String>>> = None;
    for batch in reader {
        let batch = batch.map_err(|error| refused(&error.into()))?;
        let text = |name: &str| {
            batch
                .column_by_name(name)?
                .as_any()
                .downcast_ref::<StringArray>()
        };
        let column = batch.column_by_name(FEATURE);
        let column = column.or_else(|| batch.column_by_name(PATCH_TOKENS));
        let (Some(paths), Some((values, lengths))) = (text("path"), column.and_then(of_lists))
        else {
            bail!("has no columns of paths and features");
        };
        for name in paths.iter().flatten() {
            checksum.name(name);
            set.names.get_or_insert_default().push(name.to_owned());
        }
        if let Some(column) = text("label") {
            let column = column.iter().map(|label| label.map(str::to_owned));
            labels.get_or_insert_default().extend(column);
        }
        match differ {
            None => set.dim = values.len().checked_div(batch.num_rows()).unwrap_or(0),
            Some((.., width)) => grids.add(&batch, &lengths, width)?,
        }
        append(&mut set.data, &values)?;
        of_values.push(values);
    }
    for values in &of_values {
        add_values(&mut checksum, values);
    }
    grids.add_to(&mut checksum);
    for label in labels.iter().flatten() {
        checksum.name(label.as_deref().unwrap_or_default());
    }
    if checksum.digits() != footer.checksum {
        bail!("is damaged: its content does not have the checksum in its footer");
    }
    set.labels = labels.filter(|labels| labels.iter().any(Option::is_some));
    Ok((set, footer))
}

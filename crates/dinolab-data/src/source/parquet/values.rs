//! The values of pages, by the decoders of the `parquet` crate.

use std::collections::VecDeque;

use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{get_column_reader, get_typed_column_reader};
use parquet::data_type::DataType;
use parquet::errors::Result as ParquetResult;
use parquet::schema::types::ColumnDescPtr;

use crate::decode::{Reason, caught};

/// Pages that were read already.
struct Given(VecDeque<Page>);

impl Iterator for Given {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pop_front().map(Ok)
    }
}

impl PageReader for Given {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        Ok(self.0.pop_front())
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        Ok(self.0.front().map(|page| PageMetadata {
            num_rows: None,
            num_levels: Some(page.num_values() as usize),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.pop_front();
        Ok(())
    }
}

/// Gives `each` the value of every row of some pages of values (behind their dictionary, where
/// they have one), or `None` for a null. The column must be flat and of the type `T`.
pub(super) fn each<T: DataType>(
    column: &ColumnDescPtr,
    pages: Vec<Page>,
    mut each: impl FnMut(Option<T::T>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    /// The rows of a page can be many although its bytes are few.
    const PART: usize = 1024;
    let damaged = |what: &str| format!("damaged: its values cannot be read: {what}");
    let most = column.max_def_level();
    caught(|| {
        let data = pages.iter().filter(|page| page.is_data_page());
        let mut left: usize = data.map(|page| page.num_values() as usize).sum();
        let reader = get_column_reader(column.clone(), Box::new(Given(pages.into())));
        let mut reader = get_typed_column_reader::<T>(reader);
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        while left > 0 {
            levels.clear();
            values.clear();
            let (read, _, _) = reader
                .read_records(left.min(PART), Some(&mut levels), None, &mut values)
                .map_err(|e| damaged(&e.to_string()))?;
            if read == 0 {
                return Err(damaged("rows are missing"));
            }
            left = left.saturating_sub(read);
            let mut values = values.drain(..);
            for row in 0..read {
                let null = most > 0 && levels.get(row) != Some(&most);
                each(match null {
                    true => None,
                    false => Some(values.next().ok_or_else(|| damaged("they are too few"))?),
                })?;
            }
        }
        Ok(())
    })
}

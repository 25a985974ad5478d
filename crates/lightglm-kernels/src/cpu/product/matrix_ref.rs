//! `MatrixRef`: a matrix to multiply, in the precision and the order it is stored in.

use super::super::weights::Weights;

/// A matrix in memory, whose rows or columns are contiguous.
#[derive(Clone, Copy, Debug)]
pub struct MatrixRef<'a> {
    pub(super) data: Weights<'a>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Elements from one row to the next, or from one column to the next.
    pub(super) stride: usize,
    /// Whether columns are contiguous, and not rows.
    pub(super) transposed: bool,
}

impl<'a> MatrixRef<'a> {
    /// A row-major matrix of `[rows, columns]`.
    ///
    /// # Panics
    /// Where `data` has another length.
    pub fn new(data: Weights<'a>, [rows, columns]: [usize; 2]) -> Self {
        let len = data.len();
        assert_eq!(len, rows * columns, "{len} elements are no matrix of {rows} x {columns}");
        Self { data, rows, columns, stride: columns, transposed: false }
    }

    /// A matrix of `[rows, columns]` whose rows begin `stride` elements apart, as columns of a wider
    /// one.
    ///
    /// # Panics
    /// Where rows overlap or end after `data`.
    pub fn with_stride(data: Weights<'a>, [rows, columns]: [usize; 2], stride: usize) -> Self {
        assert!(columns <= stride, "rows of {columns} elements overlap {stride} apart");
        let last = rows.saturating_sub(1).checked_mul(stride);
        let end = if rows == 0 { Some(0) } else { last.and_then(|last| last.checked_add(columns)) };
        let fits = end.is_some_and(|end| end <= data.len());
        assert!(
            fits,
            "{rows} rows of {columns}, {stride} apart, end after {} elements",
            data.len()
        );
        Self { data, rows, columns, stride, transposed: false }
    }

    /// The same memory, rows read as columns.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }
}

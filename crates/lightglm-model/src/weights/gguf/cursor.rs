//! Reading little-endian values from bytes that may lie.

/// Why bytes could not be read; the file's name is added further up.
pub(super) type Reason = String;

/// A position in a byte slice.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Reason> {
        if n > self.remaining() {
            let (at, left) = (self.position, self.remaining());
            return Err(format!("{n} bytes at {at}, where the file has {left} left"));
        }
        let bytes = &self.bytes[self.position..self.position + n];
        self.position += n;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Reason> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Reason> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of items that take at least `least` bytes each: refused before anything is allocated
    /// where the file has too few bytes left.
    pub(super) fn count(&mut self, what: &str, least: usize) -> Result<usize, Reason> {
        let count = self.u64()?;
        self.check_count(count, what, least)
    }

    /// [`Cursor::count`] for a count that has been read already.
    pub(super) fn check_count(
        &self,
        count: u64,
        what: &str,
        least: usize,
    ) -> Result<usize, Reason> {
        let possible = self.remaining() / least;
        usize::try_from(count).ok().filter(|count| *count <= possible).ok_or_else(|| {
            format!("{count} {what} at {}, where at most {possible} fit", self.position)
        })
    }

    pub(super) fn string(&mut self) -> Result<&'a str, Reason> {
        let length = self.count("bytes of a string", 1)?;
        let at = self.position;
        std::str::from_utf8(self.take(length)?).map_err(|error| format!("string at {at}: {error}"))
    }
}

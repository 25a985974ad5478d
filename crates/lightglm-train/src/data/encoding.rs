//! `TextEncoding`: in which encoding a file is written, told by its bytes.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use encoding_rs::{Decoder, DecoderResult, Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE};
use serde::{Serialize, Serializer};

/// The encoding of a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextEncoding(&'static Encoding);

impl TextEncoding {
    /// UTF-8, with or without a byte order mark.
    pub const UTF_8: Self = Self(UTF_8);
    /// GB18030, of which GBK and GB2312 are parts: what Excel writes on a Chinese Windows.
    pub const GB18030: Self = Self(GB18030);
    /// UTF-16, the lower byte first: Excel's "Unicode text".
    pub const UTF_16LE: Self = Self(UTF_16LE);
    /// UTF-16, the higher byte first.
    pub const UTF_16BE: Self = Self(UTF_16BE);

    /// Its name in the Encoding Standard, in capitals where others write it so.
    pub fn name(self) -> &'static str {
        if self == Self::GB18030 { "GB18030" } else { self.0.name() }
    }

    pub(super) fn is_utf8(self) -> bool {
        self == Self::UTF_8
    }

    /// A decoder that passes over a byte order mark.
    pub(super) fn decoder(self) -> Decoder {
        self.0.new_decoder_with_bom_removal()
    }

    /// The encoding of `input`, read to its end: the one of its byte order mark; UTF-16 where every
    /// other byte of the plain letters is zero; UTF-8 where it is that; GB18030 where all of it
    /// decodes. What fits none is taken for damaged UTF-8, and its rows are for the reader to refuse.
    pub(super) fn of(mut input: impl Read) -> io::Result<Self> {
        let (mut detector, mut buffer) = (Detector::default(), vec![0; 64 << 10]);
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return Ok(detector.finish()),
                Ok(len) => detector.push(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`of`](Self::of), of the beginning of a stream.
    pub(super) fn of_head(head: &[u8]) -> Self {
        let mut detector = Detector::default();
        detector.push(head);
        detector.finish()
    }
}

impl fmt::Display for TextEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for TextEncoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl FromStr for TextEncoding {
    type Err = UnknownEncoding;

    /// By any name of the Encoding Standard: `utf-8`, `gbk`, `gb18030`, `big5`, `windows-1252`, ...
    fn from_str(label: &str) -> Result<Self, UnknownEncoding> {
        let found = Encoding::for_label(label.as_bytes()).map(Self);
        found.ok_or_else(|| UnknownEncoding { label: label.into() })
    }
}

/// A name of no encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{label}` is no encoding: utf-8, gb18030, utf-16le, big5, ...")]
pub struct UnknownEncoding {
    /// The name.
    pub label: String,
}

/// Counts what speaks for which encoding.
#[derive(Default)]
struct Detector {
    /// The first bytes, where a byte order mark stands.
    mark: Vec<u8>,
    /// Bytes until now.
    len: usize,
    /// The byte before, where it begins a unit of 16 bits.
    first: u8,
    /// Units of 16 bits that part fields and lines, the lower byte first or last. Texts in Chinese have units
    /// with a zero on the other side, too (一 is 4E00, 退 9000), but hardly one of these.
    marks: [usize; 2],
    /// Zero bytes at odd and at even places.
    zeros: [usize; 2],
    utf8: Utf8Counts,
    gb18030: Gb18030Counts,
    utf16: [Strict; 2],
}

impl Detector {
    fn push(&mut self, bytes: &[u8]) {
        self.mark.extend(bytes.iter().take(3_usize.saturating_sub(self.mark.len())));
        for &byte in bytes {
            let is_second = self.len % 2 == 1;
            self.zeros[usize::from(!is_second)] += usize::from(byte == 0);
            if is_second {
                let is_mark = |byte: u8| b"\t\n\r \",:;{}[]0123456789".contains(&byte);
                self.marks[0] += usize::from(byte == 0 && is_mark(self.first));
                self.marks[1] += usize::from(self.first == 0 && is_mark(byte));
            }
            self.first = byte;
            self.len += 1;
        }
        self.utf8.push(bytes);
        self.gb18030.push(bytes);
        for (strict, encoding) in self.utf16.iter_mut().zip([UTF_16LE, UTF_16BE]) {
            strict.push(bytes, encoding);
        }
    }

    fn finish(mut self) -> TextEncoding {
        if let Some((encoding, _)) = Encoding::for_bom(&self.mark) {
            return TextEncoding(encoding);
        }
        self.utf8.finish();
        if self.zeros != [0, 0] {
            let [little, big] = [0, 1].map(|at| (self.marks[at], self.zeros[at]));
            return match () {
                () if little > big && !self.utf16[0].failed => TextEncoding::UTF_16LE,
                () if big > little && !self.utf16[1].failed => TextEncoding::UTF_16BE,
                () => TextEncoding::UTF_8,
            };
        }
        match self.utf8.is_plausible() || !self.gb18030.is_plausible() {
            true => TextEncoding::UTF_8,
            false => TextEncoding::GB18030,
        }
    }
}

/// What of a file is UTF-8.
#[derive(Default)]
struct Utf8Counts {
    /// Characters of three bytes and more: in other encodings they are rare accidents.
    wide: usize,
    invalid: usize,
    /// The beginning of a character whose rest comes with the next bytes.
    carried: Vec<u8>,
}

impl Utf8Counts {
    fn push(&mut self, bytes: &[u8]) {
        let joined;
        let mut bytes = bytes;
        if !self.carried.is_empty() {
            joined = [std::mem::take(&mut self.carried).as_slice(), bytes].concat();
            bytes = &joined;
        }
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.wide += chunk.valid().bytes().filter(|byte| *byte >= 0xe0).count();
            let invalid = chunk.invalid();
            match std::str::from_utf8(invalid) {
                // Not wrong, but cut off.
                Err(error) if error.error_len().is_none() && chunks.peek().is_none() => {
                    self.carried = invalid.to_vec();
                }
                _ => self.invalid += usize::from(!invalid.is_empty()),
            }
        }
    }

    fn finish(&mut self) {
        self.invalid += usize::from(!self.carried.is_empty());
    }

    /// Whether it is UTF-8, or was before something damaged it.
    fn is_plausible(&self) -> bool {
        self.invalid == 0 || self.wide > self.invalid
    }
}

/// What of a file is GB18030.
///
/// Almost any bytes decode as that, so it has to look like it, too: Chinese text is mostly of the
/// characters that GB2312 has already, both bytes of which are above 0xa0. In Big5 two fifths of the
/// second bytes are ASCII, in Western encodings almost all, and Shift JIS has lower first ones.
#[derive(Default)]
struct Gb18030Counts {
    strict: Strict,
    /// Characters of two bytes.
    pairs: usize,
    /// Those of GB2312.
    gb2312: usize,
    /// Those whose second byte is an ASCII letter or mark.
    ascii_seconds: usize,
    lead: Option<u8>,
}

impl Gb18030Counts {
    fn push(&mut self, bytes: &[u8]) {
        self.strict.push(bytes, GB18030);
        for &byte in bytes {
            match self.lead.take() {
                // Half of a character of four bytes.
                Some(_) if byte.is_ascii_digit() => {}
                Some(lead) => {
                    self.pairs += 1;
                    self.gb2312 += usize::from(lead > 0xa0 && byte > 0xa0);
                    self.ascii_seconds += usize::from(byte < 0x7f);
                }
                None => self.lead = (byte > 0x80).then_some(byte),
            }
        }
    }

    fn is_plausible(&self) -> bool {
        let looks_like_it = 2 * self.gb2312 >= self.pairs && 4 * self.ascii_seconds <= self.pairs;
        !self.strict.failed && looks_like_it
    }
}

/// Whether bytes decode without a fault.
#[derive(Default)]
struct Strict {
    decoder: Option<Decoder>,
    failed: bool,
}

impl Strict {
    fn push(&mut self, mut bytes: &[u8], encoding: &'static Encoding) {
        if self.failed {
            return;
        }
        let decoder =
            self.decoder.get_or_insert_with(|| encoding.new_decoder_without_bom_handling());
        let mut scratch = [0; 8 << 10];
        loop {
            let (result, read, _) =
                decoder.decode_to_utf8_without_replacement(bytes, &mut scratch, false);
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    self.failed = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRADITIONAL: &str =
        "問題,答案\n如何退貨?,七天內可以退貨,請聯繫客服。\n營業時間?,早上九點到晚上六點。\n";
    const JAPANESE: &str = "質問,答え\n返品はできますか?,七日以内であれば返品できます。\n";
    const CHINESE: &str = "问题,答案\n如何退货?,七天内可退。\n一,一一\n";

    #[test]
    fn encodings_are_told_by_bytes() {
        let utf16 = |text: &str, big: bool| -> Vec<u8> {
            let unit = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
            text.encode_utf16().flat_map(unit).collect()
        };
        let gbk = GB18030.encode(CHINESE).0.into_owned();
        let marked = |text: &str, big| utf16(&format!("\u{feff}{text}"), big);
        for (bytes, expected) in [
            (b"plain".to_vec(), TextEncoding::UTF_8),
            (CHINESE.into(), TextEncoding::UTF_8),
            (gbk.clone(), TextEncoding::GB18030),
            (GB18030.encode("a,b\n🎉,€\n").0.into_owned(), TextEncoding::GB18030),
            (utf16(CHINESE, false), TextEncoding::UTF_16LE),
            (utf16(CHINESE, true), TextEncoding::UTF_16BE),
            (marked(CHINESE, false), TextEncoding::UTF_16LE),
            (marked("问", true), TextEncoding::UTF_16BE),
            // Damage is not another encoding.
            ([CHINESE.as_bytes(), b"\xff\n"].concat(), TextEncoding::UTF_8),
            ([CHINESE.as_bytes(), b"\xe5\xa6\n"].concat(), TextEncoding::UTF_8),
            ([&gbk[..], b"\xff\n"].concat(), TextEncoding::UTF_8),
            (b"na\xefve,r\xe9ponse\n".to_vec(), TextEncoding::UTF_8),
            // Other encodings, to be named by whoever has such a file.
            (encoding_rs::BIG5.encode(TRADITIONAL).0.into_owned(), TextEncoding::UTF_8),
            (encoding_rs::SHIFT_JIS.encode(JAPANESE).0.into_owned(), TextEncoding::UTF_8),
            (GB18030.encode(TRADITIONAL).0.into_owned(), TextEncoding::GB18030),
        ] {
            assert_eq!(TextEncoding::of(&bytes[..]).expect("in memory"), expected, "{bytes:?}");
            // Cut anywhere, it is the same.
            let mut detector = Detector::default();
            bytes.iter().for_each(|byte| detector.push(&[*byte]));
            assert_eq!(detector.finish(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_encoding_standard() {
        assert_eq!("gbk".parse::<TextEncoding>().expect("known").name(), "GBK");
        assert_eq!("UTF-8".parse(), Ok(TextEncoding::UTF_8));
        assert!("klingon".parse::<TextEncoding>().is_err());
    }
}

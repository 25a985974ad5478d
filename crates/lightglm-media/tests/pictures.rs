//! Pictures as people send them: what a person sees is what a model sees.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use lightglm_media::{MediaError, MediaLimits, Picture};

fn decode(bytes: &[u8]) -> Result<Picture, MediaError> {
    Picture::decode(bytes, &MediaLimits::default())
}

fn png(pixels: &[u8], width: u32, height: u32, colour: ExtendedColorType) -> Vec<u8> {
    let mut out = Vec::new();
    PngEncoder::new(&mut out).write_image(pixels, width, height, colour).unwrap();
    out
}

fn jpeg(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut out, 100);
    encoder.write_image(pixels, width, height, ExtendedColorType::Rgb8).unwrap();
    out
}

fn webp(pixels: &[u8], width: u32, height: u32, colour: ExtendedColorType) -> Vec<u8> {
    let mut out = Vec::new();
    WebPEncoder::new_lossless(Cursor::new(&mut out))
        .write_image(pixels, width, height, colour)
        .unwrap();
    out
}

/// Four quarters: red, green, blue, black, each 8 x 8.
fn quarters() -> Vec<u8> {
    let colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]];
    (0..16 * 16).flat_map(|i| colours[i / 128 * 2 + i % 16 / 8]).collect()
}

/// An EXIF block that says how a picture is to be turned.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    exif
}

/// The colours of the four quarters, by the channel that is large; 3 where none is.
fn seen(picture: &Picture) -> [usize; 4] {
    let (width, height) = (picture.width(), picture.height());
    [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| {
        let pixel = (y * height / 4 * width + x * width / 4) * 3;
        picture.rgb()[pixel..pixel + 3].iter().position(|&value| value > 128).unwrap_or(3)
    })
}

#[test]
fn pixels_are_as_they_were() {
    let pixels = quarters();
    let of_png = decode(&png(&pixels, 16, 16, ExtendedColorType::Rgb8)).unwrap();
    assert_eq!((of_png.width(), of_png.height()), (16, 16));
    assert_eq!(of_png.rgb(), pixels);
    assert_eq!(decode(&webp(&pixels, 16, 16, ExtendedColorType::Rgb8)).unwrap(), of_png);
    assert_eq!(seen(&decode(&jpeg(&pixels, 16, 16)).unwrap()), [0, 1, 2, 3]);
}

#[test]
fn a_picture_stands_upright() {
    // Of each orientation, which quarter is where.
    let turned = [
        [0, 1, 2, 3],
        [1, 0, 3, 2],
        [3, 2, 1, 0],
        [2, 3, 0, 1],
        [0, 2, 1, 3],
        [2, 0, 3, 1],
        [3, 1, 2, 0],
        [1, 3, 0, 2],
    ];
    for (i, wanted) in turned.into_iter().enumerate() {
        let orientation = i as u8 + 1;
        let plain = jpeg(&quarters(), 16, 16);
        let exif = exif(orientation);
        let mut with = plain[..2].to_vec();
        with.extend([0xff, 0xe1]);
        with.extend(((exif.len() + 8) as u16).to_be_bytes());
        with.extend(b"Exif\0\0");
        with.extend(&exif);
        with.extend(&plain[2..]);
        assert_eq!(seen(&decode(&with).unwrap()), wanted, "JPEG {orientation}");

        let mut of_png = Vec::new();
        let mut encoder = PngEncoder::new(&mut of_png);
        encoder.set_exif_metadata(exif.clone()).unwrap();
        encoder.write_image(&quarters(), 16, 16, ExtendedColorType::Rgb8).unwrap();
        assert_eq!(seen(&decode(&of_png).unwrap()), wanted, "PNG {orientation}");
    }
}

#[test]
fn what_is_clear_is_white() {
    let rgba = [10, 20, 30, 0, 10, 20, 30, 255, 0, 0, 0, 128, 255, 0, 0, 51];
    let wanted = [255, 255, 255, 10, 20, 30, 127, 127, 127, 255, 204, 204];
    for file in
        [png(&rgba, 4, 1, ExtendedColorType::Rgba8), webp(&rgba, 4, 1, ExtendedColorType::Rgba8)]
    {
        assert_eq!(decode(&file).unwrap().rgb(), wanted);
    }
    let grey = png(&[0, 128, 200, 255], 2, 1, ExtendedColorType::La8);
    assert_eq!(decode(&grey).unwrap().rgb(), [127, 127, 127, 200, 200, 200]);
}

/// A PNG of these chunks behind its header.
fn png_of(header: &[u8; 13], chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8; 4], data: &[u8]| {
        file.extend((data.len() as u32).to_be_bytes());
        let begin = file.len();
        file.extend(name);
        file.extend(data);
        let crc = crc32(&file[begin..]);
        file.extend(crc.to_be_bytes());
    };
    chunk(b"IHDR", header);
    for (name, data) in chunks {
        chunk(name, data);
    }
    chunk(b"IEND", &[]);
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Bytes as zlib has them.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_colour_that_counts_as_clear_is_white() {
    // A palette of red and green, green being clear.
    let header = [0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0];
    let palette = [255, 0, 0, 0, 255, 0];
    let rows = zlib(&[0, 0, 1]);
    let file = png_of(&header, &[(b"PLTE", &palette), (b"tRNS", &[255, 0]), (b"IDAT", &rows)]);
    assert_eq!(decode(&file).unwrap().rgb(), [255, 0, 0, 255, 255, 255]);
    // True colours of which one is clear.
    let header = [0, 0, 0, 2, 0, 0, 0, 1, 8, 2, 0, 0, 0];
    let rows = zlib(&[0, 9, 9, 9, 1, 2, 3]);
    let file = png_of(&header, &[(b"tRNS", &[0, 9, 0, 9, 0, 9]), (b"IDAT", &rows)]);
    assert_eq!(decode(&file).unwrap().rgb(), [255, 255, 255, 1, 2, 3]);
}

#[test]
fn sixteen_bits_are_scaled() {
    let grey: Vec<u8> = [0u16, 257, 32768, 65535].iter().flat_map(|v| v.to_ne_bytes()).collect();
    let file = png(&grey, 4, 1, ExtendedColorType::L16);
    let wanted: Vec<u8> = [0, 1, 128, 255].iter().flat_map(|&v| [v; 3]).collect();
    assert_eq!(decode(&file).unwrap().rgb(), wanted);
    let clear: Vec<u8> = [0u16, 0, 0, 32768].iter().flat_map(|v| v.to_ne_bytes()).collect();
    let file = png(&clear, 1, 1, ExtendedColorType::Rgba16);
    assert_eq!(decode(&file).unwrap().rgb(), [127; 3]);
}

#[test]
fn one_bit_is_black_or_white() {
    let header = [0, 0, 0, 9, 0, 0, 0, 1, 1, 0, 0, 0, 0];
    let rows = zlib(&[0, 0b1010_1010, 0b1000_0000]);
    let picture = decode(&png_of(&header, &[(b"IDAT", &rows)])).unwrap();
    let wanted: Vec<u8> = (0..9).flat_map(|i| [if i % 2 == 0 { 255 } else { 0 }; 3]).collect();
    assert_eq!(picture.rgb(), wanted);
}

#[test]
fn what_is_no_picture_is_told() {
    let is = |bytes: &[u8], found: &str| {
        let error = decode(bytes).unwrap_err();
        assert_eq!(error.code(), "unsupported_media", "{error}");
        assert!(error.to_string().starts_with(found), "{error}");
    };
    is(b"", "an empty file");
    is(b"GIF89a\x01\0\x01\0", "a GIF");
    is(b"II*\0\x08\0\0\0", "a TIFF");
    is(b"MM\0*\0\0\0\x08", "a TIFF");
    is(b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000");
    is(b"\xff\x4f\xff\x51\0", "a JPEG 2000");
    is(b"\0\0\0\x20ftypavif\0\0\0\0", "an AVIF");
    is(b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC");
    is(b"  <svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG");
    is(b"<?xml version='1.0'?><svg/>", "an SVG");
    is(b"BM\x36\0", "a BMP");
    is(b"%PDF-1.7", "a PDF");
    is(b"RIFF\0\0\0\0WAVE", "a file of an unknown kind");
    is(b"data:image/png;base64,iVBORw0KGgo=", "a file of an unknown kind");
}

#[test]
fn sizes_are_refused_by_the_header() {
    let limits = MediaLimits::default();
    let of = |width: u32, height: u32| {
        let mut header = [0; 13];
        header[..4].copy_from_slice(&width.to_be_bytes());
        header[4..8].copy_from_slice(&height.to_be_bytes());
        header[8] = 1;
        Picture::decode(&png_of(&header, &[(b"IDAT", &zlib(&[0]))]), &limits).unwrap_err()
    };
    assert_eq!(of(25_000, 25_000).code(), "picture_too_large");
    assert_eq!(of(10_000, 10_000).code(), "picture_too_large");
    assert_eq!(of(u32::MAX >> 1, u32::MAX >> 1).code(), "picture_too_large");
    assert_eq!(of(0, 5).code(), "picture_shape");
    assert_eq!(of(1, 201).code(), "picture_shape");
    assert_eq!(of(201, 1).code(), "picture_shape");
    // Of the right size, and its pixels are not there.
    assert_eq!(of(1, 200).code(), "damaged_media");
    let error = Picture::decode(&[0; 100], &MediaLimits { bytes: 99, ..limits }).unwrap_err();
    assert_eq!(error.code(), "media_too_large");
}

#[test]
fn a_compressed_text_that_grows_is_bounded() {
    // 64 MiB of zeros behind a few kilobytes: zlib's longest copies.
    let bomb = zlib(&vec![0; 64 << 20]);
    let header = [0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0];
    let text = [b"Comment\0\0".as_slice(), &bomb].concat();
    let profile = [b"icc\0\0".as_slice(), &bomb].concat();
    let rows = zlib(&[0, 7]);
    for chunk in [(b"zTXt", &text), (b"iCCP", &profile)] {
        let file = png_of(&header, &[(chunk.0, chunk.1), (b"IDAT", &rows)]);
        // What is not needed may be left out, or the file be refused.
        match decode(&file) {
            Ok(picture) => assert_eq!(picture.rgb(), [7; 3]),
            Err(error) => assert_eq!(error.code(), "damaged_media", "{error}"),
        }
    }
}

#[test]
fn what_is_cut_or_garbled_is_an_error_or_a_picture() {
    let pixels: Vec<u8> = (0..48 * 48 * 3).map(|i| (i * 31 % 251) as u8).collect();
    let files = [
        png(&pixels, 48, 48, ExtendedColorType::Rgb8),
        jpeg(&pixels, 48, 48),
        webp(&pixels, 48, 48, ExtendedColorType::Rgb8),
    ];
    for file in &files {
        for end in 0..file.len() - 4 {
            if let Err(error) = decode(&file[..end]) {
                assert!(
                    ["damaged_media", "unsupported_media", "picture_shape", "picture_too_large"]
                        .contains(&error.code()),
                    "{error}"
                );
                assert!(!error.to_string().contains("0x"), "{error}");
            }
        }
        let mut random = 7u64;
        for _ in 0..2000 {
            let mut garbled = file.clone();
            for _ in 0..3 {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (random >> 33) as usize % garbled.len();
                garbled[at] = (random >> 20) as u8;
            }
            let _ = decode(&garbled);
        }
    }
    // Half of a picture is none.
    for file in &files {
        assert_eq!(decode(&file[..file.len() / 2]).unwrap_err().code(), "damaged_media");
    }
}

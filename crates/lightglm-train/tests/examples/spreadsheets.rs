//! Excel's tables: as few parts as one that Excel opens has.

use std::io::{Cursor, Write};

use lightglm_train::data::{DataError, Example, ReadOptions, read_examples};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A book of sheets, a sheet of rows, a row of cells' XML.
fn book(sheets: &[(&str, String)]) -> Vec<u8> {
    const TYPES: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml";
    const NAMES: &str = "http://schemas.openxmlformats.org";
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, text: &str| {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    };
    let (mut types, mut names, mut relations) = (String::new(), String::new(), String::new());
    for (index, (name, rows)) in sheets.iter().enumerate() {
        let id = index + 1;
        types += &format!(
            "<Override PartName=\"/xl/worksheets/s{id}.xml\" ContentType=\"{TYPES}.worksheet+xml\"/>"
        );
        names += &format!("<sheet name=\"{name}\" sheetId=\"{id}\" r:id=\"r{id}\"/>");
        relations += &format!(
            "<Relationship Id=\"r{id}\" Target=\"worksheets/s{id}.xml\" \
             Type=\"{NAMES}/officeDocument/2006/relationships/worksheet\"/>"
        );
        let sheet = format!(
            "<worksheet xmlns=\"{NAMES}/spreadsheetml/2006/main\"><sheetData>{rows}</sheetData>\
             </worksheet>"
        );
        add(&format!("xl/worksheets/s{id}.xml"), &sheet);
    }
    add(
        "[Content_Types].xml",
        &format!(
            "<Types xmlns=\"{NAMES}/package/2006/content-types\"><Override PartName=\
             \"/xl/workbook.xml\" ContentType=\"{TYPES}.sheet.main+xml\"/>{types}</Types>"
        ),
    );
    add(
        "_rels/.rels",
        &format!(
            "<Relationships xmlns=\"{NAMES}/package/2006/relationships\"><Relationship Id=\"r1\" \
             Target=\"xl/workbook.xml\" \
             Type=\"{NAMES}/officeDocument/2006/relationships/officeDocument\"/></Relationships>"
        ),
    );
    add(
        "xl/workbook.xml",
        &format!(
            "<workbook xmlns=\"{NAMES}/spreadsheetml/2006/main\" \
             xmlns:r=\"{NAMES}/officeDocument/2006/relationships\"><sheets>{names}</sheets></workbook>"
        ),
    );
    add(
        "xl/_rels/workbook.xml.rels",
        &format!(
            "<Relationships xmlns=\"{NAMES}/package/2006/relationships\">{relations}</Relationships>"
        ),
    );
    zip.finish().unwrap().into_inner()
}

/// A row of texts; one that is a number is stored as one.
fn row(number: usize, cells: &[&str]) -> String {
    let cell = |(column, text): (usize, &&str)| {
        let place = format!("{}{number}", char::from(b'A' + column as u8));
        match text.parse::<f64>() {
            Ok(number) => format!("<c r=\"{place}\"><v>{number}</v></c>"),
            Err(_) => format!("<c r=\"{place}\" t=\"inlineStr\"><is><t>{text}</t></is></c>"),
        }
    };
    let cells: String = cells.iter().enumerate().map(cell).collect();
    format!("<row r=\"{number}\">{cells}</row>")
}

#[test]
fn the_first_sheet_with_rows_is_read() {
    let rows = [
        row(2, &["编号", "问题", "答案"]),
        row(3, &["1", "如何退货?", "七天内可退。"]),
        row(5, &["2", "多少钱?", "99"]),
        row(6, &["3", "发票", ""]),
    ];
    let bytes =
        book(&[("空", String::new()), ("问答", rows.concat()), ("旧", row(1, &["x", "y"]))]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faq.xlsx");
    std::fs::write(&path, &bytes).unwrap();
    let options = ReadOptions { on_bad_row: "drop".parse().unwrap(), ..Default::default() };
    let set = read_examples(&path, &options).unwrap();
    let answers: Vec<_> = set.examples.iter().filter_map(Example::conversation).collect();
    let answers: Vec<_> = answers.iter().map(|row| (row.line, row.answer())).collect();
    // A line is the sheet's row.
    assert_eq!(answers, [(3, "七天内可退。"), (5, "99")]);
    let report = set.report.to_string();
    for word in ["(sheet 旧)", "编号", "1  empty answer                   6"] {
        assert!(report.contains(word), "no {word} in {report}");
    }

    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = read_examples(&path, &options).unwrap_err();
    assert!(matches!(error, DataError::Spreadsheet { .. }), "{error}");
    assert!(error.to_string().contains("faq.xlsx"), "{error}");
}

use proptest::prelude::*;
use rust_xlsxwriter::{ExcelDateTime, Format as CellFormat, Formula, Workbook, Worksheet};

use super::*;

const FORMATS: [Format; 5] = [Format::JsonLines, Format::Json, Format::Csv, Format::Excel, Format::Markdown];

fn entry(id: &str, question: &str, similar: &[&str], answer: &str) -> KnowledgeEntry {
    KnowledgeEntry {
        id: id.into(),
        question: question.into(),
        similar_questions: similar.iter().map(|text| (*text).to_owned()).collect(),
        answer: answer.into(),
        ..KnowledgeEntry::default()
    }
}

/// Problems as `place: message`.
fn told(format: Format, bytes: impl AsRef<[u8]>) -> Vec<String> {
    let problems = parse(format, bytes.as_ref()).unwrap_err();
    problems.into_iter().map(|problem| format!("{}: {}", problem.place, problem.message)).collect()
}

/// Checks that each problem begins with a place and tells of something, in this order, and that there are no others.
#[track_caller]
fn tells(format: Format, bytes: impl AsRef<[u8]>, expected: &[(&str, &str)]) {
    let told = told(format, bytes);
    let fits = |(line, (place, word)): (&String, &(&str, &str))| {
        line.starts_with(&format!("{place}: ")) && line.contains(word)
    };
    assert!(told.len() == expected.len() && told.iter().zip(expected).all(fits), "{told:#?}\ninstead of {expected:#?}");
}

/// A workbook with one sheet.
fn workbook(fill: impl FnOnce(&mut Worksheet)) -> Vec<u8> {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.set_name("售后").unwrap();
    fill(sheet);
    workbook.save_to_buffer().unwrap()
}

fn write_row(sheet: &mut Worksheet, row: u32, cells: &[&str]) {
    for (column, text) in (0..).zip(cells).filter(|(_, text)| !text.is_empty()) {
        sheet.write_string(row, column, *text).unwrap();
    }
}

const NAMES: [&str; 8] = ["编号", "标准问题", "相似问法", "答案", "意图", "标签", "生效日期", "失效日期"];

#[test]
fn every_form_says_the_same() {
    let mut expected = entry("k1", "怎么退货", &["如何退货", "退货流程"], "在订单页点退货");
    expected.intent = Some("退货".into());
    expected.tags = vec!["售后".into(), "运费".into()];
    expected.valid_from = Some("2026-01-05".into());
    expected.valid_to = Some("2026-12-31".into());
    let line = r#"{"id": "k1", "question": "怎么退货", "similar_questions": ["如何退货", "退货流程"], "answer": "在订单页点退货", "intent": "退货", "tags": ["售后", "运费"], "valid_from": "2026-01-05", "valid_to": "2026-12-31"}"#;
    let english = "id,question,similar_questions,answer,intent,tags,valid_from,valid_to\n\
                   k1,怎么退货, 如何退货 | 退货流程 ,在订单页点退货,退货,售后|运费,2026-01-05,2026-12-31\n";
    // As Excel in China writes it: another order, its own days, rows of commas, CRLF, GB18030.
    let chinese = "标准问题,编号,答案,相似问法,标签,意图,失效日期,生效日期,\r\n\
                   怎么退货,k1,在订单页点退货,如何退货|退货流程,售后|运费,退货,2026/12/31,2026/1/5,\r\n,,,,,,,,\r\n";
    let (chinese, _, _) = encoding_rs::GB18030.encode(chinese);
    let sheet = workbook(|sheet| {
        write_row(sheet, 0, &NAMES);
        write_row(
            sheet,
            1,
            &["k1", "怎么退货", "如何退货|退货流程", "在订单页点退货", "退货", "售后|运费", "2026年1月5日"],
        );
        let day = CellFormat::new().set_num_format("yyyy/m/d");
        sheet.write_datetime_with_format(1, 7, ExcelDateTime::from_ymd(2026, 12, 31).unwrap(), &day).unwrap();
    });
    let markdown = "# 售后\n\n## 怎么退货\n\n- 编号：k1\n- 问法：如何退货\n* 相似问法: 退货流程\n- 意图：退货\n- 标签：售后、运费\n\
                    - 有效期：2026/1/5 至 2026-12-31\n\n在订单页点退货\n\n# 别的\n";
    for (format, bytes) in [
        (Format::JsonLines, format!("\u{feff}{line}\n\n").into_bytes()),
        (Format::Json, format!("[{line}]").into_bytes()),
        (Format::Csv, english.as_bytes().to_vec()),
        (Format::Csv, format!("\u{feff}{english}").into_bytes()),
        (Format::Csv, chinese.into_owned()),
        (Format::Excel, sheet),
        (Format::Markdown, markdown.as_bytes().to_vec()),
        (Format::Markdown, markdown.replace('\n', "\r\n").into_bytes()),
    ] {
        assert_eq!(parse(format, &bytes), Ok(vec![expected.clone()]), "{format:?}");
    }
}

#[test]
fn the_name_tells_the_form() {
    for (name, format) in [
        ("a.jsonl", Format::JsonLines),
        ("a.ndjson", Format::JsonLines),
        ("a.JSON", Format::Json),
        ("a.CSV", Format::Csv),
        ("知识.xlsx", Format::Excel),
        ("a.md", Format::Markdown),
    ] {
        assert_eq!(Format::of(Path::new(name)).unwrap(), format);
    }
    for name in ["a", "a.xls", "a.txt", ".csv"] {
        let error = Format::of(Path::new(name)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(".xlsx"), "{error}");
    }
}

/// Entries that hold what a format would take for its own signs.
fn awkward() -> Vec<KnowledgeEntry> {
    let texts = [
        "a,b;c\td",
        "他说\"好的\"，\"\"",
        "\"",
        "'=1+1",
        "=HYPERLINK(\"http://x\")",
        "@SUM(A1)",
        "-1",
        "00123",
        "1e5",
        "2026/1/5",
        "TRUE",
        "\\",
        "\\# 不是标题",
        "\\n",
        "# 一级",
        "## 二级",
        "#话题#",
        "- 编号：x",
        "* 标签: y",
        "1. 第一步",
        "> 引用",
        "---",
        "```",
        "<b>&amp;</b>",
        "👩‍👩‍👧 🇨🇳 𠮷",
        "_x000D_ _x005F_",
        "a\u{200b}b\u{a0}c",
        "\u{feff}标",
        "{\"a\": [1]}",
        "[1]",
        "null",
    ];
    let mut entries: Vec<KnowledgeEntry> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| KnowledgeEntry {
            intent: Some((*text).into()),
            tags: vec![(*text).into(), "售后".into()],
            // An id holds no control character, and is odd enough without.
            ..entry(
                &format!("{} {index}", text.replace(char::is_control, " ").trim()),
                text,
                &[text, "另一种问法"],
                &format!("{text}\n\n{text}\n  {text}"),
            )
        })
        .collect();
    entries.push(KnowledgeEntry { valid_from: Some("2026-01-01".into()), ..entry("从", "从", &[], "从") });
    entries
        .push(KnowledgeEntry {
            valid_to: Some("2026-01-01".into()), ..entry("到", "到", &[], "第一段\n\n\n第二段 ")
        });
    entries.last_mut().unwrap().answer = "第一段\n\n\n第二段  \n第三段".into();
    entries.push(entry("长", "长", &[], &"很长的答案，".repeat(3333)));
    entries
}

#[test]
fn what_was_written_is_read_again() {
    let entries = awkward();
    for format in FORMATS {
        let bytes = render(format, &entries).unwrap_or_else(|problems| panic!("{format:?} {problems:#?}"));
        assert_eq!(parse(format, &bytes).unwrap(), entries, "{format:?}");
        // Also by way of every other format.
        for other in FORMATS {
            let again = render(other, &parse(format, &bytes).unwrap()).unwrap();
            assert_eq!(parse(other, &again).unwrap(), entries, "{format:?} {other:?}");
        }
    }
}

#[test]
fn what_a_format_cannot_hold_is_said() {
    let with = |change: fn(&mut KnowledgeEntry)| {
        let mut changed = entry("k2", "怎么换货", &["换货"], "换。");
        change(&mut changed);
        [entry("k1", "怎么退货", &[], "退。"), changed]
    };
    let refused = |format: Format, change: fn(&mut KnowledgeEntry)| -> String {
        let problems = render(format, &with(change)).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{format:?} {problems:?}") };
        assert_eq!(problem.place, "entry 2");
        problem.message.clone()
    };
    for format in [Format::Csv, Format::Excel] {
        assert!(refused(format, |entry| entry.similar_questions[0] = "退|换".into()).contains("holds `|`"));
        assert!(refused(format, |entry| entry.tags = vec!["a|b".into()]).contains("holds `|`"));
    }
    for format in [Format::Csv, Format::Excel, Format::Markdown] {
        assert!(refused(format, |entry| entry.answer.push('\n')).contains("white space"));
        assert!(refused(format, |entry| entry.intent = Some(String::new())).contains("is empty"));
    }
    assert!(refused(Format::Markdown, |entry| entry.question = "一\n二".into()).contains("several lines"));
    assert!(refused(Format::Markdown, |entry| entry.tags = vec!["a、b".into()]).contains("holds `、`"));
    assert!(refused(Format::Markdown, |entry| entry.answer = "一\r\n二".into()).contains("carriage return"));
    assert!(refused(Format::Excel, |entry| entry.answer = "😀".repeat(20_000)).contains("longer than a cell"));
    for format in FORMATS {
        assert!(refused(format, |entry| entry.id = "k1".into()).contains("already used"));
        assert!(refused(format, |entry| entry.answer = "a\0b".into()).contains("NUL"));
        assert!(render(format, &[]).is_err());
    }
    let wording = "长".repeat(40);
    let long = entry("k", "问", &[wording.as_str(); 1000], "答");
    assert!(render(Format::Excel, &[long]).unwrap_err()[0].message.contains("more than a cell holds"));
    let many = entry("k", "问", &["问法"; 1001], "答");
    assert!(render(Format::JsonLines, &[many]).unwrap_err()[0].message.contains("may have 1000"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a text is made of, a format gives it back or refuses it.
    #[test]
    fn nothing_is_changed_silently(
        texts in prop::collection::vec(r#"[a|、,;"'\\#\-*+：:编号问法 \t\n\r_x0D至<&😀=]{1,12}"#, 5),
        similar in prop::collection::vec(r#"[a|"\\#，\n ]{1,6}"#, 0..3),
    ) {
        let entries = [KnowledgeEntry {
            intent: Some(texts[3].clone()),
            tags: vec![texts[4].clone()],
            ..entry(&texts[0], &texts[1], &similar.iter().map(String::as_str).collect::<Vec<_>>(), &texts[2])
        }];
        for format in FORMATS {
            if let Ok(bytes) = render(format, &entries) {
                prop_assert_eq!(parse(format, &bytes).unwrap(), entries.clone());
            }
        }
    }

    /// No bytes make it panic.
    #[test]
    fn any_text_is_read_or_refused(text in r##"(\PC|[\n\r\t"#,|\\]){0,80}"##, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for format in FORMATS {
            let _ = parse(format, text.as_bytes());
            let _ = parse(format, &bytes);
            let _ = parse(format, format!("编号,标准问题,答案\n{text}").as_bytes());
        }
    }

    /// Trimmed texts on one line are what every format holds, but for the signs that separate values.
    #[test]
    fn ordinary_texts_are_never_refused(text in r#"[a,;"'\\#\-*+：:编号问法😀=<&。]{1,12}"#, more in r#"[ab\n \\#\-：编号]{0,12}"#) {
        let answer = format!("{text}\n{more}{text}");
        let entries = [entry(&text, &text, &[&text], &answer)];
        for format in FORMATS {
            let bytes = render(format, &entries);
            prop_assert!(bytes.is_ok(), "{:?} {:?}", format, bytes);
        }
    }
}

#[test]
fn all_bad_lines_are_named() {
    let text = "{\"id\": \"a\", \"question\": \"q\", \"answer\": \"x\"}\n{broken\n{\"id\": \"a\", \"question\": \"\", \"answer\": \"x\"}\n{\"id\": \"b\"}\n";
    tells(
        Format::JsonLines,
        text,
        &[
            ("line 2", "key must be a string"),
            ("line 3", "`question` is empty"),
            ("line 3", "the id `a` is already used at line 1"),
            ("line 4", "missing field `question`"),
        ],
    );
    tells(Format::Json, "[{\"id\": \"a\", \"question\": \"q\", \"answer\": \"x\"}, 3]", &[("entry 2", "invalid type")]);
    tells(Format::JsonLines, "", &[("the file", "no entry")]);
    tells(
        Format::JsonLines,
        "{\"id\": \"a\", \"question\": \"q\", \"answer\": \"x\", \"frage\": 1}",
        &[("line 1", "unknown field")],
    );
}

#[test]
fn all_bad_rows_of_csv_are_named() {
    tells(
        Format::Csv,
        "id,question,answer\na,q\n\n\nb,,x\n",
        &[("line 2", "2 columns"), ("line 5", "`question` is empty")],
    );
    tells(
        Format::Csv,
        "id,frage\n",
        &[
            ("line 1", "unknown column `frage`"),
            ("line 1", "question (标准问题) is missing"),
            ("line 1", "answer (答案) is missing"),
        ],
    );
    tells(Format::Csv, "id;question;answer\n", &[("line 1", "commas")]);
    tells(Format::Csv, "id,编号,question,answer\n", &[("line 1", "two columns are named id (编号)")]);
    tells(Format::Csv, "id,question,answer,\na,q,x,lost\n", &[("line 2", "`lost` in column D")]);
    tells(Format::Csv, "", &[("the file", "no entry")]);
    // Everything beneath the mark is in one cell, which would hide three entries.
    tells(Format::Csv, "id,question,answer\na,q,\"x\nb,q,x\nc,q,x\n", &[("line 2", "never closed")]);
    tells(Format::Csv, "id,question,answer\na,q,\"x\"y\n", &[("line 2", "behind a closing quotation mark")]);
    let problems = told(Format::Csv, format!("id,question,answer\na,q\u{1b}[31m,x\na,{},x\n", "长".repeat(20_001)));
    assert_eq!(problems.len(), 2, "{problems:?}");
    tells(
        Format::Csv,
        "编号,标准问题,答案,生效日期,失效日期\na,q,x,明天,\nb,q,x,2026/3/1,2026/2/1\nc,q,x,2026-02-30,\n",
        &[("line 2", "`valid_from` must be a day"), ("line 3", "lies after"), ("line 4", "2026-02-30")],
    );
}

#[test]
fn all_bad_lines_of_markdown_are_named() {
    let text = "说明文字\n第二行\n# 标题\n## 怎么退货\n- 编号：a\n- 编号：b\n- 问法：\n- 有效期：明天\n### 小节\n点退货\n- 问法：如何退货\n\
                ## 没有答案\n## 怎么退货\n答\n## 怎么退货\n答\n##\n答\n# 又一章\n- 编号：x\n";
    tells(
        Format::Markdown,
        text,
        &[
            ("line 1", "belongs to no question"),
            ("line 6", "twice"),
            ("line 7", "behind the colon"),
            ("line 8", "no period"),
            ("line 9", "deeper"),
            ("line 11", "within the answer"),
            ("line 12", "`answer` is empty"),
            ("line 15", "the question stands at line 13 too"),
            ("line 17", "`question` is empty"),
            ("line 20", "belongs to no question"),
        ],
    );
}

#[test]
fn an_entry_without_an_id_keeps_the_one_of_its_question() {
    let ids = |text: &str| -> Vec<String> {
        parse(Format::Markdown, text.as_bytes()).unwrap().into_iter().map(|entry| entry.id).collect()
    };
    let one = ids("## 怎么退货\n答\n\n## 怎么换货\n答\n");
    let other = ids("## 怎么换货\n- 意图：换货\n\n新的答案\n## 怎么退货\n- 问法：退\n答\n");
    assert_eq!(one, [other[1].clone(), other[0].clone()]);
    assert_eq!(one[0], "q-82fdffdb7da0");
}

#[test]
fn an_answer_is_taken_as_it_stands() {
    let text =
        "## 怎么退货\n\n- 第一步：打开订单\n- 点「退货」\n\n  **注意**：\\## 不要点错\n\\# 号开头\n\\- 问法：是这样\n";
    let [entry] = parse(Format::Markdown, text.as_bytes()).unwrap().try_into().unwrap();
    assert_eq!(entry.answer, "- 第一步：打开订单\n- 点「退货」\n\n  **注意**：\\## 不要点错\n# 号开头\n- 问法：是这样");
    assert!(entry.similar_questions.is_empty());
}

#[test]
fn cells_of_any_kind_are_read_or_named() {
    let good = workbook(|sheet| {
        write_row(sheet, 2, &["编号", "标准问题", "答案", "生效日期"]);
        sheet.write_number(3, 0, 1001).unwrap();
        sheet.write_number(3, 1, 12.5).unwrap();
        sheet.write_formula(3, 2, Formula::new("=\"答\"&\"案\"").set_result("答案")).unwrap();
        let day = CellFormat::new().set_num_format("yyyy\"年\"m\"月\"d\"日\"");
        sheet.write_datetime_with_format(3, 3, ExcelDateTime::from_ymd(2026, 2, 28).unwrap(), &day).unwrap();
        // A row that is coloured and nothing else, and one of blanks.
        sheet.write_blank(4, 0, &CellFormat::new().set_bold()).unwrap();
        write_row(sheet, 5, &["  ", " "]);
        write_row(sheet, 6, &["k2", "怎么退货", "多行\n答案"]);
    });
    let entries = parse(Format::Excel, &good).unwrap();
    assert_eq!(
        entries[0],
        KnowledgeEntry { valid_from: Some("2026-02-28".into()), ..entry("1001", "12.5", &[], "答案") }
    );
    assert_eq!(entries[1], entry("k2", "怎么退货", &[], "多行\n答案"));
    assert_eq!(entries.len(), 2);

    let bad = workbook(|sheet| {
        write_row(sheet, 0, &["编号", "标准问题", "答案", "生效日期"]);
        let day = CellFormat::new().set_num_format("yyyy/m/d h:mm");
        let moment = ExcelDateTime::from_ymd(2026, 2, 28).unwrap();
        write_row(sheet, 1, &["k1", "q", "a"]);
        sheet.write_datetime_with_format(1, 3, moment.and_hms(8, 0, 0).unwrap(), &day).unwrap();
        write_row(sheet, 2, &["k2", "q"]);
        sheet.write_formula(2, 2, Formula::new("=VLOOKUP(1,A:A,1)").set_result("#N/A")).unwrap();
        write_row(sheet, 3, &["", "q", "a"]);
        sheet.write_datetime_with_format(3, 0, ExcelDateTime::from_ymd(2026, 3, 4).unwrap(), &day).unwrap();
        write_row(sheet, 4, &["", "q", "a"]);
        sheet.write_number(4, 0, 6_222_021_234_567_890_123.0).unwrap();
        write_row(sheet, 5, &["k6", "q", "a", "", "落在外面"]);
        write_row(sheet, 6, &["k6", "q", &"长".repeat(20_001)]);
        write_row(sheet, 7, &["k8"]);
        sheet.write_number(7, 3, 46023).unwrap();
    });
    tells(
        Format::Excel,
        bad,
        &[
            ("sheet `售后` row 2", "column D: the cell holds a time of day"),
            ("sheet `售后` row 3", "column C: the cell holds the error `#N/A`"),
            ("sheet `售后` row 4", "column A: the cell holds a date"),
            ("sheet `售后` row 5", "column A: Excel keeps 15 digits"),
            ("sheet `售后` row 6", "`落在外面` in column E"),
            ("sheet `售后` row 7", "longer than 20000"),
            ("sheet `售后` row 7", "`k6` is already used at sheet `售后` row 6"),
            ("sheet `售后` row 8", "`question` is empty"),
            ("sheet `售后` row 8", "`answer` is empty"),
            ("sheet `售后` row 8", "must be a day"),
        ],
    );
}

#[test]
fn merged_cells_and_titles_are_named() {
    let merged = workbook(|sheet| {
        write_row(sheet, 0, &["编号", "标准问题", "答案"]);
        write_row(sheet, 1, &["k1", "q1", "a"]);
        write_row(sheet, 2, &["k2", "q2"]);
        sheet.merge_range(1, 2, 2, 2, "a", &CellFormat::new()).unwrap();
    });
    tells(
        Format::Excel,
        merged,
        &[("sheet `售后` row 2", "C2:C3 are merged"), ("sheet `售后` row 3", "`answer` is empty")],
    );
    let titled = workbook(|sheet| {
        write_row(sheet, 0, &["客服知识库"]);
        write_row(sheet, 2, &["编号", "标准问题", "答案"]);
        write_row(sheet, 3, &["k1", "q1", "a"]);
    });
    tells(Format::Excel, titled, &[("sheet `售后` row 3", "first row that is filled")]);
    tells(Format::Excel, workbook(|_| {}), &[("the file", "no sheet names columns")]);
    let wrong = workbook(|sheet| write_row(sheet, 0, &["编号", "问题", "答案"]));
    tells(
        Format::Excel,
        wrong,
        &[("sheet `售后` row 1", "unknown column `问题`"), ("sheet `售后` row 1", "question (标准问题) is missing")],
    );
}

#[test]
fn all_sheets_of_knowledge_are_read_and_notes_are_not() {
    let mut book = Workbook::new();
    for (name, rows) in [
        ("说明", vec![vec!["请按下面的格式填写"], vec!["谢谢"]]),
        ("售后", vec![vec!["编号", "标准问题", "答案"], vec!["k1", "q1", "a"]]),
        ("空", vec![]),
        ("售前", vec![vec!["答案", "编号", "标准问题"], vec!["b", "k2", "q2"]]),
    ] {
        let sheet = book.add_worksheet();
        sheet.set_name(name).unwrap();
        (0..).zip(rows).for_each(|(number, cells)| write_row(sheet, number, &cells));
    }
    let bytes = book.save_to_buffer().unwrap();
    assert_eq!(parse(Format::Excel, &bytes).unwrap(), [entry("k1", "q1", &[], "a"), entry("k2", "q2", &[], "b")]);
}

#[test]
fn a_spoilt_workbook_is_named_and_never_stops_the_program() {
    let whole = render(Format::Excel, &awkward()).unwrap();
    for length in (0..whole.len()).step_by(whole.len() / 60 + 1) {
        assert!(parse(Format::Excel, &whole[..length]).is_err(), "{length} bytes");
    }
    // One bit somewhere: refused, or of no consequence.
    for index in (0..whole.len()).step_by(whole.len() / 400 + 1) {
        let mut spoilt = whole.clone();
        spoilt[index] ^= 1 << (index % 8);
        let _ = parse(Format::Excel, &spoilt);
    }
    let older = [&[0xD0, 0xCF, 0x11, 0xE0][..], &[0; 600]].concat();
    tells(Format::Excel, older, &[("the file", "without a password")]);
    tells(Format::Excel, "id,question,answer\n", &[("the file", "no Excel workbook")]);
}

/// A workbook of these parts.
fn pack(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        archive.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Damage beneath the checksums of the archive, where only the reader of the sheets can notice it.
#[test]
fn spoilt_parts_never_stop_the_program() {
    let whole = workbook(|sheet| {
        write_row(sheet, 0, &NAMES);
        write_row(sheet, 1, &["k1", "问", "问|法", "答 &<>_x000D_", "意图", "标签"]);
        let day = CellFormat::new().set_num_format("yyyy/m/d");
        sheet.write_datetime_with_format(1, 6, ExcelDateTime::from_ymd(2026, 12, 31).unwrap(), &day).unwrap();
        sheet.write_formula(2, 0, Formula::new("=A1&\"x\"").set_result("x")).unwrap();
        sheet.merge_range(3, 0, 4, 1, "a", &CellFormat::new()).unwrap();
    });
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(whole)).unwrap();
    let parts: Vec<(String, Vec<u8>)> = (0..archive.len())
        .map(|index| {
            let mut part = archive.by_index(index).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut part, &mut bytes).unwrap();
            (part.name().unwrap().into_owned(), bytes)
        })
        .collect();
    assert!(
        parse(Format::Excel, &pack(&parts))
            .is_err_and(|problems| problems.iter().any(|p| p.message.contains("merged")))
    );
    for (part, (_, bytes)) in parts.iter().enumerate().filter(|(_, (_, bytes))| !bytes.is_empty()) {
        for index in (0..bytes.len()).step_by(bytes.len() / 100 + 1) {
            for sign in [b'<', b'>', b'"', b'9', b'-', b'Z', b'&', 0xFF] {
                let mut spoilt = parts.clone();
                spoilt[part].1[index] = sign;
                let _ = parse(Format::Excel, &pack(&spoilt));
            }
            let mut cut = parts.clone();
            cut[part].1.truncate(index);
            let _ = parse(Format::Excel, &pack(&cut));
        }
        let mut without = parts.clone();
        without.remove(part);
        let _ = parse(Format::Excel, &pack(&without));
    }
}

/// Workbooks that no program would write, in which a reader may trust too much.
#[test]
fn a_hostile_workbook_is_named_and_never_stops_the_program() {
    let with_strings = |sheet: &str, strings: &str| {
        let types = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        let related = |kind: &str, target: &str| {
            format!(
                "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
                 <Relationship Id=\"r1\" Type=\"{types}/{kind}\" Target=\"{target}\"/></Relationships>"
            )
        };
        pack(&[
            ("_rels/.rels".to_owned(), related("officeDocument", "xl/workbook.xml").into_bytes()),
            (
                "xl/workbook.xml".to_owned(),
                format!(
                    "<workbook xmlns:r=\"{types}\"><sheets><sheet name=\"S\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>"
                )
                .into_bytes(),
            ),
            ("xl/_rels/workbook.xml.rels".to_owned(), related("worksheet", "worksheets/s.xml").into_bytes()),
            (
                "xl/worksheets/s.xml".to_owned(),
                format!("<worksheet><sheetData>{sheet}</sheetData></worksheet>").into_bytes(),
            ),
            ("xl/sharedStrings.xml".to_owned(), strings.as_bytes().to_vec()),
        ])
    };
    let with_sheet = |sheet: &str| with_strings(sheet, "<sst/>");
    let cell = |place: &str, text: &str| format!("<c r=\"{place}\" t=\"inlineStr\"><is><t>{text}</t></is></c>");
    let row = |number: u32, cells: &[&str]| {
        let cells = ["A", "B", "C"].iter().zip(cells).map(|(column, text)| cell(&format!("{column}{number}"), text));
        format!("<row r=\"{number}\">{}</row>", cells.collect::<String>())
    };
    let names = row(1, &["id", "question", "answer"]);
    let far = with_sheet(&format!("{names}{}", row(1_048_576, &["k", "q", "a"])));
    assert_eq!(parse(Format::Excel, &far).unwrap().len(), 1);
    let wide = format!("{names}<row r=\"2\">{}</row>", cell("XFD1048576", "x"));
    assert!(told(Format::Excel, with_sheet(&wide))[0].contains("column XFD"));
    for sheet in [
        cell("A0", "x"),
        cell("ZZZZZZZZZZ99999999999", "x"),
        cell("", "x"),
        "<c t=\"s\"><v>99</v></c>".to_owned(),
        "<c t=\"e\"><v>x</v></c>".to_owned(),
        "<row r=\"4294967295\"/><row><c><v>1</v></c></row>".to_owned(),
        "<c s=\"99999999999999999999\"><v>1e999</v></c>".to_owned(),
        "<c><f t=\"shared\" si=\"4000000000\"/></c>".to_owned(),
        "<c><f t=\"shared\" si=\"4000000000\" ref=\"A1:B2\">B1</f></c>".to_owned(),
        cell("XFE1", "x"),
        cell("A1048577", "x"),
        cell("ZZZZZZ1", "x"),
        "</sheetData>".to_owned(),
    ] {
        assert!(parse(Format::Excel, &with_sheet(&sheet)).is_err(), "{sheet}");
    }
    let bomb = with_sheet(&" ".repeat(300 << 20));
    assert!(bomb.len() < 1 << 20);
    assert!(told(Format::Excel, bomb)[0].contains("MiB"));
    // Room for so many strings would be reserved, and the program ended.
    for attributes in [
        "uniqueCount=\"20000000000000\"",
        "a=\">\" uniqueCount = '99999999999999999999999'",
        "xuniqueCount=\"1\" uniqueCount=\"20000000000000\"",
    ] {
        let strings = format!("<!-- <sst> --><sst {attributes}><si><t>uniqueCount 7</t></si></sst>");
        assert!(told(Format::Excel, with_strings(&names, &strings))[0].contains("damaged"), "{attributes}");
    }
    // One string that many cells share.
    let strings = format!("<sst uniqueCount=\"1\"><si><t>{}</t></si></sst>", "字".repeat(1 << 20));
    let shared: String =
        (2..200).map(|row| format!("<row r=\"{row}\"><c r=\"A{row}\" t=\"s\"><v>0</v></c></row>")).collect();
    assert!(told(Format::Excel, with_strings(&format!("{names}{shared}"), &strings))[0].contains("MiB"));
    let strings = "<sst uniqueCount=\"1\"><si><t>uniqueCount 99999999 怎么退货</t></si></sst>";
    let told = row(2, &["k", "q", "a"]).replace("t=\"inlineStr\"><is><t>q</t></is>", "t=\"s\"><v>0</v>");
    let entries = parse(Format::Excel, &with_strings(&format!("{names}{told}"), strings)).unwrap();
    assert_eq!(entries[0].question, "uniqueCount 99999999 怎么退货");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let entries = [entry("k1", "怎么退货", &["退"], "在订单页点退货")];
    write(&path, &entries, false).unwrap();
    assert_eq!(read(&path).unwrap(), entries);
    assert!(std::fs::read(&path).unwrap().starts_with("\u{feff}".as_bytes()), "Excel needs the mark");

    let before = std::fs::read(&path).unwrap();
    assert!(matches!(write(&path, &entries, false), Err(KnowledgeError::Exists { .. })));
    let error = write(&path, &[entry("k1", "q", &["a|b"], "x")], true).unwrap_err();
    assert!(matches!(error, KnowledgeError::Unwritable { .. }) && error.to_string().contains("`k1`"), "{error}");
    assert!(matches!(write(&folder.path().join("no/a.csv"), &entries, false), Err(KnowledgeError::Write { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    write(&path, &[entry("k2", "q", &[], "x")], true).unwrap();
    assert_eq!(read(&path).unwrap()[0].id, "k2");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let other = folder.path().join("plain");
        std::fs::write(&other, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&other));
    }
}

#[test]
fn entries_are_counted_as_they_are_indexed() {
    let mut entries = [entry("a", "q", &["q", "r", "r"], "x"), entry("b", "q", &[], "x"), entry("c", "s", &[], "x")];
    entries[0].intent = Some("退货".into());
    entries[1].intent = Some("退货".into());
    let counts = Counts::of(&entries);
    assert_eq!((counts.entries, counts.wordings, counts.without_intent), (3, 4, 1));
    assert_eq!(counts.intents, BTreeMap::from([("退货".to_owned(), 2)]));
}

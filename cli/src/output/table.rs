//! The table form, of what is about members. In a pipe it is drawn as etcdctl's library does; on a terminal that is too narrow for it each row
//! becomes a block of lines, for a cell that is broken can't be copied.

use std::io::{self, Write};

use anstyle::Style;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, Color, ContentArrangement};
use unicode_width::UnicodeWidthStr;

use super::answer::Answer;
use super::member_tables::{self, Table};
use super::{Printer, Written};

/// What is wider is wrapped at spaces.
const WIDEST: usize = 30;

pub(super) fn write(
    out: &mut impl Write,
    printer: &Printer,
    answer: &Answer,
) -> io::Result<Written> {
    let table = match answer {
        Answer::Members(members) => member_tables::members(members),
        Answer::Health(endpoints) => member_tables::health(endpoints),
        Answer::Statuses(statuses) => member_tables::statuses(statuses),
        Answer::Hashes(hashes) => member_tables::hashes(hashes),
        _ => return Ok(Written::Unsupported),
    };
    if printer.terminal {
        for_people(out, printer, table)?;
    } else {
        as_etcdctl(out, &table)?;
    }
    Ok(Written::Yes)
}

fn for_people(out: &mut impl Write, printer: &Printer, table: Table) -> io::Result<()> {
    let mut drawn = comfy_table::Table::new();
    // A terminal that does not know its width has none.
    let room = drawn.width().map(usize::from).filter(|&room| room > 0);
    if room.is_some_and(|room| width(&table) > room) {
        return as_blocks(out, &table, printer.style(Style::new().bold()));
    }
    drawn
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled);
    if !printer.colours {
        drawn.force_no_tty();
    }
    let head = table.columns.iter();
    drawn.set_header(head.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for row in table.rows {
        drawn.add_row(row.into_iter().map(|text| match text.as_str() {
            "true" | "started" => Cell::new(text).fg(Color::Green),
            "unstarted" => Cell::new(text).fg(Color::Yellow),
            _ => Cell::new(text),
        }));
    }
    writeln!(out, "{drawn}")
}

/// How wide a terminal must be for it: each cell has a border and a space on both sides.
fn width(table: &Table) -> usize {
    let columns = table.columns.iter().enumerate();
    let widths = columns.map(|(column, name)| {
        let cells = table.rows.iter().map(|row| row[column].width());
        cells.fold(name.width(), usize::max) + 3
    });
    widths.sum::<usize>() + 1
}

/// The first cell of each row, and below it the others that say something.
fn as_blocks(out: &mut impl Write, table: &Table, title: Style) -> io::Result<()> {
    let names = table.columns.iter().map(|name| name.width());
    let widest = names.max().unwrap_or(0);
    for row in &table.rows {
        let mut cells = table.columns.iter().zip(row);
        if let Some((_, first)) = cells.next() {
            writeln!(out, "{title}{first}{title:#}")?;
        }
        for (name, cell) in cells.filter(|(_, cell)| !cell.is_empty()) {
            let gap = widest - name.width();
            writeln!(out, "  {name}{:gap$}  {cell}", "")?;
        }
    }
    Ok(())
}

/// Borders of `+`, `-` and `|`, names in capitals in the middle, cells to the right.
fn as_etcdctl(out: &mut impl Write, table: &Table) -> io::Result<()> {
    let names: Vec<String> = table.columns.iter().map(|name| title(name)).collect();
    let rows: Vec<Vec<Vec<String>>> = table
        .rows
        .iter()
        .map(|row| row.iter().map(|cell| wrap(cell, WIDEST)).collect())
        .collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            let cells = rows
                .iter()
                .flat_map(|row| &row[column])
                .chain([&names[column]]);
            cells.map(|line| line.width()).max().unwrap_or(0)
        })
        .collect();
    let border: String = widths
        .iter()
        .map(|width| format!("+{}", "-".repeat(width + 2)))
        .collect();
    let border = border + "+";
    writeln!(out, "{border}")?;
    for (name, width) in names.iter().zip(&widths) {
        let gap = width - name.width();
        let (left, right) = (gap / 2, gap - gap / 2);
        write!(out, "| {:left$}{name}{:right$} ", "", "")?;
    }
    writeln!(out, "|\n{border}")?;
    for row in &rows {
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            for (cell, width) in row.iter().zip(&widths) {
                let text = cell.get(line).map_or("", String::as_str);
                write!(out, "| {:gap$}{text} ", "", gap = width - text.width())?;
            }
            writeln!(out, "|")?;
        }
    }
    if rows.is_empty() {
        Ok(())
    } else {
        writeln!(out, "{border}")
    }
}

fn title(name: &str) -> String {
    name.replace('_', " ").to_uppercase()
}

/// Breaks a text at spaces into lines of at most `widest`, or of its longest word, as evenly as can be: the least sum of the squares of what
/// the lines but the last lack.
fn wrap(text: &str, widest: usize) -> Vec<String> {
    let words: Vec<&str> = text.split([' ', '\n']).collect();
    let longest = words.iter().map(|word| word.width()).max().unwrap_or(0);
    let limit = text.width().min(widest).max(longest);
    let count = words.len();
    let width = |from: usize, to: usize| {
        let letters: usize = words[from..to].iter().map(|word| word.width()).sum();
        letters + (to - from - 1)
    };
    // For each word that may begin a line: the cost of all from there on, and the word that begins the next line.
    let mut best = vec![(0usize, count); count];
    for from in (0..count).rev() {
        if width(from, count) <= limit {
            continue;
        }
        let fitting = (from + 1..count).filter(|&to| width(from, to) <= limit);
        let costs = fitting.map(|to| ((limit - width(from, to)).pow(2) + best[to].0, to));
        best[from] = costs.min().expect("one word fits, and it is not the last");
    }
    let mut lines = Vec::new();
    let mut from = 0;
    while from < count {
        let to = best[from].1;
        lines.push(words[from..to].join(" "));
        from = to;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_cells_are_wrapped_evenly_at_spaces() {
        assert_eq!(wrap("short", 30), ["short"]);
        assert_eq!(wrap("", 30), [""]);
        assert_eq!(wrap("aaa bb cc ddddd", 6), ["aaa", "bb cc", "ddddd"]);
        assert_eq!(
            wrap("one averyverylongword two", 8),
            ["one", "averyverylongword", "two"]
        );
        let url = "http://a-host-with-a-long-name.example.org:2379";
        assert_eq!(wrap(url, 30), [url]);
    }

    #[test]
    fn what_a_terminal_is_too_narrow_for_is_told_in_blocks() {
        let table = Table {
            columns: &["ID", "name", "is learner"],
            rows: vec![
                ["8e9e05c52164694d", "m1", "false"]
                    .map(str::to_owned)
                    .into(),
                ["1", "", "true"].map(str::to_owned).into(),
            ],
        };
        assert_eq!(width(&table), 1 + 19 + 7 + 13);
        let mut told = Vec::new();
        as_blocks(&mut told, &table, Style::new()).expect("memory takes everything");
        let expected = "\
8e9e05c52164694d
  name        m1
  is learner  false
1
  is learner  true
";
        assert_eq!(String::from_utf8(told).expect("text"), expected);
    }

    #[test]
    fn a_table_is_drawn_as_etcdctl_draws_it() {
        let table = Table {
            columns: &["ID", "is_learner"],
            rows: vec![vec!["8e9e05c52164694d".to_owned(), "no".to_owned()]],
        };
        let mut drawn = Vec::new();
        as_etcdctl(&mut drawn, &table).expect("memory takes everything");
        let drawn = String::from_utf8(drawn).expect("text");
        let expected = "\
+------------------+------------+
|        ID        | IS LEARNER |
+------------------+------------+
| 8e9e05c52164694d |         no |
+------------------+------------+
";
        assert_eq!(drawn, expected);
    }
}

//! What commands print: an answer in the form that was asked for. One file a form; `answer.rs` is what all of them know.
//! In a pipe every form is etcdctl's to the byte; on a terminal `simple` and `table` are for people.

pub mod answer;
mod fields;
mod json;
mod member_tables;
mod protobuf;
mod simple;
mod table;

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;

use crate::failure::{Exit, Failure, Result};
use answer::Answer;

/// The forms that `--write-out` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people and for scripts that take lines.
    Simple,
    /// Go's JSON of etcd's messages.
    Json,
    /// A line a field.
    Fields,
    /// Tables, of what is about members.
    Table,
    /// etcd's messages themselves.
    Protobuf,
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    /// In which form.
    pub form: Form,
    /// Show keys, values and ids in hexadecimal.
    pub hex: bool,
    /// Leave out the keys, in the simple form.
    pub value_only: bool,
    /// Somebody reads it at a terminal.
    terminal: bool,
    /// The terminal shows colours, and they are wanted.
    colours: bool,
}

impl Printer {
    /// A printer to the standard output.
    ///
    /// # Errors
    /// There is no such form.
    pub fn new(form: &str, hex: bool) -> Result<Printer> {
        let form = match form {
            "simple" => Form::Simple,
            "json" => Form::Json,
            "fields" => Form::Fields,
            "table" => Form::Table,
            "protobuf" => Form::Protobuf,
            _ => return Err(Failure::new(Exit::BadFeature, "unsupported output format")),
        };
        let stdout = io::stdout();
        Ok(Printer {
            form,
            hex,
            value_only: false,
            terminal: stdout.is_terminal(),
            colours: AutoStream::choice(&stdout) != ColorChoice::Never,
        })
    }

    /// Prints one answer.
    ///
    /// # Errors
    /// The form has no words for it, or nobody takes the output.
    pub fn print(&self, answer: &Answer) -> Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        let written = match self.form {
            Form::Simple => simple::write(&mut out, self, answer)?,
            Form::Json => json::write(&mut out, self, answer)?,
            Form::Fields => fields::write(&mut out, self, answer)?,
            Form::Table => table::write(&mut out, self, answer)?,
            Form::Protobuf => protobuf::write(&mut out, answer)?,
        };
        out.flush()?;
        match written {
            Written::Yes => Ok(()),
            Written::Unsupported => {
                let form = self.form.name();
                let sentence = format!("{form} not supported as output format");
                Err(Failure::new(Exit::BadFeature, sentence))
            }
        }
    }

    /// Prints a line that is the same in every form.
    ///
    /// # Errors
    /// Nobody takes the output.
    pub fn line(&self, line: &str) -> Result<()> {
        Ok(writeln!(io::stdout(), "{line}")?)
    }

    /// The simple form at a terminal.
    fn for_people(&self) -> bool {
        self.terminal && self.form == Form::Simple
    }

    /// `style` where there are colours.
    fn style(&self, style: Style) -> Style {
        if self.colours { style } else { Style::new() }
    }
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Simple => "simple",
            Form::Json => "json",
            Form::Fields => "fields",
            Form::Table => "table",
            Form::Protobuf => "protobuf",
        }
    }
}

/// Whether a form has words for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Yes,
    Unsupported,
}

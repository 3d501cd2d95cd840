//! The log: zap's JSON lines, or lines for people on a terminal. Called once by `serve`, before anything else starts.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{IsTerminal, stderr, stdout};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// Starts the log as the flags say: `level` in etcd's words, `format` json or console (by default console on a terminal),
/// `outputs` comma-separated as etcd takes them.
///
/// # Errors
/// A sentence: an unknown level or format, or a file that can't be opened.
pub fn start(level: &str, format: Option<&str>, outputs: &str) -> Result<(), String> {
    let level = match level {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" | "dpanic" | "panic" | "fatal" => LevelFilter::ERROR,
        other => {
            return Err(format!(
                "unrecognized level: {other:?}; use debug, info, warn, error, panic or fatal"
            ));
        }
    };
    let to_terminal = matches!(outputs, "default" | "stderr") && stderr().is_terminal();
    let for_people = match format {
        Some("json") => false,
        Some("console") => true,
        None => to_terminal,
        Some(other) => return Err(format!("unknown log format {other:?}; use json or console")),
    };
    let layers = outputs
        .split(',')
        .map(|output| layer(output.trim(), for_people, to_terminal))
        .collect::<Result<Vec<_>, _>>()?;
    // What openraft calls news is of use only to who looks into it, and of a peer that is away it warns with every heartbeat.
    let library = if level == LevelFilter::DEBUG {
        level
    } else {
        level.min(LevelFilter::ERROR)
    };
    let filter = Targets::new()
        .with_default(level)
        .with_target("openraft", library);
    tracing_subscriber::registry()
        .with(layers.with_filter(filter))
        .init();
    Ok(())
}

fn layer(
    output: &str,
    for_people: bool,
    colours: bool,
) -> Result<Box<dyn Layer<Registry> + Send + Sync>, String> {
    let writer = match output {
        "default" | "stderr" | "/dev/stderr" => BoxMakeWriter::new(stderr),
        "stdout" | "/dev/stdout" => BoxMakeWriter::new(stdout),
        path => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            BoxMakeWriter::new(std::sync::Mutex::new(
                file.map_err(|error| format!("can't open the log file {path}: {error}"))?,
            ))
        }
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(if for_people {
        layer.with_ansi(colours).with_target(false).boxed()
    } else {
        layer.with_ansi(false).event_format(Zap).boxed()
    })
}

/// One JSON object a line with zap's keys: `level`, `ts`, `caller`, `msg`, then the fields.
struct Zap;

impl<S, N> FormatEvent<S, N> for Zap
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::TRACE | Level::DEBUG => "debug",
            Level::INFO => "info",
            Level::WARN => "warn",
            Level::ERROR => "error",
        };
        write!(writer, "{{\"level\":\"{level}\",\"ts\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let (target, line) = (event.metadata().target(), event.metadata().line());
        write!(writer, "\",\"caller\":\"{target}:{}\"", line.unwrap_or(0))?;
        let mut fields = Fields {
            message: String::new(),
            rest: String::new(),
        };
        event.record(&mut fields);
        write!(
            writer,
            ",\"msg\":{}{}}}",
            Quoted(&fields.message),
            fields.rest
        )?;
        writeln!(writer)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, name: &str, value: impl fmt::Display) {
        use fmt::Write;
        // Writing to a String can't fail.
        let _ = write!(self.rest, ",{}:{value}", Quoted(name));
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), Quoted(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field.name(), Quoted(&text));
        }
    }
}

/// A JSON string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_levels_and_formats_are_refused_with_the_choices() {
        assert!(
            start("loud", None, "default")
                .expect_err("refused")
                .contains("debug")
        );
        assert!(
            start("info", Some("xml"), "default")
                .expect_err("refused")
                .contains("json")
        );
    }
}

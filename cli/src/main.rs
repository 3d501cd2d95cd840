//! The binary `keystead`: a member, and the command line. Called as `etcd` it is `keystead serve` with etcd's words; called as `etcdctl`
//! it is the command line with etcdctl's.

mod command_line;
mod commands;
mod context;
mod duration;
mod failure;
mod go_text;
mod output;
mod serve;
mod version;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().map(Path::new).and_then(Path::file_name);
    let rest = |from: usize| {
        let words = words.iter().skip(from);
        words.map(|word| word.to_string_lossy().into_owned())
    };
    if called.is_some_and(|name| name == "etcd") {
        return serve::main("etcd", rest(1));
    }
    if words.get(1).is_some_and(|word| word == "serve") {
        return serve::main("keystead serve", rest(2));
    }
    let program = match called {
        Some(name) if name == "etcdctl" => "etcdctl",
        _ => "keystead",
    };
    if words
        .get(1)
        .is_some_and(|word| word == "--version" || word == "-version")
    {
        // As scripts ask etcd.
        print!("{}", version::text(None));
        return ExitCode::SUCCESS;
    }
    command_line::run(program, words)
}

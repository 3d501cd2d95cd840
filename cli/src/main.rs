//! The binary `keystead`. Called as `etcd` it is `keystead serve` with etcd's words; otherwise the first word is a command.

mod duration;
mod serve;
mod version;

use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
Keystead, a coordination server that etcd's clients can use.

Usage: keystead <command>

Commands:
  serve      Runs a member; `keystead serve --help` shows its flags
  version    Prints the version; also --version
  help       Prints this

Start one with `keystead serve`, then `etcdctl put greeting hello`.
";

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    if Path::new(&called)
        .file_name()
        .is_some_and(|name| name == "etcd")
    {
        return serve::main("etcd", words);
    }
    match words.next().as_deref() {
        Some("serve") => serve::main("keystead serve", words),
        Some("version" | "--version" | "-version" | "-V") => {
            print!("{}", version::text(None));
            ExitCode::SUCCESS
        }
        Some("help" | "--help" | "-help" | "-h") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        other => {
            if let Some(word) = other {
                eprintln!("keystead: unknown command {word:?}\n");
            }
            eprint!("{HELP}");
            ExitCode::from(2)
        }
    }
}

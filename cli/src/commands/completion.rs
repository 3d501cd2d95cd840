//! `completion`: the scripts by which shells complete command lines.

use std::io;

use clap::Args;
use clap_complete::Shell;

use crate::command_line::grammar;

/// Prints the script by which a shell completes command lines
#[derive(Args)]
#[command(after_help = "\
zsh:  keystead completion zsh > \"${fpath[1]}/_keystead\"
fish: keystead completion fish > ~/.config/fish/completions/keystead.fish

Example: source <(keystead completion bash)")]
pub struct Completion {
    /// The shell
    shell: Shell,
}

impl Completion {
    /// Prints it, for the program of that name.
    pub fn write(&self, program: &'static str) {
        clap_complete::generate(
            self.shell,
            &mut grammar(program),
            program,
            &mut io::stdout(),
        );
    }
}

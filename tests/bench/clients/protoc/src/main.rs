//! Stands in for `protoc` where there is none: it understands what prost's build scripts call it with, and no more.
//!
//! ```text
//! protoc --include_imports [--include_source_info] -o OUTPUT -I DIRECTORY.. FILE..
//! ```

use std::error::Error;
use std::{env, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut output, mut includes, mut files) = (String::new(), Vec::new(), Vec::new());
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-o" => output = words.next().ok_or("-o: which file?")?,
            "-I" => includes.push(words.next().ok_or("-I: which directory?")?),
            flag if flag.starts_with('-') => {}
            _ => files.push(word),
        }
    }
    let set = protox::compile(files, includes)?;
    Ok(fs::write(output, set.encode_to_vec())?)
}

//! Runs the steps of its parameter `script` with `std::fs`, and logs the result of each.

use std::fs;
use std::path::Path;

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    for step in parameters(&job)["script"].as_array().expect("a script") {
        let words: Vec<&str> = step.as_array().expect("a step").iter().filter_map(Value::as_str).collect();
        let result = match words.as_slice() {
            ["write", path, text] => fs::write(path, text).map(|()| String::new()),
            ["write much", path] => fs::write(path, vec![7; 10 << 20]).map(|()| String::new()),
            ["sync much", path] => fs::File::create(path).and_then(|mut file| {
                let written = std::io::Write::write_all(&mut file, &vec![7; 10 << 20]);
                file.sync_all().map(|()| format!("{written:?}"))
            }),
            ["create", path, text] => fs::File::create_new(path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
                .map(|()| String::new()),
            ["append", path, text] => fs::OpenOptions::new()
                .append(true)
                .open(path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
                .map(|()| String::new()),
            ["read", path] => fs::read_to_string(path),
            ["size", path] => fs::metadata(path).map(|about| about.len().to_string()),
            ["mkdir", path] => fs::create_dir_all(path).map(|()| String::new()),
            ["rename", from, to] => fs::rename(from, to).map(|()| String::new()),
            ["remove", path] => fs::remove_file(path).map(|()| String::new()),
            ["rmdir", path] => fs::remove_dir(path).map(|()| String::new()),
            ["walk", path] => walk(Path::new(path)).map(|paths| paths.join(" ")),
            other => panic!("{other:?} is no step"),
        };
        let words: Vec<String> = words.iter().map(|word| word.replace('\n', "⏎")).collect();
        match result {
            Ok(result) => log_info(format!("{}: {result:?}", words.join(" "))),
            Err(error) => log_info(format!("{}: {:?}", words.join(" "), error.kind())),
        }
    }
    Ok(empty_report())
}

fn walk(path: &Path) -> std::io::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            paths.push(format!("{}/", path.display()));
            paths.extend(walk(&path)?);
        } else {
            paths.push(path.display().to_string());
        }
    }
    paths.sort();
    Ok(paths)
}

//! An ordinary file program: does the same in each given directory, with only `std::fs`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    for directory in parameters["directories"].as_array().expect("directories") {
        let directory = Path::new(directory.as_str().expect("a path"));
        log_info(format!("in {}:", directory.display()));
        if let Err(error) = work(directory) {
            log_info(format!("it failed: {error} ({:?})", error.kind()));
        }
    }
    Ok(empty_report())
}

fn work(directory: &Path) -> std::io::Result<()> {
    let deep = directory.join("a/b");
    fs::create_dir_all(&deep)?;
    let note = deep.join("note.txt");
    fs::write(&note, "first line\n")?;
    log_info(format!("{:?}", fs::read_to_string(&note)?));

    OpenOptions::new().append(true).open(&note)?.write_all(b"second line\n")?;
    let mut file = OpenOptions::new().read(true).write(true).open(&note)?;
    file.seek(SeekFrom::Start(6))?;
    file.write_all(b"LINE")?;
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    file.set_len(15)?;
    file.sync_all()?;
    drop(file);
    log_info(format!("{text:?}, then {:?}", fs::read_to_string(&note)?));

    let about = fs::metadata(&note)?;
    log_info(format!("{} bytes, a file: {}, changed: {}", about.len(), about.is_file(), about.modified().is_ok()));
    fs::copy(&note, deep.join("copy.txt"))?;
    fs::rename(deep.join("copy.txt"), directory.join("a/moved.txt"))?;
    fs::rename(directory.join("a/b"), directory.join("a/c"))?;
    fs::write(directory.join("a/over.txt"), "is replaced")?;
    fs::rename(directory.join("a/moved.txt"), directory.join("a/over.txt"))?;
    log_info(format!("{:?}", fs::read_to_string(directory.join("a/over.txt"))?));
    for path in ["a", "a/c"] {
        let mut names: Vec<_> = fs::read_dir(directory.join(path))?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_, _>>()?;
        names.sort();
        log_info(format!("{path}: {names:?}"));
    }
    let mut new = File::create_new(directory.join("new.bin"))?;
    new.write_all(&[7; 100_000])?;
    log_info(format!("{} bytes while it is written", fs::metadata(directory.join("new.bin"))?.len()));
    drop(new);
    log_info(format!("{} bytes read back", fs::read(directory.join("new.bin"))?.len()));
    fs::remove_file(directory.join("new.bin"))?;
    fs::remove_dir_all(directory.join("a"))?;
    log_info(format!("{} left", fs::read_dir(directory)?.count()));
    Ok(())
}

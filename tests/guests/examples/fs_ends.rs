//! Ends with a file that is open for writing below `/files`, or with another unfinished write.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    let mut file = File::create("/files/half.txt").expect("a file");
    file.write_all(b"half of it").expect("written");
    match parameters["end"].as_str().expect("an end") {
        "panics" => panic!("while the file is open"),
        "forgets" => std::mem::forget(file),
        "closes" => {}
        "syncs" => {
            log_info(format!("{:?}", file.sync_all()));
            file.write_all(b", and more that is lost").expect("written");
            panic!("after the sync");
        }
        "fails" => {
            for content in ["fail", "lost"] {
                fs::write("/files/refused.txt", content).expect("closing cannot say that it failed");
                log_info(format!(
                    "after {content}: {:?}",
                    fs::metadata("/files/refused.txt").map_err(|error| error.kind())
                ));
            }
        }
        "fails to sync" => {
            let mut file = File::create("/files/refused.txt").expect("a file");
            file.write_all(b"fail").expect("written");
            log_info(format!("{:?}", file.sync_all()));
            log_info(format!("{:?}", file.write_all(b"more")));
        }
        "is read meanwhile" => {
            let mut old = File::open("/files/old.txt").expect("a file");
            let mut new = OpenOptions::new().write(true).truncate(true).open("/files/old.txt").expect("a file");
            new.write_all(b"new content").expect("written");
            log_info(format!("before: {:?}", fs::read_to_string("/files/old.txt")));
            drop(new);
            log_info(format!("after: {:?}", fs::read_to_string("/files/old.txt")));
            let mut text = String::new();
            old.read_to_string(&mut text).expect("read");
            log_info(format!("whoever had it open: {text:?}"));
        }
        "writes anywhere" => {
            let mut file = OpenOptions::new().read(true).write(true).open("/files/old.txt").expect("a file");
            file.seek(SeekFrom::Start(4)).expect("a place");
            file.write_all(b"CONTENT").expect("written");
            file.seek(SeekFrom::End(5)).expect("a place");
            file.write_all(b"!").expect("written");
            drop(file);
            OpenOptions::new()
                .append(true)
                .open("/files/old.txt")
                .and_then(|mut file| file.write_all(b"?"))
                .expect("written");
            log_info(format!("{:?}", fs::read_to_string("/files/old.txt")));
            log_info(format!(
                "{:?}",
                OpenOptions::new().write(true).open("/files/old.txt").and_then(|file| file.set_len(1 << 40))
            ));
        }
        "writes before it is there" => {
            log_info(format!("{:?}", File::create_new("/files/half.txt").map(drop).map_err(|error| error.kind())));
            let reopened = OpenOptions::new().append(true).open("/files/half.txt");
            reopened.and_then(|mut file| file.write_all(b", the other half")).expect("written");
            fs::rename("/files/half.txt", "/files/whole.txt").expect("renamed");
            log_info(format!("{:?}", fs::metadata("/files/half.txt").map(drop).map_err(|error| error.kind())));
            log_info(format!("{} bytes", fs::metadata("/files/whole.txt").expect("there").len()));
            let deleted = File::create("/files/gone.txt").expect("a file");
            fs::remove_file("/files/gone.txt").expect("removed");
            drop(deleted);
        }
        "opens too many" => {
            let files: Vec<_> = (0..20).map(|number| File::create(format!("/files/{number}"))).collect();
            log_info(format!("{:?}", files.into_iter().find_map(Result::err)));
        }
        other => panic!("{other} is no end"),
    }
    Ok(empty_report())
}

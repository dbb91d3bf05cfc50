//! Tries operations that a file system rejects, and logs the result of each.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use test_guests::prelude::*;

#[konnector]
fn run(job: Job) -> Result<Report, Failure> {
    let parameters = parameters(&job);
    let directory = parameters["directory"].as_str().expect("a directory");
    fs::create_dir(format!("{directory}/d")).expect("a directory");
    fs::create_dir(format!("{directory}/d/full")).expect("a directory");
    fs::write(format!("{directory}/d/full/f"), "f").expect("a file");
    fs::write(format!("{directory}/f"), "f").expect("a file");
    let at = |path: &str| format!("{directory}/{path}");
    let try_it = |what: &str, result: std::io::Result<()>| match result {
        Ok(()) => log_info(format!("{what}: ok")),
        Err(error) => log_info(format!("{what}: {:?}, {error}", error.kind())),
    };

    try_it("read nothing", fs::read(at("nothing")).map(drop));
    try_it("create twice", File::create_new(at("f")).map(drop));
    try_it("create a directory twice", fs::create_dir(at("d")));
    try_it("a file as a directory", fs::read(at("f/x")).map(drop));
    try_it("a directory as a file", fs::write(at("d"), "x"));
    try_it("list a file", fs::read_dir(at("f")).map(drop));
    try_it("remove a full directory", fs::remove_dir(at("d/full")));
    try_it("remove a directory as a file", fs::remove_file(at("d")));
    try_it("remove a file as a directory", fs::remove_dir(at("f")));
    try_it("rename a file over a directory", fs::rename(at("f"), at("d")));
    try_it("rename a directory over a file", fs::rename(at("d"), at("f")));
    try_it("rename over a full directory", fs::create_dir(at("e")).and_then(|()| fs::rename(at("e"), at("d/full"))));
    try_it("rename into itself", fs::rename(at("d"), at("d/full/g")));
    try_it("rename to elsewhere", fs::rename(at("f"), if directory == "/tmp" { "/files/f" } else { "/tmp/f" }));
    try_it("hard link", fs::hard_link(at("f"), at("link")));
    #[expect(deprecated, reason = "the portable function, which is all that this target has")]
    let linked = fs::soft_link(at("f"), at("link"));
    try_it("symbolic link", linked);
    try_it("read a link", fs::read_link(at("f")).map(drop));
    try_it("slash at the end of a file", fs::read(at("f/")).map(drop));
    try_it("slash at the end of a new file", fs::write(at("new/"), "x"));
    try_it("slash at the end of a directory", fs::create_dir(at("slash/")));
    try_it("write what is open for reading", File::open(at("f")).and_then(|mut file| file.write_all(b"x")));
    try_it("read what is open for writing", {
        let file = OpenOptions::new().write(true).open(at("f"));
        file.and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut Vec::new())).map(drop)
    });

    try_it("out of it", fs::read(at("../etc/passwd")).map(drop));
    try_it("out of it, from deep below", fs::read(at("d/full/../../../../etc/passwd")).map(drop));
    try_it("up and down within it", fs::read(at("d/full/../../f")).map(drop));
    try_it("up from a file", fs::read(at("f/../f")).map(drop));
    try_it("elsewhere", fs::read("/etc/passwd").map(drop));
    try_it("nowhere", fs::read("").map(drop));
    try_it("NUL", fs::write(at("a\0b"), "x"));
    try_it("the root", fs::read_dir("/").map(drop));

    try_it("backslashes", fs::write(at(r"..\..\x"), "x"));
    try_it("a control character", fs::write(at("a\u{7}b"), "x"));
    try_it("a line break", fs::write(at("a\nb"), "x"));
    try_it("a device of Windows", fs::write(at("CON.pdf"), "x"));
    try_it("right to left", fs::write(at("a\u{202e}fdp.exe"), "x"));
    try_it("63 emoji", fs::write(at(&"😀".repeat(63)), "x"));
    try_it("64 emoji", fs::write(at(&"😀".repeat(64)), "x"));
    try_it("a very long path", fs::write(at(&"abcdefg/".repeat(1_000)), "x"));
    let deep = (0..100).try_fold(at("d"), |path, _| {
        let path = format!("{path}/d");
        fs::create_dir(&path).map(|()| path)
    });
    try_it("very deep", deep.map(drop));
    try_it("everything goes", fs::remove_dir_all(at("d")));
    Ok(empty_report())
}

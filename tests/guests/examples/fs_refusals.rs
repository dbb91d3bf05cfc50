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
    let full_path = |path: &str| format!("{directory}/{path}");
    let try_it = |description: &str, result: std::io::Result<()>| match result {
        Ok(()) => log_info(format!("{description}: ok")),
        Err(error) => log_info(format!("{description}: {:?}, {error}", error.kind())),
    };

    try_it("read nothing", fs::read(full_path("nothing")).map(drop));
    try_it("create twice", File::create_new(full_path("f")).map(drop));
    try_it("create a directory twice", fs::create_dir(full_path("d")));
    try_it("a file as a directory", fs::read(full_path("f/x")).map(drop));
    try_it("a directory as a file", fs::write(full_path("d"), "x"));
    try_it("list a file", fs::read_dir(full_path("f")).map(drop));
    try_it("remove a full directory", fs::remove_dir(full_path("d/full")));
    try_it("remove a directory as a file", fs::remove_file(full_path("d")));
    try_it("remove a file as a directory", fs::remove_dir(full_path("f")));
    try_it("rename a file over a directory", fs::rename(full_path("f"), full_path("d")));
    try_it("rename a directory over a file", fs::rename(full_path("d"), full_path("f")));
    try_it(
        "rename over a full directory",
        fs::create_dir(full_path("e")).and_then(|()| fs::rename(full_path("e"), full_path("d/full"))),
    );
    try_it("rename into itself", fs::rename(full_path("d"), full_path("d/full/g")));
    try_it("rename to elsewhere", fs::rename(full_path("f"), if directory == "/tmp" { "/files/f" } else { "/tmp/f" }));
    try_it("hard link", fs::hard_link(full_path("f"), full_path("link")));
    #[expect(deprecated, reason = "the portable function, which is all that this target has")]
    let linked = fs::soft_link(full_path("f"), full_path("link"));
    try_it("symbolic link", linked);
    try_it("read a link", fs::read_link(full_path("f")).map(drop));
    try_it("slash at the end of a file", fs::read(full_path("f/")).map(drop));
    try_it("slash at the end of a new file", fs::write(full_path("new/"), "x"));
    try_it("slash at the end of a directory", fs::create_dir(full_path("slash/")));
    try_it("write what is open for reading", File::open(full_path("f")).and_then(|mut file| file.write_all(b"x")));
    try_it("read what is open for writing", {
        let file = OpenOptions::new().write(true).open(full_path("f"));
        file.and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut Vec::new())).map(drop)
    });

    try_it("out of it", fs::read(full_path("../etc/passwd")).map(drop));
    try_it("out of it, from deep below", fs::read(full_path("d/full/../../../../etc/passwd")).map(drop));
    try_it("up and down within it", fs::read(full_path("d/full/../../f")).map(drop));
    try_it("up from a file", fs::read(full_path("f/../f")).map(drop));
    try_it("elsewhere", fs::read("/etc/passwd").map(drop));
    try_it("nowhere", fs::read("").map(drop));
    try_it("NUL", fs::write(full_path("a\0b"), "x"));
    try_it("the root", fs::read_dir("/").map(drop));

    try_it("backslashes", fs::write(full_path(r"..\..\x"), "x"));
    try_it("a control character", fs::write(full_path("a\u{7}b"), "x"));
    try_it("a line break", fs::write(full_path("a\nb"), "x"));
    try_it("a device of Windows", fs::write(full_path("CON.pdf"), "x"));
    try_it("right to left", fs::write(full_path("a\u{202e}fdp.exe"), "x"));
    try_it("63 emoji", fs::write(full_path(&"😀".repeat(63)), "x"));
    try_it("64 emoji", fs::write(full_path(&"😀".repeat(64)), "x"));
    try_it("a very long path", fs::write(full_path(&"abcdefg/".repeat(1_000)), "x"));
    let deep = (0..100).try_fold(full_path("d"), |path, _| {
        let path = format!("{path}/d");
        fs::create_dir(&path).map(|()| path)
    });
    try_it("very deep", deep.map(drop));
    try_it("everything goes", fs::remove_dir_all(full_path("d")));
    Ok(empty_report())
}

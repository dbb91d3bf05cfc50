//! Components written in the text format, for cases that no Rust compiler would produce.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Reduced versions of the WASI interfaces that handwritten guests import.
const WASI: &[&str] = &[
    "package wasi:io@0.2.0;
     interface error { resource error; }
     interface poll { resource pollable; poll: func(in: list<borrow<pollable>>) -> list<u32>; }
     interface streams {
       use error.{error};
       variant stream-error { last-operation-failed(error), closed }
       resource output-stream { write: func(contents: list<u8>) -> result<_, stream-error>; }
     }",
    "package wasi:clocks@0.2.0;
     interface monotonic-clock {
       use wasi:io/poll@0.2.0.{pollable};
       subscribe-duration: func(when: u64) -> pollable;
     }",
    "package wasi:cli@0.2.0;
     interface stdout {
       use wasi:io/streams@0.2.0.{output-stream};
       get-stdout: func() -> output-stream;
     }",
    "package wasi:http@0.2.0;
     interface types {
       variant header-error { invalid-syntax, forbidden, immutable }
       variant method { get, head, post, put, delete, connect, options, trace, patch, other(string) }
       resource fields {
         constructor();
         append: func(name: string, value: list<u8>) -> result<_, header-error>;
       }
       resource outgoing-request {
         constructor(headers: fields);
         set-method: func(method: method) -> result;
       }
     }",
];

/// A konnector whose `run.run` executes `body`, and then reports success.
///
/// `imports` names further imports of the component, `items` are further items of the module.
pub fn konnector_component(imports: &str, items: &str, body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
             {items}
             (memory (export "memory") 1)
             (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 8192)
             ;; The fifteen words of a job; the answer is at 1024: `ok`, and an empty list.
             (func (export "konnector:host/run@0.1.0#run")
               (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
               (local $count i32)
               {body}
               i32.const 1024))"#
    );
    component(imports, &module)
}

fn component(imports: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    for (number, package) in WASI.iter().enumerate() {
        resolve.push_str(format!("wasi{number}.wit"), package).expect("the cut-down WASI is correct");
    }
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/0.1.0");
    resolve.push_path(&contract).expect("the contract is correct");
    let world = format!("package test:handmade; world handmade {{ {imports} export konnector:host/run@0.1.0; }}");
    let package = resolve.push_str("handmade.wit", &world).expect("a correct world");
    let world = resolve.select_world(&[package], Some("handmade")).expect("the world just written");
    let mut module = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}\n{module}"));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("room for metadata");
    let encoded = ComponentEncoder::default().validate(true).module(&module).and_then(|mut encoder| encoder.encode());
    encoded.unwrap_or_else(|error| panic!("{error:#}"))
}

/// A component that imports and exports empty interfaces of these names.
pub fn component_with_names(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let imports: String = imports.iter().map(|name| format!("(import \"{name}\" (instance))\n")).collect();
    let exports: String = exports.iter().map(|name| format!("(export \"{name}\" (instance $nothing))\n")).collect();
    wat::parse_str(format!("(component {imports} (instance $nothing) {exports})")).unwrap()
}

/// A command component of that many core instances, memories (of one page) and tables, whose `main` executes `body`.
pub fn command_component(instances: usize, memories: usize, tables: usize, body: &str) -> Vec<u8> {
    let filler = |number: usize| {
        let memory = if number < memories { "(memory 1)" } else { "" };
        let table = if number < tables { "(table 4 funcref)" } else { "" };
        format!("(core module $part{number} {memory} {table}) (core instance (instantiate $part{number}))\n")
    };
    let parts: String = (0..instances - 1).map(filler).collect();
    let component = format!(
        r#"(component
             {parts}
             (core module $main (func (export "run") (result i32) {body} (i32.const 0)))
             (core instance $main (instantiate $main))
             (func $run (result (result)) (canon lift (core func $main "run")))
             (instance $cli (export "run" (func $run)))
             (export "wasi:cli/run@0.2.0" (instance $cli)))"#
    );
    wat::parse_str(&component).unwrap_or_else(|error| panic!("{error}\n{component}"))
}

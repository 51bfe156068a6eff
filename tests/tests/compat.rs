//! The protocol only grows: whatever the committed descriptor set holds, today's .proto files still hold, unchanged.
//! And it explains itself: nothing in it goes without a comment.
//!
//! `proto/compat/v1.binpb` is what agents and automation out there were built with. After the protocol has grown,
//! `make proto-baseline` takes the new one; it refuses when something was broken. Only a protocol that nobody has been
//! given yet may start over, by removing the file first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use muster_proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

/// Everything that a peer leans on, by its full name, as one line that must not change.
type Surface = BTreeMap<String, String>;

fn surface(set: &FileDescriptorSet) -> Surface {
    let mut surface = Surface::new();
    for file in &set.file {
        let package = file.package();
        file.message_type.iter().for_each(|message| add_message(&mut surface, package, message));
        file.enum_type.iter().for_each(|one| add_enum(&mut surface, package, one));
        file.service.iter().for_each(|service| add_service(&mut surface, package, service));
    }
    surface
}

fn add_message(surface: &mut Surface, within: &str, message: &DescriptorProto) {
    let name = format!("{within}.{}", message.name());
    surface.insert(name.clone(), "message".to_owned());
    for field in &message.field {
        surface.insert(format!("{name}.{}", field.name()), field_line(message, field));
    }
    message.nested_type.iter().for_each(|nested| add_message(surface, &name, nested));
    message.enum_type.iter().for_each(|one| add_enum(surface, &name, one));
}

/// Number, label, type, and the oneof that it is in: all that decides how it looks on the wire and in generated code.
fn field_line(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof = field.oneof_index.and_then(|at| message.oneof_decl.get(at as usize)).map_or("", |oneof| oneof.name());
    let optional = if field.proto3_optional() { " optional" } else { "" };
    let of = field.type_name.as_deref().unwrap_or_default();
    format!("field {} {:?}{optional} {:?} {of} {oneof}", field.number(), field.label(), field.r#type())
}

fn add_enum(surface: &mut Surface, within: &str, one: &EnumDescriptorProto) {
    let name = format!("{within}.{}", one.name());
    for value in &one.value {
        surface.insert(format!("{name}.{}", value.name()), format!("enum value {}", value.number()));
    }
    surface.insert(name, "enum".to_owned());
}

fn add_service(surface: &mut Surface, within: &str, service: &ServiceDescriptorProto) {
    let name = format!("{within}.{}", service.name());
    for rpc in &service.method {
        let stream = |streams: bool| if streams { "stream " } else { "" };
        let (takes, gives) = (stream(rpc.client_streaming()), stream(rpc.server_streaming()));
        let line = format!("rpc ({takes}{}) returns ({gives}{})", rpc.input_type(), rpc.output_type());
        surface.insert(format!("{name}.{}", rpc.name()), line);
    }
    surface.insert(name, "service".to_owned());
}

/// What of `old` is not in `new` as it was, a sentence each.
fn compare(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let new = surface(new);
    let broken = |(name, was): (String, String)| match new.get(&name) {
        None => Some(format!("{name} is gone; it was: {was}")),
        Some(is) if *is != was => Some(format!("{name} was: {was}; it is: {is}")),
        Some(_) => None,
    };
    surface(old).into_iter().filter_map(broken).collect()
}

fn today() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).unwrap()
}

fn baseline_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proto/compat/v1.binpb")
}

fn baseline() -> FileDescriptorSet {
    FileDescriptorSet::decode(&*fs::read(baseline_path()).unwrap()).unwrap()
}

#[test]
fn the_protocol_has_only_grown() {
    let broken = compare(&baseline(), &today());
    assert!(broken.is_empty(), "peers that were built before would break:\n{}", broken.join("\n"));
}

#[test]
fn the_baseline_is_up_to_date() {
    let new = compare(&today(), &baseline());
    assert!(new.is_empty(), "not in the baseline yet; run `make proto-baseline`:\n{}", new.join("\n"));
}

#[test]
#[ignore = "it writes proto/compat/v1.binpb; `make proto-baseline` runs it"]
fn take_the_protocol_as_it_is_for_the_baseline() {
    if baseline_path().exists() {
        let broken = compare(&baseline(), &today());
        assert!(broken.is_empty(), "the baseline stays as it is; this would break peers:\n{}", broken.join("\n"));
    }
    let mut set = today();
    // Comments may change as they like.
    set.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::create_dir_all(baseline_path().parent().unwrap()).unwrap();
    fs::write(baseline_path(), set.encode_to_vec()).unwrap();
}

// --- a guard that cannot refuse is no guard --------------------------------------------------------------------------

const SMALL: &str = "syntax = 'proto3'; package t;
message A { string name = 1; repeated uint32 ports = 2; oneof body { B b = 3; string s = 4; } message Inner {} }
message B {}
enum E { E_UNSPECIFIED = 0; E_ONE = 1; }
service S { rpc Watch(A) returns (stream B); rpc Get(A) returns (B); }
";

fn compile(text: &str) -> FileDescriptorSet {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t.proto"), text).unwrap();
    protox::compile(["t.proto"], [dir.path()]).unwrap()
}

#[test]
fn every_breaking_change_is_noticed() {
    let cases = [
        ("string name = 1;", "", "t.A.name is gone"),
        ("string name = 1;", "string title = 1;", "t.A.name is gone"),
        ("string name = 1;", "string name = 9;", "t.A.name was: field 1"),
        ("string name = 1;", "bytes name = 1;", "t.A.name was: field 1 Optional String"),
        ("string name = 1;", "optional string name = 1;", "t.A.name was: field 1"),
        ("repeated uint32 ports", "uint32 ports", "t.A.ports was: field 2 Repeated"),
        ("B b = 3;", "A b = 3;", "t.A.b was: field 3 Optional Message .t.B"),
        ("string s = 4; }", "} string s = 4;", "t.A.s was: field 4"),
        ("message Inner {}", "", "t.A.Inner is gone"),
        ("E_ONE = 1;", "", "t.E.E_ONE is gone"),
        ("E_ONE = 1;", "E_ONE = 2;", "t.E.E_ONE was: enum value 1; it is: enum value 2"),
        ("enum E {", "enum F {", "t.E is gone"),
        ("rpc Get(A) returns (B);", "", "t.S.Get is gone"),
        ("rpc Get(A)", "rpc Get(B)", "t.S.Get was: rpc (.t.A) returns (.t.B); it is: rpc (.t.B)"),
        ("rpc Get(A)", "rpc Get(stream A)", "t.S.Get was: rpc (.t.A)"),
        ("returns (stream B)", "returns (B)", "t.S.Watch was: rpc (.t.A) returns (stream .t.B)"),
        ("service S", "service T", "t.S is gone"),
        ("package t;", "package u;", "t.A is gone"),
    ];
    for (part, instead, expected) in cases {
        assert!(SMALL.contains(part), "{part}");
        let broken = compare(&compile(SMALL), &compile(&SMALL.replace(part, instead)));
        assert!(broken.iter().any(|line| line.starts_with(expected)), "{part} -> {instead}: {broken:?}");
    }
}

#[test]
fn growth_is_no_breaking_change() {
    let cases = [
        ("message B {}", "message B { uint64 at = 1; }"),
        ("string s = 4;", "string s = 4; B more = 5;"),
        ("E_ONE = 1;", "E_ONE = 1; E_TWO = 2;"),
        ("rpc Get(A)", "rpc Set(A) returns (B); rpc Get(A)"),
        ("message B {}", "// A comment.\nmessage B {} message C {}"),
    ];
    for (part, instead) in cases {
        assert_eq!(compare(&compile(SMALL), &compile(&SMALL.replace(part, instead))), [""; 0], "{part} -> {instead}");
    }
}

// --- comments --------------------------------------------------------------------------------------------------------

/// What has no comment, by name. A request or response may share the comment of the rpc that is named like it; every
/// field has its own.
fn uncommented(file: &FileDescriptorProto) -> Vec<String> {
    let comments = Comments::of(file);
    let mut missing = Vec::new();
    let mut explained = Vec::new();
    for (at, service) in file.service.iter().enumerate() {
        let path = vec![6, at as i32];
        for (nth, rpc) in service.method.iter().enumerate() {
            if comments.has(&join(&path, &[2, nth as i32])) {
                explained.extend([format!("{}Request", rpc.name()), format!("{}Response", rpc.name())]);
            } else {
                missing.push(format!("rpc {}.{}", service.name(), rpc.name()));
            }
        }
        // What a service is, its file's header says.
    }
    for (at, message) in file.message_type.iter().enumerate() {
        let path = vec![4, at as i32];
        if !comments.has(&path) && !explained.iter().any(|name| name == message.name()) {
            missing.push(format!("message {}", message.name()));
        }
        let bare = |nth: &usize| !comments.has(&join(&path, &[2, *nth as i32]));
        let fields = (0..message.field.len()).filter(bare);
        missing.extend(fields.map(|nth| format!("field {}.{}", message.name(), message.field[nth].name())));
    }
    for (at, one) in file.enum_type.iter().enumerate() {
        let path = vec![5, at as i32];
        if !comments.has(&path) {
            missing.push(format!("enum {}", one.name()));
        }
        let bare = |nth: &usize| !comments.has(&join(&path, &[2, *nth as i32]));
        let values = (0..one.value.len()).filter(bare);
        missing.extend(values.map(|nth| format!("enum value {}.{}", one.name(), one.value[nth].name())));
    }
    missing
}

fn join(path: &[i32], more: &[i32]) -> Vec<i32> {
    [path, more].concat()
}

/// The paths of all descriptors that a comment leads.
struct Comments(BTreeSet<Vec<i32>>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let commented = locations.filter(|at| at.leading_comments.is_some());
        Self(commented.map(|at| at.path.clone()).collect())
    }

    fn has(&self, path: &[i32]) -> bool {
        self.0.contains(path)
    }
}

#[test]
fn nothing_in_the_protocol_goes_without_a_comment() {
    let today = today();
    let ours = today.file.iter().filter(|file| file.package().starts_with("muster."));
    let missing: Vec<String> = ours.flat_map(uncommented).collect();
    assert!(missing.is_empty(), "these want a comment:\n{}", missing.join("\n"));
}

#[test]
fn a_missing_comment_is_noticed() {
    let text = "syntax = 'proto3'; package t;
// Said.
service S {
  // Said.
  rpc Get(GetRequest) returns (GetResponse);
  rpc Set(SetRequest) returns (GetResponse);
}
message GetRequest {
  string bare = 1;
  // Said.
  string said = 2;
  string next_to_it = 3;
}
message GetResponse {}
message SetRequest {}
// Said.
message Said {
  oneof body {
    string bare = 1;
  }
}
enum E {
  // Said.
  E_UNSPECIFIED = 0;
  E_ONE = 1;
}
";
    let missing = uncommented(&compile(text).file[0]);
    let expected = [
        "rpc S.Set",
        "field GetRequest.bare",
        "field GetRequest.next_to_it",
        "message SetRequest",
        "field Said.bare",
        "enum E",
        "enum value E.E_ONE",
    ];
    assert_eq!(missing, expected);
}

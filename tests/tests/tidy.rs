//! The repository checks itself: what a reviewer would otherwise have to remember, as functions of the files' texts.
//!
//! Each check is a function from files to complaints, so that the last test here can show that it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use muster_tests::binaries;

/// Longest line, in characters.
const LINE: usize = 120;
/// Longest file, in lines. A file that grows past it has a seam somewhere.
const FILE: usize = 500;
/// Directories that are not the repository's own.
const SKIPPED: [&str; 4] = [".git", "target", ".demo", ".servers"];
/// What is read as text.
const TEXTS: [&str; 7] = ["rs", "sh", "proto", "md", "toml", "service", "conf"];

/// Modules that decide and never act, and the crate that each is in.
const PURE: [&str; 11] = [
    "coordinator/src/placement",
    "coordinator/src/lint",
    "coordinator/src/loss",
    "coordinator/src/formation",
    "coordinator/src/reconcile",
    "coordinator/src/rebuild",
    "coordinator/src/doomed",
    "agent/src/reconcile",
    "agent/src/permits",
    "agent/src/conf",
    "agent/src/scope",
];
/// What acting looks like: waiting, disks, processes, logs, clocks, dice.
const EFFECTS: [&str; 13] = [
    "tokio",
    "async fn",
    ".await",
    "std::fs",
    "std::process",
    "std::net::Tcp",
    "tracing",
    "println!",
    "SystemTime",
    "Instant::now",
    "rand::",
    "Uuid::new",
    "std::env",
];

struct Text {
    /// From the repository's root.
    path: String,
    text: String,
}

impl Text {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(nth, line)| (nth + 1, line))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn texts() -> Vec<Text> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    assert!(found.len() > 20, "only {} files were found; is the walk broken?", found.len());
    found
}

fn walk(directory: &Path, found: &mut Vec<Text>) {
    for entry in fs::read_dir(directory).unwrap() {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = |extension: &std::ffi::OsStr| TEXTS.iter().any(|known| extension == *known);
        if kind.is_dir() && !SKIPPED.contains(&name) {
            walk(&path, found);
        } else if kind.is_file()
            && (name == "Makefile" || path.ends_with(".ci/run") || path.extension().is_some_and(text))
        {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push(Text { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

fn complain(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

// --- checks ----------------------------------------------------------------------------------------------------------

/// Lines that cannot be broken may be longer: tables, links and quoted output of Markdown, inline tables of TOML,
/// goldens in raw strings, what quotes a node id of 40 digits, and tests, for what a person reads as one line.
fn long_lines(file: &Text) -> Vec<String> {
    let hex = |word: &str| word.len() >= 40 && word.chars().all(|c| c.is_ascii_hexdigit());
    let quotes = |line: &str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(hex);
    let table = |line: &str| line.trim_start().starts_with('|') || line.contains("](http");
    let tests = file.path.contains("tests") || file.path.contains("goldens");
    let inner = file.text.find("#[cfg(test)]\nmod tests {").map_or(usize::MAX, |at| file.text[..at].lines().count());
    let excused = |line: &str| match file.path.rsplit('.').next() {
        Some("md") => table(line),
        Some("toml") => line.contains(" = {"),
        _ => quotes(line),
    };
    let mut golden = false;
    let lines = file.lines().map(|(nth, line)| (nth, line, line.chars().count()));
    let outside = lines.filter(|(nth, line, _)| {
        let within = golden || (file.is("rs") && (tests || *nth > inner));
        if file.is("md") && line.starts_with("```") {
            golden = !golden;
            return false;
        }
        if file.is("md") {
            return !golden;
        }
        golden = file.is("rs") && if golden { !line.contains("\"#") } else { line.trim_end().ends_with("r#\"") };
        !within
    });
    let long = outside.filter(|(_, line, length)| *length > LINE && !excused(line));
    long.map(|(nth, _, length)| format!("{}:{nth}: {length} characters; {LINE} are allowed", file.path)).collect()
}

fn long_file(file: &Text) -> Vec<String> {
    let lines = file.text.lines().count();
    let code = file.is("rs") || file.is("sh") || file.is("proto");
    let complaint = format!("{}: {lines} lines; {FILE} are allowed. Look for the seam", file.path);
    (code && lines > FILE).then_some(complaint).into_iter().collect()
}

/// Paths of one developer's machine.
fn strange_paths(file: &Text) -> Vec<String> {
    // In pieces, so that this file does not find itself.
    let strange = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/ho", "me/"].concat()];
    let found = |(_, line): &(usize, &str)| strange.iter().any(|path| line.contains(path.as_str()));
    file.lines().filter(found).map(|(nth, line)| format!("{}:{nth}: somebody's own path: {line}", file.path)).collect()
}

/// A module says what it is before it says anything else.
fn headless(file: &Text) -> Vec<String> {
    let bare = file.is("rs") && !file.text.starts_with("//!");
    bare.then(|| format!("{}: does not begin with a `//!` header", file.path)).into_iter().collect()
}

/// `agent/src/conf` is `agent/src/conf.rs` and everything in `agent/src/conf/`.
fn in_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || (rest.starts_with('/') && rest.ends_with(".rs")))
}

fn effects(file: &Text) -> Vec<String> {
    if !PURE.iter().any(|module| in_module(&file.path, module)) || file.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let code = file.lines().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    let acts = |(nth, line): (usize, &str)| {
        let code = line.split("//").next().unwrap_or_default();
        let effect = EFFECTS.iter().find(|effect| code.contains(**effect))?;
        Some(format!("{}:{nth}: this module only decides, and must not mention {effect}", file.path))
    };
    code.filter_map(acts).collect()
}

/// A check that guards a module must notice when it has moved.
fn pure_modules_that_are_gone(files: &[Text]) -> Vec<String> {
    let gone = |module: &&&str| !files.iter().any(|file| in_module(&file.path, module));
    PURE.iter().filter(gone).map(|module| format!("{module}: there is no such module; see PURE in this test")).collect()
}

/// Every dependency of the workspace has a reason right above it. Its own members need none.
fn unexplained_dependencies(manifest: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut inside, mut above) = (false, "");
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if inside && line.contains('=') && !line.starts_with('#') && !line.contains("path = ") {
            let explained = above.starts_with("# ") && !above.starts_with("# ---");
            let name = line.split('=').next().unwrap_or_default().trim();
            complaints.extend((!explained).then(|| format!("Cargo.toml: {name} has no comment that says why")));
        }
        above = line;
    }
    complaints
}

/// Members take versions and features from the workspace, so that every build sees one set of features. A workspace of
/// its own is no member.
fn own_versions(file: &Text) -> Vec<String> {
    if !file.path.ends_with("/Cargo.toml") || file.lines().any(|(_, line)| line == "[workspace]") {
        return Vec::new();
    }
    let mut inside = false;
    let mut complaints = Vec::new();
    for (nth, line) in file.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && line.contains('=') && !line.contains("workspace = true") {
            complaints.push(format!("{}:{nth}: declare it in the workspace: {line}", file.path));
        }
    }
    complaints
}

/// What a text in backticks or a link of README points at, when it is a path of this repository.
fn paths_of(readme: &str) -> BTreeSet<String> {
    let ticked = readme.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let path = |word: &&str| {
        let first = word.split('/').next().unwrap_or_default();
        let ours = !first.is_empty() && root().join(first).exists();
        let source = [".rs", ".sh", ".proto", ".md"].iter().any(|end| word.ends_with(end));
        word.contains('/') && !word.starts_with('/') && (ours || source) || word.ends_with(".md")
    };
    ticked.chain(links).filter(plain).filter(path).map(str::to_owned).collect()
}

fn missing_paths(readme: &str) -> Vec<String> {
    let missing = paths_of(readme).into_iter().filter(|path| !root().join(path).exists());
    missing.map(|path| format!("README.md: names {path}, which does not exist")).collect()
}

/// Every `make something` of README is a target.
fn missing_targets(readme: &str, makefile: &str) -> Vec<String> {
    let calls = readme.split("make ").skip(1).zip(readme.split("make "));
    let command = |(rest, before): (&str, &str)| {
        let word: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        (before.ends_with(['`', '\n', '$', ' ']) && before.trim_end_matches(' ').ends_with(['`', '\n', '$']))
            .then_some(word)
    };
    let words: BTreeSet<String> = calls.filter_map(command).filter(|word| !word.is_empty()).collect();
    let missing = words.into_iter().filter(|word| !makefile.lines().any(|line| line.starts_with(&format!("{word}:"))));
    missing.map(|word| format!("README.md: `make {word}` is no target of the Makefile")).collect()
}

// --- on this repository ----------------------------------------------------------------------------------------------

fn each(check: fn(&Text) -> Vec<String>) {
    complain(texts().iter().flat_map(check).collect());
}

#[test]
fn lines_are_short() {
    each(long_lines);
}

#[test]
fn files_are_short() {
    each(long_file);
}

#[test]
fn nobodys_own_paths_are_in_it() {
    each(strange_paths);
}

#[test]
fn every_module_says_what_it_is() {
    each(headless);
}

#[test]
fn what_decides_does_not_act() {
    each(effects);
    complain(pure_modules_that_are_gone(&texts()));
}

#[test]
fn every_dependency_has_a_reason_and_one_place() {
    complain(unexplained_dependencies(&fs::read_to_string(root().join("Cargo.toml")).unwrap()));
    each(own_versions);
}

#[test]
fn the_licence_is_there() {
    let licence = fs::read_to_string(root().join("LICENSE")).unwrap();
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0"));
}

#[test]
fn what_the_readme_names_exists() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let readme = read("README.md");
    complain([missing_paths(&readme), missing_targets(&readme, &read("Makefile"))].concat());
}

/// Samples are what people copy: the daemons themselves must take them.
#[test]
fn sample_configs_are_good_configs() {
    for (sample, program) in [("agent.toml", "muster-agent"), ("coordinator.toml", "muster-coordinator")] {
        let path = root().join("systemd").join(sample);
        if path.exists() {
            let mut command = Command::new(binaries::path(program));
            let output = command.arg("--config").arg(&path).arg("check-config").output().unwrap();
            assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        }
    }
}

// --- a guard that cannot refuse is no guard --------------------------------------------------------------------------

fn made_up(path: &str, text: &str) -> Text {
    Text { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn every_check_refuses_what_it_is_for() {
    type Check = fn(&Text) -> Vec<String>;
    let long = "x ".repeat(61);
    let own_path = ["let a = \"/wo", "rk/x\";"].concat();
    let quoted = format!("{} {}", "8f285670923d4f1c599ecc93367c95a30fb8bf34", long);
    let refused: [(Check, &str, &str); 11] = [
        (long_lines, "a.rs", &format!("expect![[r#\"\n\"#]]\n{long}")),
        (long_lines, "a.rs", &long),
        (long_file, "a.rs", &"\n".repeat(FILE + 1)),
        (strange_paths, "a.rs", &own_path),
        (headless, "a.rs", "use std::fmt;"),
        (effects, "agent/src/conf.rs", "use std::fs;"),
        (effects, "agent/src/conf/write.rs", "let now = Instant::now();"),
        (effects, "coordinator/src/placement/score.rs", "  tracing::info!(\"placed\");"),
        (effects, "coordinator/src/reconcile.rs", "fn a() {}\nasync fn b() {}"),
        (own_versions, "agent/Cargo.toml", "[dependencies]\ntokio = \"1\""),
        (own_versions, "agent/Cargo.toml", "[dev-dependencies]\nx = { path = \"../x\" }"),
    ];
    for (check, path, text) in refused {
        assert_eq!(check(&made_up(path, text)).len(), 1, "{path}: {text}");
    }
    let taken: [(Check, &str, &str); 9] = [
        (long_lines, "a.rs", &format!("expect![[r#\"\n{long}\n\"#]]")),
        (long_lines, "a.md", &format!("| {long}")),
        (long_lines, "a.rs", &quoted),
        (long_file, "a.md", &"\n".repeat(FILE + 1)),
        (effects, "agent/src/execute.rs", "use std::fs;"),
        (effects, "agent/src/config.rs", "use std::fs;"),
        (effects, "agent/src/conf.rs", "// Unlike std::fs.\n#[cfg(test)]\nmod tests { use std::fs; }"),
        (own_versions, "tests/fuzz/Cargo.toml", "[workspace]\n[dependencies]\ntokio = \"1\""),
        (own_versions, "agent/Cargo.toml", "name = \"x\"\n[dependencies]\ntokio.workspace = true"),
    ];
    for (check, path, text) in taken {
        assert_eq!(check(&made_up(path, text)), [""; 0], "{path}: {text}");
    }
}

#[test]
fn every_check_of_one_file_refuses_too() {
    let manifest =
        "[workspace.dependencies]\nown = { path = \"own\" }\n# Why.\na = \"1\"\nb = \"1\"\n# --- c\nc = \"1\"";
    assert_eq!(unexplained_dependencies(manifest).len(), 2);
    assert_eq!(pure_modules_that_are_gone(&[made_up("agent/src/conf.rs", "")]).len(), PURE.len() - 1);
    let readme = "Read `proto/nothing.rs`, [this](docs/gone.md), `LICENSE`, `tests/src`, `/var/lib/x`, `server1/7`.\n\
                  ```\ncat `tests/not/looked/at.rs`\n```\n";
    assert_eq!(paths_of(readme).into_iter().collect::<Vec<_>>(), ["docs/gone.md", "proto/nothing.rs", "tests/src"]);
    assert_eq!(missing_paths(readme).len(), 2);
    let calls = "`make demo KEEP=1` and\n$ make nothing\nwhich make no sense";
    assert_eq!(missing_targets(calls, "demo: build\n"), ["README.md: `make nothing` is no target of the Makefile"]);
}

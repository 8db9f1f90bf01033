//! The house's walls: which folder of `src` may know which, what a folder without I/O may not use, and what lies at
//! the top of the repository. To change a wall, change the table here and in the design, and say why in the commit.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "layout/tokens.rs"]
mod tokens;

use tokens::{Token, tokens};

/// Each folder of `src`, and the folders it may import.
const IMPORTS: &[(&str, &str)] = &[
    ("model", ""),
    ("metrics", "model"),
    ("config", "model"),
    ("runtime", "model"),
    ("protocol", "model"),
    ("topology", "model"),
    ("auth", "model"),
    ("net", "model metrics config runtime"),
    ("channel", "model protocol"),
    ("connection", "model protocol channel"),
    ("routing", "model topology"),
    ("definitions", "model topology auth"),
    ("queue", "model topology"),
    ("storage", "model metrics config runtime"),
    (
        "shard",
        "model metrics config runtime protocol topology auth net channel connection routing queue definitions storage",
    ),
    (
        "simulation",
        "model metrics config runtime protocol topology auth net channel connection routing queue definitions storage shard",
    ),
    ("perf", "model metrics config runtime protocol net"),
    (
        "cli",
        "model metrics config runtime protocol topology auth net channel connection routing queue definitions storage shard \
         simulation perf",
    ),
    // Files beside the folders.
    ("main.rs", "cli"),
];

/// Folders that take input and time and give effects: they wait for nothing and ask nobody.
const SANS_IO: &str = "model protocol connection channel topology routing queue auth definitions";

/// Words a folder without I/O may not use, with the reason.
const SANS_IO_WORDS: &[(&str, &str)] = &[
    ("async", "a folder without I/O waits for nothing"),
    ("await", "a folder without I/O waits for nothing"),
    ("Instant", "time comes as an argument, model::Moment"),
    ("SystemTime", "time comes as an argument, model::Moment"),
    (
        "RandomState",
        "a map's seed comes from the caller, or the map is a BTreeMap",
    ),
];

/// Paths a folder without I/O may not use, with the reason.
const SANS_IO_PATHS: &[(&str, &str)] = &[
    ("std::net", "sockets are net's; addresses alone are in core::net"),
    ("std::fs", "files are storage's"),
    ("std::thread", "a folder without I/O runs where it is called"),
    ("std::process", "a folder without I/O ends nothing"),
    ("std::env", "settings come as arguments"),
    ("rand", "randomness comes as a seeded generator of the caller"),
    ("fastrand", "randomness comes as a seeded generator of the caller"),
    (
        "getrandom",
        "randomness comes as a seeded generator of the caller",
    ),
    ("rustix", "the machine's door is runtime"),
];

/// Words that only `runtime` may use, with the reason.
const RUNTIME_WORDS: &[(&str, &str)] = &[
    ("glommio", "runtime is the one door to glommio"),
    ("memmap2", "runtime is the one door to mapped memory"),
    (
        "unsafe",
        "unsafe code lives in runtime, each block with its argument",
    ),
];

/// What may be seen at the top of the repository. Hidden files and what git ignores may lie there too.
const TOP_LEVEL: &str = "Cargo.toml Cargo.lock src benches perf tests config README.md LICENSE CHANGELOG.md";

/// A longer file holds a second noun.
const LINES_MAX: usize = 800;

#[test]
fn every_import_is_in_the_table() {
    expect_none(
        source_files()
            .iter()
            .flat_map(|(path, text)| import_violations(path, text)),
    );
}

#[test]
fn folders_without_io_stay_without_it() {
    expect_none(
        source_files()
            .iter()
            .flat_map(|(path, text)| sans_io_violations(path, text)),
    );
}

#[test]
fn glommio_mapped_memory_and_unsafe_stay_in_runtime() {
    expect_none(
        source_files()
            .iter()
            .flat_map(|(path, text)| runtime_violations(path, text)),
    );
}

#[test]
fn every_folder_begins_with_its_doc() {
    let files = source_files();
    let folders: BTreeSet<&Path> = files.iter().filter_map(|(path, _)| path.parent()).collect();
    let undocumented = folders.into_iter().filter(|folder| !has_doc(&files, folder));
    expect_none(
        undocumented.map(|folder| format!("{}: no file of it opens with a `//!` doc", folder.display())),
    );
}

#[test]
fn no_file_is_longer_than_its_noun() {
    let root = repository();
    let files = ["src", "tests", "benches"]
        .iter()
        .flat_map(|folder| rust_files(&root, Path::new(folder)));
    let long = files.filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines, at most {LINES_MAX}", path.display()))
    });
    expect_none(long);
}

#[test]
fn the_top_of_the_repository_is_as_fixed() {
    let allowed: BTreeSet<&str> = TOP_LEVEL.split(' ').collect();
    let entries = fs::read_dir(repository()).expect("the repository can be listed");
    let names = entries.map(|entry| {
        entry
            .expect("an entry can be read")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let stray =
        names.filter(|name| !name.starts_with('.') && !allowed.contains(name.as_str()) && !is_ignored(name));
    expect_none(stray.map(|name| format!("{name}: not among {TOP_LEVEL}")));
}

/// Whether git ignores `name`. Where there is no git, only the usual leavings are ignored.
fn is_ignored(name: &str) -> bool {
    let asked = Command::new("git")
        .args(["check-ignore", "-q", name])
        .current_dir(repository())
        .status();
    let is_leaving = ["target", "data"].contains(&name);
    is_leaving || asked.is_ok_and(|status| status.success())
}

fn has_doc(files: &[(PathBuf, String)], folder: &Path) -> bool {
    let candidates = [
        folder.join("mod.rs"),
        folder.join("lib.rs"),
        folder.with_extension("rs"),
    ];
    files
        .iter()
        .any(|(path, text)| candidates.contains(path) && text.starts_with("//!"))
}

fn expect_none(violations: impl Iterator<Item = String>) {
    let violations: Vec<String> = violations.collect();
    assert!(violations.is_empty(), "\n\n{}\n", violations.join("\n"));
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The sources, each by its path from the top of the repository.
fn source_files() -> Vec<(PathBuf, String)> {
    let files = rust_files(&repository(), Path::new("src"));
    assert!(
        files.iter().any(|(path, _)| path == Path::new("src/lib.rs")),
        "the sources were found"
    );
    files
}

fn rust_files(root: &Path, folder: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry can be read").file_name())
        .collect();
    names.sort();
    let mut files = Vec::new();
    for path in names.into_iter().map(|name| folder.join(name)) {
        let full = root.join(&path);
        if full.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            files.extend(rust_files(root, &path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push((path, fs::read_to_string(full).expect("a source is UTF-8")));
        }
    }
    files
}

// Imports.

fn import_violations(path: &Path, text: &str) -> Vec<String> {
    let module = module_of(path);
    if module.is_empty() {
        return Vec::new(); // lib.rs names every folder; that is its purpose
    }
    let folder = module[0].as_str();
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == folder) else {
        return vec![format!(
            "{}: folder `{folder}` is not in the table of imports",
            path.display()
        )];
    };
    let tokens = tokens(text);
    let escapes = tokens
        .windows(3)
        .filter(|three| three[0].text == "#" && three[2].text == "path");
    let escapes = escapes.map(|three| {
        format!(
            "{}:{}: a `path` attribute evades the table",
            path.display(),
            three[0].line
        )
    });
    let bad = crate_paths(&tokens, &module)
        .into_iter()
        .filter(|(target, _)| !may_import(folder, target, allowed));
    let refused = bad.map(|(target, line)| {
        let allows = if allowed.is_empty() { "nothing" } else { allowed };
        format!(
            "{}:{line}: `{folder}` imports `{target}`; the table allows it {allows}",
            path.display()
        )
    });
    escapes.chain(refused).collect()
}

fn may_import(folder: &str, target: &str, allowed: &str) -> bool {
    folder == target || allowed.split_whitespace().any(|name| name == target)
}

/// The module a file holds: `src/queue/ready.rs` is `queue ready`, `src/queue/mod.rs` is `queue`, `src/lib.rs` is
/// the crate. `src/main.rs` is a crate of its own, named by its file.
fn module_of(path: &Path) -> Vec<String> {
    if path.ends_with("src/main.rs") {
        return vec!["main.rs".to_owned()];
    }
    let below = path.strip_prefix("src").unwrap_or(path).with_extension("");
    let mut module: Vec<String> = below
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// What lies directly below the crate and is named in `tokens`, each with its line: a folder, `*` for everything, or
/// `self` for the crate itself under another name.
fn crate_paths(tokens: &[Token<'_>], file: &[String]) -> Vec<(String, usize)> {
    let mut module = file.to_vec();
    let mut depths = Vec::new(); // brace depth at which each inline module ends
    let mut depth = 0;
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" if is_module(tokens, at) => {
                module.push(tokens[at - 1].text.to_owned());
                depths.push(depth);
                depth += 1;
            }
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depths.last() == Some(&depth) {
                    depths.pop();
                    module.pop();
                }
            }
            "crate" | "super" | "self" | "lanemq" if begins_path(tokens, at) => {
                follow(tokens, at, Some(module.clone()), &mut found);
            }
            _ => {}
        }
    }
    found
}

fn is_module(tokens: &[Token<'_>], brace: usize) -> bool {
    brace >= 2 && tokens[brace - 2].text == "mod"
}

/// Whether a path starts here: something follows by `::`, and it is no middle of another path. `use crate as name`
/// has no `::`, but names the whole crate.
fn begins_path(tokens: &[Token<'_>], at: usize) -> bool {
    let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
    let after = tokens.get(at + 1).map_or("", |token| token.text);
    let is_inside = before == "::" && at >= 2 && is_name(tokens[at - 2].text);
    !is_inside && (after == "::" || after == "as" && before != "(")
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads one path, or the branches of `{..}`, from `at`. `module` is where the path has come so far, `None` once it
/// has left the modules the source can tell of. Returns the token after it.
fn follow(
    tokens: &[Token<'_>],
    at: usize,
    module: Option<Vec<String>>,
    found: &mut Vec<(String, usize)>,
) -> usize {
    let Some(token) = tokens.get(at) else { return at };
    if token.text == "{" {
        return follow_branches(tokens, at + 1, module, found);
    }
    if !is_name(token.text) && token.text != "*" {
        return at;
    }
    let module = step(module, token, found);
    match tokens.get(at + 1) {
        Some(next) if next.text == "::" => follow(tokens, at + 2, module, found),
        Some(next) if next.text == "as" && module.as_ref().is_some_and(Vec::is_empty) => {
            found.push(("self".to_owned(), token.line));
            at + 3
        }
        _ => at + 1,
    }
}

fn follow_branches(
    tokens: &[Token<'_>],
    mut at: usize,
    module: Option<Vec<String>>,
    found: &mut Vec<(String, usize)>,
) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text {
            "}" => return at + 1,
            "," => at += 1,
            "as" => at += 2, // another name for what was just read
            _ => at = follow(tokens, at, module.clone(), found).max(at + 1),
        }
    }
    at
}

/// The module after one more word of a path. A word directly below the crate is noted: it is an import.
fn step(
    module: Option<Vec<String>>,
    token: &Token<'_>,
    found: &mut Vec<(String, usize)>,
) -> Option<Vec<String>> {
    let mut module = module?;
    match token.text {
        "crate" | "lanemq" => Some(Vec::new()),
        "super" => {
            module.pop();
            Some(module)
        }
        "self" if !module.is_empty() => Some(module),
        word if module.is_empty() => {
            found.push((word.to_owned(), token.line));
            None
        }
        // Deeper words stay inside the folder, unless a `super` follows, which only comes first in a path.
        _ => None,
    }
}

// Words and paths.

fn sans_io_violations(path: &Path, text: &str) -> Vec<String> {
    let folder = module_of(path).into_iter().next().unwrap_or_default();
    if !SANS_IO.split(' ').any(|name| name == folder) {
        return Vec::new();
    }
    let tokens = tokens(text);
    let mut violations = word_violations(path, &tokens, SANS_IO_WORDS);
    violations.extend(path_violations(path, &tokens));
    violations.extend(map_violations(path, &tokens));
    violations
}

fn runtime_violations(path: &Path, text: &str) -> Vec<String> {
    match module_of(path).first().is_some_and(|folder| folder == "runtime") {
        true => Vec::new(),
        false => word_violations(path, &tokens(text), RUNTIME_WORDS),
    }
}

fn word_violations(path: &Path, tokens: &[Token<'_>], words: &[(&str, &str)]) -> Vec<String> {
    let named = tokens
        .iter()
        .filter_map(|token| Some((token, words.iter().find(|(word, _)| *word == token.text)?)));
    named
        .map(|(token, (word, reason))| format!("{}:{}: `{word}`: {reason}", path.display(), token.line))
        .collect()
}

fn path_violations(path: &Path, tokens: &[Token<'_>]) -> Vec<String> {
    let mut violations = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_start = at == 0 || tokens[at - 1].text != "::" || at < 2 || !is_name(tokens[at - 2].text);
        if !is_name(token.text) || !is_start {
            continue;
        }
        for written in spread(tokens, at) {
            let forbidden = SANS_IO_PATHS
                .iter()
                .find(|(prefix, _)| is_below(&written, prefix));
            if let Some((prefix, reason)) = forbidden {
                violations.push(format!("{}:{}: `{prefix}`: {reason}", path.display(), token.line));
            }
        }
    }
    violations
}

/// Whether `written` is `prefix` or below it. A crate's name alone may be a variable; followed by `::` it is not.
fn is_below(written: &str, prefix: &str) -> bool {
    written
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with("::") || (rest.is_empty() && prefix.contains("::")))
}

/// The first two words of each path that starts at `at`, with the branches of `{..}` written out: `std::{fs, io}` is
/// `std::fs` and `std::io`.
fn spread(tokens: &[Token<'_>], at: usize) -> Vec<String> {
    let root = tokens[at].text;
    if tokens.get(at + 1).is_none_or(|next| next.text != "::") {
        return Vec::new();
    }
    let second = tokens.get(at + 2).map_or("", |token| token.text);
    if second != "{" {
        return vec![format!("{root}::{second}")];
    }
    let mut depth = 0;
    let mut paths = Vec::new();
    for pair in tokens[at + 2..].windows(2) {
        depth += i32::from(pair[0].text == "{") - i32::from(pair[0].text == "}");
        match pair[0].text {
            "{" | "," if depth == 1 => paths.push(format!("{root}::{}", pair[1].text)),
            "}" if depth == 0 => break,
            _ => {}
        }
    }
    paths
}

/// Maps and sets of the standard library whose hasher is left to chance: fewer type arguments than those with a
/// hasher of their own, or a constructor that exists for the random one only.
fn map_violations(path: &Path, tokens: &[Token<'_>]) -> Vec<String> {
    let mut violations = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let complete = match token.text {
            "HashMap" => 3,
            "HashSet" => 2,
            _ => continue,
        };
        let after: Vec<&str> = tokens[at + 1..].iter().take(2).map(|token| token.text).collect();
        let is_random = match after.as_slice() {
            ["<", _] => type_arguments(&tokens[at + 1..]) < complete,
            ["::", "<"] => type_arguments(&tokens[at + 2..]) < complete,
            ["::", "new" | "with_capacity" | "from"] => true,
            _ => false,
        };
        if is_random {
            let (place, line) = (path.display(), token.line);
            violations.push(format!(
                "{place}:{line}: `{}` with a random seed: name its hasher, or use a BTreeMap",
                token.text
            ));
        }
    }
    violations
}

/// How many types stand between `<` and its `>`.
fn type_arguments(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0;
    let mut commas = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "<" | "(" | "[" => depth += 1,
            ">" if at > 0 && tokens[at - 1].text == "-" => {} // the arrow of a function type
            ">" | ")" | "]" => depth -= 1,
            "," if depth == 1 && tokens.get(at + 1).is_some_and(|next| next.text != ">") => commas += 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    commas + 1
}

// The walls themselves are tested with planted violations.

fn imports(path: &str, text: &str) -> Vec<String> {
    import_violations(Path::new(path), text)
}

#[test]
fn a_planted_import_is_refused_with_file_line_and_what_is_allowed() {
    let told = imports(
        "src/routing/topic.rs",
        "//! Doc.\nuse crate::model::Content;\nuse crate::queue::Queue;\n",
    );
    assert_eq!(
        told,
        ["src/routing/topic.rs:3: `routing` imports `queue`; the table allows it model topology"]
    );
    let told = imports("src/model/ids.rs", "use crate::config::Config;");
    assert_eq!(
        told,
        ["src/model/ids.rs:1: `model` imports `config`; the table allows it nothing"]
    );
}

#[test]
fn an_import_is_found_however_it_is_written() {
    for text in [
        "use crate::queue::Queue;",
        "use crate::{model::Content, queue::{Queue, ready::Ready}};",
        "use crate::{\n    model,\n    queue as q,\n};",
        "use super::super::queue::Queue;",
        "use super::super::{model, queue};",
        "use super::{super::queue, Trie};",
        "use self::super::super::queue;",
        "fn f(q: &crate::queue::Queue) {}",
        "fn f() -> Vec<crate::queue::Queue> { todo() }",
        "mod tests { use super::super::super::queue::Queue; }",
        "mod tests { mod deeper {} fn f() { super::super::super::queue::go() } }",
        "#[cfg(test)]\nmod tests {\n    use crate::queue::Queue;\n}",
        "macro_rules! m { () => { $crate::queue::Queue } }",
        "pub(in crate::queue) fn f() {}",
        "use crate::*;",
        "use crate::{self as all};",
        "use crate as all;",
        "use super::super::*;",
        "#[path = \"../queue/mod.rs\"] mod queue;",
        "impl<'a> A<'a> { fn f(&'a self) -> char { 'x' } fn g() { crate::queue::g() } }",
    ] {
        assert_eq!(
            imports("src/routing/topic.rs", text).len(),
            1,
            "{text}: {:?}",
            imports("src/routing/topic.rs", text)
        );
    }
}

#[test]
fn what_is_allowed_and_what_is_no_import_is_left_alone() {
    for text in [
        "use crate::model::Content;\nuse crate::topology::{Exchange, Binding};\nuse crate::routing::trie::Trie;",
        "use super::trie::Trie;\nmod tests { use super::*; use super::super::trie::Trie; }",
        "// use crate::queue::Queue;\n/* crate::queue /* nested */ crate::queue */ fn f() {}",
        "const TEXT: &str = \"crate::queue\"; const RAW: &str = r#\"crate::queue \" \"#; const C: char = '\"';",
        "//! Like [`crate::queue::Queue`], but not.",
        "pub(crate) fn f() {}\npub(super) fn g() { self.crate_name() }",
        "fn f<'crate_life>(x: &'crate_life str) { x.queue::<u8>() }",
    ] {
        assert_eq!(
            imports("src/routing/topic.rs", text),
            Vec::<String>::new(),
            "{text}"
        );
    }
    assert_eq!(
        imports("src/lib.rs", "pub mod queue; pub use crate::queue::Queue;"),
        Vec::<String>::new()
    );
    assert_eq!(
        imports("src/main.rs", "fn main() { lanemq::cli::run() }"),
        Vec::<String>::new()
    );
    assert_eq!(
        imports("src/main.rs", "fn main() { lanemq::queue::run() }").len(),
        1
    );
    assert_eq!(
        imports("src/gadgets/mod.rs", "").len(),
        1,
        "a folder that is not in the table"
    );
    assert_eq!(imports("src/routing/mod.rs", "use super::queue::Queue;").len(), 1);
}

#[test]
fn planted_io_is_refused_in_a_folder_without_io_alone() {
    for text in [
        "async fn f() {}",
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime};",
        "use std::net::TcpStream;",
        "use std::{collections::BTreeMap, fs};",
        "fn f() { std::thread::sleep(DURATION) }",
        "fn f() -> u8 { rand::random() }",
        "struct Q { map: HashMap<u8, u8> }",
        "fn f() { let set = HashSet::new(); }",
        "fn f() { let map: HashMap<_, _, RandomState>; }",
        "fn f() { items.collect::<HashSet<_>>() }",
        "struct Q { map: HashMap<u8, fn(u8) -> (u8, u8)> }",
    ] {
        let told = sans_io_violations(Path::new("src/queue/ready.rs"), text);
        assert_eq!(told.len(), 1, "{text}: {told:?}");
        assert_eq!(
            sans_io_violations(Path::new("src/net/socket.rs"), text),
            Vec::<String>::new()
        );
    }
    for text in [
        "use std::time::Duration;\nuse core::net::IpAddr;\nuse std::collections::{BTreeMap, HashMap};",
        "struct Q { map: HashMap<u8, Vec<u8>, FixedState>, set: HashSet<u8, FixedState> }",
        "fn f() { HashMap::with_hasher(seed); HashMap::default() }",
        "/// An Instant is not asked for.\nfn f(rand: u8) -> u8 { rand }",
    ] {
        assert_eq!(
            sans_io_violations(Path::new("src/queue/ready.rs"), text),
            Vec::<String>::new(),
            "{text}"
        );
    }
}

#[test]
fn planted_glommio_and_unsafe_are_refused_outside_runtime() {
    for text in [
        "use glommio::Task;",
        "fn f() { unsafe { g() } }",
        "type M = memmap2::Mmap;",
    ] {
        assert_eq!(
            runtime_violations(Path::new("src/storage/segment.rs"), text).len(),
            1,
            "{text}"
        );
        assert_eq!(
            runtime_violations(Path::new("src/runtime/disk.rs"), text),
            Vec::<String>::new()
        );
    }
    let harmless = "#![forbid(unsafe_code)]\n// glommio is named in a comment\n";
    assert_eq!(
        runtime_violations(Path::new("src/storage/segment.rs"), harmless),
        Vec::<String>::new()
    );
}

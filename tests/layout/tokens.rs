//! Rust source as words and signs, each with its line; comments and literals left out.

/// A word (`queue`, `unsafe`) or a sign (`::`, `{`), and the line it stands in, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// The tokens of `source`. Comments, texts, characters, numbers and lifetimes are left out; of signs only `::` is
/// longer than one character.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < source.len() {
        let rest = &source[at..];
        let (length, is_token) = next(rest);
        if is_token {
            let text = rest[..length].trim_start_matches("r#");
            found.push(Token { text, line });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

/// Length of what `rest` begins with, and whether it is a token.
fn next(rest: &str) -> (usize, bool) {
    let first = rest.chars().next().expect("called before the end");
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment_length(rest), false);
    }
    if let Some(length) = literal_length(rest) {
        return (length, false);
    }
    if first.is_ascii_digit() {
        return (word_length(rest), false);
    }
    if is_word(first) {
        let prefix = if rest.starts_with("r#") { 2 } else { 0 };
        return (prefix + word_length(&rest[prefix..]), true);
    }
    if rest.starts_with("::") {
        return (2, true);
    }
    (first.len_utf8(), !first.is_whitespace())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_length(rest: &str) -> usize {
    rest.find(|c| !is_word(c)).unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        match &rest[at..] {
            "" => return at,
            inner if inner.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            inner if inner.starts_with("*/") && depth == 1 => return at + 2,
            inner if inner.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            inner => at += inner.chars().next().map_or(1, char::len_utf8),
        }
    }
}

/// Length of a text, a raw text, a character or a lifetime, with its prefix.
fn literal_length(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|prefix| is_literal_after(rest, prefix))?;
    let body = &rest[prefix.len()..];
    let length = match body.as_bytes()[0] {
        b'\'' => character_length(body),
        _ if prefix.ends_with('r') => raw_text_length(body),
        _ => quoted_length(body, '"'),
    };
    Some(prefix.len() + length)
}

fn is_literal_after(rest: &str, prefix: &str) -> bool {
    let Some(body) = rest.strip_prefix(prefix) else {
        return false;
    };
    match prefix {
        "r" | "br" | "cr" => body.trim_start_matches('#').starts_with('"'),
        "" | "b" => body.starts_with(['"', '\'']),
        _ => body.starts_with('"'),
    }
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn character_length(body: &str) -> usize {
    let mut characters = body.char_indices().skip(1);
    let Some((_, first)) = characters.next() else {
        return body.len();
    };
    match characters.next() {
        _ if first == '\\' => quoted_length(body, '\''),
        Some((end, '\'')) => end + 1,
        _ => 1 + word_length(&body[1..]),
    }
}

fn quoted_length(body: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    body.len()
}

fn raw_text_length(body: &str) -> usize {
    let hashes = body.len() - body.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    body[hashes + 1..]
        .find(&end)
        .map_or(body.len(), |at| hashes + 1 + at + end.len())
}

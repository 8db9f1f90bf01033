//! `Pattern`: a regular expression of an operator, matched against names: of policies and of permissions.
//!
//! RabbitMQ matches with PCRE, which may take exponential time; LaneMQ with an automaton, whose time grows with the length of
//! pattern and name alone. Names are bytes, a pattern may match anywhere in one, and a dot is any byte but a line feed.
//!
//! What patterns of RabbitMQ mean otherwise here is taken as PCRE takes it: a brace that counts nothing and the signs of
//! set arithmetic in a class stand for themselves, and the look-aheads right behind a leading `^`, such as
//! `^(?!amq\.)`, are matched apart. What an automaton cannot do is refused with its name: other look-aheads,
//! look-behinds, references back, atomic groups, possessive quantifiers, conditions and recursion.

use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A compiled regular expression. Two are equal when their texts are.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    look_aheads: Arc<[LookAhead]>,
    rest: Regex,
}

/// What must or must not follow the beginning.
struct LookAhead {
    is_wanted: bool,
    regex: Regex,
}

/// A text that is no pattern, or none that this program can match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PatternError {
    reason: String,
}

impl Pattern {
    /// The pattern that `text` writes.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let (look_aheads, rest) = split_look_aheads(text)?;
        let look_aheads: Result<Vec<_>, _> = look_aheads
            .into_iter()
            .map(|(is_wanted, inner)| {
                let regex = compiled(&format!("^(?:{})", translated(inner)?))?;
                Ok(LookAhead { is_wanted, regex })
            })
            .collect();
        Ok(Self {
            text: text.into(),
            look_aheads: look_aheads?.into(),
            rest: compiled(&translated(&rest)?)?,
        })
    }

    /// Its text, as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether some part of `name` fits.
    pub fn matches(&self, name: &[u8]) -> bool {
        let mut look_aheads = self.look_aheads.iter();
        self.rest.is_match(name) && look_aheads.all(|ahead| ahead.regex.is_match(name) == ahead.is_wanted)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn compiled(text: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(text)
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(bytes) => {
            refuse(format!("it takes more than {bytes} bytes when compiled"))
        }
        other => {
            let told = other.to_string();
            let reason = told.rsplit("error: ").next().unwrap_or(&told);
            refuse(reason.trim().to_owned())
        }
    })
}

fn refuse(reason: impl Into<String>) -> PatternError {
    let reason = reason.into();
    PatternError { reason }
}

/// Look-aheads as they are written: whether each is wanted, and its inside.
type WrittenLookAheads<'a> = Vec<(bool, &'a str)>;

/// The look-aheads behind a leading `^`, whether each is wanted, and the text without them.
fn split_look_aheads(text: &str) -> Result<(WrittenLookAheads<'_>, String), PatternError> {
    let Some(behind) = text.strip_prefix('^') else {
        return Ok((Vec::new(), text.to_owned()));
    };
    let (mut found, mut rest) = (Vec::new(), behind);
    while let Some(is_wanted) = look_ahead_kind(rest) {
        let end = end_of_group(rest).ok_or_else(|| refuse("unclosed group"))?;
        found.push((is_wanted, &rest["(?!".len()..end]));
        rest = &rest[end + 1..];
    }
    if !found.is_empty() && has_alternatives(rest) {
        return Err(refuse(
            "a look-ahead before alternatives, which an automaton cannot match: put the alternatives into a group",
        ));
    }
    Ok((found, format!("^{rest}")))
}

fn look_ahead_kind(text: &str) -> Option<bool> {
    match text.get(..3) {
        Some("(?!") => Some(false),
        Some("(?=") => Some(true),
        _ => None,
    }
}

/// Where the group ends that `text` begins with.
fn end_of_group(text: &str) -> Option<usize> {
    let mut depth = 0;
    significant(text).find_map(|(at, sign)| {
        depth += i32::from(sign == '(') - i32::from(sign == ')');
        (depth == 0).then_some(at)
    })
}

fn has_alternatives(text: &str) -> bool {
    let mut depth = 0;
    significant(text).any(|(_, sign)| {
        depth += i32::from(sign == '(') - i32::from(sign == ')');
        depth == 0 && sign == '|'
    })
}

/// The signs of `text` that are neither escaped nor in a class.
fn significant(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut scan = Scan::default();
    text.char_indices()
        .filter(move |&(_, sign)| scan.next(sign) == Place::Plain)
}

/// Where a sign of a pattern stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Plain,
    Escaped,
    Class,
}

/// Follows escapes and classes through a pattern.
#[derive(Default)]
struct Scan {
    is_escaped: bool,
    class: Option<ClassPart>,
}

/// How far a class has been read: a closing bracket is one of the class at its beginning, also behind a `^`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClassPart {
    Beginning,
    Negated,
    Inside,
}

impl Scan {
    fn next(&mut self, sign: char) -> Place {
        if std::mem::take(&mut self.is_escaped) {
            self.class = self.class.map(|_| ClassPart::Inside);
            return Place::Escaped;
        }
        self.is_escaped = sign == '\\';
        let Some(part) = self.class else {
            self.class = (sign == '[').then_some(ClassPart::Beginning);
            return Place::Plain;
        };
        self.class = match (part, sign) {
            (ClassPart::Beginning, '^') => Some(ClassPart::Negated),
            (ClassPart::Inside, ']') => None,
            _ => Some(ClassPart::Inside),
        };
        Place::Class
    }
}

/// The same pattern as the automaton's compiler writes it.
fn translated(text: &str) -> Result<String, PatternError> {
    let (mut out, mut scan) = (String::with_capacity(text.len()), Scan::default());
    let mut after_quantifier = false;
    for (at, sign) in text.char_indices() {
        let place = scan.next(sign);
        let rest = &text[at..];
        let mut is_quantifier = false;
        match (place, sign) {
            (Place::Escaped, _) => escape(&mut out, sign)?,
            (Place::Plain | Place::Class, '\\') => {} // written with what it escapes
            (Place::Class, '[') if !rest.starts_with("[:") => out.push_str("\\["),
            (Place::Class, '&' | '~') => out.extend(['\\', sign]),
            (Place::Plain, '{') if !counts(rest) => out.push_str("\\{"),
            (Place::Plain, '+' | '*') if after_quantifier => {
                return Err(refuse(
                    "a quantifier behind a quantifier, possessive ones are not supported",
                ));
            }
            (Place::Plain, '(') => {
                check_group(rest)?;
                out.push(sign);
            }
            _ => {
                is_quantifier = place == Place::Plain && matches!(sign, '*' | '+' | '?' | '}');
                // What a group begins with is no quantifier.
                is_quantifier &= !(sign == '?' && text[..at].ends_with('(') && !text[..at].ends_with("\\("));
                out.push(sign);
            }
        }
        after_quantifier = is_quantifier && (sign != '}' || closes_count(&text[..=at]));
    }
    match scan.is_escaped {
        true => Err(refuse("\\ at end of pattern")),
        false => Ok(out),
    }
}

/// Whether `text`, which begins with a brace, counts repetitions: `{2}`, `{2,}`, `{2,5}`.
fn counts(text: &str) -> bool {
    let Some((inner, _)) = text[1..].split_once('}') else {
        return false;
    };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
}

fn closes_count(text: &str) -> bool {
    text.rfind('{').is_some_and(|begin| counts(&text[begin..]))
}

fn escape(out: &mut String, sign: char) -> Result<(), PatternError> {
    match sign {
        'Z' => out.push_str("(?:\\n?\\z)"),
        '1'..='9' | 'g' | 'k' => return Err(refuse("references back are not supported")),
        'Q' | 'E' | 'K' | 'G' | 'R' | 'X' | 'C' | 'h' | 'H' | 'N' => {
            return Err(refuse(format!("\\{sign} is not supported")));
        }
        sign => out.extend(['\\', sign]),
    }
    Ok(())
}

fn check_group(text: &str) -> Result<(), PatternError> {
    let refused = [
        ("(?=", "look-aheads are supported right behind a leading ^ alone"),
        ("(?!", "look-aheads are supported right behind a leading ^ alone"),
        ("(?<=", "look-behinds are not supported"),
        ("(?<!", "look-behinds are not supported"),
        ("(?>", "atomic groups are not supported"),
        ("(?(", "conditions are not supported"),
        ("(?R", "recursion is not supported"),
        ("(?&", "recursion is not supported"),
        ("(?|", "groups that share numbers are not supported"),
        ("(?#", "comments are not supported"),
    ];
    match refused.iter().find(|(begin, _)| text.starts_with(begin)) {
        Some((_, why)) => Err(refuse(*why)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        pattern.matches(name.as_bytes())
    }

    #[test]
    fn a_pattern_matches_anywhere_unless_it_is_anchored() {
        assert!(fits("orders", "eu.orders.new") && fits("", "any") && fits(".*", ""));
        assert!(fits("^eu", "eu.orders") && !fits("^orders", "eu.orders"));
        assert!(fits(r"^(a|b)\.[0-9]{2,3}$", "b.123") && !fits(r"^(a|b)\.[0-9]{2,3}$", "b.1"));
        assert!(
            Pattern::new("^.$").expect("valid").matches(&[0xFF]),
            "names are bytes"
        );
    }

    #[test]
    fn look_aheads_behind_the_beginning_are_matched() {
        let pattern = r"^(?!amq\.).*";
        assert!(fits(pattern, "orders") && fits(pattern, "x.amq.gen") && !fits(pattern, "amq.gen-x"));
        let both = "^(?=.*eu)(?!tmp|amq)[a-z.]+$";
        assert!(fits(both, "orders.eu") && !fits(both, "orders") && !fits(both, "tmp.eu"));
        assert!(fits("^(?![)]x)a", "a"));
    }

    #[test]
    fn what_pcre_takes_for_itself_stands_for_itself() {
        assert!(fits("^{username}-", "{username}-1"));
        assert!(fits("^a{2}$", "aa") && !fits("^a{2}$", "a{2}"));
        assert!(fits("^[a&&b]+$", "a&b") && fits("^[[]$", "["));
        assert!(fits("^[]a]+$", "]a") && fits("^[^]a]$", "b") && !fits("^[^]a]$", "]"));
        assert!(fits(r"^a\/b\.c\Z", "a/b.c"));
        assert!(fits("^[[:alpha:]]+$", "abc"));
        assert!(fits("^a+?$", "aa") && fits("^(?:a|b)$", "b") && fits("(?i)^ABC", "abc"));
    }

    #[test]
    fn what_an_automaton_cannot_match_is_refused_with_its_name() {
        for (pattern, part) in [
            ("*", "repetition operator missing expression"),
            ("(", "unclosed group"),
            (
                "a(?!b)",
                "look-aheads are supported right behind a leading ^ alone",
            ),
            ("^(?!a)b|c", "alternatives"),
            ("(?<=a)b", "look-behinds"),
            (r"(a)\1", "references back"),
            ("a++", "possessive"),
            ("(?>a)", "atomic"),
            (r"a\", "at end of pattern"),
            ("^(?!a", "unclosed group"),
            ("(?:(?:(?:a{1000}){1000}){1000})", "bytes when compiled"),
        ] {
            let error = Pattern::new(pattern).expect_err(pattern).to_string();
            assert!(error.contains(part), "{pattern}: {error}");
        }
    }
}

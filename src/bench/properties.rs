//! Java property files, as YCSB reads them, with the place each property came from.
//!
//! `key=value`, `key: value` and `key value`; `#` and `!` comments; a backslash at a line's end
//! continues it; `\t \n \r \f \\ \uXXXX` escapes. A later line wins over an earlier one, and an
//! override (`-p key=value`) over all lines. Values lose trailing blanks, which Java would keep:
//! no YCSB value has a meaning with them. It does not know what any property means.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::iter::Peekable;
use std::str::Chars;
use thiserror::Error;

/// Where a property was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Nowhere: its default holds.
    Default,
    /// In a file, at a line counted from 1.
    Line {
        /// The file as the user named it.
        file: String,
        /// The line the property starts at.
        line: usize,
    },
    /// On the command line (`-p key=value`).
    Override,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::Override => write!(f, "command line (-p)"),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The text, escapes resolved.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
}

/// A property file that cannot be read as one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PropertiesError {
    /// A line with a separator and no name before it.
    #[error("{origin}: a property without a name; write key=value")]
    Nameless {
        /// The line.
        origin: Origin,
    },
    /// `\u` without four hexadecimal digits.
    #[error("{origin}: '\\u' needs four hexadecimal digits of a character")]
    Escape {
        /// The line.
        origin: Origin,
    },
    /// An override that is not `key=value`.
    #[error("-p {text}: write an override as key=value")]
    Override {
        /// What was given.
        text: String,
    },
}

/// The properties of a workload, each with its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    file: String,
    entries: BTreeMap<String, Property>,
}

impl Properties {
    /// Reads `text`; `file` names it in errors.
    ///
    /// # Errors
    /// [`PropertiesError`] naming file and line.
    pub fn parse(file: &str, text: &str) -> Result<Self, PropertiesError> {
        let mut entries = BTreeMap::new();
        for (line, logical) in logical_lines(text) {
            let origin = Origin::Line { file: file.to_owned(), line };
            let (key, value) = split(&logical, &origin)?;
            if key.is_empty() {
                return Err(PropertiesError::Nameless { origin });
            }
            entries.insert(key, Property { value, origin });
        }
        Ok(Self { file: file.to_owned(), entries })
    }

    /// Sets a property from `key=value` as given with `-p`.
    ///
    /// # Errors
    /// [`PropertiesError::Override`] when there is no `=` or nothing before it.
    pub fn set_override(&mut self, text: &str) -> Result<(), PropertiesError> {
        let refused = || PropertiesError::Override { text: text.to_owned() };
        let (key, value) = text.split_once('=').ok_or_else(refused)?;
        if key.trim().is_empty() {
            return Err(refused());
        }
        let property = Property { value: value.trim().to_owned(), origin: Origin::Override };
        self.entries.insert(key.trim().to_owned(), property);
        Ok(())
    }

    /// The property `key`, if set.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&Property> {
        self.entries.get(key)
    }

    /// Where `key` was set.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.property(key).map_or(Origin::Default, |property| property.origin.clone())
    }

    /// All properties in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Property)> {
        self.entries.iter().map(|(key, property)| (key.as_str(), property))
    }

    /// The file's name as given to [`Properties::parse`].
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }
}

/// Lines with their number, comments and blank lines gone, continuations joined.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut logical: Vec<(usize, String)> = Vec::new();
    let mut is_continued = false;
    for (index, natural) in text.lines().enumerate() {
        let line = natural.trim_start_matches(BLANKS);
        if !is_continued && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        if !is_continued {
            logical.push((index + 1, String::new()));
        }
        // An even number of backslashes is so many escaped ones, not a continuation.
        let trailing = line.chars().rev().take_while(|c| *c == '\\').count();
        is_continued = trailing % 2 == 1;
        if let Some((_, joined)) = logical.last_mut() {
            joined.push_str(if is_continued { &line[..line.len() - 1] } else { line });
        }
    }
    logical.retain(|(_, line)| !line.trim_matches(BLANKS).is_empty());
    logical
}

/// Key and value of a logical line.
fn split(line: &str, origin: &Origin) -> Result<(String, String), PropertiesError> {
    let mut rest = line.chars().peekable();
    let mut key = String::new();
    while let Some(c) = rest.next_if(|c| !BLANKS.contains(c) && !SEPARATORS.contains(c)) {
        push(&mut key, c, &mut rest, origin)?;
    }
    while rest.next_if(|c| BLANKS.contains(c)).is_some() {}
    if rest.next_if(|c| SEPARATORS.contains(c)).is_some() {
        while rest.next_if(|c| BLANKS.contains(c)).is_some() {}
    }
    let mut value = String::new();
    while let Some(c) = rest.next() {
        push(&mut value, c, &mut rest, origin)?;
    }
    value.truncate(value.trim_end_matches(BLANKS).len());
    Ok((key, value))
}

/// Adds `c`, or the character that the escape it starts stands for.
fn push(
    text: &mut String,
    c: char,
    rest: &mut Peekable<Chars<'_>>,
    origin: &Origin,
) -> Result<(), PropertiesError> {
    if c != '\\' {
        text.push(c);
        return Ok(());
    }
    match rest.next() {
        Some('t') => text.push('\t'),
        Some('n') => text.push('\n'),
        Some('r') => text.push('\r'),
        Some('f') => text.push('\u{c}'),
        Some('u') => {
            let digits: String = rest.by_ref().take(4).collect();
            let scalar = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
            let escape = || PropertiesError::Escape { origin: origin.clone() };
            text.push(scalar.and_then(char::from_u32).ok_or_else(escape)?);
        }
        Some(other) => text.push(other),
        None => {}
    }
    Ok(())
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];
const SEPARATORS: [char; 2] = ['=', ':'];

#[cfg(test)]
mod tests {
    use super::*;

    fn value(properties: &Properties, key: &str) -> String {
        properties.property(key).unwrap().value.clone()
    }

    #[test]
    fn java_forms_are_read() {
        let text = "# comment\n! too\n\n a = 1 \nb:2\n c\t3\nd = x=y:z\nempty=\nlone\n\
                    long=one,\\\n   two\ntab=\\t\\u0041\\\\\nwin=1\r\na=4\n";
        let properties = Properties::parse("file", text).unwrap();
        for (key, expected) in [
            ("a", "4"),
            ("b", "2"),
            ("c", "3"),
            ("d", "x=y:z"),
            ("empty", ""),
            ("lone", ""),
            ("long", "one,two"),
            ("tab", "\tA\\"),
            ("win", "1"),
        ] {
            assert_eq!(value(&properties, key), expected, "{key}");
        }
        assert_eq!(properties.origin("long").to_string(), "file:10");
        assert_eq!(properties.origin("tab").to_string(), "file:12");
        assert_eq!(properties.origin("absent"), Origin::Default);
        assert_eq!(properties.iter().count(), 9);
    }

    #[test]
    fn overrides_win() {
        let mut properties = Properties::parse("file", "a=1").unwrap();
        properties.set_override("a=2=3").unwrap();
        assert_eq!(value(&properties, "a"), "2=3");
        assert_eq!(properties.origin("a"), Origin::Override);
        assert!(properties.set_override("a").is_err());
        assert!(properties.set_override("=1").is_err());
    }

    #[test]
    fn errors_name_the_line() {
        let nameless = Properties::parse("w", "a=1\n=2").unwrap_err();
        assert_eq!(nameless.to_string(), "w:2: a property without a name; write key=value");
        assert!(Properties::parse("w", "a=\\u12").unwrap_err().to_string().starts_with("w:1: "));
    }
}

//! Python's str() and repr(), for what templates print that is not a text.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, Output, State};

use crate::json;

const MOST_LEVELS: usize = 100;

/// What `{{ value }}` prints.
pub fn print(out: &mut Output, _: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map => out.write_str(&text(value)?).map_err(Error::from),
        _ => write!(out, "{value}").map_err(Error::from),
    }
}

/// str(value); what has no twin in Python prints as minijinja prints it.
pub fn text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map => {
            let mut out = String::new();
            repr(&mut out, value, 0)?;
            Ok(out)
        }
        _ => Ok(value.to_string()),
    }
}

fn repr(out: &mut String, value: &Value, level: usize) -> Result<(), Error> {
    if level > MOST_LEVELS {
        let what = "a value that is nested too deeply";
        return Err(Error::new(ErrorKind::InvalidOperation, what));
    }
    match value.kind() {
        ValueKind::String => quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Number => out.push_str(&json::number(value)),
        ValueKind::Seq => {
            out.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                repr(out, &item, level + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                repr(out, &key, level + 1)?;
                out.push_str(": ");
                repr(out, &value.get_item(&key)?, level + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            // Not printable in Python: separators, formats, private use.
            '\u{1680}'
            | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{3000}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// `value | trim`, `value | trim(chars)`.
pub fn trim(value: &Value, chars: Option<String>) -> Result<String, Error> {
    let text = text(value)?;
    Ok(match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_string(),
        // Python counts the four separators of ASCII among the blanks.
        None => {
            text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)).into()
        }
    })
}

/// `value | string`.
pub fn string(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.clone()),
        _ => text(value).map(Value::from),
    }
}

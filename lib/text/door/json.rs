//! Python's json.dumps, byte for byte: what chat templates were written against.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

const MOST_LEVELS: usize = 100;

struct Style {
    is_ascii: bool,
    indent: Option<String>,
    between: String,
    after_key: String,
    is_sorted: bool,
}

fn refuse(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// `value | tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub fn tojson(value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let ascii_option: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<(String, String)> = match options.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => {
            let pair: Vec<String> = pair.try_iter()?.map(|part| part.to_string()).collect();
            let pair: Result<[String; 2], _> = pair.try_into();
            let [between, after_key] =
                pair.map_err(|_| refuse("separators that are no pair".into()))?;
            Some((between, after_key))
        }
        _ => None,
    };
    let is_sorted: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = match indent {
        Some(text) if text.kind() == ValueKind::String => Some(text.to_string()),
        Some(number) if !number.is_none() => {
            Some(" ".repeat(usize::try_from(number).unwrap_or(0).min(64)))
        }
        _ => None,
    };
    let between = if indent.is_some() { "," } else { ", " };
    let (between, after_key) = separators.unwrap_or((between.to_string(), ": ".to_string()));
    let is_ascii = ascii_option.or(ensure_ascii).unwrap_or(false);
    let style =
        Style { is_ascii, indent, between, after_key, is_sorted: is_sorted.unwrap_or(false) };
    let mut out = String::new();
    write(&mut out, value, &style, 0)?;
    Ok(out)
}

fn write(out: &mut String, value: &Value, style: &Style, level: usize) -> Result<(), Error> {
    if level > MOST_LEVELS {
        return Err(refuse("JSON that is nested too deeply".into()));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => string(out, value.as_str().unwrap_or_default(), style.is_ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            list(out, &items, ('[', ']'), style, level, |out, item| {
                write(out, item, style, level + 1)
            })?;
        }
        ValueKind::Map => {
            let mut members = Vec::new();
            for key in value.try_iter()? {
                let member = value.get_item(&key)?;
                members.push((key_text(&key)?, member));
            }
            if style.is_sorted {
                members.sort_by(|a, b| a.0.cmp(&b.0));
            }
            list(out, &members, ('{', '}'), style, level, |out, (key, member)| {
                string(out, key, style.is_ascii);
                out.push_str(&style.after_key);
                write(out, member, style, level + 1)
            })?;
        }
        other => return Err(refuse(format!("{other} where JSON was asked for"))),
    }
    Ok(())
}

fn list<T>(
    out: &mut String,
    items: &[T],
    brackets: (char, char),
    style: &Style,
    level: usize,
    mut each: impl FnMut(&mut String, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |out: &mut String, level: usize| {
        if let (Some(indent), false) = (&style.indent, items.is_empty()) {
            out.push('\n');
            out.push_str(&indent.repeat(level));
        }
    };
    out.push(brackets.0);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(&style.between);
        }
        new_line(out, level + 1);
        each(out, item)?;
    }
    new_line(out, level);
    out.push(brackets.1);
    Ok(())
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.to_string()),
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        ValueKind::Number => Ok(number(key)),
        other => Err(refuse(format!("{other} as a key of JSON"))),
    }
}

fn string(out: &mut String, text: &str, is_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (is_ascii && c as u32 > 0x7e) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

pub fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    float(f64::try_from(value.clone()).unwrap_or(f64::NAN))
}

/// Python's repr(float): the shortest digits, with an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    if !value.is_finite() {
        let sign = if value < 0.0 { "-" } else { "" };
        return if value.is_nan() { "NaN".into() } else { format!("{sign}Infinity") };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

//! Chat templates, rendered as Transformers renders them.

use std::borrow::Cow;
use std::ffi::CString;
use std::time::Duration;

use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::limits::{self, Overrun};
use crate::{json, python, Outcome, Trouble};

const MOST_BYTES: usize = 1 << 20;
const MOST_MEMORY: usize = 32 << 20;
const MOST_TIME: Duration = Duration::from_secs(20);
const FUEL: u64 = 1_000_000;

pub fn render(source: &str, context: &str) -> Outcome<String> {
    if source.len() > MOST_BYTES {
        return Err(Trouble::BadFile(format!("a template of {} bytes", source.len())));
    }
    // Compiled templates and a conversation's values take some dozen times their bytes.
    let memory = MOST_MEMORY + 64 * (source.len() + context.len());
    let (source, context) = (source.to_string(), context.to_string());
    limits::run(memory, MOST_TIME, move || run(&source, &context)).unwrap_or_else(|overrun| {
        Err(match overrun {
            Overrun::Memory => Trouble::Endless(format!("more than {} MiB", memory >> 20)),
            Overrun::Time => Trouble::Endless(format!("more than {} s", MOST_TIME.as_secs())),
            Overrun::Panic => Trouble::BadArgument("what the template engine cannot do".into()),
            Overrun::NoThread(why) => Trouble::Internal(format!("a thread to render on: {why}")),
        })
    })
}

fn run(source: &str, context: &str) -> Outcome<String> {
    let variables: Value = serde_json::from_str(context)
        .map_err(|error| Trouble::BadArgument(format!("variables that are no JSON: {error}")))?;
    let source = without_generation(source);
    let environment = environment(context.len() as u64);
    let template = environment
        .template_from_str(&source)
        .map_err(|error| Trouble::BadFile(describe(&error)))?;
    template.render(variables).map_err(|error| match error.kind() {
        ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::OutOfFuel => Trouble::BadFile(describe(&error)),
        // On anything but a text it is the conversation that is of another kind.
        ErrorKind::UnknownMethod
            if error.detail().is_some_and(|what| what.starts_with("string")) =>
        {
            Trouble::BadFile(describe(&error))
        }
        _ => Trouble::BadArgument(describe(&error)),
    })
}

fn environment(context_bytes: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_debug(false);
    environment.set_recursion_limit(100);
    // Enough for any conversation: a template spends a few dozen steps on a message.
    environment.set_fuel(Some(FUEL + 10 * context_bytes));
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_formatter(python::print);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("trim", python::trim);
    environment.add_filter("string", python::string);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", strftime_now);
    environment
}

fn describe(error: &Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    let detail = match error.kind() {
        ErrorKind::InvalidOperation => detail,
        kind if error.detail().is_some() => format!("{kind}: {detail}"),
        _ => detail,
    };
    error.line().map_or(detail.clone(), |line| format!("{detail}, line {line} of the template"))
}

/// The local time now, as C's strftime, which Python's is, writes it.
fn strftime_now(format: String) -> Result<String, Error> {
    let refuse = |what: &str| Error::new(ErrorKind::InvalidOperation, what.to_string());
    // The blank tells an empty result from one that does not fit.
    let format =
        CString::new(format + " ").map_err(|_| refuse("a time format with a zero byte"))?;
    let mut out = vec![0u8; 4096];
    let written = unsafe {
        let mut now: libc::time_t = 0;
        let mut parts: libc::tm = std::mem::zeroed();
        libc::time(&mut now);
        libc::localtime_r(&now, &mut parts);
        libc::strftime(out.as_mut_ptr().cast(), out.len(), format.as_ptr(), &parts)
    };
    out.truncate(written.checked_sub(1).ok_or_else(|| refuse("a time longer than 4095 bytes"))?);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// `{% generation %}` marks what the assistant wrote, for training; here it is only a scope.
fn without_generation(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let Some(end) = tag_end(rest.as_bytes(), start) else {
            out.push_str(&rest[..=start]);
            rest = &rest[start + 1..];
            continue;
        };
        let tag = rest[start..end].strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}"));
        out.push_str(&rest[..start]);
        match tag.and_then(scope_tag) {
            Some(scope) => out.push_str(&scope),
            None => out.push_str(&rest[start..end]),
        }
        rest = &rest[end..];
        if tag.is_some_and(|tag| tag.trim_matches(['-', '+']).trim() == "raw") {
            let end = rest.find("endraw").unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Where the tag that begins at `start` ends: past its closing bracket, quoted ones aside.
fn tag_end(text: &[u8], start: usize) -> Option<usize> {
    let closer: &[u8] = match text.get(start + 1)? {
        b'%' => b"%}",
        b'#' => b"#}",
        b'{' => b"}}",
        _ => return None,
    };
    let mut quote = None;
    let mut at = start + 2;
    while at < text.len() {
        match (quote, text[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) if closer != b"#}" => quote = Some(byte),
            (None, _) if text[at..].starts_with(closer) => return Some(at + 2),
            (None, _) => {}
        }
        at += 1;
    }
    None
}

/// `{%- generation %}` as `{%- with %}`, which opens a scope and does nothing else.
fn scope_tag(tag: &str) -> Option<String> {
    let lead = if tag.starts_with(['-', '+']) { &tag[..1] } else { "" };
    let tag = &tag[lead.len()..];
    let trail = if tag.ends_with(['-', '+']) { &tag[tag.len() - 1..] } else { "" };
    match tag[..tag.len() - trail.len()].trim() {
        "generation" => Some(format!("{{%{lead} with {trail}%}}")),
        "endgeneration" => Some(format!("{{%{lead} endwith {trail}%}}")),
        _ => None,
    }
}

//! The C functions of door.h: convert, call, convert back, all inside one guard.

mod json;
mod limits;
mod python;
mod template;
mod tokens;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use tokens::Door;

/// Why a call failed; the numbers are PensiveDoorStatus.
pub enum Trouble {
    BadFile(String),
    BadArgument(String),
    Internal(String),
    Endless(String),
}

pub type Outcome<T> = Result<T, Trouble>;

#[repr(C)]
pub struct Text {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct Ids {
    data: *mut i32,
    size: usize,
}

#[repr(C)]
pub struct Vocabulary {
    bytes: Text,
    ends: Ids,
    flags: Text,
    size: i32,
    join: i32,
}

impl Text {
    fn give(bytes: Vec<u8>) -> Text {
        let bytes = Box::leak(bytes.into_boxed_slice());
        Text { data: bytes.as_mut_ptr(), size: bytes.len() }
    }

    fn none() -> Text {
        Text { data: std::ptr::null_mut(), size: 0 }
    }
}

impl Ids {
    fn give(ids: Vec<i32>) -> Ids {
        let ids = Box::leak(ids.into_boxed_slice());
        Ids { data: ids.as_mut_ptr(), size: ids.len() }
    }
}

/// Runs `call`; an error or a panic becomes a status and a message in `error`.
fn guard(error: *mut Text, call: impl FnOnce() -> Outcome<()>) -> i32 {
    // This copy of the standard library is ours alone, so is its hook, which would print.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let trouble = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return 0,
        Ok(Err(trouble)) => trouble,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Trouble::Internal(text.unwrap_or("a panic without a message").to_string())
        }
    };
    let (status, message) = match trouble {
        Trouble::BadFile(message) => (1, message),
        Trouble::BadArgument(message) => (2, message),
        Trouble::Internal(message) => (3, message),
        Trouble::Endless(message) => (4, message),
    };
    unsafe { error.write(Text::give(message.into_bytes())) };
    status
}

unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    // An empty span of C++ may be null, a slice of Rust may not.
    if size == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data, size)
}

unsafe fn utf8<'a>(data: *const u8, size: usize) -> Outcome<&'a str> {
    std::str::from_utf8(slice(data, size)).map_err(|error| {
        let at = error.valid_up_to();
        let byte = unsafe { *data.add(at) };
        Trouble::BadArgument(format!("the byte 0x{byte:02x} at offset {at}, which is no UTF-8"))
    })
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_open(
    json: *const u8,
    size: usize,
    door: *mut *mut Door,
    vocabulary: *mut Vocabulary,
    error: *mut Text,
) -> i32 {
    guard(error, || {
        let opened = Door::open(slice(json, size))?;
        let known = opened.vocabulary()?;
        vocabulary.write(Vocabulary {
            bytes: Text::give(known.bytes),
            ends: Ids::give(known.ends),
            flags: Text::give(known.flags),
            size: known.size,
            join: known.join as i32,
        });
        door.write(Box::into_raw(Box::new(opened)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_close(door: *mut Door) {
    if !door.is_null() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(door))));
    }
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_name(
    door: *const Door,
    ids: *const i32,
    names: *const Text,
    count: usize,
    named: *mut *mut Door,
    error: *mut Text,
) -> i32 {
    guard(error, || {
        let mut pairs = Vec::with_capacity(count);
        for (id, name) in slice(ids, count).iter().zip(slice(names, count)) {
            pairs.push((*id, utf8(name.data, name.size)?.to_string()));
        }
        named.write(Box::into_raw(Box::new((*door).with_names(pairs))));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_encode(
    door: *const Door,
    text: *const u8,
    size: usize,
    add_special: i32,
    parse_special: i32,
    ids: *mut Ids,
    error: *mut Text,
) -> i32 {
    guard(error, || {
        let encoded = (*door).encode(utf8(text, size)?, add_special != 0, parse_special != 0)?;
        ids.write(Ids::give(encoded));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_decode(
    door: *const Door,
    ids: *const i32,
    count: usize,
    keep_special: i32,
    text: *mut Text,
    error: *mut Text,
) -> i32 {
    guard(error, || {
        let decoded = (*door).decode(slice(ids, count), keep_special != 0)?;
        text.write(Text::give(decoded.into_bytes()));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_find(door: *const Door, text: *const u8, size: usize) -> i32 {
    let find = || utf8(text, size).ok().and_then(|text| (*door).find(text)).unwrap_or(-1);
    catch_unwind(AssertUnwindSafe(find)).unwrap_or(-1)
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_spelling(door: *const Door, id: i32) -> Text {
    let spell = || (*door).spelling(id).map_or(Text::none(), |text| Text::give(text.into_bytes()));
    catch_unwind(AssertUnwindSafe(spell)).unwrap_or(Text::none())
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_render(
    source: *const u8,
    source_size: usize,
    context: *const u8,
    context_size: usize,
    text: *mut Text,
    error: *mut Text,
) -> i32 {
    guard(error, || {
        let source = utf8(source, source_size)?;
        let context = utf8(context, context_size)?;
        text.write(Text::give(template::render(source, context)?.into_bytes()));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_free_text(text: Text) {
    if !text.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(text.data, text.size)));
    }
}

#[no_mangle]
pub unsafe extern "C" fn pensive_door_free_ids(ids: Ids) {
    if !ids.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(ids.data, ids.size)));
    }
}

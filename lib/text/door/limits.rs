//! A thread of its own for work that may grow or go on for ever.
//!
//! Nothing in minijinja bounds what one operator makes: `x ~ x` doubles a text, `[x, x]` doubles
//! what a comparison walks through. Allocation may not fail with a panic either. So such a thread
//! sleeps for ever in the allocation that is too much, and its caller goes on without it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Pages of it that are not touched cost nothing; deep templates recurse while they are dropped.
const STACK: usize = 256 << 20;

pub enum Overrun {
    Memory,
    Time,
    Panic,
    NoThread(String),
}

struct Watch {
    is_spent: Mutex<bool>,
    changed: Condvar,
    is_abandoned: AtomicBool,
}

thread_local! {
    static LEFT: Cell<isize> = const { Cell::new(isize::MAX) }; // bytes; MAX: not limited
    static WATCH: Cell<*const Watch> = const { Cell::new(std::ptr::null()) };
}

struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

/// Counts what this thread takes, or gives back where `bytes` is negative.
fn count(bytes: isize) {
    let left = LEFT.try_with(Cell::get).unwrap_or(isize::MAX);
    if left == isize::MAX {
        return;
    }
    let left = left.saturating_sub(bytes);
    LEFT.set(left);
    let watch = WATCH.get();
    let is_abandoned = unsafe { (*watch).is_abandoned.load(Ordering::Relaxed) };
    if bytes > 0 && (left < 0 || is_abandoned) {
        LEFT.set(isize::MAX);
        sleep_for_ever(unsafe { &*watch });
    }
}

fn sleep_for_ever(watch: &Watch) -> ! {
    *watch.is_spent.lock().unwrap_or_else(|error| error.into_inner()) = true;
    watch.changed.notify_all();
    loop {
        unsafe { libc::pause() };
    }
}

unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        System.alloc_zeroed(layout)
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        System.realloc(old, layout, size)
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        System.dealloc(old, layout)
    }
}

/// What `body` returns, unless it takes more than `bytes` of memory at once or more than `time`.
/// A thread that overran is never seen again; its memory stays taken.
pub fn run<T: Send + 'static>(
    bytes: usize,
    time: Duration,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Overrun> {
    let watch = Arc::new(Watch {
        is_spent: Mutex::new(false),
        changed: Condvar::new(),
        is_abandoned: AtomicBool::new(false),
    });
    let slot = Arc::new(Mutex::new(None));
    let (its_watch, its_slot) = (watch.clone(), slot.clone());
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        WATCH.set(Arc::as_ptr(&its_watch));
        LEFT.set(bytes as isize);
        let result = catch_unwind(AssertUnwindSafe(body));
        LEFT.set(isize::MAX);
        *its_slot.lock().unwrap_or_else(|error| error.into_inner()) = Some(result);
        *its_watch.is_spent.lock().unwrap_or_else(|error| error.into_inner()) = true;
        its_watch.changed.notify_all();
    });
    let thread = thread.map_err(|error| Overrun::NoThread(error.to_string()))?;
    let is_spent = watch.is_spent.lock().unwrap_or_else(|error| error.into_inner());
    let (is_spent, timer) = watch
        .changed
        .wait_timeout_while(is_spent, time, |is_spent| !*is_spent)
        .unwrap_or_else(|error| error.into_inner());
    let is_late = timer.timed_out() && !*is_spent;
    watch.is_abandoned.store(is_late, Ordering::Relaxed);
    drop(is_spent);
    let result = slot.lock().unwrap_or_else(|error| error.into_inner()).take();
    match result {
        Some(result) => {
            let _ = thread.join();
            result.map_err(|_| Overrun::Panic)
        }
        None if is_late => Err(Overrun::Time),
        None => Err(Overrun::Memory),
    }
}

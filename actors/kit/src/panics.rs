//! What a panic leaves behind: message, place, backtrace, and whether it was injected.
//!
//! One process-wide hook (installed once, chained to the previous one) writes a note into a thread-local while a
//! role or thread of the kit runs; the shell that polls it picks the note up. Backtraces are only captured in the
//! hook: turning them into text can take far longer than a restart, so one helper thread does that afterwards. The
//! standard library holds a process-wide lock meanwhile, so a panic in that time goes without a backtrace.
//!
//! The note's id tells [`crate::inbox`] that several deliveries dropped by one panic belong together.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::{
        Once, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
};

/// Frames kept of a backtrace.
const HEAD_FRAMES: usize = 12;
/// Backtraces that may wait for resolution; more are dropped.
const MAX_PENDING_BACKTRACES: usize = 16;

/// Payload of an injected panic.
#[derive(Debug)]
pub(crate) struct InjectedPanic;

/// What the hook saw.
#[derive(Debug)]
pub(crate) struct PanicNote {
    pub(crate) message: String,
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Backtrace,
    pub(crate) injected: bool,
}

/// The panic that unwinds this thread now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PanicId {
    pub(crate) id: u64,
    pub(crate) injected: bool,
}

static NEXT_PANIC: AtomicU64 = AtomicU64::new(1);
/// Backtraces that wait for resolution or are being resolved.
static RESOLVING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SUPERVISED: Cell<bool> = const { Cell::new(false) };
    static CURRENT: Cell<Option<PanicId>> = const { Cell::new(None) };
    static NOTE: RefCell<Option<PanicNote>> = const { RefCell::new(None) };
}

/// Installs the hook; later calls do nothing.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let injected = info.payload().is::<InjectedPanic>();
            let id = PanicId { id: NEXT_PANIC.fetch_add(1, Ordering::Relaxed), injected };
            // A thread that is being torn down has no thread-locals left; its panics are not ours.
            let supervised = SUPERVISED.try_with(Cell::get).unwrap_or(false);
            let _ = CURRENT.try_with(|current| current.set(Some(id)));
            if supervised {
                let _ = NOTE.try_with(|note| *note.borrow_mut() = Some(PanicNote::new(info, injected)));
            } else {
                previous(info);
            }
        }));
    });
}

/// The panic this thread unwinds from, if it does.
pub(crate) fn unwinding() -> Option<PanicId> {
    if !std::thread::panicking() {
        return None;
    }
    let seen = CURRENT.get();
    let panic = seen.unwrap_or_else(|| PanicId { id: NEXT_PANIC.fetch_add(1, Ordering::Relaxed), injected: false });
    CURRENT.set(Some(panic));
    Some(panic)
}

impl PanicNote {
    fn new(info: &PanicHookInfo<'_>, injected: bool) -> Self {
        let idle = RESOLVING.load(Ordering::Acquire) == 0;
        let backtrace = if idle { Backtrace::force_capture() } else { Backtrace::disabled() };
        let message = if injected { "injected panic".to_owned() } else { payload_text(info.payload()) };
        Self { message, location: info.location().map(ToString::to_string), backtrace, injected }
    }

    /// Of a panic that no hook saw: `resume_unwind` passed it on from elsewhere.
    pub(crate) fn unseen(message: String) -> Self {
        Self { message, location: None, backtrace: Backtrace::disabled(), injected: false }
    }
}

/// The text of a panic payload.
pub(crate) fn payload_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a text".to_owned())
}

/// Marks the current thread as running supervised code for as long as it lives; hands the note to `sink` if a
/// panic passes through.
pub(crate) struct Watched<F: FnMut(PanicNote)> {
    outer: bool,
    sink: F,
}

impl<F: FnMut(PanicNote)> Watched<F> {
    pub(crate) fn new(sink: F) -> Self {
        Self { outer: SUPERVISED.replace(true), sink }
    }
}

impl<F: FnMut(PanicNote)> Drop for Watched<F> {
    fn drop(&mut self) {
        SUPERVISED.set(self.outer);
        if !std::thread::panicking() {
            return;
        }
        // The next one may come without the hook and must not pass for this one.
        CURRENT.set(None);
        if let Some(note) = NOTE.take() {
            (self.sink)(note);
        }
    }
}

/// A panic that was caught on purpose, see [`catch`].
#[derive(Debug)]
pub struct CaughtPanic {
    /// Its text.
    pub message: String,
    /// `file:line:column`, unless it was passed on from elsewhere.
    pub location: Option<String>,
    backtrace: Backtrace,
}

impl CaughtPanic {
    /// The first frames, if they were captured: not while those of another panic are resolved. It can take a second.
    #[must_use]
    pub fn backtrace_head(&self) -> Option<String> {
        let is_captured = self.backtrace.status() == BacktraceStatus::Captured;
        is_captured.then(|| head(&self.backtrace.to_string())).filter(|head| !head.is_empty())
    }
}

/// Tries something that may panic, without an end of the actor that tries it.
///
/// # Errors
/// The panic.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, CaughtPanic> {
    let mut seen = None;
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let _watched = Watched::new(|note| seen = Some(note));
        work()
    }));
    tried.map_err(|payload| {
        let note = seen.unwrap_or_else(|| PanicNote::unseen(payload_text(&*payload)));
        CaughtPanic { message: note.message, location: note.location, backtrace: note.backtrace }
    })
}

type Job = (Backtrace, Box<dyn FnOnce(String) + Send>);

/// Turns a backtrace into the text of its first frames, later, on a thread of its own.
pub(crate) fn resolve_later(backtrace: Backtrace, then: impl FnOnce(String) + Send + 'static) {
    static RESOLVER: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    let sender = RESOLVER.get_or_init(|| {
        let (sender, jobs) = sync_channel::<Job>(MAX_PENDING_BACKTRACES);
        let run = move || {
            for (backtrace, then) in jobs {
                then(head(&backtrace.to_string()));
                RESOLVING.fetch_sub(1, Ordering::AcqRel);
            }
        };
        crate::task::start_thread("backtraces".to_owned(), run).ok().map(|()| sender)
    });
    if backtrace.status() != BacktraceStatus::Captured {
        return;
    }
    RESOLVING.fetch_add(1, Ordering::AcqRel);
    let sent = sender.as_ref().is_some_and(|sender| sender.try_send((backtrace, Box::new(then))).is_ok());
    if !sent {
        // Full: this report goes without frames.
        RESOLVING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The first frames that belong to the panicking code, not to the machinery of panics and tasks.
fn head(full: &str) -> String {
    const MACHINERY: [&str; 17] = [
        "std::",
        "core::",
        "alloc::",
        "rust_begin_unwind",
        "rust_panic",
        "__rust",
        "_rust",
        "tokio::",
        "actix",
        "<core::",
        "<std::",
        "<tokio::",
        "<actix",
        "<alloc::",
        "streamward_kit::panics",
        "start_thread",
        "clone3",
    ];
    let mut lines = Vec::new();
    let mut frames = 0;
    let mut kept = false;
    for line in full.lines() {
        let text = line.trim_start();
        if let Some((number, name)) = text.split_once(": ")
            && number.bytes().all(|b| b.is_ascii_digit())
        {
            kept = !MACHINERY.iter().any(|prefix| name.starts_with(prefix)) && name != "<unknown>";
            frames += usize::from(kept);
        }
        if frames > HEAD_FRAMES {
            break;
        }
        if kept {
            lines.push(text);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_panic_leaves_message_and_place() {
        install();
        let mut seen = None;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _watched = Watched::new(|note| seen = Some(note));
            panic!("boom {}", 7);
        }));
        assert!(result.is_err());
        let note = seen.expect("the note was handed over");
        assert_eq!(note.message, "boom 7");
        assert!(note.location.expect("a place").contains("panics.rs"));
        assert!(!note.injected);
        assert!(!SUPERVISED.get());
    }

    #[test]
    fn a_caught_panic_tells_what_where_and_how() {
        install();
        let caught = catch(|| panic!("caught {}", 8)).unwrap_err();
        assert_eq!(caught.message, "caught 8");
        assert!(caught.location.as_deref().expect("a place").contains("panics.rs"));
        assert_eq!(catch(|| 9).expect("no panic"), 9);
        let passed_on = catch(|| std::panic::resume_unwind(Box::new("from elsewhere"))).unwrap_err();
        assert_eq!((passed_on.message.as_str(), passed_on.location), ("from elsewhere", None));
    }

    #[test]
    fn the_head_skips_the_machinery() {
        let full = "   0: std::panicking::begin\n             at x.rs:1\n   1: app::lane::step\n             at lane.rs:9\n   2: core::ops::call\n   3: <actix::fut::Map<F> as actix::fut::ActorFuture<A>>::poll\n   4: start_thread\n             at ./nptl/pthread_create.c:442:8\n";
        assert_eq!(head(full), "1: app::lane::step\nat lane.rs:9");
    }
}

//! How guests make way for the rest of the process.
//!
//! ```text
//!  each thread, once            nicer than the rest · a longer slice than the rest has
//!  each call, at every tick     1 ─ 2 ─ 3 ─ 4 ─ 5 ─ … ─ its deadline: over
//!                                       └───┴───┴─ the thread yields
//! ```
//!
//! Linux lets a thread that wakes up take the processor from one whose slice is longer than its own, unless it used more
//! than its part just before, as one does that asks and is answered in turns with another. Such a one would wait for the
//! kernel's next look at its own clock, up to 4 ms; so a guest that runs for long yields by itself at each tick.
//!
//! A guest's thread keeps its part of a processor that others want too: a quarter of it beside one of them. In the class
//! that runs when nobody else wants to (`SCHED_IDLE`) neighbours would be quicker still, but an honest call on a busy
//! machine would hardly move before its deadline, and no thread comes back from there without a privilege.

use std::thread;
#[cfg(target_os = "linux")]
use std::time::Duration;

use wasmtime::UpdateDeadline;

/// By how much guests' threads are nicer than the rest of the process: they weigh a third of the others.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// The slice that guests' threads ask for: longer than what the kernel gives to the rest, which is up to 2.8 ms.
#[cfg(target_os = "linux")]
const SLICE: Duration = Duration::from_millis(4);

/// How many ticks a call may run before it yields: as many as a call on the leash has in all, so that one never yields
/// there.
const TICKS_BEFORE_YIELD: u64 = 3;

/// How far the call in an instance may go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// The tick at which it is over.
    end: u64,
}

impl Way {
    /// A call that begins now and may run for so many ticks; with the number of ticks after which it is first
    /// looked at.
    pub(crate) fn begin(now: u64, ticks: u64) -> (Self, u64) {
        (Self { end: now.saturating_add(ticks) }, ticks.min(TICKS_BEFORE_YIELD))
    }

    /// The call is still at it: it is over, or calls `make_way` and goes on until the next tick.
    pub(crate) fn look(self, now: u64, make_way: impl FnOnce()) -> UpdateDeadline {
        if now >= self.end {
            return UpdateDeadline::Interrupt;
        }
        make_way();
        UpdateDeadline::Continue(1)
    }
}

/// Lets who waits for the processor have it first.
pub(crate) fn make_way() {
    thread::yield_now();
}

/// Makes this thread one that guests run on.
pub(crate) fn become_guest() {
    #[cfg(target_os = "linux")]
    match rustix::process::nice(NICENESS) {
        Ok(niceness) => {
            if let Err(error) = set_slice(niceness) {
                warn(&error);
            }
        }
        Err(error) => warn(&error.into()),
    }
}

#[cfg(target_os = "linux")]
fn warn(error: &std::io::Error) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| tracing::warn!(%error, "busy plugins may slow down whoever serves sockets"));
}

/// Asks for [`SLICE`], at the niceness that the thread has. Before Linux 6.12 this does nothing.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no library that is known to be kept well offers this call")]
fn set_slice(niceness: i32) -> std::io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: 0,
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
        sched_nice: niceness,
        sched_priority: 0,
        sched_runtime: SLICE.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, no_flags): (libc::c_long, libc::c_long) = (0, 0);
    // SAFETY: the kernel reads as many bytes as `size` says, of a structure that is there until the call is over.
    let outcome =
        unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, no_flags) };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::LEASH;
    use crate::ticker::TICK;

    /// The ticks at which a call that never ends makes way, and the one at which it is over.
    fn run(start: u64, ticks: u64) -> (Vec<u64>, u64) {
        let (way, first) = Way::begin(start, ticks);
        let (mut made_way, mut now, mut next) = (Vec::new(), start, first);
        loop {
            now += next;
            match way.look(now, || made_way.push(now)) {
                UpdateDeadline::Continue(ticks) => next = ticks,
                _ => return (made_way, now),
            }
        }
    }

    #[test]
    fn a_long_call_makes_way_at_each_tick_until_it_is_over() {
        assert_eq!(run(100, 6), (vec![103, 104, 105], 106));
    }

    #[test]
    fn a_call_on_the_leash_is_over_before_it_makes_way() {
        let ticks = u64::try_from(LEASH.as_nanos() / TICK.as_nanos()).expect("few") + 1;
        assert_eq!(run(7, ticks), (vec![], 7 + ticks));
    }

    #[test]
    fn a_call_that_was_not_looked_at_in_time_is_over_at_the_next_look() {
        let (way, _) = Way::begin(0, 5);
        let over = way.look(50, || panic!("it is late enough"));
        assert!(matches!(over, UpdateDeadline::Interrupt));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_of_guests_is_nicer_and_has_a_longer_slice() {
        fn field(name: &str) -> Option<i64> {
            let all = std::fs::read_to_string("/proc/thread-self/sched").ok()?;
            let line = all.lines().find(|line| line.starts_with(name))?;
            line.rsplit(':').next()?.trim().parse().ok()
        }
        fn is_since(release: (u32, u32)) -> bool {
            let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            let mut numbers = text.split('.').map_while(|part| part.parse::<u32>().ok());
            numbers.next().zip(numbers.next()).is_some_and(|this| this >= release)
        }
        let read = || (rustix::process::nice(0).expect("readable"), field("se.slice"));
        let (before, slice_before) = read();
        let (niceness, slice) = thread::spawn(move || {
            become_guest();
            read()
        })
        .join()
        .expect("it does not panic");

        assert_eq!(niceness, (before + NICENESS).min(19));
        if let (Some(slice_before), Some(slice), true) = (slice_before, slice, is_since((6, 12))) {
            assert_eq!(slice, i64::try_from(SLICE.as_nanos()).expect("short"));
            assert!(slice > slice_before, "{slice} ns, the others have {slice_before} ns");
        }
    }
}

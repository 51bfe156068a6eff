//! What a debug build does at its points.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env,
    fmt::Display,
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::LINGER;

/// Most that a spared process waits for the test, which may have died.
const SPARED: Duration = Duration::from_secs(10);

struct Orders {
    /// Where to die, and at which passing.
    point: Option<(String, u32)>,
    told: Option<PathBuf>,
    spare: bool,
    when: Option<PathBuf>,
    list: Option<PathBuf>,
    twice: bool,
    passings: AtomicU32,
    listed: Mutex<BTreeSet<String>>,
}

thread_local! {
    static DOING: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn orders() -> Option<&'static Orders> {
    static ORDERS: OnceLock<Option<Orders>> = OnceLock::new();
    ORDERS.get_or_init(read).as_ref()
}

fn read() -> Option<Orders> {
    let path = |name| env::var_os(name).map(PathBuf::from);
    let point = env::var("MUSTER_CRASH_POINT").ok().map(|point| match point.rsplit_once(':') {
        Some((name, nth)) if nth.parse::<u32>().is_ok() => (name.to_owned(), nth.parse().unwrap_or(1)),
        _ => (point, 1),
    });
    let orders = Orders {
        point,
        told: path("MUSTER_CRASH_TOLD"),
        spare: env::var_os("MUSTER_CRASH_SPARE").is_some(),
        when: path("MUSTER_CRASH_WHEN"),
        list: path("MUSTER_CRASH_FILE"),
        twice: env::var_os("MUSTER_CRASH_TWICE").is_some(),
        passings: AtomicU32::new(0),
        listed: Mutex::default(),
    };
    (orders.point.is_some() || orders.list.is_some() || orders.twice).then_some(orders)
}

pub(crate) fn armed() -> bool {
    orders().is_some()
}

pub(crate) fn twice() -> bool {
    orders().is_some_and(|orders| orders.twice)
}

pub(crate) fn anew() {
    if armed() {
        DOING.with_borrow_mut(Vec::clear);
    }
}

pub(crate) fn doing(word: &dyn Display) {
    if armed() {
        let word = word.to_string();
        DOING.with_borrow_mut(|words| (!words.contains(&word)).then(|| words.push(word)));
    }
}

pub(crate) fn passed_doing(name: &str) {
    if armed() {
        passed(&format!("{name}.{}", DOING.with_borrow(|words| words.join("+"))));
    }
}

pub(crate) fn passed(name: &dyn Display) {
    let Some(orders) = orders() else { return };
    if orders.when.as_ref().is_some_and(|when| !fs::exists(when).unwrap_or(false)) {
        return;
    }
    let name = name.to_string();
    if let Some(list) = &orders.list
        && orders.listed.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone())
    {
        append(list, &name);
    }
    let Some((_, nth)) = orders.point.as_ref().filter(|(point, _)| *point == name) else { return };
    if orders.passings.fetch_add(1, Ordering::SeqCst) + 1 != *nth {
        return;
    }
    let end = || {
        if let Some(told) = &orders.told {
            append(told, &name);
            if orders.spare {
                return wait(told);
            }
        }
        thread::sleep(LINGER);
        die()
    };
    // A worker that waits here hands its other tasks to somebody else.
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(end),
        _ => end(),
    }
}

/// Its own thread goes nowhere, and all others die with it.
fn die() {
    let _ = kill(Pid::this(), Signal::SIGKILL);
    loop {
        thread::park();
    }
}

fn wait(told: &PathBuf) {
    let began = Instant::now();
    while fs::exists(told).unwrap_or(false) && began.elapsed() < SPARED {
        thread::sleep(Duration::from_millis(2));
    }
}

/// A test that cannot be told would wait in vain, and says that it did.
fn append(path: &PathBuf, name: &str) {
    let line = format!("{name}\n");
    let _ =
        OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
}

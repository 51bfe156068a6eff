//! The progress of an operation on stderr: a bar that moves on a terminal, plain lines elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use muster_proto::wire::OperationEvent;

use super::{console::Console, follow::Watcher};
use crate::render;

const BAR: &str = "{spinner} {prefix:9} [{bar:20}] {pos}/{len} {wide_msg}";
const SPINNER: &str = "{spinner} {prefix:9} {wide_msg}";

/// Shows events as they come.
pub struct Progress {
    /// The bar, on a terminal.
    bar: Option<ProgressBar>,
    phase: String,
    /// The last line, so that none is said twice.
    said: String,
}

impl Progress {
    /// For that console.
    pub fn new(console: &Console) -> Self {
        let bar = console.moves.then(|| {
            let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, phase: String::new(), said: String::new() }
    }
}

impl Watcher for Progress {
    fn event(&mut self, console: &mut Console, event: &OperationEvent) {
        let line = render::operation::event(event);
        match &self.bar {
            Some(bar) => {
                if self.phase != event.phase && !self.said.is_empty() {
                    bar.suspend(|| console.note(&self.said));
                }
                // Our templates are constants; without one the bar's own style does as well.
                if let Ok(style) = ProgressStyle::with_template(if event.total > 0 { BAR } else { SPINNER }) {
                    bar.set_style(style);
                }
                bar.set_length(event.total.into());
                bar.set_position(event.done.into());
                bar.set_prefix(event.phase.clone());
                bar.set_message(event.message.chars().filter(|c| !c.is_control()).collect::<String>());
            }
            None if line != self.said => console.note(&line),
            None => {}
        }
        (self.phase, self.said) = (event.phase.clone(), line);
    }

    fn lost(&mut self, console: &mut Console) {
        let line = "the coordinator does not answer; its operation is on disk and goes on when it returns; waiting";
        match &self.bar {
            Some(bar) => bar.suspend(|| console.note(line)),
            None => console.note(line),
        }
    }

    fn is_over(&self, _: &Console) -> bool {
        false
    }
}

//! What the user sees of work that takes long: a growing count on a terminal, else one line at
//! the start and one at the end.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Takes news of one piece of work after another.
pub(crate) trait Progress {
    /// A piece of work begins.
    fn begin(&mut self, what: &str);
    /// So many bytes of it are done.
    fn bytes(&mut self, done: u64);
    /// It is done.
    fn end(&mut self);
}

/// The form that suits where standard error goes.
pub(crate) fn on_stderr() -> Box<dyn Progress> {
    match std::io::stderr().is_terminal() {
        true => Box::new(Spinner { bar: None, line: Line::default() }),
        false => Box::new(Line::default()),
    }
}

/// Two lines for each piece of work.
#[derive(Default)]
struct Line {
    what: String,
    bytes: u64,
    since: Option<Instant>,
}

impl Line {
    fn closing(&self) -> String {
        let seconds = self.since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let size = match self.bytes {
            0 => String::new(),
            bytes => format!(", {}", DecimalBytes(bytes)),
        };
        format!("{}: done{size} in {seconds:.1} s", self.what)
    }
}

impl Progress for Line {
    fn begin(&mut self, what: &str) {
        *self = Line { what: what.to_owned(), bytes: 0, since: Some(Instant::now()) };
        eprintln!("{what} ...");
    }

    fn bytes(&mut self, done: u64) {
        self.bytes = done;
    }

    fn end(&mut self) {
        eprintln!("{}", self.closing());
    }
}

struct Spinner {
    bar: Option<ProgressBar>,
    line: Line,
}

impl Progress for Spinner {
    fn begin(&mut self, what: &str) {
        self.line = Line { what: what.to_owned(), bytes: 0, since: Some(Instant::now()) };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // `bytes` is empty until some are counted: not all work has any.
        let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bar = Some(bar);
    }

    fn bytes(&mut self, done: u64) {
        self.line.bytes = done;
        if let Some(bar) = self.bar.as_ref().filter(|_| done > 0) {
            bar.set_message(format!("{}: {}", self.line.what, DecimalBytes(done)));
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        eprintln!("{}", self.line.closing());
    }
}

impl Drop for Spinner {
    /// Leaves the terminal clean for the error that ended the work.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

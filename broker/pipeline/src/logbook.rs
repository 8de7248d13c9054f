//! What a plugin writes in one call: bounded in number and length, control characters escaped.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::text::printable;
use crate::{Level, Limits, LogLine};

/// Shared by an instance and its standard output and error.
#[derive(Clone, Debug)]
pub(crate) struct Logbook(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    lines_max: usize,
    line_bytes_max: usize,
    lines: Vec<LogLine>,
    dropped: u64,
    /// What came through standard output or error and has no end of line yet.
    partial: [Vec<u8>; 2],
}

/// What was written since the last time.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) dropped: u64,
}

impl Logbook {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Book {
            lines_max: limits.log_lines,
            line_bytes_max: limits.log_line_bytes,
            lines: Vec::new(),
            dropped: 0,
            partial: [const { Vec::new() }; 2],
        })))
    }

    pub(crate) fn write(&self, level: Level, text: &str) {
        self.lock().write(level, text);
    }

    pub(crate) fn take(&self) -> Written {
        let mut book = self.lock();
        for stream in [Stream::Out, Stream::Error] {
            book.end_line(stream);
        }
        Written { lines: mem::take(&mut book.lines), dropped: mem::take(&mut book.dropped) }
    }

    pub(crate) fn stdout(&self) -> Lines {
        Lines { book: self.clone(), stream: Stream::Out }
    }

    pub(crate) fn stderr(&self) -> Lines {
        Lines { book: self.clone(), stream: Stream::Error }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn write(&mut self, level: Level, text: &str) {
        if self.lines.len() >= self.lines_max {
            self.dropped += 1;
            return;
        }
        let text = printable(text.trim_end_matches('\n'), self.line_bytes_max);
        self.lines.push(LogLine { level, text });
    }

    fn end_line(&mut self, stream: Stream) {
        let partial = mem::take(&mut self.partial[stream as usize]);
        if !partial.is_empty() {
            let level = if stream == Stream::Out { Level::Info } else { Level::Error };
            self.write(level, &String::from_utf8_lossy(&partial));
        }
    }

    fn feed(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let partial = &mut self.partial[stream as usize];
            let room = self.line_bytes_max.saturating_sub(partial.len());
            partial.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < piece.len() {
                self.end_line(stream);
            }
        }
    }
}

/// Standard output or error of a plugin: lines of its log.
#[derive(Clone)]
pub(crate) struct Lines {
    book: Logbook,
    stream: Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Error,
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.book.lock().feed(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_control_characters_cannot_forge_lines() {
        let book = Logbook::new(&Limits { log_lines: 2, log_line_bytes: 8, ..Limits::default() });
        book.write(Level::Info, "a\nERROR b\x1b[0m");
        book.lock().feed(Stream::Error, b"one\ntwo\nthree");
        let written = book.take();
        let texts: Vec<_> = written.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["a\\nERROR…", "one"]);
        assert_eq!(written.dropped, 2);
        assert_eq!(book.take().lines.len(), 0);
    }
}

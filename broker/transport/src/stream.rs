//! Frames on a QUIC stream.

use std::io;
use std::time::Duration;

use quinn::RecvStream;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};
use wharf_protocol::frame::{Decoder, Frame, FrameError};

/// Frames are put together up to about so many bytes and written at once: a write costs as much as a message.
pub const WRITE_BYTES: usize = 64 * 1024;

/// Reads the frames of a stream.
#[derive(Debug)]
pub struct FrameReader {
    stream: RecvStream,
    decoder: Decoder,
    /// How long the rest of a frame may take once its beginning is there.
    patience: Option<Duration>,
    /// When the frame that is under way must be whole.
    due: Option<Instant>,
}

/// Why there are no more frames.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The beginning of a frame came, and the rest did not within the time allowed.
    #[error("the rest of a frame did not come within {0:?}")]
    Slow(Duration),
    /// The stream was reset or its connection lost.
    #[error("the stream was lost")]
    Lost(#[source] io::Error),
}

impl FrameReader {
    /// Reads frames whose bodies take up to `frame_bytes_max` bytes, and waits for the rest of one for ever.
    pub fn new(stream: RecvStream, frame_bytes_max: usize) -> Self {
        Self { stream, decoder: Decoder::new(frame_bytes_max), patience: None, due: None }
    }

    /// Waits for the rest of a frame for `patience` only.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// From here on, takes bodies of up to `frame_bytes_max` bytes.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.decoder.set_frame_bytes_max(frame_bytes_max);
    }

    /// The next frame, waiting for it; `None` where the stream ends well.
    ///
    /// # Errors
    /// Why there are no more frames.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The next frame, if it is here already.
    ///
    /// # Errors
    /// What keeps the bytes from being a frame.
    pub fn ready(&mut self) -> Result<Option<Frame>, FrameError> {
        let frame = self.decoder.next_frame()?;
        if frame.is_some() {
            self.due = None;
        }
        Ok(frame)
    }

    /// Waits for more bytes; `false` where the stream ends well.
    ///
    /// # Errors
    /// Why there are no more frames.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn fill(&mut self) -> Result<bool, ReadError> {
        let due = match self.patience.filter(|_| self.decoder.is_within_frame()) {
            Some(patience) => Some((*self.due.get_or_insert_with(|| Instant::now() + patience), patience)),
            None => None,
        };
        let read = self.stream.read_buf(self.decoder.buffer());
        let read = match due {
            Some((due, patience)) => timeout_at(due, read).await.map_err(|_| ReadError::Slow(patience))?,
            None => read.await,
        };
        match read.map_err(ReadError::Lost)? {
            0 => {
                self.decoder.finish()?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// Tells the other end that nothing more of this stream is read.
    pub fn stop(&mut self, code: u16) {
        // Already over is as good.
        let _ = self.stream.stop(u32::from(code).into());
    }
}

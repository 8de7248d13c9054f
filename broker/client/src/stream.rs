//! Streams: read from any place, alone or as a member of a group.

use bytes::Bytes;
use wharf_protocol::frame::OpenReader;
use wharf_protocol::{Name, Start};

use crate::consumer::{self, ConsumeOptions, Consumer, Opening, Progress};
use crate::{Client, ConsumeError, Delivery};

/// A stream of messages at the broker, by its name. Cheap to make: nothing is asked before it is read.
///
/// ```no_run
/// # use wharf_client::{Client, ConsumeOptions, ReadOptions, Start};
/// # async fn example(client: Client) -> Result<(), wharf_client::ConsumeError> {
/// let orders = client.stream("orders")?;
///
/// // From its beginning to what is there now; nothing of this reader is kept.
/// let mut reader = orders.read(ReadOptions { until_end: true, ..ReadOptions::default() }).await?;
/// while let Some(message) = reader.next().await {
///     println!("{}/{}: {}", message.partition, message.offset, message.message.topic);
/// }
///
/// // As a member of a group, whose place the broker keeps.
/// let mut billing = orders.group("billing", Start::First, ConsumeOptions::default()).await?;
/// while let Some(message) = billing.next().await {
///     message.ack();
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    name: Name,
    client: Client,
}

/// How a stream is read without a group.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Where to begin.
    pub start: Start,
    /// Of these partitions alone; none: of all.
    pub partitions: Vec<u16>,
    /// End after the last message that was there at the beginning.
    pub until_end: bool,
    /// Deliver with the pauses with which the messages were stored, not as fast as they come.
    pub original_pace: bool,
    /// How many messages the client holds at most; 8,192 unless told otherwise.
    pub prefetch: u32,
    /// End after so many.
    pub limit: Option<u64>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            start: Start::First,
            partitions: Vec::new(),
            until_end: false,
            original_pace: false,
            prefetch: 8_192,
            limit: None,
        }
    }
}

impl Client {
    /// The stream `name`.
    ///
    /// # Errors
    /// The text is not a name.
    pub fn stream(&self, name: &str) -> Result<Stream, ConsumeError> {
        Ok(Stream { name: name.parse()?, client: self.clone() })
    }
}

impl Stream {
    /// Reads it. There is nothing to settle, and after a lost connection the reader goes on after what you have got;
    /// the last message before that may come twice.
    ///
    /// # Errors
    /// When the broker refuses it, for want of the stream, a partition or the permission.
    pub async fn read(&self, options: ReadOptions) -> Result<Consumer, ConsumeError> {
        let ReadOptions { start, partitions, until_end, original_pace, prefetch, limit } = options;
        let open = OpenReader {
            start,
            partitions,
            until_end,
            original_pace,
            ..OpenReader::new(self.name.clone(), prefetch.max(1))
        };
        self.open(open, ConsumeOptions { prefetch, limit, auto_settle: true, ..ConsumeOptions::default() })
            .await
    }

    /// Joins `group`, which is made when there is none and then begins at `start`. The partitions are shared among
    /// its members, each message goes to one of them, and what is acked is not delivered again, whoever goes on.
    /// A nacked message comes again to this member, before newer ones of its partition.
    ///
    /// Of `options`, [`prefetch`](ConsumeOptions::prefetch) and [`limit`](ConsumeOptions::limit) count here.
    ///
    /// # Errors
    /// When the broker refuses it, for want of the stream or the permission, or the name is none.
    pub async fn group(
        &self,
        group: &str,
        start: Start,
        options: ConsumeOptions,
    ) -> Result<Consumer, ConsumeError> {
        let group = Some(group.parse()?);
        let open = OpenReader { group, start, ..OpenReader::new(self.name.clone(), options.prefetch.max(1)) };
        let ConsumeOptions { prefetch, limit, .. } = options;
        self.open(open, ConsumeOptions { prefetch, limit, ..ConsumeOptions::default() }).await
    }

    /// The last message of `key`, if there is one: of a stream that is compacted or indexes its keys.
    ///
    /// # Errors
    /// When the broker refuses it, for want of the stream, its knowledge of keys or the permission.
    pub async fn last(&self, key: impl Into<Bytes>) -> Result<Option<Delivery>, ConsumeError> {
        let open = OpenReader { last_of: Some(key.into()), ..OpenReader::new(self.name.clone(), 1) };
        let options = ConsumeOptions { prefetch: 1, auto_settle: true, ..ConsumeOptions::default() };
        let mut reader = self.open(open, options).await?;
        let found = reader.next().await;
        match reader.end() {
            Some(error) if found.is_none() => Err(error),
            _ => Ok(found),
        }
    }

    async fn open(&self, open: OpenReader, options: ConsumeOptions) -> Result<Consumer, ConsumeError> {
        consumer::open(&self.client, Opening::Reader(open, Progress::default()), options).await
    }
}

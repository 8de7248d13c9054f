//! What a frame is: the number in its head.

/// What a frame is: the number that travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hello = 0x01,
    Welcome = 0x02,
    Ping = 0x03,
    Pong = 0x04,
    Goodbye = 0x05,
    Error = 0x0f,
    OpenPublisher = 0x10,
    Opened = 0x11,
    Publish = 0x12,
    Confirm = 0x13,
    Subscribe = 0x20,
    Subscribed = 0x21,
    Deliver = 0x22,
    Credit = 0x23,
    Settle = 0x24,
    Settled = 0x25,
    Empty = 0x26,
    Cancelled = 0x27,
    Renew = 0x28,
    Renewed = 0x29,
    SubscribeTopic = 0x30,
    Tapped = 0x31,
    Tap = 0x32,
    OpenTransactor = 0x50,
    Transact = 0x51,
    Transacted = 0x52,
    PublishAll = 0x53,
    OpenReader = 0x40,
    ReaderOpened = 0x41,
    TapNumbered = 0x60,
}

impl Kind {
    /// The kind of that number, if there is one.
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Hello,
            0x02 => Self::Welcome,
            0x03 => Self::Ping,
            0x04 => Self::Pong,
            0x05 => Self::Goodbye,
            0x0f => Self::Error,
            0x10 => Self::OpenPublisher,
            0x11 => Self::Opened,
            0x12 => Self::Publish,
            0x13 => Self::Confirm,
            0x20 => Self::Subscribe,
            0x21 => Self::Subscribed,
            0x22 => Self::Deliver,
            0x23 => Self::Credit,
            0x24 => Self::Settle,
            0x25 => Self::Settled,
            0x26 => Self::Empty,
            0x27 => Self::Cancelled,
            0x28 => Self::Renew,
            0x29 => Self::Renewed,
            0x30 => Self::SubscribeTopic,
            0x31 => Self::Tapped,
            0x32 => Self::Tap,
            0x50 => Self::OpenTransactor,
            0x51 => Self::Transact,
            0x52 => Self::Transacted,
            0x53 => Self::PublishAll,
            0x40 => Self::OpenReader,
            0x41 => Self::ReaderOpened,
            0x60 => Self::TapNumbered,
            _ => return None,
        })
    }
}

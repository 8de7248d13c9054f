//! Schedules, as an administrator sees and changes them.

use bytes::BytesMut;
use wharf_protocol::{DELIVER_AT, Message, Name, Timestamp};
use wharf_queue::{Change, SCHEDULED_MESSAGE_BYTES_MAX, Schedule};

use crate::timetable::Timetable;
use crate::{Action, Node, NodeError, Principal};

/// What is published, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleSpec {
    /// When: five fields of cron, or six with seconds in front, or `@daily` and its kin.
    pub cron: String,
    /// By which clock: the IANA name of a time zone.
    pub time_zone: String,
    /// What. Each occurrence is a copy of it, with `wharf-schedule` and `wharf-scheduled-at` among its headers.
    pub message: Message,
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleView {
    /// Its name.
    pub name: Name,
    /// When, as a cron expression.
    pub cron: String,
    /// When, in words.
    pub description: String,
    /// By which clock.
    pub time_zone: String,
    /// What is published.
    pub message: Message,
    /// Whether it rests.
    pub paused: bool,
    /// Who put it.
    pub by: String,
    /// Only what comes after this is published: when it was put or resumed.
    pub since: Timestamp,
    /// The last occurrence that was published or refused for good.
    pub last: Option<Timestamp>,
    /// The next one; none while it is paused.
    pub next: Option<Timestamp>,
    /// Why the last attempt since the broker started failed, if it did.
    pub problem: Option<String>,
}

impl Node {
    /// Puts a schedule, or replaces it. The same one again is left as it is.
    ///
    /// # Errors
    /// The expression, the time zone or the message cannot be; not allowed.
    pub async fn put_schedule(
        &self,
        who: &Principal,
        name: Name,
        spec: ScheduleSpec,
    ) -> Result<ScheduleView, NodeError> {
        who.check(Action::Administer)?;
        who.check(Action::Publish(spec.message.topic.as_str()))?;
        let ScheduleSpec { cron, time_zone, message } = spec;
        check_message(&message)?;
        let timetable = Timetable::new(&cron, &time_zone).map_err(|e| NodeError::Invalid(e.to_string()))?;
        if timetable.next(Timestamp::wall_clock()).is_none() {
            return Err(NodeError::Invalid(format!("{cron:?} never comes: there is no such date")));
        }
        let mut encoded = BytesMut::with_capacity(message.encoded_bytes());
        message.encode(&mut encoded);
        let (cron, time_zone, message) = (cron.into(), time_zone.into(), encoded.freeze());
        let by = who.name().to_owned();
        let put = Change::PutSchedule { name: name.clone(), cron, time_zone, message, by };
        self.change_schedule(&name, put).await?;
        self.schedule(who, &name).await
    }

    /// Stops a schedule, or lets it go on. What a pause covers is never published.
    ///
    /// # Errors
    /// No such schedule; not allowed.
    pub async fn pause_schedule(
        &self,
        who: &Principal,
        name: &Name,
        paused: bool,
    ) -> Result<ScheduleView, NodeError> {
        self.schedule(who, name).await?;
        self.change_schedule(name, Change::PauseSchedule { name: name.clone(), paused }).await?;
        self.schedule(who, name).await
    }

    /// Removes a schedule. What it has published stays.
    ///
    /// # Errors
    /// No such schedule; not allowed.
    pub async fn remove_schedule(&self, who: &Principal, name: &Name) -> Result<(), NodeError> {
        self.schedule(who, name).await?;
        self.change_schedule(name, Change::RemoveSchedule { name: name.clone() }).await
    }

    /// Every schedule, by name.
    ///
    /// # Errors
    /// Not allowed.
    pub async fn schedules(&self, who: &Principal) -> Result<Vec<ScheduleView>, NodeError> {
        who.check(Action::Administer)?;
        let known = self.schedules_and_last().await?;
        known.into_iter().map(|(name, schedule, last)| self.schedule_view(name, schedule, last)).collect()
    }

    /// One schedule.
    ///
    /// # Errors
    /// No such schedule; not allowed.
    pub async fn schedule(&self, who: &Principal, name: &Name) -> Result<ScheduleView, NodeError> {
        let found = self.schedules(who).await?.into_iter().find(|view| view.name == *name);
        found.ok_or_else(|| NodeError::NotFound { kind: "schedule", name: name.to_string() })
    }

    async fn change_schedule(&self, name: &Name, change: Change) -> Result<(), NodeError> {
        self.shard().change(change).await?;
        self.scheduler().look_again(name);
        Ok(())
    }

    fn schedule_view(
        &self,
        name: Name,
        schedule: Schedule,
        last: Option<Timestamp>,
    ) -> Result<ScheduleView, NodeError> {
        let Schedule { cron, time_zone, message, paused, since, by } = schedule;
        let message = Message::decode(message)
            .map_err(|error| NodeError::Invalid(format!("the message of schedule {name}: {error}")))?;
        // One that was put by a broker with another table of time zones may not be readable here.
        let (timetable, unreadable) = match Timetable::new(&cron, &time_zone) {
            Ok(timetable) => (Some(timetable), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let next = timetable.as_ref().filter(|_| !paused);
        Ok(ScheduleView {
            next: next.and_then(|timetable| timetable.next(last.unwrap_or_default().max(since))),
            description: timetable.map(|timetable| timetable.describe()).unwrap_or_default(),
            problem: unreadable.or_else(|| self.scheduler().problem(&name)),
            cron: cron.to_string(),
            time_zone: time_zone.to_string(),
            name,
            message,
            paused,
            by,
            since,
            last,
        })
    }
}

/// What the message of a schedule must not be.
fn check_message(message: &Message) -> Result<(), NodeError> {
    let bytes = message.encoded_bytes();
    if bytes > SCHEDULED_MESSAGE_BYTES_MAX {
        let text =
            format!("a scheduled message has at most {SCHEDULED_MESSAGE_BYTES_MAX} bytes, this one {bytes}");
        return Err(NodeError::TooLarge(text));
    }
    if message.message_id.is_some() {
        let text =
            "a scheduled message has no id of its own: all occurrences but one would be its duplicates";
        return Err(NodeError::Invalid(text.into()));
    }
    if message.headers.get(DELIVER_AT).is_some() {
        let text = format!(
            "a scheduled message has no {DELIVER_AT}: the schedule says when; give it a delay instead"
        );
        return Err(NodeError::Invalid(text));
    }
    Ok(())
}

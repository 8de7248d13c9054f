//! The real binary, typed at as a newcomer does. One test binary, a module a subject.

#[path = "cli/broker.rs"]
mod broker;
#[path = "cli/damaged.rs"]
mod damaged;
#[path = "cli/dead_letters.rs"]
mod dead_letters;
#[path = "cli/disk_alarm.rs"]
mod disk_alarm;
#[path = "cli/errors.rs"]
mod errors;
#[path = "cli/exact.rs"]
mod exact;
#[path = "cli/kv.rs"]
mod kv;
#[path = "cli/languages.rs"]
mod languages;
#[path = "cli/life.rs"]
mod life;
#[path = "cli/log.rs"]
mod log;
#[path = "cli/plugins.rs"]
mod plugins;
#[path = "cli/queues.rs"]
mod queues;
#[path = "cli/schedules.rs"]
mod schedules;
#[path = "cli/streams.rs"]
mod streams;
#[path = "cli/trials.rs"]
mod trials;
#[path = "cli/walk.rs"]
mod walk;

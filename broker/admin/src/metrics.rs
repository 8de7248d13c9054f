//! Metrics in Prometheus' text format.
//!
//! Counters are totals: rates are the scraper's to make. The format is a few rules over lines (name, labels, value),
//! so it is written here by hand, from one consistent reading of the node.

mod streams;

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wharf_node::{
    BreakerState, CALL_TIME_EDGES_US, CpuUse, LogView, Metrics, Node, QueueView, StageStats, TrialView,
};

use crate::error::Problem;
use crate::step::word;

/// <https://prometheus.io/docs/instrumenting/exposition_formats/>, text format 0.0.4.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn routes() -> OpenApiRouter<Node> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "metrics",
    responses((status = 200, body = String, content_type = "text/plain")),
)]
async fn show(State(node): State<Node>) -> Result<impl IntoResponse, Problem> {
    let metrics = node.metrics().await?;
    Ok(([(CONTENT_TYPE, TEXT_FORMAT)], text(&metrics, wharf_node::resident_bytes())))
}

fn text(metrics: &Metrics, memory_bytes: Option<u64>) -> String {
    let mut page = Page::default();
    let publishes = &metrics.publishes;
    page.family(
        "wharf_publishes_total",
        "counter",
        "Publishes outside of transactions, by what their publisher was told.",
    );
    page.sample("", &[("receipt", "accepted")], publishes.accepted);
    page.sample("", &[("receipt", "duplicate")], publishes.duplicates);
    page.sample("", &[("receipt", "rejected")], publishes.rejected);
    page.family(
        "wharf_publishes_unrouted_total",
        "counter",
        "Accepted publishes with nothing bound to their topic.",
    );
    page.sample("", &[], publishes.unrouted);
    page.family("wharf_principal_connections", "gauge", "Connections that a principal has.");
    for principal in &metrics.principals {
        page.sample("", &[("principal", &principal.name)], u64::from(principal.connections));
    }
    page.family(
        "wharf_principal_waits_total",
        "counter",
        "How often what a principal published waited for its rate.",
    );
    for principal in &metrics.principals {
        page.sample("", &[("principal", &principal.name)], principal.waits);
    }
    page.family("wharf_traces_total", "counter", "Traces of messages, by what became of them.");
    page.sample("", &[("outcome", "kept")], metrics.traces.kept);
    page.sample("", &[("outcome", "lost")], metrics.traces.lost);
    page.sample("", &[("outcome", "refused")], metrics.traces.refused);
    page.family("wharf_principal_queues", "gauge", "Queues and streams that a principal has made.");
    for principal in &metrics.principals {
        page.sample("", &[("principal", &principal.name)], principal.queues);
    }
    page.family(
        "wharf_principal_stored_bytes",
        "gauge",
        "Bytes in the queues and streams that a principal has made, where its quota bounds them.",
    );
    for principal in &metrics.principals {
        if let Some(bytes) = principal.stored_bytes {
            page.sample("", &[("principal", &principal.name)], bytes);
        }
    }
    page.family("wharf_alarm", "gauge", "1 while an alarm holds publishers back.");
    page.sample("", &[], u64::from(metrics.alarm));
    queues(&mut page, &metrics.queues);
    streams::streams(&mut page, &metrics.streams);
    stages(&mut page, metrics);
    trials(&mut page, metrics);
    cpu(&mut page, metrics);
    log(&mut page, &metrics.log);
    if let Some(bytes) = memory_bytes {
        page.family("process_resident_memory_bytes", "gauge", "Resident memory of the process.");
        page.sample("", &[], bytes);
    }
    page.text
}

fn queues(page: &mut Page, queues: &[QueueView]) {
    type Read = fn(&QueueView) -> u64;
    const FAMILIES: [(&str, &str, &str, Read); 17] = [
        ("wharf_queue_ready", "gauge", "Messages that wait for a consumer.", |queue| queue.ready),
        ("wharf_queue_leased", "gauge", "Messages that consumers hold.", |queue| queue.leased),
        ("wharf_queue_delayed", "gauge", "Messages that wait for their time.", |queue| queue.delayed),
        ("wharf_queue_dead", "gauge", "Dead letters that lie in the queue.", |queue| queue.dead),
        ("wharf_queue_consumers", "gauge", "Consumers attached.", |queue| queue.consumers),
        ("wharf_queue_enqueued_total", "counter", "Messages that came in.", |queue| queue.enqueued),
        ("wharf_queue_delivered_total", "counter", "Deliveries, first and further ones.", |queue| {
            queue.delivered
        }),
        ("wharf_queue_acked_total", "counter", "Messages that were acknowledged.", |queue| queue.acked),
        ("wharf_queue_failed_total", "counter", "Deliveries refused or lapsed.", |queue| queue.failed),
        ("wharf_queue_returned_total", "counter", "Deliveries whose consumer left.", |queue| queue.returned),
        ("wharf_queue_dead_lettered_total", "counter", "Messages given up.", |queue| queue.dead_lettered),
        ("wharf_queue_expired_total", "counter", "Messages whose time ran out.", |queue| queue.expired),
        ("wharf_queue_dropped_total", "counter", "Messages that made room for newer ones.", |queue| {
            queue.dropped
        }),
        ("wharf_queue_purged_total", "counter", "Messages that were purged.", |queue| queue.purged),
        ("wharf_queue_moved_total", "counter", "Messages moved to another queue.", |queue| queue.moved),
        ("wharf_queue_redriven_total", "counter", "Dead letters sent on their way again.", |queue| {
            queue.redriven
        }),
        ("wharf_queue_bytes", "gauge", "Bytes of the messages that are not settled.", |queue| queue.bytes),
    ];
    for (name, kind, help, read) in FAMILIES {
        page.family(name, kind, help);
        for queue in queues {
            page.sample("", &[("queue", queue.name.as_str())], read(queue));
        }
    }
}

/// Versions on trial: what they did since the trial or the broker began.
fn trials(page: &mut Page, metrics: &Metrics) {
    type Read = fn(&TrialView) -> u64;
    const FAMILIES: [(&str, &str, Read); 5] = [
        ("wharf_trial_processed", "Messages that the canary processed.", |trial| trial.processed),
        ("wharf_trial_failed", "Messages that failed in the canary.", |trial| trial.failed),
        ("wharf_trial_compared", "Messages compared with the version in use.", |trial| {
            trial.comparison.compared
        }),
        ("wharf_trial_different", "Messages that came out otherwise.", |trial| trial.comparison.different),
        ("wharf_trial_skipped", "Messages that there was no room to compare.", |trial| trial.skipped),
    ];
    for (name, help, read) in FAMILIES {
        // A trial's end takes its series away, and the next begins anew: a gauge, by Prometheus' rules.
        page.family(name, "gauge", help);
        for (pipeline, view) in &metrics.trials {
            let version = view.trial.number.to_string();
            page.sample("", &[("pipeline", pipeline.as_str()), ("version", &version)], read(view));
        }
    }
}

fn stages(page: &mut Page, metrics: &Metrics) {
    let stages = || {
        let pipelines = metrics.pipelines.iter();
        pipelines.flat_map(|(pipeline, stages)| stages.iter().map(move |stage| (pipeline, stage)))
    };
    page.family("wharf_stage_calls_total", "counter", "Calls of the stage's plugin.");
    for (pipeline, stage) in stages() {
        page.sample("", &labels(pipeline, stage), stage.calls);
    }
    page.family("wharf_stage_verdicts_total", "counter", "Messages, by what became of them at the stage.");
    for (pipeline, stage) in stages() {
        let verdicts = &stage.verdicts;
        let counts = [
            ("passed", verdicts.passed),
            ("changed", verdicts.changed),
            ("routed", verdicts.routed),
            ("dropped", verdicts.dropped),
            ("rejected", verdicts.rejected),
            ("retried", verdicts.retried),
            ("fault", verdicts.faults),
        ];
        for (verdict, count) in counts {
            let [a, b] = labels(pipeline, stage);
            page.sample("", &[a, b, ("verdict", verdict)], count);
        }
    }
    page.family("wharf_stage_call_seconds", "histogram", "How long a call of the stage's plugin took.");
    for (pipeline, stage) in stages() {
        let edges = CALL_TIME_EDGES_US.iter().copied().chain([u64::MAX]);
        let buckets = edges.zip(stage.call_time.iter().copied());
        let total_us = u64::try_from(stage.busy.as_micros()).unwrap_or(u64::MAX);
        page.histogram(&labels(pipeline, stage), buckets, total_us);
    }
    page.family(
        "wharf_stage_start_seconds_total",
        "counter",
        "Time in which instances of the stage's plugin were made.",
    );
    for (pipeline, stage) in stages() {
        page.sample(
            "",
            &labels(pipeline, stage),
            seconds(u64::try_from(stage.starting.as_micros()).unwrap_or(u64::MAX)),
        );
    }
    page.family("wharf_stage_suspended", "gauge", "1 while the stage broke too often to be called.");
    for (pipeline, stage) in stages() {
        let suspended = stage.breaker.state != BreakerState::Closed;
        page.sample("", &labels(pipeline, stage), u64::from(suspended));
    }
    page.family(
        "wharf_stage_breaker_state",
        "gauge",
        "1 for the state that the stage's circuit breaker is in.",
    );
    for (pipeline, stage) in stages() {
        for state in [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen] {
            let [a, b] = labels(pipeline, stage);
            page.sample("", &[a, b, ("state", &word(&state))], u64::from(stage.breaker.state == state));
        }
    }
    page.family(
        "wharf_stage_breaker_opened_total",
        "counter",
        "How often the stage's circuit breaker opened.",
    );
    for (pipeline, stage) in stages() {
        page.sample("", &labels(pipeline, stage), stage.breaker.opened);
    }
    page.family("wharf_stage_faults_total", "counter", "Messages that the stage's plugin broke on, by how.");
    for (pipeline, stage) in stages() {
        for (fault, count) in &stage.faults {
            let [a, b] = labels(pipeline, stage);
            page.sample("", &[a, b, ("fault", fault)], count);
        }
    }
    page.family("wharf_stage_instances_total", "counter", "Instances of the stage's plugin that were made.");
    for (pipeline, stage) in stages() {
        page.sample("", &labels(pipeline, stage), stage.instances);
    }
}

fn cpu(page: &mut Page, metrics: &Metrics) {
    type Read = fn(&CpuUse) -> u64;
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    page.family(
        "wharf_pipeline_broken",
        "gauge",
        "1 while the pipeline does not run, because a plugin of its does not start, and refuses its messages.",
    );
    for (pipeline, is_broken) in &metrics.broken {
        page.sample("", &[("pipeline", pipeline.as_str())], u64::from(*is_broken));
    }
    page.family("wharf_pipeline_cpu_seconds_total", "counter", "Processor time in the pipeline's plugins.");
    for (pipeline, used) in &metrics.cpu {
        page.sample("", &[("pipeline", pipeline.as_str())], seconds(us(used.busy)));
    }
    page.family(
        "wharf_pipeline_cpu_waited_seconds_total",
        "counter",
        "Time that batches waited for the pipeline's share.",
    );
    for (pipeline, used) in &metrics.cpu {
        page.sample("", &[("pipeline", pipeline.as_str())], seconds(us(used.waited)));
    }
    const FAMILIES: [(&str, &str, &str, Read); 2] = [
        (
            "wharf_pipeline_cpu_waits_total",
            "counter",
            "Batches that waited for the pipeline's share.",
            |used| used.waits,
        ),
        ("wharf_pipeline_cpu_throttled", "gauge", "1 while the pipeline's next batch has to wait.", |used| {
            u64::from(!used.owed.is_zero())
        }),
    ];
    for (name, kind, help, read) in FAMILIES {
        page.family(name, kind, help);
        for (pipeline, used) in &metrics.cpu {
            page.sample("", &[("pipeline", pipeline.as_str())], read(used));
        }
    }
}

fn labels<'a>(pipeline: &'a wharf_protocol::Name, stage: &'a StageStats) -> [(&'static str, &'a str); 2] {
    [("pipeline", pipeline.as_str()), ("stage", stage.stage.as_str())]
}

fn log(page: &mut Page, log: &LogView) {
    page.family("wharf_log_bytes", "gauge", "Room that the log takes on the disk.");
    page.sample("", &[], log.bytes);
    page.family("wharf_log_segments", "gauge", "Files that hold records.");
    page.sample("", &[], log.segments);
    page.family("wharf_log_records_total", "counter", "Records appended.");
    page.sample("", &[], log.records);
    page.family("wharf_log_fsync_seconds", "histogram", "How long a sync of the log took.");
    page.histogram(&[], log.sync_time_us.iter().copied(), log.sync_time_total_us);
}

/// Lines in the text format, family by family.
#[derive(Default)]
struct Page {
    text: String,
    /// The family that samples belong to.
    family: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A line of the family; `suffix` follows its name.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let name = self.family;
        self.push(format_args!("{name}{suffix}"));
        for (n, (label, value)) in labels.iter().enumerate() {
            let before = if n == 0 { '{' } else { ',' };
            self.push(format_args!("{before}{label}=\"{}\"", escaped(value)));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{after} {value}\n"));
    }

    /// The lines of a histogram: `buckets` are upper edges in microseconds with what lies between each and the
    /// one before; what has no edge comes under `u64::MAX`.
    fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        buckets: impl Iterator<Item = (u64, u64)>,
        total_us: u64,
    ) {
        let mut up_to = 0;
        for (edge_us, count) in buckets {
            up_to += count;
            if edge_us != u64::MAX {
                let edge = seconds(edge_us);
                self.sample("_bucket", &[labels, &[("le", edge.as_str())]].concat(), up_to);
            }
        }
        self.sample("_bucket", &[labels, &[("le", "+Inf")]].concat(), up_to);
        self.sample("_sum", labels, seconds(total_us));
        self.sample("_count", labels, up_to);
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a String takes all that is written");
    }
}

/// Microseconds as seconds, exactly: `0.00025`.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A label's value; names of queues and stages hold none of these, but that is not for this file to know.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_edge() {
        let mut page = Page::default();
        page.family("took_seconds", "histogram", "Time.");
        page.histogram(&[("queue", "a\"b")], [(100, 2), (2500, 0), (u64::MAX, 1)].into_iter(), 3_000_000);
        let expected = r#"# HELP took_seconds Time.
# TYPE took_seconds histogram
took_seconds_bucket{queue="a\"b",le="0.0001"} 2
took_seconds_bucket{queue="a\"b",le="0.0025"} 2
took_seconds_bucket{queue="a\"b",le="+Inf"} 3
took_seconds_sum{queue="a\"b"} 3
took_seconds_count{queue="a\"b"} 3
"#;
        assert_eq!(page.text, expected);
    }

    #[test]
    fn microseconds_are_seconds_without_rounding() {
        assert_eq!(seconds(0), "0");
        assert_eq!(seconds(10), "0.00001");
        assert_eq!(seconds(1_500_000), "1.5");
        assert_eq!(seconds(10_000_000), "10");
    }
}

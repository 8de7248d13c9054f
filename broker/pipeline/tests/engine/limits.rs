//! What is bounded without being a fault: logs, counters, texts.

use wharf_pipeline::{Kind, Level};

use crate::stand::{ENGINE, NOW, asking, failed, passed, run_one, stage};

#[test]
fn a_log_flood_is_cut_and_counted_and_the_message_goes_on() {
    let validator = stage(Kind::Validator, "deadline-ms = 10000");
    let traced = validator.run_traced(asking("log-flood"), NOW);
    passed(traced.processed);
    let limits = ENGINE.limits();
    assert_eq!(traced.steps[0].log.len(), limits.log_lines);
    assert_eq!(traced.steps[0].log_lines_dropped, 100_000 - limits.log_lines as u64);
    assert_eq!(validator.stats()[0].log_lines_dropped, 100_000 - limits.log_lines as u64);
    assert_eq!(traced.steps[0].log[0].level, Level::Warn);

    let traced = validator.run_traced(asking("stdout-flood"), NOW);
    assert_eq!(traced.steps[0].log.len(), limits.log_lines);
    assert_eq!(traced.steps[0].log[1].text, "line 1");
}

#[test]
fn a_log_line_is_cut_and_cannot_forge_another() {
    let validator = stage(Kind::Validator, "");
    let line = |behaviour| validator.run_traced(asking(behaviour), NOW).steps.remove(0).log.remove(0).text;
    assert!(line("log-long").len() <= ENGINE.limits().log_line_bytes + '…'.len_utf8());
    assert_eq!(line("log-forged"), "fine\\n2026-01-01 ERROR \\u{1b}[31mforged");
}

#[test]
fn counters_are_kept_and_bounded_in_number() {
    let validator = stage(Kind::Validator, "");
    run_one(&validator, "count");
    run_one(&validator, "count");
    assert_eq!(validator.stats()[0].counters["asked"], 4);
    run_one(&validator, "count-flood");
    assert_eq!(validator.stats()[0].counters.len(), ENGINE.limits().counters);
}

#[test]
fn the_text_of_a_rejection_is_bounded() {
    let rejection = failed(run_one(&stage(Kind::Validator, ""), "reject-huge"));
    assert_eq!(rejection.problem.message.len(), 4096 + '…'.len_utf8());
}

#[test]
fn a_plugin_has_no_environment() {
    passed(run_one(&stage(Kind::Validator, ""), "environment"));
}

#[test]
fn idle_instances_are_given_up_for_others() {
    // More stages than the engine has instances, each with an idle one.
    let pipelines: Vec<_> = (0..60).map(|_| stage(Kind::Validator, "")).collect();
    for pipeline in &pipelines {
        passed(run_one(pipeline, "ok"));
    }
}

#[test]
fn what_stages_count_adds_up() {
    let router = stage(Kind::Router, "outputs = { a = \"queue:a\" }");
    for behaviour in ["ok", "drop", "first", "reject", "retry", "panic"] {
        run_one(&router, behaviour);
    }
    let stats = &router.stats()[0];
    assert_eq!((stats.calls, stats.messages), (6, 6));
    let verdicts = stats.verdicts;
    assert_eq!((verdicts.passed, verdicts.dropped, verdicts.routed), (1, 1, 1));
    assert_eq!((verdicts.rejected, verdicts.retried, verdicts.faults), (1, 1, 1));
    assert_eq!(stats.call_time.iter().sum::<u64>(), 6);
    // One serves them all, unless a test beside this one needs its place in the pool.
    assert!((1..=6).contains(&stats.instances), "{} instances", stats.instances);
}

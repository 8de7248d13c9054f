//! A trace tells what each stage was given, said and changed.

use wharf_pipeline::{Shown, Verdict};

use crate::stand::{NOW, asking, failed, passed, prepare};

#[test]
fn each_step_shows_what_it_changed() {
    let pipeline = prepare(
        "[[stage]]\nname = \"enrich\"\nplugin = \"guest@1\"\nkind = \"enricher\"\n\
         [[stage]]\nname = \"transform\"\nplugin = \"guest@1\"\nkind = \"transformer\"\n",
    )
    .expect("it fits");
    let traced = pipeline.run_traced(asking("two"), NOW);
    assert_eq!(passed(traced.processed).len(), 2);

    let [enrich, transform] = &traced.steps[..] else { panic!("two steps, not {:?}", traced.steps) };
    assert_eq!((enrich.verdict, enrich.outputs.len()), (Verdict::Passed, 1));
    assert_eq!(enrich.outputs[0].payload, None);
    assert_eq!((transform.verdict, transform.outputs.len()), (Verdict::Changed, 2));
    assert_eq!(transform.given.payload.shown, Shown::Text("body".to_owned()));
    let payload = transform.outputs[1].payload.as_ref().expect("it changed");
    assert_eq!(payload.shown, Shown::Text("two".to_owned()));
    assert!(transform.memory_peak_bytes > 0 && transform.memory_peak_bytes < 4 << 20);
    assert_eq!(transform.digest.len(), 64);
}

#[test]
fn a_trace_shows_headers_that_came_and_went_and_survives_json() {
    let pipeline = prepare("[[stage]]\nplugin = \"guest@1\"\nkind = \"transformer\"\n").expect("it fits");
    let steps = pipeline.run_traced(asking("headers"), NOW).steps;
    assert_eq!(steps[0].outputs[0].headers_removed, ["behave"]);
    assert_eq!(steps[0].outputs[0].headers_set["added"].shown, Shown::Text("yes".to_owned()));
    let json = serde_json::to_string(&steps).expect("it serialises");
    assert_eq!(serde_json::from_str::<Vec<wharf_pipeline::Step>>(&json).expect("and back"), steps);
}

#[test]
fn a_trace_ends_where_the_message_does() {
    let stage = |name| format!("[[stage]]\nname = \"{name}\"\nplugin = \"guest@1\"\nkind = \"validator\"\n");
    let pipeline = prepare(&(stage("first") + &stage("second"))).expect("it fits");
    let traced = pipeline.run_traced(asking("reject"), NOW);
    assert_eq!(failed(traced.processed).stage.as_str(), "first");
    assert_eq!(traced.steps.len(), 1);
    assert_eq!(traced.steps[0].verdict, Verdict::Rejected);
    assert!(traced.steps[0].problem.is_some() && traced.steps[0].outputs.is_empty());
}

//! A stream and one of its groups beside naive ones, by random steps.

use super::*;

/// One message: its record, key, time and whether it is empty.
type Came = (u64, Option<String>, u64, bool);

/// What a naive stream knows.
#[derive(Default)]
struct Naive {
    /// By partition: every message that ever came, by offset.
    runs: Vec<Vec<Came>>,
    /// By partition: what was settled in group `g`.
    settled: Vec<BTreeSet<u64>>,
    /// What each member was told last.
    members: BTreeMap<u64, Vec<Assignment>>,
}

#[derive(Clone, Debug)]
enum Step {
    Append { key: Option<u8>, empty: bool },
    Wait(u16),
    Join(u64),
    Leave(u64),
    Settle { member: u64, choose: u8, first: u8, count: u8, stale: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (proptest::option::of(0..4_u8), any::<bool>()).prop_map(|(key, empty)| Step::Append { key, empty }),
        2 => (0..400_u16).prop_map(Step::Wait),
        1 => (0..4_u64).prop_map(Step::Join),
        1 => (0..4_u64).prop_map(Step::Leave),
        4 => (0..4_u64, any::<u8>(), 0..20_u8, 0..4_u8, proptest::bool::weighted(0.1))
            .prop_map(|(member, choose, first, count, stale)| Step::Settle { member, choose, first, count, stale }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_does_what_a_naive_one_does(
        steps in proptest::collection::vec(step(), 1..120),
        partitions in 1..4_u16,
        (max_age_ms, max_messages, max_bytes) in (prop_oneof![Just(0), 1..500_u64], prop_oneof![Just(0), 1..20_u64], prop_oneof![Just(0), 1..900_u64]),
        (compact, index_keys, tombstone_ms) in (any::<bool>(), any::<bool>(), 0..300_u64),
    ) {
        let policy = StreamPolicy {
            partitions, max_age_ms, max_messages, max_bytes, compact, index_keys, tombstone_ms, ..StreamPolicy::default()
        };
        let mut shard = Shard::new();
        shard.create_stream("s", policy.clone());
        let id = shard.stream("s").id;
        let runs = usize::from(partitions);
        let mut naive = Naive { runs: vec![Vec::new(); runs], settled: vec![BTreeSet::new(); runs], ..Naive::default() };
        for step in steps {
            let told = match step {
                Step::Append { key, empty } => {
                    let key = key.map(|key| key.to_string());
                    let message = message(key.as_deref(), if empty { "" } else { "x" });
                    let entry = Entry { message, destinations: vec![Destination::from(id)] };
                    let (receipt, effects) = shard.send(Publish::from(entry));
                    let Receipt::Stored(stored) = receipt else { panic!("{receipt:?}") };
                    let Some(Effect::Appended { partition, next, .. }) = effects.last() else { panic!("told") };
                    let run = &mut naive.runs[usize::from(*partition)];
                    prop_assert_eq!(*next, run.len() as u64 + 1, "offsets are dense");
                    run.push((stored.index, key, shard.now().0, empty));
                    effects
                }
                Step::Wait(ms) => {
                    shard.wait(ms.into());
                    shard.tick()
                }
                Step::Join(member) if !naive.members.contains_key(&member) => {
                    naive.members.insert(member, Vec::new());
                    shard.join("s", "g", member, Start::First)
                }
                Step::Leave(member) if naive.members.remove(&member).is_some() => shard.leave(member),
                Step::Settle { member, choose, first, count, stale } => {
                    let held = naive.members.get(&member).filter(|held| !held.is_empty());
                    let Some(held) = held else { continue };
                    let mine = &held[usize::from(choose) % held.len()];
                    let (first, last) = (u64::from(first), u64::from(first) + u64::from(count));
                    let mut range = passed(mine, first, last);
                    range.generation += u64::from(stale);
                    let refused = shard.commit(member, range).0;
                    let number = usize::from(mine.partition);
                    let there = last < naive.runs[number].len() as u64;
                    prop_assert_eq!(refused.is_empty(), there && !stale);
                    if refused.is_empty() {
                        naive.settled[number].extend(first..=last);
                    }
                    Vec::new()
                }
                Step::Restart => {
                    naive.members.clear();
                    shard.apply(Record::Restart)
                }
                Step::Join(_) | Step::Leave(_) => continue,
            };
            for effect in told {
                if let Effect::Assigned { member, assignments } = effect {
                    naive.members.insert(member.0, assignments);
                }
            }
            agree(&shard, &naive, &policy);
        }
    }
}

/// Whether a stream is as a naive one would be.
fn agree(shard: &Shard, naive: &Naive, policy: &StreamPolicy) {
    let now = shard.now().0;
    let groups = shard.state.groups("s");
    for (number, run) in (0..).zip(&naive.runs) {
        let kept = shard.offsets("s", number);
        for (offset, index) in &kept {
            assert_eq!(run[*offset as usize].0, *index, "an offset always means the same message");
        }
        let live = |(offset, (_, key, at, empty)): (u64, &(u64, Option<String>, u64, bool))| {
            let superseded =
                run[offset as usize + 1..].iter().any(|later| later.1.is_some() && later.1 == *key);
            let taken = *empty && key.is_some() && now >= at + policy.tombstone_ms;
            !(policy.compact && (superseded || taken))
        };
        let live: Vec<u64> = (0..).zip(run).filter(|each| live(*each)).map(|(offset, _)| offset).collect();
        // What has to be there: the newest, up to each limit, and nothing that is too old has to.
        let young =
            |offset: &&u64| policy.max_age_ms == 0 || run[**offset as usize].2 + policy.max_age_ms > now;
        let bytes = |offset: u64| {
            message(run[offset as usize].1.as_deref(), if run[offset as usize].3 { "" } else { "x" })
                .encoded_bytes() as u64
        };
        let (mut messages, mut size) = (0, 0);
        // In a compacted stream, what went for want of room may have gone before others of its time did.
        let limited = policy.compact && (policy.max_messages, policy.max_bytes) != (0, 0);
        for offset in live.iter().rev().take_while(young).filter(|_| !limited) {
            let enough = (policy.max_messages > 0 && messages >= policy.max_messages)
                || (policy.max_bytes > 0 && size >= policy.max_bytes);
            if enough {
                break;
            }
            assert!(kept.contains_key(offset), "partition {number}: offset {offset} went early");
            (messages, size) = (messages + 1, size + bytes(*offset));
        }
        assert!(
            kept.keys().all(|offset| live.contains(offset)),
            "partition {number}: superseded ones are gone"
        );
        if policy.knows_keys() {
            for key in ["0", "1", "2", "3"] {
                let last =
                    (0..).zip(run).filter(|(_, each)| each.1.as_deref() == Some(key)).map(|(o, _)| o).last();
                let found = shard.state.last_of_key("s", key.as_bytes()).filter(|(p, _)| *p == number);
                let expected = last.filter(|last| kept.contains_key(last));
                assert_eq!(found.map(|(_, place)| place.offset), expected, "the last of key {key}");
            }
        }
        let Some(group) = groups.first() else { continue };
        let owners =
            naive.members.iter().filter(|(_, held)| held.iter().any(|each| each.partition == number));
        let owners: Vec<u64> = owners.map(|(member, _)| *member).collect();
        assert_eq!(
            owners,
            Vec::from_iter(group.cursors[usize::from(number)].owner.map(|owner| owner.0)),
            "one owner"
        );
        let settled = &naive.settled[usize::from(number)];
        let floor = group.cursors[usize::from(number)].floor;
        let first = kept.keys().next().copied().unwrap_or(run.len() as u64);
        assert!(
            (0..floor).all(|offset| settled.contains(&offset)
                || offset < first.max(floor.min(first))
                || !kept.contains_key(&offset)),
            "partition {number}: nothing open is passed over"
        );
    }
}

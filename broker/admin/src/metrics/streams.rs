//! Series of streams, their partitions, and the groups that read them.

use wharf_node::{CursorView, PartitionView, StreamLoad};

use super::Page;

/// How a number of a partition, or of a group in one, is read.
type Of<T> = fn(&T) -> u64;

pub(super) fn streams(page: &mut Page, streams: &[StreamLoad]) {
    const PARTITIONS: [(&str, &str, Of<PartitionView>); 4] = [
        ("wharf_stream_messages", "Messages that a partition keeps.", |partition| partition.messages),
        ("wharf_stream_bytes", "Bytes of the messages that a partition keeps.", |partition| partition.bytes),
        ("wharf_stream_first_offset", "The oldest offset that a partition keeps.", |partition| {
            partition.first
        }),
        ("wharf_stream_next_offset", "The offset of a partition's next message.", |partition| partition.next),
    ];
    for (name, help, read) in PARTITIONS {
        page.family(name, "gauge", help);
        for stream in streams {
            for (number, partition) in stream.partitions.iter().enumerate() {
                let labels = [("stream", stream.name.as_str()), ("partition", &number.to_string())];
                page.sample("", &labels, read(partition));
            }
        }
    }
    groups(page, streams);
}

fn groups(page: &mut Page, streams: &[StreamLoad]) {
    let groups = || {
        streams.iter().flat_map(|stream| stream.groups.iter().map(move |group| (stream.name.as_str(), group)))
    };
    page.family("wharf_group_members", "gauge", "Members of a group that are there.");
    for (stream, group) in groups() {
        let labels = [("stream", stream), ("group", group.name.as_str())];
        page.sample("", &labels, group.members.len());
    }
    let cursors: [(&str, &str, Of<CursorView>); 2] = [
        ("wharf_group_lag", "Messages of a partition that a group has not settled.", |cursor| cursor.lag),
        ("wharf_group_offset", "The offset below which a group has settled all of a partition.", |cursor| {
            cursor.floor
        }),
    ];
    for (name, help, read) in cursors {
        page.family(name, "gauge", help);
        for (stream, group) in groups() {
            for (number, cursor) in group.cursors.iter().enumerate() {
                let number = number.to_string();
                let labels =
                    [("stream", stream), ("group", group.name.as_str()), ("partition", number.as_str())];
                page.sample("", &labels, read(cursor));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_node::GroupView;

    use super::*;

    #[test]
    fn a_stream_is_shown_by_partition_and_its_groups_beside_it() {
        let partition =
            PartitionView { first: 3, next: 10, messages: 7, bytes: 700, oldest_at: None, keys: None };
        let cursor = CursorView { floor: 8, lag: 2, failing: 0, owner: None, generation: 1 };
        let group =
            GroupView { name: "billing".parse().expect("a name"), members: vec![], cursors: vec![cursor] };
        let name = "orders".parse().expect("a name");
        let stream = StreamLoad { name, partitions: vec![partition], groups: vec![group] };
        let mut page = Page::default();
        streams(&mut page, &[stream]);

        for line in [
            r#"wharf_stream_messages{stream="orders",partition="0"} 7"#,
            r#"wharf_stream_bytes{stream="orders",partition="0"} 700"#,
            r#"wharf_stream_first_offset{stream="orders",partition="0"} 3"#,
            r#"wharf_stream_next_offset{stream="orders",partition="0"} 10"#,
            r#"wharf_group_members{stream="orders",group="billing"} 0"#,
            r#"wharf_group_lag{stream="orders",group="billing",partition="0"} 2"#,
            r#"wharf_group_offset{stream="orders",group="billing",partition="0"} 8"#,
        ] {
            assert!(page.text.lines().any(|each| each == line), "no {line} in\n{}", page.text);
        }
    }
}

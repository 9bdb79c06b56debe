//! An exposition that is made a chunk at a time is the same as one made at once.

use std::collections::BTreeSet;

use super::*;

/// Groups that fill several chunks, and the last piece of each family in part.
fn many() -> Arc<Snapshot> {
    let mut snapshot = Snapshot::clone(&snapshot("host", &exact()));
    let group = GroupView::clone(&snapshot.groups[0]);
    let groups: Vec<_> = (1..1001)
        .map(|port| {
            let mut group = group.clone();
            group.key.place = Place::Address { address: IpAddr::from([127, 0, 0, 1]), port };
            Arc::make_mut(&mut group.counts).accepts = u64::from(port) * 7;
            Arc::new(group)
        })
        .collect();
    snapshot.groups = groups.into();
    Arc::new(snapshot)
}

/// The lines of one port, under the metadata of their family.
fn of_port(text: &str, port: u16) -> String {
    let label = format!("port=\"{port}\"");
    let kept = text.lines().filter(|line| line.starts_with('#') || line.contains(&label));
    kept.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn every_group_has_what_it_would_have_alone_and_a_family_one_head() {
    let whole = many();
    for format in [Format::Classic, Format::OpenMetrics] {
        let text = text(&whole, format);
        for port in [1, 63, 64, 65, 500, 960, 961, 1000] {
            let mut alone = Snapshot::clone(&whole);
            Arc::make_mut(&mut alone.groups)
                .retain(|group| group.key.place.port() == port.to_string());
            assert_eq!(alone.groups.len(), 1);
            let alone = super::text(&Arc::new(alone), format);
            assert_eq!(of_port(&text, port), of_port(&alone, port));
        }
        let heads: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        assert_eq!(heads.iter().collect::<BTreeSet<_>>().len(), heads.len());
    }
    let families = read::protobuf(&whole);
    let names: BTreeSet<_> = families.iter().map(|family| &family.name).collect();
    assert_eq!(names.len(), families.len());
    assert_eq!(read::stable(&whole, Format::Protobuf), read::stable(&whole, Format::Classic));
}

#[test]
fn a_chunk_is_small_however_many_groups_there_are() {
    let mut exposition = Exposition::new(many(), tally(), Duration::ZERO, Format::Classic);
    let chunks: Vec<_> = std::iter::from_fn(|| exposition.chunk().unwrap()).collect();
    assert!(chunks.len() > 50, "{}", chunks.len());
    assert!(chunks.iter().all(|chunk| chunk.len() < 512 << 10));
    // Every one but the last is worth a system call.
    assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() >= 64 << 10));
}

#[test]
fn without_groups_every_family_still_has_its_head() {
    let whole = many();
    let mut none = Snapshot::clone(&whole);
    none.groups = Arc::default();
    let heads = |snapshot| {
        let text = text(snapshot, Format::OpenMetrics);
        text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect()
    };
    let (some, none): (Vec<_>, Vec<_>) = (heads(&whole), heads(&Arc::new(none)));
    assert_eq!(some, none);
}

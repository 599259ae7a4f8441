//! What holds for any facts: the order in which independent programs are heard changes nothing, and nothing derives from
//! itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::{Reader, text};
use crate::activity::ActivityNo;
use crate::entity::EntityNo;
use crate::lineage::{Lineage, Provenance};
use crate::observation::Observation;
use crate::quantity::BootNs;
use crate::relation::Manner;

const HEAD: &str =
    "fork 0 1\nexec 1 2 /bin/sh\nfork 2 3\nexec 3 4 /bin/a\nfork 2 5\nexec 5 6 /bin/b\nfork 2 7\nexec 7 8 /bin/c\n";
const HEAD_FACTS: usize = 8;

/// Some facts of three programs and three files, one after another; accesses go on until later ones.
fn facts() -> impl Strategy<Value = String> {
    let fact = (0..3_u32, 0..9_u32, 0..3_u32, 1..15_u64);
    proptest::collection::vec(fact, 0..25).prop_map(|facts| {
        let mut out = HEAD.to_string();
        for (i, (program, verb, file, longer)) in facts.into_iter().enumerate() {
            let (image, at) = (4 + 2 * program, 1000 + 10 * i as u64);
            // Two programs do nothing at the same nanosecond; one and the same file may be told so.
            let until = at + 10 * longer + 1 + u64::from(program);
            out += &match verb {
                0 => format!("@{at} read {image} /d/{file}\n"),
                1 => format!("@{at} read {image} /d/{file}\n@{until} until {image} r /d/{file} {until}\n"),
                2 => format!("@{at} write {image} /d/{file}\n"),
                3 => format!("@{at} write {image} /d/{file}\n@{until} until {image} w /d/{file} {until}\n"),
                4 => format!("@{at} create {image} /d/{file}\n"),
                5 => format!("@{at} cut {image} /d/{file}\n"),
                6 => format!("@{at} close {image} w /d/{file}\n"),
                7 => format!("@{at} send {image} p{file}\n@{until} send {image} p{file}\n"),
                _ => format!("@{at} receive {image} p{file}\n"),
            };
        }
        out
    })
}

fn told(observations: impl IntoIterator<Item = Observation>) -> Provenance {
    let mut lineage = Lineage::default();
    observations.into_iter().for_each(|o| lineage.apply(o));
    lineage.tell()
}

/// A program of several launchers and forks that pass here-documents to themselves or to others.
fn launches() -> impl Strategy<Value = String> {
    proptest::collection::vec((0..9_u32, 0..4_u32, 0..3_u32), 0..25).prop_map(|facts| {
        let mut out = "fork 0 1\nexec 1 2 /bin/sh\n".to_string();
        // The current image of each process, and the newest of all.
        let (mut current, mut newest) = (vec![2], 2);
        for (verb, process, file) in facts {
            let process = process as usize % current.len();
            let image = current[process];
            out += &match verb {
                0 | 1 => {
                    newest += 1;
                    current.push(newest);
                    format!("fork {image} {newest}\n")
                }
                2 | 3 => {
                    newest += 1;
                    current[process] = newest;
                    format!("exec {image} {newest} /bin/{file}\n")
                }
                4 => format!("read {image} /etc/{file}\n"),
                5 => format!("read {image} /d/{file}\n"),
                6 => format!("write {image} /d/{file}\n"),
                7 => format!("send {image} p{file}\n"),
                _ => format!("receive {image} p{file}\n"),
            };
        }
        current.iter().rev().for_each(|image| out += &format!("end {image}\n"));
        out
    })
}

fn image_of(observation: &Observation) -> u64 {
    match observation {
        Observation::Touched(o) => o.image.0,
        Observation::Summed(o) => o.image.0,
        other => panic!("only accesses are reordered, not {other:?}"),
    }
}

/// The told lines, the words of each in order.
fn lines(p: &Provenance) -> BTreeSet<Vec<String>> {
    let sorted = |line: &str| {
        let mut words: Vec<String> = line.split(' ').map(String::from).collect();
        words[1..].sort();
        words
    };
    text(p).lines().map(sorted).collect()
}

/// What each version derives from: what its makers had used before their last write, what was revised, and what came
/// through pipes until then.
fn derivations(p: &Provenance) -> BTreeMap<EntityNo, BTreeSet<EntityNo>> {
    let mut out: BTreeMap<EntityNo, BTreeSet<EntityNo>> = BTreeMap::new();
    for g in &p.generated {
        let of = out.entry(g.entity).or_default();
        of.extend(p.entity(g.entity).revision_of);
        let mut waiting = vec![(g.activity, g.last)];
        let mut seen: HashMap<ActivityNo, BootNs> = HashMap::new();
        while let Some((activity, until)) = waiting.pop() {
            if seen.get(&activity).is_some_and(|before| until <= *before) {
                continue;
            }
            seen.insert(activity, until);
            let used = p.used.iter().filter(|u| u.activity == activity && u.manner != Manner::Revised);
            of.extend(used.filter(|u| u.first <= until).map(|u| u.entity));
            let informed = p.informed.iter().filter(|i| i.informed == activity && i.received.0 <= until);
            waiting.extend(informed.map(|i| (i.informant, i.sent.1.min(until))));
        }
    }
    out
}

fn cyclic(graph: &BTreeMap<EntityNo, BTreeSet<EntityNo>>) -> Option<EntityNo> {
    fn visit(
        at: EntityNo,
        graph: &BTreeMap<EntityNo, BTreeSet<EntityNo>>,
        state: &mut HashMap<EntityNo, bool>,
    ) -> bool {
        if let Some(done) = state.get(&at) {
            return !done;
        }
        state.insert(at, false);
        let found = graph.get(&at).is_some_and(|of| of.iter().any(|next| visit(*next, graph, state)));
        state.insert(at, true);
        found
    }
    let mut state = HashMap::new();
    graph.keys().copied().find(|e| visit(*e, graph, &mut state))
}

proptest! {
    #[test]
    fn nothing_derives_from_itself(facts in facts()) {
        let told = told(Reader::default().observations(&facts));
        for (i, e) in told.entities.iter().enumerate() {
            if let Some(before) = e.revision_of {
                let b = told.entity(before);
                prop_assert!((before.0 as usize) < i && b.file == e.file && b.version + 1 == e.version, "{}", facts);
            }
        }
        let graph = derivations(&told);
        prop_assert_eq!(cyclic(&graph), None, "{}\n{}\n{:?}", facts, text(&told), graph);
    }

    #[test]
    fn what_lasts_is_a_task_at_the_end_too(facts in launches()) {
        let observations = Reader::default().observations(&facts);
        let at_the_end: BTreeSet<_> = told(observations.clone()).activities.iter().map(|a| a.image.0).collect();
        let mut lineage = Lineage::default();
        for (number, observation) in observations.into_iter().enumerate() {
            lineage.apply(observation);
            let mut lasting = lineage.tell().activities.into_iter().filter(|a| a.lasts);
            let gone = lasting.find(|a| !at_the_end.contains(&a.image.0));
            prop_assert!(gone.is_none(), "after {} of\n{}\n{:?}", number + 1, facts, gone);
        }
    }

    #[test]
    fn the_order_of_independent_programs_changes_nothing(facts in facts()) {
        let observations = Reader::default().observations(&facts);
        let (head, mut rest) = (observations[..HEAD_FACTS].to_vec(), observations[HEAD_FACTS..].to_vec());
        let as_it_was = told(observations);
        rest.sort_by_key(image_of);
        let one_by_one = told(head.into_iter().chain(rest));
        prop_assert_eq!(lines(&as_it_was), lines(&one_by_one), "{}", facts);
    }
}

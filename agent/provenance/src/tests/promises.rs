//! One test or more a promise, named by its number in SEMANTICS.md.

use super::{check, text, told};

/// 1: what a fork does to descriptors before its exec belongs to the image that it becomes.
#[test]
fn p01_redirections_of_a_fork_belong_to_its_exec() {
    check(
        "fork 0 1
         exec 1 2 /bin/sh
         fork 2 3
         create 3 /d/out 77
         exec 3 4 /bin/cat a
         read 4 /d/a
         write 4 /d/out 77
         end 4
         end 2",
        "sh
         cat </d/a@0 >/d/out@0",
    );
}

/// 1: also where the fork is a task itself, because it moved bytes before.
#[test]
fn p01_redirections_of_a_fork_that_is_a_task() {
    check(
        "fork 0 1
         exec 1 2 /bin/sh
         fork 2 3
         write 3 /d/log 5
         create 3 /d/out 77
         exec 3 4 /bin/true
         end 4
         end 2",
        "sh
         sh+ ~/d/log@0 >/d/log@1 |inherited:sh
         true >/d/out@0",
    );
}

/// 1: a creation that wrote no byte passes to the first writer of that open file (dash redirects in the parent).
#[test]
fn p01_an_empty_creation_passes_to_the_first_writer() {
    check(
        "fork 0 1
         exec 1 2 /bin/sh
         create 2 /d/out 77
         fork 2 3
         exec 3 4 /bin/cat
         write 4 /d/out 77
         close 2 w /d/out
         end 4
         end 2",
        "sh
         cat >/d/out@0",
    );
}

/// 1: not when the creator had closed it before: the same address is another open file then.
#[test]
fn p01_a_creation_stays_where_it_was_closed_before_the_write() {
    check(
        "fork 0 1
         exec 1 2 /bin/sh
         create 2 /d/out 77
         close 2 w /d/out
         fork 2 3
         exec 3 4 /bin/cat
         write 4 /d/out 77
         end 4
         end 2",
        "sh >/d/out@0
         cat ~/d/out@0 >/d/out@1",
    );
}

/// 1: a fork that ends without exec is a task; what it created is its own.
#[test]
fn p01_a_fork_without_exec_is_a_task() {
    check(
        "fork 0 1
         exec 1 2 /bin/sh
         fork 2 3
         create 3 /d/out
         end 3
         end 2",
        "sh
         sh+ >/d/out@0 |inherited:sh",
    );
}

/// 1: images that only exec on are folded.
#[test]
fn p01_launchers_are_folded() {
    let told = told(
        "fork 0 1
         exec 1 2 /usr/bin/env
         read 2 /etc/ld.so.cache
         exec 2 3 /bin/cat
         read 3 /d/a
         end 3",
    );
    assert_eq!(text(&told), "cat </etc/ld.so.cache@0 </d/a@0\n");
    assert_eq!(told.activities[0].through, ["env".into()]);
}

/// 2: an interpreter's activity is the script that it read; `-c` and options are none.
#[test]
fn p02_interpreters_are_called_by_their_script() {
    check(
        "fork 0 1
         exec 1 2 /usr/bin/python3.11 -W ignore train.py data.csv
         read 2 /d/train.py
         read 2 /d/data.csv
         end 2",
        "train.py </d/train.py@0 </d/data.csv@0",
    );
    check(
        "fork 0 1
         exec 1 2 /usr/bin/python3 -c code x.py
         read 2 /d/x.py
         end 2",
        "python3 </d/x.py@0",
    );
    check(
        "fork 0 1
         exec 1 2 /usr/bin/python3 -m pytest x.py
         read 2 /d/x.py
         end 2",
        "pytest </d/x.py@0",
    );
    check(
        "fork 0 1
         exec 1 2 /bin/cat in.txt
         read 2 /d/in.txt
         end 2",
        "cat </d/in.txt@0",
    );
}

/// 6: two writers and a reader of one log; the writer that goes on after the other begins a version again.
#[test]
fn p06_two_writers_and_a_reader() {
    check(
        "fork 0 1
         exec 1 2 /bin/a
         fork 2 3
         exec 3 4 /bin/b
         fork 2 5
         exec 5 6 /bin/c
         @100 create 2 /d/log 1
         @110 write 2 /d/log 1
         @120 write 4 /d/log 2
         @130 read 6 /d/log
         @140 until 2 w /d/log 140",
        "a ~/d/log@1 >/d/log@0 >/d/log@2
         b ~/d/log@0 >/d/log@1
         c </d/log@1",
    );
}

/// 6: an append keeps its earlier contributors by revision.
#[test]
fn p06_an_append_revises() {
    let told = told(
        "fork 0 1
         exec 1 2 /bin/a
         write 2 /d/log
         end 2",
    );
    assert_eq!(text(&told), "a ~/d/log@0 >/d/log@1\n");
    assert_eq!(told.entities[1].revision_of, Some(crate::entity::EntityNo(0)));
}

/// 6: `sort -o f f` has f as both, in two versions; truncation does not revise.
#[test]
fn p06_truncation_begins_anew() {
    let told = told(
        "fork 0 1
         exec 1 2 /bin/sort
         read 2 /d/f
         cut 2 /d/f 3
         write 2 /d/f 3
         end 2",
    );
    assert_eq!(text(&told), "sort </d/f@0 >/d/f@1\n");
    assert_eq!(told.entities[1].revision_of, None);
}

/// 6: the first write after somebody else has read begins a version.
#[test]
fn p06_a_write_after_a_read_begins_a_version() {
    check(
        "fork 0 1
         exec 1 2 /bin/a
         fork 2 3
         exec 3 4 /bin/b
         @100 create 2 /d/f 1
         @110 write 2 /d/f 1
         @120 read 4 /d/f
         @130 until 2 w /d/f 130",
        "a >/d/f@0 >/d/f@1
         b </d/f@0",
    );
}

/// 6: a version that somebody has read is written no more: what its writer had used later is not in it.
#[test]
fn p06_a_version_ends_with_its_first_reader() {
    let told = told(
        "fork 0 1
         exec 1 2 /bin/a
         fork 2 3
         exec 3 4 /bin/b
         @100 write 2 /d/f
         @200 read 4 /d/f
         @300 read 2 /d/late
         @400 until 2 w /d/f 400",
    );
    assert_eq!(text(&told), "a ~/d/f@0 </d/late@0 >/d/f@1 >/d/f@2\nb </d/f@1\n");
    let until = |version: u32| {
        let of = told.generated.iter().find(|g| told.entity(g.entity).version == version);
        of.expect("because it was made").last.0
    };
    assert_eq!((until(1), until(2)), (199, 400));
}

/// 6: one who goes on reading while another writes has read that version too, and not before it began.
#[test]
fn p06_a_long_reader_reads_later_versions() {
    let told = told(
        "fork 0 1
         exec 1 2 /bin/a
         fork 2 3
         exec 3 4 /bin/tail
         @100 read 4 /d/f
         @200 write 2 /d/f
         @300 until 4 r /d/f 300",
    );
    assert_eq!(text(&told), "a ~/d/f@0 >/d/f@1\ntail </d/f@0 </d/f@1\n");
    let first: Vec<u64> = told.used.iter().filter(|u| u.activity.0 == 1).map(|u| u.first.0).take(2).collect();
    assert_eq!(first, [100, 201]);
}

/// 7: rename generates nothing; the file keeps its maker and gets the name; what it replaced is gone.
#[test]
fn p07_rename_gives_a_name() {
    let told = told(
        "fork 0 1
         exec 1 2 /bin/a
         create 2 /d/out.tmp=new 1
         write 2 /d/out.tmp=new 1
         read 2 /d/out=old
         rename 2 /d/out.tmp=new /d/out=old
         end 2",
    );
    assert_eq!(text(&told), "a </d/out@0 >/d/out.tmp@0 =/d/out.tmp→/d/out\n");
    let made = told.entities.iter().find(|e| e.names.len() == 2).expect("because it was renamed");
    assert_eq!(&*made.last_path(), "/d/out");
    assert!(made.exists());
    assert_eq!(told.entities.iter().filter(|e| e.invalidated.is_some()).count(), 1);
}

/// 7: a file that has another name is not gone with one of them, but with the last.
#[test]
fn p07_a_file_goes_with_its_last_name() {
    let linked = "fork 0 1
         exec 1 2 /bin/a
         create 2 /d/f 1
         write 2 /d/f 1
         link 2 /d/f /d/g=/d/f
         unlink 2 /d/f";
    let one_left = told(linked);
    assert!(one_left.entities[0].exists());
    assert_eq!(&*one_left.entities[0].last_path(), "/d/g");
    let none_left = told(&format!("{linked}\nunlink 2 /d/g=/d/f"));
    assert!(!none_left.entities[0].exists());
}

/// 7 and 12: born and gone within the workflow is temporary.
#[test]
fn p12_temporary() {
    check(
        "fork 0 1
         exec 1 2 /bin/a
         create 2 /d/t 1
         write 2 /d/t 1
         unlink 2 /d/t
         end 2",
        "a >/d/t@0!",
    );
}

/// 3 (identity): unlinked and made again under the same name is another file.
#[test]
fn identity_is_not_the_path() {
    check(
        "fork 0 1
         exec 1 2 /bin/a
         fork 2 3
         exec 3 4 /bin/b
         @100 create 2 /d/x=one 1
         @110 write 2 /d/x=one 1
         @120 unlink 2 /d/x=one
         @130 create 2 /d/x=two 2
         @140 write 2 /d/x=two 2
         @150 read 4 /d/x=two",
        "a >/d/x@0! >/d/x@0
         b </d/x@0",
    );
}

/// 8: bytes through a pipe inform; a reader that stopped before the writer's first byte is not informed.
#[test]
fn p08_pipes_join_when_bytes_went_through() {
    check(
        "fork 0 1
         exec 1 2 /bin/sh
         fork 2 3
         exec 3 4 /bin/a
         fork 2 5
         exec 5 6 /bin/b
         @100 send 4 p
         @110 receive 6 p",
        "sh
         a
         b |pipe:a",
    );
    let late = told(
        "fork 0 1
         exec 1 2 /bin/sh
         fork 2 3
         exec 3 4 /bin/a
         fork 2 5
         exec 5 6 /bin/b
         @100 receive 6 p
         @110 send 4 p",
    );
    assert!(late.informed.is_empty());
    assert_eq!(late.gaps.len(), 1, "the bytes that b got came from somebody untraced");
}

/// 8: a pipe that one image reads and writes carries tokens: make's jobserver joins nothing.
#[test]
fn p08_the_jobserver_joins_nothing() {
    check(
        "fork 0 1
         exec 1 2 /usr/bin/make
         fork 2 3
         exec 3 4 /usr/bin/make
         send 2 tokens
         receive 4 tokens
         send 4 tokens
         receive 2 tokens",
        "make
         make",
    );
}

/// 9: a fork that does not exec has what its parent had used.
#[test]
fn p09_fork_copies_memory() {
    check(
        "fork 0 1
         exec 1 2 /usr/bin/python3 pool.py
         read 2 /d/pool.py
         read 2 /d/data
         fork 2 3
         create 3 /d/out 1
         write 3 /d/out 1
         end 3
         end 2",
        "pool.py </d/pool.py@0 </d/data@0
         pool.py+ >/d/out@0 |inherited:pool.py",
    );
}

/// 11: told in any order of independent processes, the same follows.
#[test]
fn p11_order_of_arrival_does_not_matter() {
    let a = "@100 create 4 /d/x 1\n@110 write 4 /d/x 1\n";
    let b = "@120 read 6 /d/x\n@130 create 6 /d/y 2\n@140 write 6 /d/y 2\n";
    let head = "fork 0 1\nexec 1 2 /bin/sh\nfork 2 3\nexec 3 4 /bin/a\nfork 2 5\nexec 5 6 /bin/b\n";
    let expected = "sh\n a >/d/x@0\n b </d/x@0 >/d/y@0";
    check(&format!("{head}{a}{b}"), expected);
    check(&format!("{head}{b}{a}"), expected);
}

/// 13: status of exit codes and signals.
#[test]
fn p13_status() {
    use crate::activity::Outcome;
    assert_eq!(Outcome::of_code(0).status(), "FINISHED");
    assert_eq!(Outcome::of_code(3 << 8), Outcome::Exited(3));
    assert_eq!(Outcome::of_code(3 << 8).status(), "ERROR");
    assert_eq!(Outcome::of_code(11 | 0x80), Outcome::Signalled(11, true));
}

/// 17: books that do not balance are a gap, and so is every loss.
#[test]
fn p17_losses_are_gaps() {
    use crate::lineage::Lineage;
    use crate::observation::{Counted, Lost, Observation};
    let mut lineage = Lineage::default();
    lineage.apply(Observation::Counted(Counted { forked: 5, ended: 3, living: 1, written: 9, decoded: 9 }));
    lineage.apply(Observation::Lost(Lost { source: "kernel ring".into(), cause: "touched".into(), count: 4 }));
    let kinds: Vec<_> = lineage.tell().gaps.iter().map(|g| (g.kind.to_string(), g.count)).collect();
    assert_eq!(kinds, [("lost:kernel ring".to_string(), 4), ("processes".to_string(), 1)]);
    let mut lineage = Lineage::default();
    lineage.apply(Observation::Counted(Counted { forked: 1, ended: 1, living: 0, written: 9, decoded: 7 }));
    let kinds: Vec<_> = lineage.tell().gaps.iter().map(|g| (g.kind.to_string(), g.count)).collect();
    assert_eq!(kinds, [("records".to_string(), 2)]);
}

/// What no kernel tells, a damaged log may: images that begin twice, and images that forked each other.
#[test]
fn contradictions_end() {
    check("fork 0 1\nexec 1 2 /bin/a\nexec 2 2 /bin/b\nexec 2 1 /bin/c\nread 2 /d/x", "a </d/x@0");
    check("fork 0 1\nexec 1 2 /bin/a\nfork 3 2\nfork 2 3\nwrite 3 /d/x", "a\n a+ ~/d/x@0 >/d/x@1 |inherited:a");
    check("fork 2 1\nfork 1 2\nread 2 /d/x", "?+\n?+ </d/x@0 |inherited:?");
    check("fork 1 1\nread 1 /d/x", "?+ </d/x@0");
}

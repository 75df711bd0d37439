"""The process tree on small trees worked out by hand."""

import math

import numpy as np
import pytest

from eguard.detection.process_tree import ProcessTree
from eguard.events import UNCOUNTED, Event, EventBatch, EventClass


def exec_(time, pid, parent_pid, comm="p", parent_comm="q", **extra):
    return Event(
        time_unix=time,
        host_id="h",
        event_class=EventClass.PROCESS_EXEC,
        pid=pid,
        parent_pid=parent_pid,
        comm=comm,
        parent_comm=parent_comm,
        **extra,
    )


def exit_(time, pid, comm="p", **extra):
    return Event(time_unix=time, host_id="h", event_class=EventClass.PROCESS_EXIT, pid=pid, comm=comm, **extra)


def other(time, pid=0, comm="p", parent_comm="", **extra):
    return Event(
        time_unix=time, host_id="h", event_class=UNCOUNTED, pid=pid, comm=comm, parent_comm=parent_comm, **extra
    )


def observe(tree, *events, rows=None):
    return tree.observe(EventBatch.from_events(events), rows)


def test_depth_breadth_and_ancestors_of_a_small_tree():
    columns = observe(
        ProcessTree(),
        exec_(0, 10, 1, "bash", "sshd"),
        exec_(1, 11, 10, "make", "bash"),
        exec_(2, 12, 11, "cc", "make"),
        exec_(3, 13, 11, "cc", "make"),
        exit_(4, 12, "cc"),
        other(5, 13, "cc"),
    )
    assert columns.depth.tolist() == [1, 2, 3, 3, 3, 3]
    assert columns.breadth.tolist() == [1, 1, 1, 2, 1, 1]
    assert columns.spawn_count.tolist() == [1, 1, 1, 2, 2, 2]
    assert columns.ancestors[5] == ("make", "bash", "sshd")


def test_child_entropy_is_that_of_the_names_over_log2_of_the_children():
    names = ["ls", "ls", "cat", "id"]
    columns = observe(ProcessTree(), *(exec_(t, 20 + t, 10, name, "sh") for t, name in enumerate(names)))
    entropy = 0.5 * 1 + 2 * 0.25 * 2
    assert columns.child_entropy.tolist() == pytest.approx(
        [0.0, 0.0, (math.log2(3) - 2 / 3) / math.log2(3), entropy / 2], abs=1e-12
    )


def test_distinct_children_have_entropy_one_and_equal_ones_zero():
    tree = ProcessTree()
    assert observe(tree, exec_(0, 20, 1, "a"), exec_(0, 21, 1, "b")).child_entropy[-1] == 1.0
    assert observe(tree, exec_(0, 30, 2, "a"), exec_(0, 31, 2, "a")).child_entropy[-1] == 0.0


def test_only_children_of_the_last_minute_count_as_spawned():
    columns = observe(
        ProcessTree(), exec_(0, 20, 10), exec_(30, 21, 10), exec_(60, 22, 10), other(89.9, 22), other(90, 22)
    )
    assert columns.spawn_count.tolist() == [1, 2, 2, 2, 1]


def test_a_reused_pid_is_another_process_and_its_forerunner_exits():
    tree = ProcessTree()
    columns = observe(
        tree,
        exec_(0, 10, 1, "bash", "sshd"),
        exec_(1, 11, 10, "ls", "bash"),
        exec_(9, 11, 1, "cron", "init"),  # the exit of ls was lost
        other(9.5, 11, "cron"),
        other(5, 11, "ls"),  # late: at this time pid 11 was still ls
    )
    assert columns.depth.tolist() == [1, 2, 1, 1, 2]
    assert columns.process[1] == columns.process[4] != columns.process[2] == columns.process[3]
    assert columns.ancestors[3] == ("sshd",)  # pid 1 was first heard of under this name
    assert tree.live_count == 3  # the stub of pid 1, bash and cron


def test_a_pid_started_again_after_its_exit_is_another_process():
    columns = observe(ProcessTree(), exec_(0, 11, 10, "ls"), exit_(1, 11, "ls"), exec_(2, 11, 10, "ls"))
    assert columns.process[0] == columns.process[1] != columns.process[2]
    assert columns.breadth.tolist() == [1, 0, 1]


def test_a_second_exec_of_a_live_pid_changes_the_image_not_the_process():
    columns = observe(ProcessTree(), exec_(0, 11, 10, "sh", "make"), exec_(0.1, 11, 10, "cc", "make"))
    assert columns.process[0] == columns.process[1]
    assert columns.breadth.tolist() == [1, 1]


def test_guids_tell_processes_of_one_pid_apart():
    columns = observe(
        ProcessTree(),
        exec_(0, 11, 10, "a", process_guid="{1}", parent_guid="{0}"),
        exec_(1, 11, 10, "b", process_guid="{2}", parent_guid="{0}"),
        other(2, 11, "a", process_guid="{1}"),
        exec_(3, 12, 11, "c", process_guid="{3}", parent_guid="{2}"),
    )
    assert columns.process[0] == columns.process[2] != columns.process[1]
    assert columns.ancestors[3][0] == "b"


def test_one_start_reported_by_two_logs_is_one_process():
    tree = ProcessTree()
    sysmon = exec_(0.00, 11, 10, "cmd.exe", "explorer.exe", process_guid="{1}", parent_guid="{0}", event_code=1)
    security = exec_(0.01, 11, 10, "cmd.exe", "explorer.exe", event_code=4688)
    columns = observe(tree, sysmon, security)
    assert columns.process[0] == columns.process[1]
    assert columns.breadth.tolist() == [1, 1]


def test_an_unseen_parent_becomes_a_stub_that_later_children_share():
    tree = ProcessTree()
    columns = observe(tree, exec_(0, 11, 10, "a", "daemon"), exec_(1, 12, 10, "b", "daemon"))
    assert columns.breadth.tolist() == [1, 2]
    assert columns.root[0] == columns.root[1]
    assert len(tree) == 3


def test_children_of_a_session_leader_are_roots_of_their_own():
    columns = observe(
        ProcessTree(),
        exec_(0, 11, 10, "cmd.exe", "explorer.exe"),
        exec_(1, 12, 10, "word.exe", "explorer.exe"),
        exec_(2, 13, 11, "ping.exe", "cmd.exe"),
    )
    assert columns.root[0] != columns.root[1]
    assert columns.root[2] == columns.root[0]


def test_names_alone_make_an_approximate_tree():
    columns = observe(
        ProcessTree(),
        exec_(0, 0, 0, "cmd.exe", "explorer.exe"),
        exec_(1, 0, 0, "cmd.exe", "cmd.exe"),
        exec_(2, 0, 0, "net.exe", "cmd.exe"),
        other(3, 0, "net.exe"),
        exit_(4, 0, "net.exe"),
        other(5, 0, "cmd.exe", "explorer.exe"),
    )
    assert columns.depth.tolist() == [1, 2, 3, 3, 3, 1]
    assert columns.ancestors[3] == ("cmd.exe", "cmd.exe", "explorer.exe")
    assert columns.breadth.tolist() == [1, 1, 1, 1, 0, 1]


def test_names_alone_recognise_the_second_report_of_a_start_and_of_an_exit():
    tree = ProcessTree()
    columns = observe(
        tree,
        exec_(0.0, 0, 0, "a.exe", "b.exe", event_code=1),
        exec_(0.3, 0, 0, "a.exe", "b.exe", event_code=4688),
        exec_(0.4, 0, 0, "a.exe", "b.exe", event_code=1),
        exit_(1.0, 0, "a.exe", event_code=5),
        exit_(1.1, 0, "a.exe", event_code=4689),
    )
    assert columns.breadth.tolist() == [1, 1, 2, 1, 1]
    assert tree.live_count == 2


def test_events_of_unknown_processes_are_described_by_what_they_say():
    columns = observe(ProcessTree(), other(0, 0, "a", ""), other(0, 0, "a", "b"), other(0, 7, "a", ""))
    assert columns.depth.tolist() == [0, 1, 0]
    assert columns.breadth.tolist() == [0, 0, 0]
    assert columns.ancestors == [(), ("b",), ()]
    assert columns.process == ["a", "a", "a#7"]


def test_other_events_never_change_the_tree():
    tree = ProcessTree()
    observe(tree, *(other(t, t, "a", "b") for t in range(1, 50)))
    assert len(tree) == 0


def test_the_tree_stays_within_its_capacity_and_forgets_the_dead_first():
    tree = ProcessTree(capacity=10)
    observe(tree, exec_(0, 5, 1, "keep", "init"))
    for pid in range(100, 160):
        observe(tree, exec_(pid, pid, 5, "job", "keep"), exit_(pid + 0.5, pid, "job"))
        assert len(tree) <= 10
    columns = observe(tree, other(999, 5, "keep"))
    assert columns.depth.tolist() == [1]
    assert tree.live_count == 2


def test_a_tree_of_live_processes_stays_within_its_capacity():
    tree = ProcessTree(capacity=8)
    columns = observe(tree, *(exec_(t, 100 + t, 99 + t, f"p{t}", f"p{t - 1}") for t in range(100)))
    assert len(tree) == 8
    assert columns.depth[-1] == 100
    assert len(columns.ancestors[-1]) == 16


def test_rows_restrict_the_description_and_not_the_tree():
    events = [exec_(t, 10 + t, 9 + t, "p", "p") for t in range(6)]
    whole, part = ProcessTree(), ProcessTree()
    everything = observe(whole, *events)
    some = observe(part, *events, rows=[1, 4])
    assert some.depth.tolist() == everything.depth[[1, 4]].tolist()
    assert len(part) == len(whole)


def test_reset_forgets_and_never_reuses_node_ids():
    tree = ProcessTree()
    first = observe(tree, exec_(0, 10, 1)).process[0]
    tree.reset()
    assert len(tree) == 0
    assert observe(tree, exec_(0, 10, 1)).process[0] > first


def test_random_histories_keep_counts_that_a_recount_confirms():
    rng = np.random.default_rng(5)
    tree = ProcessTree(capacity=10_000)
    parent_of, live = {}, [1]
    for step in range(3000):
        if rng.random() < 0.6 or len(live) < 2:
            pid, parent = 1000 + step, live[rng.integers(len(live))]
            columns = observe(tree, exec_(float(step), pid, parent, f"n{pid % 7}", "x"))
            parent_of[pid] = parent
            live.append(pid)
            siblings = sum(parent_of.get(other_pid) == parent for other_pid in live)
            assert columns.breadth.tolist() == [siblings]
        else:
            pid = live.pop(1 + int(rng.integers(len(live) - 1)))
            columns = observe(tree, exit_(float(step), pid))
            siblings = sum(parent_of.get(other_pid) == parent_of[pid] for other_pid in live)
            assert columns.breadth.tolist() == [siblings]

from eguard.sensor.process_table import EXITED_CAPACITY, KnownProcess, ProcessTable
from eguard.sensor.procfs import ProcessFacts


def test_an_orphan_keeps_the_name_of_the_parent_that_started_it():
    table = ProcessTable()
    table.started(KnownProcess(5, 1, "make"))
    table.forked(6, parent_pid=5)
    table.exited(5)
    assert table.get(6).parent_comm == "make"
    assert table.get(5).comm == "make"


def test_a_scan_names_parents_whatever_the_order():
    table = ProcessTable()
    table.scan([ProcessFacts(9, 3, "child", 0, "", ""), ProcessFacts(3, 1, "parent", 0, "", "")])
    assert (table.get(9).parent_comm, table.get(3).parent_comm) == ("parent", "")


def test_the_table_is_bounded_and_forgets_the_oldest():
    table = ProcessTable(capacity=3)
    for pid in range(1_000_000, 1_000_010):
        table.started(KnownProcess(pid, comm=f"p{pid}"))
    assert len(table) == 3
    assert table.get(1_000_000) is None
    assert table.get(1_000_009).comm == "p1000009"


def test_those_that_are_gone_are_bounded_too():
    table = ProcessTable()
    for pid in range(1, EXITED_CAPACITY + 3):
        table.started(KnownProcess(pid, comm="x"))
        table.exited(pid)
    assert (table.get(1), table.get(2)) == (None, None)
    assert table.get(3).comm == "x"
    assert len(table) == 0


def test_a_pid_that_comes_back_is_another_process():
    table = ProcessTable()
    table.started(KnownProcess(7, comm="old"))
    table.exited(7)
    table.started(KnownProcess(7, comm="new"))
    assert table.get(7).comm == "new"
    assert table.exited(7).comm == "new"


def test_a_pid_that_nobody_knows_is_looked_up_and_may_stay_nameless():
    assert ProcessTable().find(0) == KnownProcess(0)
    assert ProcessTable().find(2**22 + 5).comm == ""

from eguard.events.parsers import ParseReport


def test_rows_are_counted_in_one_place_each():
    report = ParseReport()
    report.accept(3)
    report.skip("other_channel", 2)
    report.reject("bad_time")
    report.reject("bad_json", 4)
    report.repair("cut_xml")
    assert report.rows_read == 10
    assert list(report.to_dict()["rejected"].items()) == [("bad_json", 4), ("bad_time", 1)]
    assert report.to_dict()["repaired"] == {"cut_xml": 1}

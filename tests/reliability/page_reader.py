"""A reader of the baseline store written from docs/reference/baseline-store.md alone: the judge of what survives.

It imports nothing of eguard. `read_folder(files)` takes {name: bytes} and returns the state as `eguard store dump`
prints it, with `operation` and `generation`; ``damage`` lists files that are not what they should be.
"""

import math
import struct
import zlib


class BadBytesError(Exception):
    pass


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def bytes(self, count):
        if self.at + count > len(self.data):
            raise BadBytesError("short")
        self.at += count
        return self.data[self.at - count : self.at]

    def numbers(self, kind, count):
        values = struct.unpack(f"<{count}{kind}", self.bytes(count * struct.calcsize(f"<{kind}")))
        if kind == "q" and any(value < 0 for value in values):
            raise BadBytesError("negative")
        return list(values)

    def number(self, kind):
        return self.numbers(kind, 1)[0]

    def keys(self, count):
        lengths = self.numbers("I", 2 * count)
        names = [self.bytes(length).decode("utf-8", "surrogatepass") for length in lengths]
        return [(names[2 * row], names[2 * row + 1]) for row in range(count)]

    def ids(self):
        return [self.bytes(length).decode("utf-8", "surrogatepass") for length in self.numbers("I", self.number("I"))]

    def is_empty(self):
        return self.at == len(self.data)


def read_header(data, magic, body):
    if len(data) < 64 or data[:8] != magic:
        raise BadBytesError("not a header")
    version, checksum, generation, operation, length = struct.unpack_from("<IIQQQ", data, 8)
    if zlib.crc32(data[:12] + data[16:64] + body) != checksum or version != 1:
        raise BadBytesError("header")
    return {
        "generation": generation,
        "operation": operation,
        "length": length,
        "incarnation": data[40:56].hex(),
        "capacity": struct.unpack_from("<I", data, 56)[0],
    }


def read_record(data, at):
    """Return (payload, end) of the intact record at `at`, or None."""
    if data[at : at + 4] != b"eGjr" or len(data) < at + 12:
        return None
    length, checksum = struct.unpack_from("<II", data, at + 4)
    payload = data[at + 12 : at + 12 + length]
    if not 16 <= length <= 67_108_864 or len(payload) != length:
        return None
    if zlib.crc32(data[at + 4 : at + 8] + payload) != checksum:
        return None
    return payload, at + 12 + length


def read_journal(data):
    """Return header, [(operation, changes)], and how the journal ends."""
    header = read_header(data, b"eGuardBJ", b"")
    records, at = [], 64
    while at < len(data):
        found = read_record(data, at)
        if found is None:
            later = any(read_record(data, position) for position in range(at + 1, len(data)))
            return header, records, "damaged" if later else "torn"
        payload, at = found
        generation, operation = struct.unpack_from("<QQ", payload)
        if generation != header["generation"] or operation != header["operation"] + len(records) + 1:
            return header, records, "damaged"
        records.append((operation, payload[16:]))
    return header, records, "whole"


def read_rows(cursor):
    count = cursor.number("I")
    slots, flags, classes = (cursor.numbers(kind, count) for kind in "HBB")
    first, last, seq = cursor.numbers("d", count), cursor.numbers("d", count), cursor.numbers("q", count)

    def flagged(flag):
        return [row for row in range(count) if flags[row] & flag]

    def column(kind, flag, missing):
        rows = flagged(flag)
        values = dict(zip(rows, cursor.numbers(kind, len(rows)), strict=True))
        return [values.get(row, missing) for row in range(count)]

    def moments(flag):
        rows = flagged(flag)
        parts = [cursor.numbers(kind, len(rows)) for kind in "qdd"]
        values = dict(zip(rows, zip(*parts, strict=True), strict=True))
        return [dict(zip(("count", "mean", "m2"), values.get(row, (0, 0.0, 0.0)), strict=True)) for row in range(count)]

    learned = column("d", 2, math.nan)
    gaps, payload = moments(4), moments(8)
    relearn, dirty = column("d", 16, math.nan), column("q", 32, 0)
    counts = [[cursor.number("q") if classes[row] >> k & 1 else 0 for k in range(8)] for row in range(count)]
    keys = dict(zip(flagged(1), cursor.keys(len(flagged(1))), strict=True))
    rows = []
    for row in range(count):
        profile = {
            "counts": counts[row],
            "sample_count": sum(counts[row]),
            "first_seen": or_null(first[row]),
            "last_seen": or_null(last[row]),
            "last_learned": or_null(learned[row]),
            "interarrival": gaps[row],
            "payload": payload[row],
            "relearn_since": or_null(relearn[row]),
            "seq": seq[row],
            "dirty_since": dirty[row],
        }
        rows.append((slots[row], keys.get(row), profile))
    return rows


def or_null(value):
    return value if math.isfinite(value) else None


class State:
    def __init__(self):
        self.facts, self.owners, self.order = {}, {}, {}
        self.seeds, self.seed_generation, self.held = {}, 0, {}

    def apply(self, data):
        cursor = Cursor(data)
        status = ("learning", "active", "stale")[cursor.number("B")]
        times, numbers = cursor.numbers("d", 3), cursor.numbers("q", 3)
        self.facts = {"status": status}
        self.facts |= zip(("learning_started", "learning_completed", "last_observed"), map(or_null, times), strict=True)
        self.facts |= zip(("sequence", "uploaded_sequence", "policy_revision"), numbers, strict=True)
        last_tag = 0
        while not cursor.is_empty():
            tag, length = cursor.number("B"), cursor.number("I")
            block = Cursor(cursor.bytes(length))
            assert last_tag < tag <= 6
            last_tag = tag
            (None, self.evict, self.see, self.change, self.seed, self.release, self.hold)[tag](block)
            assert block.is_empty()

    def evict(self, block):
        for slot in block.numbers("H", block.number("I")):
            del self.owners[slot], self.order[slot]

    def see(self, block):
        for slot in self.change(block):
            self.order[slot] = self.order.pop(slot)

    def change(self, block):
        rows = read_rows(block)
        for slot, key, profile in rows:
            if key is not None:
                assert slot not in self.owners
                assert key not in [owner for owner, _ in self.owners.values()]
                self.order[slot] = None
            else:
                key = self.owners[slot][0]  # noqa: PLW2901
            self.owners[slot] = (key, profile)
        return [slot for slot, _, _ in rows]

    def seed(self, block):
        self.seed_generation, count = block.number("Q"), block.number("I")
        means = block.numbers("d", 8 * count)
        self.seeds = {key: means[8 * row : 8 * row + 8] for row, key in enumerate(block.keys(count))}

    def release(self, block):
        for name in block.ids():
            del self.held[name]

    def hold(self, block):
        count = block.number("I")
        times, counts = block.numbers("d", count), block.numbers("q", 8 * count)
        keys = block.keys(count)
        for row, name in enumerate(block.ids()):
            self.held[name] = (keys[row], counts[8 * row : 8 * row + 8], times[row])

    def dump(self):
        profiles = []
        for slot in self.order:
            key, profile = self.owners[slot]
            prior = self.seeds.get(key, self.seeds.get((key[0], "fleet")))
            generation = 0 if prior is None else self.seed_generation
            found = {"process_key": spell(key), "prior": prior if generation else None, "prior_generation": generation}
            profiles.append(profile | found)
        held = [
            {"window_id": name, "process_key": spell(key), "counts": counts, "held_at": or_null(at)}
            for name, (key, counts, at) in self.held.items()
        ]
        seeds = {spell(key): mean for key, mean in self.seeds.items()}
        return self.facts | {
            "profiles": profiles,
            "seed_generation": self.seed_generation,
            "seeds": seeds,
            "held": held,
        }


def spell(key):
    return ":".join("".join(map(spell_character, name)) if name.strip() else "unknown" for name in key)


def spell_character(character):
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        return f"%u{code:04X}"
    return f"%{code:02X}" if character in "%:" or code < 0x20 or code == 0x7F else character


def read_snapshot(data):
    header = read_header(data, b"eGuardBS", data[64:])
    if header["length"] != len(data) - 64:
        raise BadBytesError("length")
    return header, data[64:]


def read_all(files, names, read, damage):
    found = {}
    for name in names:
        if name in files:
            try:
                found[name] = read(files[name])
            except BadBytesError:
                damage.append(name)
    return found


def read_folder(files):
    damage = []
    snapshots = read_all(files, ("baselines.bin", "baselines.bin.previous"), read_snapshot, damage)
    journals = read_all(files, ("baselines.journal", "baselines.journal.previous"), read_journal, damage)
    damage += [name for name, (_, _, ending) in journals.items() if ending == "damaged"]
    state = State()
    if snapshots:
        header, body = max(snapshots.values(), key=lambda item: item[0]["operation"])
        state.apply(body)
    else:
        header = next((header for header, _, _ in journals.values() if header["operation"] == 0), None)
        if header is None:
            return None if not files else {"operation": 0, "generation": 0, "damage": damage}
        state.facts = {"status": "learning", "sequence": 0, "uploaded_sequence": 0, "policy_revision": 0}
        state.facts |= dict.fromkeys(("learning_started", "learning_completed", "last_observed"))
    operation, waiting = header["operation"], list(journals.values())
    while usable := [
        entry
        for entry in waiting
        if entry[0]["operation"] == operation
        and entry[1]
        and entry[0]["incarnation"] == header["incarnation"]
        and entry[0]["generation"] >= header["generation"]
    ]:
        waiting.remove(usable[0])
        for number, changes in usable[0][1]:
            state.apply(changes)
            operation = number
    return state.dump() | {"operation": operation, "generation": header["generation"], "damage": damage}

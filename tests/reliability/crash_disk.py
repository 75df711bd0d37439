"""A folder in memory that fails at a chosen call and forgets what was not synced.

`CrashDisk` counts every call of the file layer. With ``fail_at`` set, that call either ends the world (`PowerCutError`,
which no code under test catches) or raises OSError, before or after doing a part of its work. `survivors()` gives the
folders that a kernel may leave behind: everything handed to it (a killed process), only what was synced (a power cut),
and states between the two, for the kernel writes names and data in its own order.
"""

import errno


class PowerCutError(BaseException):
    pass


class CrashDisk:
    def __init__(self, files=None, fail_at=None, error=None, partial=False):
        self.inodes = {number: bytearray(data) for number, data in enumerate((files or {}).values())}
        self.synced = {number: bytes(data) for number, data in self.inodes.items()}
        self.dir = dict(zip(files or {}, self.inodes, strict=True))
        self.dir_history = [dict(self.dir)]  # since the folder was synced, oldest first
        self.calls, self.fail_at, self.error, self.partial = [], fail_at, error, partial

    def _count(self, what):
        """Return whether this call is the one that fails."""
        self.calls.append(what)
        return len(self.calls) - 1 == self.fail_at

    def _fail(self):
        if self.error is None:
            raise PowerCutError
        raise OSError(self.error, errno.errorcode[self.error])

    def _step(self, what):
        if self._count(what):
            self._fail()

    def _names_changed(self):
        self.dir_history.append(dict(self.dir))

    def names(self):
        self._step("names")
        return sorted(self.dir)

    def read(self, name, max_bytes):
        self._step("read")
        return bytes(self.inodes[self.dir[name]][: max_bytes + 1]) if name in self.dir else None

    def create(self, name):
        self.unlink(name)
        self._step("create")
        number = len(self.inodes)
        self.inodes[number], self.synced[number] = bytearray(), b""
        self.dir[name] = number
        self._names_changed()
        return number

    def open_existing(self, name):
        self._step("open")
        return self.dir[name]

    def write(self, handle, data):
        fails = self._count("write")
        if fails and self.partial:
            self.inodes[handle] += data[: len(data) // 2]
        if fails:
            self._fail()
        self.inodes[handle] += data

    def sync(self, handle):
        if self._count("fsync"):
            if self.error is not None:
                # The pages are dropped, and read back from the disk: what a failed fsync may come to.
                self.inodes[handle] = bytearray(self.synced[handle])
            self._fail()
        self.synced[handle] = bytes(self.inodes[handle])

    def sync_data(self, handle):
        self.sync(handle)

    def truncate(self, handle, length):
        self._step("truncate")
        del self.inodes[handle][length:]

    def close(self, _):
        self._step("close")

    def rename(self, source, target):
        self._step("rename")
        self.dir[target] = self.dir.pop(source)
        self._names_changed()

    def unlink(self, name):
        self._step("unlink")
        if self.dir.pop(name, None) is not None:
            self._names_changed()

    def sync_folder(self):
        self._step("fsync folder")
        self.dir_history = [dict(self.dir)]

    def release(self):
        pass

    def survivors(self):
        """Return distinct folders {name: bytes} that a crash now may leave."""
        found = []
        for names in self.dir_history:
            for data in self._data_versions():
                folder = {name: data(number) for name, number in names.items()}
                if folder not in found:
                    found.append(folder)
        return found

    def _data_versions(self):
        """Yield: all data; only what was synced; new lengths with only half of the new data, or with zeros in it."""

        def half(number):
            kept, new = self.synced[number], bytes(self.inodes[number])
            return new[: len(kept) + (len(new) - len(kept) + 1) // 2] if new.startswith(kept) else new

        def zeros(number):
            kept, new = self.synced[number], bytes(self.inodes[number])
            return kept + bytes(len(new) - len(kept)) if new.startswith(kept) else new

        yield lambda number: bytes(self.inodes[number])
        yield lambda number: self.synced[number]
        yield half
        yield zeros

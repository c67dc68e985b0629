"""Random sequences of file-system calls on two directories, compared call by call: result, errno, and now and then the whole trees.

    differential.py MOUNT LOCAL [--steps N] [--seed N]

MOUNT is inside the mount under test, LOCAL on a local file system; both empty. Prints the seed; a failure names the step, the call and both results.
"""
import argparse
import ctypes
import errno
import os
import random
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16
SIZES = (0, 1, 100, 4095, 4096, 4097, 65535, 65536, 70000, 200000)


def renameat2(a, b, flags):
    if libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), flags) != 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))


def fallocate(fd, mode, off, length):
    if libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(length)) != 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))


def describe(st):
    kind = stat.S_IFMT(st.st_mode)
    size = st.st_size if stat.S_ISREG(kind) or stat.S_ISLNK(kind) else None
    return {"mode": oct(st.st_mode), "nlink": st.st_nlink, "uid": st.st_uid, "gid": st.st_gid, "size": size,
            "rdev": st.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else None}


def tree(root):
    """Everything that a program can see of a tree, times apart; hard links by the group they form."""
    seen, groups = {}, {}
    for folder, dirs, files in os.walk(root):
        dirs.sort()
        for name in sorted(dirs + files):
            path = os.path.join(folder, name)
            rel = os.path.relpath(path, root)
            st = os.lstat(path)
            row = describe(st)
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    row["data"] = f.read()
                row["group"] = groups.setdefault(st.st_ino, rel)
            elif stat.S_ISLNK(st.st_mode):
                row["target"] = os.readlink(path)
            if not stat.S_ISLNK(st.st_mode):
                row["xattr"] = {n: os.getxattr(path, n) for n in sorted(os.listxattr(path)) if n.startswith("user.") and not n.startswith("user.cairn.")}
            seen[rel] = row
    return seen


class Pair:
    """The same call on both sides."""

    def __init__(self, mount, local, seed):
        self.roots = (mount, local)
        self.rng = random.Random(seed)
        self.names = [f"n{i}" for i in range(12)] + ["with space", "ünïcode", "x" * 255]
        self.open_files = []  # [(fd mount, fd local)]
        self.log = []

    def path(self):
        depth = self.rng.choice((1, 1, 2, 2, 3))
        return "/".join(self.rng.choice(self.names) for _ in range(depth))

    def both(self, what, call):
        """call(root, side) on each side; the same result or the same errno."""
        results = []
        for side, root in enumerate(self.roots):
            try:
                results.append(("ok", call(root, side)))
            except OSError as e:
                results.append(("err", errno.errorcode.get(e.errno, e.errno)))
        self.log.append((what, results[0][0] if results[0][0] == "ok" else results[0]))
        if results[0] != results[1]:
            raise AssertionError(f"{what}: mount {str(results[0])[:300]}, local {str(results[1])[:300]}")
        return results[0]

    def step(self):
        name = self.rng.choice(OPERATIONS)
        getattr(self, "op_" + name)()

    def data(self):
        n = self.rng.choice(SIZES)
        return self.rng.randbytes(n) if self.rng.random() < 0.8 else bytes(n)

    # names
    def op_mkdir(self):
        p, mode = self.path(), self.rng.choice((0o755, 0o700, 0o2775))
        self.both(f"mkdir {p} {mode:o}", lambda r, s: os.mkdir(f"{r}/{p}", mode))

    def op_rmdir(self):
        p = self.path()
        self.both(f"rmdir {p}", lambda r, s: os.rmdir(f"{r}/{p}"))

    def op_unlink(self):
        p = self.path()
        self.both(f"unlink {p}", lambda r, s: os.unlink(f"{r}/{p}"))

    def op_rename(self):
        a, b = self.path(), self.path()
        self.both(f"rename {a} {b}", lambda r, s: os.rename(f"{r}/{a}", f"{r}/{b}"))

    def op_rename2(self):
        a, b, flags = self.path(), self.path(), self.rng.choice((RENAME_NOREPLACE, RENAME_EXCHANGE))
        self.both(f"renameat2 {a} {b} {flags}", lambda r, s: renameat2(f"{r}/{a}", f"{r}/{b}", flags))

    def op_link(self):
        a, b = self.path(), self.path()
        self.both(f"link {a} {b}", lambda r, s: os.link(f"{r}/{a}", f"{r}/{b}", follow_symlinks=False))

    def op_symlink(self):
        p, t = self.path(), self.rng.choice(self.names)
        self.both(f"symlink {t} {p}", lambda r, s: os.symlink(t, f"{r}/{p}"))

    def op_readlink(self):
        p = self.path()
        self.both(f"readlink {p}", lambda r, s: os.readlink(f"{r}/{p}"))

    def op_mknod(self):
        # no devices: a mount is nodev, so opening one differs on purpose
        p, kind = self.path(), self.rng.choice((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG))
        self.both(f"mknod {p} {kind:o}", lambda r, s: os.mknod(f"{r}/{p}", kind | 0o640))

    def op_lstat(self):
        p = self.path()
        self.both(f"lstat {p}", lambda r, s: describe(os.lstat(f"{r}/{p}")))

    def op_list(self):
        p = self.path() if self.rng.random() < 0.7 else "."
        self.both(f"list {p}", lambda r, s: sorted(os.listdir(f"{r}/{p}")))

    # attributes
    def op_chmod(self):
        p, mode = self.path(), self.rng.choice((0o600, 0o644, 0o755, 0o4711, 0o1777))
        self.both(f"chmod {p} {mode:o}", lambda r, s: None if os.path.islink(f"{r}/{p}") else os.chmod(f"{r}/{p}", mode))

    def op_chown(self):
        if os.geteuid() != 0:
            return
        p, uid, gid = self.path(), self.rng.choice((0, 1000, 1)), self.rng.choice((0, 1000, -1))
        self.both(f"chown {p} {uid} {gid}", lambda r, s: os.lchown(f"{r}/{p}", uid, gid))

    def op_utime(self):
        p, t = self.path(), self.rng.randrange(10**9) * 10**9 + self.rng.randrange(10**9)

        def call(r, s):
            os.utime(f"{r}/{p}", ns=(t, t + 1), follow_symlinks=False)
            st = os.lstat(f"{r}/{p}")
            return st.st_mtime_ns, st.st_atime_ns
        self.both(f"utime {p} {t}", call)

    def op_setxattr(self):
        p, n, v, flags = self.path(), self.rng.choice(("user.a", "user.b")), self.rng.randbytes(self.rng.choice((0, 5, 300))), self.rng.choice((0, 0, 1, 2))
        self.both(f"setxattr {p} {n} {flags}", lambda r, s: os.setxattr(f"{r}/{p}", n, v, flags, follow_symlinks=False))

    def op_getxattr(self):
        p, n = self.path(), self.rng.choice(("user.a", "user.b", "user.none"))
        self.both(f"getxattr {p} {n}", lambda r, s: os.getxattr(f"{r}/{p}", n, follow_symlinks=False))

    def op_removexattr(self):
        p, n = self.path(), self.rng.choice(("user.a", "user.b"))
        self.both(f"removexattr {p} {n}", lambda r, s: os.removexattr(f"{r}/{p}", n, follow_symlinks=False))

    # content
    def op_write_file(self):
        p, d = self.path(), self.data()

        def call(r, s):
            fd = os.open(f"{r}/{p}", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)  # RDWR: a fifo must not block
            try:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    os.ftruncate(fd, 0)
                    os.write(fd, d)
            finally:
                os.close(fd)
        self.both(f"write file {p} {len(d)}", call)

    def op_append(self):
        p, d = self.path(), self.data()

        def call(r, s):
            fd = os.open(f"{r}/{p}", os.O_RDWR | os.O_APPEND | os.O_NONBLOCK)
            try:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    os.write(fd, d)
            finally:
                os.close(fd)
        self.both(f"append {p} {len(d)}", call)

    def op_read_file(self):
        p = self.path()

        def call(r, s):
            fd = os.open(f"{r}/{p}", os.O_RDONLY | os.O_NONBLOCK)
            try:
                return os.read(fd, 1 << 20) if stat.S_ISREG(os.fstat(fd).st_mode) else None
            finally:
                os.close(fd)
        self.both(f"read file {p}", call)

    def op_truncate(self):
        p, n = self.path(), self.rng.choice(SIZES)
        self.both(f"truncate {p} {n}", lambda r, s: os.truncate(f"{r}/{p}", n))

    def op_create_exclusive(self):
        p = self.path()
        self.both(f"open excl {p}", lambda r, s: os.close(os.open(f"{r}/{p}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)))

    # open files, which may be unlinked or renamed meanwhile
    def op_open(self):
        if len(self.open_files) >= 6:
            return
        p, fds = self.path(), [None, None]

        def call(r, s):
            fd = os.open(f"{r}/{p}", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                return None
            fds[s] = fd
            return "opened"
        if self.both(f"open {p}", call) == ("ok", "opened"):
            self.open_files.append(tuple(fds))

    def op_close(self):
        if self.open_files:
            fds = self.open_files.pop(self.rng.randrange(len(self.open_files)))
            self.both("close", lambda r, s: os.close(fds[s]))

    def on_open(self, what, call):
        if self.open_files:
            i = self.rng.randrange(len(self.open_files))
            fds = self.open_files[i]
            self.both(f"{what} of open file {i}", lambda r, s: call(fds[s]))

    def op_pwrite(self):
        off, d = self.rng.randrange(300000), self.data()
        self.on_open(f"pwrite {off} {len(d)}", lambda fd: os.pwrite(fd, d, off))

    def op_pread(self):
        off, n = self.rng.randrange(300000), self.rng.choice(SIZES)
        self.on_open(f"pread {off} {n}", lambda fd: os.pread(fd, n, off))

    def op_ftruncate(self):
        n = self.rng.choice(SIZES)
        self.on_open(f"ftruncate {n}", lambda fd: os.ftruncate(fd, n))

    def op_fallocate(self):
        mode = self.rng.choice((0, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE))
        off, n = self.rng.randrange(200000), self.rng.randrange(1, 100000)
        self.on_open(f"fallocate {mode} {off} {n}", lambda fd: fallocate(fd, mode, off, n))

    def op_fsync(self):
        self.on_open("fsync", os.fsync)

    def op_fstat(self):
        self.on_open("fstat", lambda fd: describe(os.fstat(fd)))

    def check(self):
        trees = [tree(r) for r in self.roots]
        if trees[0] != trees[1]:
            for rel in sorted(set(trees[0]) | set(trees[1])):
                a, b = trees[0].get(rel), trees[1].get(rel)
                if a != b:
                    different = [k for k in (a or b) if (a or {}).get(k) != (b or {}).get(k)]
                    short = {k: (str((a or {}).get(k))[:80], str((b or {}).get(k))[:80]) for k in different}
                    raise AssertionError(f"trees differ at {rel!r} (mount, local): {short}")

    def close(self):
        for fds in self.open_files:
            for fd in fds:
                os.close(fd)
        self.open_files = []


OPERATIONS = sorted(n[3:] for n in dir(Pair) if n.startswith("op_")) + ["write_file"] * 4 + ["mkdir"] * 2 + ["open"] * 3 + ["pwrite"] * 4 + ["pread"] * 2


def compare(mount, local, steps, seed, check_every=500):
    """Raises AssertionError that ends in the last calls made."""
    pair = Pair(mount, local, seed)
    try:
        for i in range(steps):
            pair.step()
            if i % check_every == check_every - 1:
                pair.log.append(("compare trees", "ok"))
                pair.check()
        pair.check()
    except AssertionError as e:
        last = "\n".join(f"  {w} → {r}" for w, r in pair.log[-25:])
        raise AssertionError(f"seed {seed}, step {len(pair.log)}: {e}\nthe last calls:\n{last}") from None
    finally:
        pair.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mount")
    parser.add_argument("local")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    args = parser.parse_args()
    os.umask(0o022)
    print(f"seed {args.seed}", flush=True)
    compare(args.mount, args.local, args.steps, args.seed)
    print(f"{args.steps} calls, all the same")


if __name__ == "__main__":
    sys.exit(main())

"""Ways out of a sandbox, as source that raises where it is held back. Should one succeed, it would do no harm: what would
kill, sends signal 0; what the kernel would act on, gets arguments that it must refuse.
"""

from __future__ import annotations

READS = {
    "a file beside the program": "open(given['canary']).read()",
    "its folder": "assert os.path.basename(given['canary']) in os.listdir(given['folder'])",
    "passwords": "open('/etc/passwd').read()",
    "shadow passwords": "open('/etc/shadow').read()",
    "a relative path": "open('../' * 20 + given['canary']).read()",
    "a path through the library": "open(os.path.dirname(os.__file__) + '/..' * 20 + given['canary']).read()",
    "a path through a file": "open(os.__file__ + '/..' * 20 + given['canary']).read()",
    "the root folder through proc": "open('/proc/self/root' + given['canary']).read()",
    "the root folder of process 1": "open('/proc/1/root' + given['canary']).read()",
    "the working folder of the parent": "os.listdir(f\"/proc/{given['pid']}/cwd\")",
    "the environment of the parent": "open(f\"/proc/{given['pid']}/environ\", 'rb').read()",
    "the memory of the parent": "open(f\"/proc/{given['pid']}/mem\", 'rb')",
    "its own memory": "open('/proc/self/mem', 'r+b')",
    "its own descriptors": "os.listdir('/proc/self/fd')",
    "descriptors by device": "os.listdir('/dev/fd/')",
    "memory by device": "open('/dev/mem', 'rb')",
    "the disk": "open('/dev/vda', 'rb') if os.path.exists('/dev/vda') else open('/dev/sda', 'rb')",
    "a terminal": "open('/dev/tty', 'rb')",
    "random numbers by device": "open('/dev/urandom', 'rb')",
    "shared memory": "os.listdir('/dev/shm')",
    "kernel settings": "open('/sys/kernel/mm/transparent_hugepage/enabled').read()",
    "control groups": "os.listdir('/sys/fs/cgroup')",
    "the users' homes": "os.listdir('/root'), os.listdir('/home')",
    "the program that runs it": "open(sys.executable, 'rb').read(1)",
    "descriptors left open": "assert any(readable(n) for n in range(3, 64))",
    "a folder opened as a path": (
        "f = os.open('/', os.O_PATH); os.open(given['canary'].lstrip('/'), os.O_RDONLY, dir_fd=f)"
    ),
    "a mapping": "import mmap; mmap.mmap(os.open(given['canary'], os.O_RDONLY), 0, access=mmap.ACCESS_READ)",
    "what others installed": "import numpy",
    "where others install": "os.listdir(given['site']) and open(given['module']).read()",
    "the system's open": "raw(2 if x86 else -1, given['canary'].encode(), 0, 0)",
    "the system's openat": "raw(257 if x86 else 56, -100, given['canary'].encode(), 0, 0)",
    "the loader's list": "open('/etc/ld.so.cache', 'rb')",
    "import from a file": "import runpy; runpy.run_path(given['canary'])",
}
WRITES = {
    "a new file": "open(given['folder'] + '/new', 'w').write('x')",
    "a file that is there": "open(given['canary'], 'a').write('x')",
    "truncation on opening": "os.open(given['canary'], os.O_RDONLY | os.O_TRUNC)",
    "truncation by path": "os.truncate(given['canary'], 0)",
    "a file without a name": "os.open('/tmp', os.O_TMPFILE | os.O_RDWR)",
    "a temporary file": "import tempfile; tempfile.TemporaryFile()",
    "a folder": "os.mkdir(given['folder'] + '/new')",
    "a removal": "os.unlink(given['canary'])",
    "a renaming": "os.rename(given['canary'], given['canary'] + '2')",
    "a link": "os.link(given['canary'], given['folder'] + '/link')",
    "a symbolic link": "os.symlink(given['canary'], given['folder'] + '/link')",
    "another mode": "os.chmod(given['canary'], 0o777)",
    "another owner": "os.chown(given['canary'], 12345, 12345)",
    "other times": "os.utime(given['canary'], (0, 0))",
    "an attribute": "os.setxattr(given['canary'], 'user.x', b'x')",
    "a pipe with a name": "os.mkfifo(given['folder'] + '/fifo')",
    "a device": "os.mknod(given['folder'] + '/null', 0o20666, os.makedev(1, 3))",
    "the library": "open(os.__file__, 'a')",
    "a file in the library": "open(os.path.dirname(os.__file__) + '/evil.py', 'w')",
    "shared memory": "open('/dev/shm/x', 'w')",
    "a file in memory": "os.memfd_create('x')",
    "another root": "os.chroot('/')",
    "its own stdin": "os.pwrite(0, b'x', 0)",
    "growing its own stdin": "os.ftruncate(0, 1 << 30)",
}
NETWORK = {
    f"socket family {family}": f"socket.socket({family}, socket.SOCK_{kind})"
    for family, kind in (
        *((2, kind) for kind in ("DGRAM",)), (10, "STREAM"), (1, "STREAM"), (16, "RAW"), (17, "RAW"), (40, "STREAM"),
        (38, "SEQPACKET"), (29, "RAW"), (31, "RAW"), (21, "SEQPACKET"), (30, "STREAM"), (44, "RAW"), (0, "STREAM"),
    )
} | {
    "a stream": "socket.socket(2, socket.SOCK_STREAM)",
    "ICMP": "socket.socket(2, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)",
    "a raw socket": "socket.socket(2, socket.SOCK_RAW, 255)",
    "a pair": "socket.socketpair()",
    "a connection": "socket.create_connection(('127.0.0.1', given['port']), 0.2)",
    "a name": "socket.getaddrinfo('localhost', 80)[0] and socket.gethostbyname('example.com')",
    "a page": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:%d' % given['port'], timeout=0.2)",
    "an inherited socket": "assert any(is_socket(n) for n in range(64))",
}  # fmt: skip
PROCESSES = {
    "fork": "os.fork() or os._exit(0)",
    "vfork and exec": "import subprocess; subprocess.run(['/bin/true'])",
    "a shell": "assert os.system('true') == 0",
    "a pipe to a shell": "assert os.popen('echo out').read()",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "exec": "os.execv('/bin/sh', ['sh', '-c', 'echo got out'])",
    "exec of itself": "os.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
    "exec of a descriptor": "os.execve(0, ['x'], {})",
    "a terminal's fork": "import pty; pty.fork()[0] or os._exit(0)",
    "a worker": "import multiprocessing as m; p = m.get_context('fork').Process(target=print); p.start()",
    "a spawned worker": "import multiprocessing as m; p = m.get_context('spawn').Process(target=print); p.start()",
    "a thread": "threading.Thread(target=print).start()",
    "a pool of threads": "import concurrent.futures as c; c.ThreadPoolExecutor().submit(print).result()",
    "a raw thread": "import _thread; _thread.start_new_thread(print, ())",
    "a fork bomb": "while True: os.fork() or os._exit(0)",
    "signal the parent": "os.kill(given['pid'], 0)",
    "signal the fork server": "os.kill(os.getppid() or 1, 0)",
    "signal everything": "os.kill(-1, 0)",
    "signal its group": "os.killpg(0, 0)",
    "signal itself": "os.kill(os.getpid(), 0)",
    "hold the parent": "os.pidfd_open(given['pid'])",
    "own a descriptor's signals": "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, given['pid'])",
    "a wider pipe": "import fcntl; fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)",
    "more open files": "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))",
    "more memory": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "the parent's limits": "resource.prlimit(given['pid'], resource.RLIMIT_CPU)",
    "the parent's core": "os.sched_setaffinity(given['pid'], {0})",
    "its priority": "os.setpriority(os.PRIO_PROCESS, 0, -20)",
    "a session": "os.setsid()",
    "root": "os.setuid(0)",
    "still root": "assert 0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid())",
    "another user": "os.setresuid(1, 1, 1)",
    "the machine's name": "socket.sethostname(socket.gethostname())",
    "the terminal's input": "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",
    "memory beyond the limit": "bytearray(4 << 30)",
    "a mapping beyond the limit": "import mmap; mmap.mmap(-1, 4 << 30)",
    "a locked page": "assert ctypes.CDLL(None).mlock(ctypes.create_string_buffer(4096), 4096) == 0",
    "too many open files": "kept = [os.pipe() for _ in range(100)]",
    "shared memory of the system": "assert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0",
}
# name: number on x86_64 and aarch64. Called with -1 everywhere; only the filter answers EPERM to that.
SYSTEM_CALLS = {
    "accept": (43, 202), "accept4": (288, 242), "acct": (163, 89), "add_key": (248, 217), "bind": (49, 200),
    "bpf": (321, 280), "capset": (126, 91), "chroot": (161, 51), "clone": (56, 220), "clone3": (435, 435),
    "connect": (42, 203), "copy_file_range": (326, 285), "delete_module": (176, 106), "epoll_create1": (291, 20),
    "eventfd2": (290, 19), "execve": (59, 221), "execveat": (322, 281), "fanotify_init": (300, 262),
    "fchmodat": (268, 53), "fchownat": (260, 54), "fsmount": (432, 432), "fsopen": (430, 430),
    "init_module": (175, 105), "inotify_init1": (294, 26), "io_uring_setup": (425, 425), "ioprio_set": (251, 30),
    "kcmp": (312, 272), "kexec_load": (246, 104), "keyctl": (250, 219), "kill": (62, 129),
    "landlock_create_ruleset": (444, 444), "landlock_restrict_self": (446, 446), "lookup_dcookie": (212, 18),
    "memfd_create": (319, 279), "migrate_pages": (256, 238), "mknodat": (259, 33), "mlock": (149, 228),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239),
    "mq_open": (240, 180), "msgget": (68, 186), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "openat2": (437, 437), "perf_event_open": (298, 241), "personality": (135, 92),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pivot_root": (155, 41), "prctl": (157, 167),
    "process_madvise": (440, 440), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "ptrace": (101, 117), "quotactl": (179, 60), "reboot": (169, 142), "rt_sigqueueinfo": (129, 138),
    "sched_setattr": (314, 274), "seccomp": (317, 277), "semget": (64, 190), "sendfile": (40, 71),
    "sendmsg": (46, 211), "sendto": (44, 206), "set_mempolicy": (238, 237), "setgid": (106, 144), "setns": (308, 268),
    "setpriority": (141, 140), "setuid": (105, 146), "setxattr": (188, 5), "shmget": (29, 194),
    "signalfd4": (289, 74), "socket": (41, 198), "socketpair": (53, 199), "splice": (275, 76), "swapoff": (168, 225),
    "swapon": (167, 224), "tee": (276, 77), "tgkill": (234, 131), "timer_create": (222, 107), "tkill": (200, 130),
    "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282), "vmsplice": (278, 75),
}  # fmt: skip
SYSTEM_CALL_ATTEMPTS = {
    name: f"raw({numbers}[0 if x86 else 1], *[-1] * 6)" for name, numbers in SYSTEM_CALLS.items()
}
TOGETHER = {
    "reads": READS,
    "writes": WRITES,
    "network": NETWORK,
    "processes": PROCESSES,
    "system calls": SYSTEM_CALL_ATTEMPTS,
}

# Tries each attempt of a category and tells, by name, which got out. A refusal is an exception; a system call that was
# not refused by the filter but by the kernel behind it counts as out.
PROGRAM = """
import ctypes, errno, json, os, platform, resource, socket, sys, threading, time
given = json.loads(sys.stdin.read())
x86 = platform.machine() == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)

def raw(number, *arguments):
    packed = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    if number >= 0 and libc.syscall(ctypes.c_long(number), *packed) == -1 and given["exact"]:
        assert ctypes.get_errno() != errno.EPERM

def readable(number):
    try:
        return os.read(number, 1) is not None
    except OSError:
        return False

def is_socket(number):
    try:
        return (os.fstat(number).st_mode & 0o170000) == 0o140000
    except OSError:
        return False

out = []
for name, attempt in given["attempts"].items():
    if attempt.startswith("raw(") and not given["exact"]:
        attempt = attempt.replace("raw(", "assert 0 <= libc.syscall(")
    try:
        exec(attempt, globals())
    except (OSError, AssertionError, RuntimeError, ImportError, MemoryError, ValueError, TypeError):
        continue
    out.append(name)
print(json.dumps(out))
"""

# Each of these has a process of its own, for it would take the others with it. What must be true of the run.
ALONE = {
    "32-bit calls": ("x86", "status == -31"),
    "x32 calls": ("x86", "status == -31"),
    "endless work": ("", "limit == 'cpu'"),
    "endless work that ignores the signal": ("", "limit == 'cpu'"),
    "endless sleep": ("", "limit == 'wall'"),
    "endless sleep at the end": ("", "limit == 'wall'"),
    "endless output": ("", "limit == 'output'"),
    "endless errors": ("", "limit == 'output'"),
    "one long line": ("", "limit == 'output'"),
    "endless memory": ("", "limit == 'memory'"),
    "endless mappings": ("", "limit == 'memory'"),
    "endless descent": ("", "status != 0"),
    "a crash": ("", "status == -11"),
    "a pattern that never ends": ("", "limit == 'cpu'"),
}
ALONE_CODE = {
    "32-bit calls": """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # mov eax, 20 (getpid); int 0x80; ret
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
""",
    "x32 calls": "import ctypes; ctypes.CDLL(None).syscall(0x40000000 | 39)",
    "endless work": "while True: pass",
    "endless work that ignores the signal": """
import signal
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True: pass
""",
    "endless sleep": "import time; time.sleep(1000)",
    "endless sleep at the end": "import atexit, time; atexit.register(time.sleep, 1000)",
    "endless output": "while True: print('x' * 1000)",
    "endless errors": "import sys\nwhile True: sys.stderr.write('x' * 1000)",
    "one long line": "import os\nos.write(1, b'x' * (1 << 26))",
    "endless memory": "kept = []\nwhile True: kept.append(bytearray(1 << 22))",
    "endless mappings": """
import mmap
kept = []
try:
    while True: kept.append(mmap.mmap(-1, 1 << 24))
except OSError:
    raise MemoryError
""",
    "endless descent": "import sys; sys.setrecursionlimit(10**9)\nf = lambda: f()\nf()",
    "a crash": "import ctypes; ctypes.string_at(0)",
    "a pattern that never ends": "import re; re.match('(a+)+b', 'a' * 64)",
}

"""Confinement of a decoder: what remains possible to a file that has taken it over.

A decoder needs processor time, memory, the files of its libraries, and the descriptors that it is
given. On Linux it gives everything else up, which takes no privilege and cannot be undone: by
limits of resources, by a Landlock ruleset for files, signals and TCP, and by a filter of system
calls (seccomp). Other systems have the limits of resources only.
"""

import ctypes
import errno
import os
import platform
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path

_MAX_OPEN_FILES = 256
_LIBRARIES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/dev/null", "/proc/cpuinfo", "/sys/devices/system/cpu"),
)

# From include/uapi/linux: prctl.h, capability.h, landlock.h, seccomp.h, filter.h, audit.h.
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_CAPABILITY_VERSION, _CAP_DAC_READ_SEARCH = 0x20080522, 1 << 2
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_LOAD, _AND, _EQUALS, _IS_AT_LEAST, _HAS, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_CALL_AT, _PROCESSOR_AT, _ARGUMENTS_AT = 0, 4, 16
_CLONE_THREAD, _SHARED_ANONYMOUS = 0x10000, 0x21
_X32_CALLS, _CLONE3 = 0x40000000, 435
# A processor's number; its clone and mmap; its socket, ptrace, process_vm_readv, process_vm_writev,
# execve, execveat, memfd_create, shmget, fork and vfork.
_CALLS = {
    "x86_64": (0xC000003E, 56, 9, (41, 101, 310, 311, 59, 322, 319, 29, 57, 58)),
    "aarch64": (0xC00000B7, 220, 222, (198, 117, 270, 271, 221, 281, 279, 194)),
}
_IO_URING_SETUP = 425  # makes sockets, too


def confine() -> list[str]:
    """Confine this process for good, as far as the system can.

    Returns:
        What holds from now on, for the log.
    """
    steps = {"limits of resources": _limit_resources}
    if sys.platform == "linux":
        steps |= {"no privileges": _give_up_privileges, "Landlock": _restrict_files}
        steps["seccomp"] = _refuse_calls
    held = []
    for name, step in steps.items():
        with suppress(ImportError, OSError, ValueError, AttributeError, KeyError):
            step()
            held.append(name)
    return held


def _limit_resources() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    if not stat.S_ISREG(os.fstat(2).st_mode):  # a log of what decoders print, when debugging
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _give_up_privileges() -> None:
    """Give up what root may do, except for reading libraries, and what set-uid programs could."""
    libc = _libc()
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header, held = struct.pack("Ii", _CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    _checked(libc.capget(header, held))
    kept = [held[0] & _CAP_DAC_READ_SEARCH, held[1] & _CAP_DAC_READ_SEARCH, 0, 0, 0, 0]
    _checked(libc.capset(header, (ctypes.c_uint32 * 6)(*kept)))


def _restrict_files() -> None:
    """Allow nothing but reading the libraries; neither TCP nor signals to other processes."""
    call = _libc().syscall
    version = _checked(call(_LANDLOCK_CREATE_RULESET, None, 0, 1))
    rights = (1 << (13, 14, 15, 15, 16)[min(version, 5) - 1]) - 1
    handled = (rights, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0)
    sizes = {1: 8, 4: 16, 6: 24}  # bytes of the structure, from that version on
    size = max(bytes_ for since, bytes_ in sizes.items() if since <= version)
    ruleset = _checked(call(_LANDLOCK_CREATE_RULESET, struct.pack("QQQ", *handled), size, 0))
    for path in _readable():
        with suppress(OSError):  # not on this system
            file = os.open(path, os.O_PATH | os.O_CLOEXEC)
            may = _READ_FILE | (_READ_DIR if stat.S_ISDIR(os.fstat(file).st_mode) else 0)
            _checked(call(_LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("=Qi", may, file), 0))
            os.close(file)
    _checked(call(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _readable() -> set[str]:
    """Return what a decoder may read: Python, libraries and itself, but no folder of a project."""
    home = Path(__file__).parents[2]
    folders = {Path(folder) for folder in sys.path}
    if home.name not in ("site-packages", "dist-packages"):
        folders.discard(home)
    folders |= {home / "embedder", home / "indexer", Path(sys.prefix), Path(sys.base_prefix)}
    elsewhere = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    return {*map(str, folders), *filter(None, elsewhere), *_LIBRARIES}


def _refuse_calls() -> None:
    """Refuse new processes and programs, sockets, shared memory, and the memory of others."""
    code = _filter(*_CALLS[platform.machine()])
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(code) // 8, ctypes.addressof(buffer))
    _checked(_libc().prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0))


def _filter(processor: int, clone: int, mmap: int, refused: tuple[int, ...]) -> bytes:
    """Return the filter as instructions of the Berkeley packet filter."""

    def step(code: int, value: int, skipped_if_so: int = 0, skipped_if_not: int = 0) -> bytes:
        return struct.pack("HBBI", code, skipped_if_so, skipped_if_not, value)

    allow, refuse = step(_RETURN, _ALLOW), step(_RETURN, _REFUSE | errno.EPERM)
    steps = [step(_LOAD, _PROCESSOR_AT), step(_EQUALS, processor, 1), refuse]
    steps += [step(_LOAD, _CALL_AT), step(_IS_AT_LEAST, _X32_CALLS, 0, 1), refuse]
    for call in (*refused, _IO_URING_SETUP):
        steps += [step(_EQUALS, call, 0, 1), refuse]
    # The flags of clone3 are out of reach; where it is missing, the library calls clone.
    steps += [step(_EQUALS, _CLONE3, 0, 1), step(_RETURN, _REFUSE | errno.ENOSYS)]
    steps += [step(_EQUALS, clone, 0, 4), step(_LOAD, _ARGUMENTS_AT)]
    steps += [step(_HAS, _CLONE_THREAD, 1), refuse, allow]
    steps += [step(_EQUALS, mmap, 0, 4), step(_LOAD, _ARGUMENTS_AT + 3 * 8)]
    steps += [step(_AND, _SHARED_ANONYMOUS), step(_EQUALS, _SHARED_ANONYMOUS, 0, 1), refuse]
    return b"".join([*steps, allow])


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

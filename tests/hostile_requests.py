"""What requests say that no well-behaved client says: paths, ids, ranges and bodies."""

import json
from pathlib import Path

NO_IDS = [
    "0",
    "-1",
    "999999",
    str(2**31),
    str(2**63 - 1),
    str(2**63),
    str(2**64),
    "9" * 4000,
    "9" * 9000,
    "1.5",
    "1e3",
    "1_0",
    "0x1",
    "+1",
    "%201",
    "1%20",
    "1%00",
    "%D9%A1%D9%A2",
    "%EF%BC%91",
    "%C2%B2",
    "true",
    "null",
    "NaN",
    "Infinity",
    "",
    "%27",
    "1%27%20OR%201=1",
    "%ED%A0%80",
    "%FF",
    "{}",
    "[1]",
]

RANGES = [
    "bytes=0-",
    "bytes=-1",
    "bytes=5-1",
    "bytes=-0",
    "bytes=--5",
    "bytes=0-0,0-0,0-0",
    f"bytes=0-{10**30}",
    f"bytes={10**30}-",
    "bytes=" + "9" * 9000 + "-",
    "bytes=",
    "bytes",
    "=",
    "lines=0-1",
    "bytes=a-b",
    "bytes=\xb2-\xb3",
    "bytes=\xd9\xa1-",
    "bytes=0-1;q=1",
    "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 200, 2)),
    "bytes=" + ",".join("0-" for _ in range(10_000)),
    "bytes=" + ",".join(f"{n}-" for n in range(9_000)),
    "bytes=" + "," * 30_000,
    "bytes=" + "-," * 30_000,
]


def paths_to(secret: Path) -> list[str]:
    """Ways to write a path out of any folder to a file."""
    plain = str(secret)
    up = "../" * 12 + plain.lstrip("/")
    windows = up.replace("/", "\\")
    return [
        plain,
        f"/{plain}",
        plain.replace("/", "%2f"),
        plain.replace("/", "%252f"),
        up,
        up.replace("/", "%2f"),
        up.replace("/", "%2F").replace(".", "%2e"),
        up.replace("/", "%252f").replace(".", "%252e"),
        up.replace("../", "....//"),
        up.replace("../", "..;/"),
        up.replace("../", "%c0%ae%c0%ae/"),
        windows,
        windows.replace("\\", "%5c"),
        windows.replace("\\", "%255c"),
        f"C:{windows}",
        f"c%3a%5c{plain}",
        f"%5c%5c127.0.0.1%5c{plain}",
        f"{plain}%00",
        f"{plain}%00.png",
        f"%00{plain}",
        f"file://{plain}",
        f"file%3a%2f%2f{plain}",
        f"http://127.0.0.1:1{plain}",
        f"~{plain}",
        f"./{up}",
        f"{plain}/.",
        f"{plain}?",
        f"{plain}%3f",
        f"{plain}%23",
        f"link.txt/../{up}",
        "link.txt",
        "..",
        ".",
        "%2e%2e",
        "library/library.sqlite3",
        "%0d%0aX-Evil:%201",
        "/evil.example",
        "%2f%2fevil.example%2f..",
    ]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def bodies(secret: Path) -> list[tuple[str, bytes]]:
    """Bodies that make no sense, or name a file, with their content types."""
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}, "url": str(secret)}
    values = {
        "data": [file, {"a": file}],
        "fn_index": 0,
        "session_hash": "x",
        "event_id": str(secret),
        "text": file,
        "file": str(secret),
        "event_data": {"file": file},
        "component_id": 1,
        "fn_name": "load",
    }
    numbers = json.dumps({**values, "data": [], "fn_index": 10**40, "component_id": -(10**40)})
    form = (
        '--b\r\nContent-Disposition: form-data; name="files"; '
        f'filename="../../..{secret}"\r\n\r\nx\r\n--b--\r\n'
    )
    field = '--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--b--\r\n'
    return [
        ("application/json", b""),
        ("application/json", b"{"),
        ("application/json", b"null"),
        ("application/json", b"[]"),
        ("application/json", b'"text"'),
        ("application/json", b'{"data": NaN, "session_hash": "x", "fn_index": 1e999}'),
        ("application/json", b'{"data": ["\\ud800"], "session_hash": "\\ud800", "fn_index": 0}'),
        ("application/json", b'{"data": ' + nested(900) + b', "session_hash": "x", "fn_index": 0}'),
        ("application/json", nested(100_000)),
        ("application/json", b"9" * 100_000),
        ("application/json", b"\xff\xfe{}"),
        ("application/json", json.dumps(values).encode()),
        ("application/json", numbers.encode()),
        ("application/json; charset=utf-16", json.dumps(values).encode("utf-16")),
        ("text/plain", json.dumps(values).encode()),
        ("application/x-www-form-urlencoded", f"data={secret}&username=x&file={secret}".encode()),
        ("multipart/form-data; boundary=b", form.encode()),
        ("multipart/form-data; boundary=b", field.encode()),
        ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 100_000),
        ("multipart/form-data; boundary=b", b"no form"),
        ("multipart/form-data; boundary=" + "b" * 9000, b"x"),
        ("multipart/form-data", b"x"),
        ("", b"\0" * 1000),
    ]

"""The page's configuration from flags and variables."""

import sys

import pytest

from app.config import AppConfig, parse


def test_flags_override_environment():
    environment = {"RZEN_PORT": "9000", "RZEN_MODEL": "toy", "RZEN_AUTH": "me:se:cret"}
    config = parse(["--port", "9001"], environment)
    assert (config.port, config.model, config.host) == (9001, "toy", "127.0.0.1")
    assert config.auth == ("me", "se:cret")


def test_words_are_read_unless_a_flag_or_its_variable_says_no():
    assert not parse([], {}).no_ocr
    assert parse(["--no-ocr"], {}).no_ocr
    assert parse([], {"RZEN_NO_OCR": "1"}).no_ocr


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        ([], None),
        (["--host", "0.0.0.0"], 10_240),
        (["--host", "0.0.0.0", "--auth", "me:x"], None),
        (["--host", "0.0.0.0", "--max-uploads-mb", "5"], 5),
        (["--max-uploads-mb", "5"], 5),
    ],
)
def test_default_upload_quota(flags, most):
    assert parse(flags, {}).max_uploads_bytes == (None if most is None else most << 20)
    given = parse(flags, {"RZEN_MAX_UPLOADS_MB": "7"}).max_uploads_bytes
    assert given == (5 if most == 5 else 7) << 20


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "x"],
        ["--port", "70000"],
        ["--auth", "me"],
        ["--max-upload-mb", "0"],
        ["--max-uploads-mb", "some"],
        ["--name", "http://photos.example.org"],
        ["--name", "photos.example.org:443"],
        ["--proxy", "my-proxy"],
        ["--token", "short"],
        ["--token", "a token with spaces"],
    ],
)
def test_invalid_flags_exit_with_status_2(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(flags, {})
    assert stopped.value.code == 2
    problem = capsys.readouterr().err
    assert f"argument {flags[0]}: " in problem
    assert (repr(flags[1]) in problem) is (flags[0] not in {"--auth", "--token"}), "no secrets"


def test_local_page_without_login_gets_a_token():
    first, second = parse([], {}).token, parse(["--host", "localhost"], {}).token
    assert first
    assert second
    assert first != second
    assert parse(["--auth", "me:x"], {}).token is None
    assert parse(["--host", "0.0.0.0"], {}).token is None
    given = parse(["--host", "0.0.0.0"], {"RZEN_TOKEN": "0123456789abcdef"})
    assert (given.token, given.trusted) == ("0123456789abcdef", True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the user")
@pytest.mark.parametrize(
    ("flags", "admitted"),
    [
        ([], True),
        (["--host", "::1", "--token", "0123456789abcdef"], True),
        (["--auth", "me:x"], False),
        (["--proxy", "127.0.0.1"], False),
        (["--host", "0.0.0.0"], False),
        (["--host", "0.0.0.0", "--token", "0123456789abcdef"], False),
    ],
)
def test_own_user_is_admitted_to_a_local_page(flags, admitted):
    assert parse(flags, {}).admits_own_user is admitted


def test_lists_are_repeated_or_separated_by_commas():
    environment = {"RZEN_NAME": "a.example, B.example", "RZEN_PROXY": "::1"}
    config = parse(["--proxy", "192.0.2.1", "--proxy", "10.0.0.0/8"], environment)
    assert config.name == ("a.example", "b.example")
    assert config.proxy == ("192.0.2.1", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("box", False)],
)
def test_loopback(host, alone):
    assert AppConfig(host=host).loopback is alone

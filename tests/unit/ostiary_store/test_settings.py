"""The settings of the store: what is wrong is named with its line and field, and no secret stands in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary_store.settings import Settings, SettingsError, host_and_port, load, parse

WHOLE = """
store: {urlEnv: OSTIARY_STORE}
listen: 0.0.0.0:8443
admin: "[::1]:9912"
tls: {cert: tls.crt, key: /etc/tls/tls.key}
gateways: {tokenReview: true}
recordings: {bucket: s3://recordings/prod, endpoint: https://s3.example, accessKeyEnv: A, secretKeyFile: s3}
retention: {record: 90d, responses: 12h}
seal: {keyFile: seal.key, every: 5s}
anchors: [{file: seals.txt}, {http: https://elsewhere.example/seals, tokenFile: token}, {configMap: ostiary/seals}]
exports: [{name: siem, type: OCSF, url: https://siem.example, secretHeaders: {Authorization: {env: TOKEN}}}]
follow: [data]
"""


def test_a_whole_file_is_read_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / "store.yaml"
    file.write_text(WHOLE)
    settings = load(file)
    assert settings.tls is not None
    assert settings.tls.cert == tmp_path / "tls.crt"
    assert settings.tls.key == Path("/etc/tls/tls.key")
    assert settings.follow == (tmp_path / "data",)
    assert settings.anchors[0].file == tmp_path / "seals.txt"
    assert (settings.retention.record, settings.retention.responses) == (90 * 86_400.0, 12 * 3600.0)
    assert settings.admin is not None
    assert host_and_port(settings.admin) == ("::1", 9912)


def test_secrets_are_read_from_files_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s3").write_text("hidden\n")
    settings = parse(WHOLE, folder=tmp_path)
    monkeypatch.setenv("OSTIARY_STORE", "postgresql://a:b@db/ostiary")
    monkeypatch.setenv("A", "access")
    assert settings.store.read() == "postgresql://a:b@db/ostiary"
    assert settings.recordings is not None
    assert settings.recordings.keys() == ("access", "hidden")
    monkeypatch.delenv("A")
    with pytest.raises(ValueError, match="A is not set"):
        settings.recordings.keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("store: {url: sqlite:x}\n---\nstore: {url: sqlite:y}", "more than one document"),
        ("store: {url: sqlite:x}\nlissten: a", ":2: lissten: is not a field here; did you mean listen?"),
        ("store: {url: 'postgresql://me:hunter2@db/x'}", ":1: store.url: must not hold a password"),
        ("store: {url: 'postgresql://db/x?password=hunter2'}", "must not hold a password"),
        ("store: {url: sqlite:x, urlEnv: URL}", "exactly one of url, urlFile and urlEnv"),
        ("store: {url: sqlite:x}\nlisten: 0.0.0.0:1\ntls: {cert: a, key: b}", "listen needs gateways"),
        ("store: {url: sqlite:x}\nlisten: 0.0.0.0:1\ngateways: {tokens: t}", "listen needs tls"),
        ("store: {url: sqlite:x}\ngateways: {tokenReview: true, tokens: t}", "exactly one of tokenReview"),
        ("store: {url: sqlite:x}\nlisten: nowhere", "is no HOST:PORT"),
        ("store: {url: sqlite:x}\nretention: {record: 5}", ":2: retention.record: not an age"),
        ("store: {url: sqlite:x}\nretention: {record: 1d, responses: 2d}", "must not be kept longer"),
        ("store: {url: sqlite:x}\nanchors: [{file: x}]", "anchors need seal"),
        ("store: {url: sqlite:x}\nexports: [{name: a, type: OCFS, url: 'https://x'}]", "did you mean OCSF?"),
        ("store: {url: sqlite:x}\nexports: [{name: a, type: OCSF, url: 'ftp://x'}]", "must begin with https://"),
        ("store: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, "store.yaml")
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


def test_what_one_needs_is_little() -> None:
    settings = parse("store: {url: 'sqlite:store.db'}")
    assert settings == Settings.model_validate({"store": {"url": "sqlite:store.db"}})
    assert settings.listen is None
    assert settings.retention.record is None

"""The store: identities, atomic files, and folders that are never trusted half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbench import store as store_module
from zbench.errors import StoreError
from zbench.store import (
    ID_VERSION,
    Store,
    atomic_write_bytes,
    atomic_write_json,
    canonical_json,
    identity,
    identity_of,
    read_json,
    safe_name,
    sha256_bytes,
    sha256_file,
)

# Loading a model on the CPU turns subnormal numbers off for the whole process, so they are left out here.
FLOATS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_identity_does_not_depend_on_key_order(config: dict[str, object]) -> None:
    assert identity("x", config) == identity("x", dict(reversed(config.items())))


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
)
def test_different_configurations_have_different_identities(
    first: dict[str, int], second: dict[str, int]
) -> None:
    assert (identity("x", first) == identity("x", second)) == (first == second)


def test_identity_is_fixed_and_readable() -> None:
    """A published id must not change while ID_VERSION stays: this one is computed the long way."""
    import hashlib

    digest = hashlib.sha256(b'{"config":{"a":1,"b":[true,null]},"id_version":1}').hexdigest()
    assert identity("cell", {"b": [True, None], "a": 1}) == f"cell-{digest[:12]}"


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


@given(st.text())
def test_safe_names_stay_inside_their_folder(text: str) -> None:
    name = safe_name(text)
    assert name == Path(name).name
    assert not name.startswith((".", "-"))


def test_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.json"
    atomic_write_json(target, {"old": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        atomic_write_bytes(target, b"new")
    assert read_json(target) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", ['{"a": 1', "", "\x00\x01"])
def test_damaged_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(StoreError, match=r"a\.json is truncated or not JSON"):
        read_json(tmp_path / "a.json")


def test_open_makes_and_reopens_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "new" / "runs"
    Store.open(root)
    assert Store.open(root, create=False).root == root


def test_open_refuses_what_is_not_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="not empty and was not written by zbench"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_open_refuses_a_foreign_marker(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "zbench.json", {"schema_version": 1})
    with pytest.raises(StoreError, match="not written by zbench"):
        Store.open(tmp_path)


def test_open_refuses_a_newer_schema(tmp_path: Path) -> None:
    Store.open(tmp_path)
    atomic_write_json(tmp_path / "zbench.json", {"kind": "zbench run folder", "schema_version": 99})
    with pytest.raises(StoreError, match="schema version 99"):
        Store.open(tmp_path)


def test_open_refuses_a_file_and_a_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot use"):
        Store.open(tmp_path / "file" / "runs")
    with pytest.raises(StoreError, match="not a run folder"):
        Store.open(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_open_refuses_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """As another user where the tests run as root, for whom permissions do not hold."""
    (tmp_path / "locked").mkdir(mode=0o555)
    code = (
        "import os, sys\n"
        "from zbench.store import Store\n"
        "from zbench.errors import StoreError\n"
        "os.getuid() == 0 and os.setuid(65534)\n"
        "try: Store.open(sys.argv[1])\n"
        "except StoreError as error: print(error)"
    )
    place = str(tmp_path / "locked" / "runs")
    done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=False)
    assert "Cannot use" in done.stdout, done.stderr
    assert "Permission denied" in done.stdout


def _write_one(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "a.txt").write_text("one")


def test_stage_is_complete_only_after_writing(tmp_path: Path) -> None:
    stage = Store.open(tmp_path).stage("samples", {"a": 1})
    assert not stage.is_complete()
    stage.write(_write_one)
    assert stage.is_complete()
    assert stage.done()["files"] == {"inner/a.txt": sha256_file(stage.path / "inner" / "a.txt")}


def test_interrupted_stage_leaves_nothing_that_is_trusted(tmp_path: Path) -> None:
    stage = Store.open(tmp_path).stage("samples", {"a": 1})

    def interrupted(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.write(interrupted)
    assert not stage.is_complete()
    assert list(stage.path.parent.iterdir()) == []


def test_killed_stage_is_written_again(tmp_path: Path) -> None:
    """A kill leaves the temporary folder behind: it is no stage, and the next writer is not disturbed."""
    Store.open(tmp_path)
    code = (
        "import os, sys\nfrom zbench.store import Store\n"
        "def fill(folder):\n"
        "    (folder / 'half.txt').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
        "Store.open(sys.argv[1]).stage('samples', {'a': 1}).write(fill)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    stage = Store.open(tmp_path).stage("samples", {"a": 1})
    assert not stage.is_complete()
    stage.write(_write_one)
    assert stage.is_complete()
    assert not (stage.path / "half.txt").exists()


@pytest.mark.parametrize("damage", ["alter", "delete", "done"])
def test_damaged_stage_is_reported_and_redone(tmp_path: Path, damage: str) -> None:
    store = Store.open(tmp_path)
    stage = store.stage("samples", {"a": 1})
    stage.write(_write_one)
    file = stage.path / "inner" / "a.txt"
    match damage:
        case "alter":
            file.write_text("onf")
        case "delete":
            file.unlink()
        case _:
            (stage.path / "done.json").write_text("{")
    assert not stage.is_complete()
    assert "done again" in store.messages[0]
    stage.write(_write_one)
    assert stage.is_complete()
    assert file.read_text() == "one"


def test_stage_of_another_configuration_is_refused_and_kept(tmp_path: Path) -> None:
    stage = Store.open(tmp_path).stage("samples", {"a": 1})
    stage.write(_write_one)
    record = stage.done() | {"config": {"a": 2}}
    atomic_write_json(stage.path / "done.json", record)
    with pytest.raises(StoreError, match="different configuration"):
        stage.is_complete()
    assert (stage.path / "inner" / "a.txt").read_text() == "one"


def test_stage_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    stage = Store.open(tmp_path).stage("samples", {"a": 1})
    stage.write(_write_one)
    atomic_write_json(stage.path / "done.json", stage.done() | {"schema_version": 99})
    with pytest.raises(StoreError, match="schema version 99"):
        stage.is_complete()


def test_a_second_run_over_the_same_folder_waits_for_the_first(tmp_path: Path) -> None:
    store, patience = Store.open(tmp_path), "from zbench.store import Store; import sys\n"
    code = patience + ("def give_up(): raise SystemExit(7)\nwith Store.open(sys.argv[1]).lock(give_up): pass")
    with store.lock():
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 7
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


_HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom zbench.store import Store\n"
    "stage = Store.open(sys.argv[1]).stage('samples', {'a': 1})\n"
    "def fill(folder):\n"
    "    (folder / 'inner').mkdir()\n"
    "    (folder / 'inner' / 'a.txt').write_text('other')\n"
    "    print('begun', flush=True)\n"
    "    while not (Path(sys.argv[1]) / 'go').exists(): time.sleep(0.01)\n"
    "with stage.claim() as missing:\n"
    "    if missing: stage.write(fill)\n"
    "print(missing, flush=True)"
)


def _other_at_work(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def test_a_stage_that_another_process_does_is_waited_for_and_not_done_twice(tmp_path: Path) -> None:
    stage = Store.open(tmp_path).stage("samples", {"a": 1})
    with _other_at_work(tmp_path) as process:
        waited: list[int] = []

        def waiting() -> None:
            assert not stage.is_complete()
            waited.append(1)
            (tmp_path / "go").touch()

        with stage.claim(waiting) as missing:
            assert not missing
        assert process.communicate()[0] == "True\n"
    assert waited
    assert (stage.path / "inner" / "a.txt").read_text() == "other"


def test_waiting_for_a_stage_can_be_given_up(tmp_path: Path) -> None:
    stage = Store.open(tmp_path).stage("samples", {"a": 1})

    def give_up() -> None:
        raise KeyboardInterrupt

    with _other_at_work(tmp_path) as process:
        with pytest.raises(KeyboardInterrupt), stage.claim(give_up):
            pytest.fail("it is not ours")
        (tmp_path / "go").touch()
        assert process.wait() == 0


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    stage = Store.open(tmp_path).stage("samples", {"a": 1})
    with _other_at_work(tmp_path) as process:
        process.kill()
    with stage.claim() as missing:
        assert missing
        stage.write(_write_one)
    assert stage.is_complete()


def test_what_is_resumed_finds_what_an_earlier_try_left(tmp_path: Path) -> None:
    stage = Store.open(tmp_path).stage("samples", {"a": 1})

    def first(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.resume(first)
    assert not stage.is_complete()
    with Store.open(tmp_path).lock():
        pass  # sweeping leaves it alone
    stage.resume(lambda folder: (folder / "whole.txt").write_text((folder / "half.txt").read_text()))  # type: ignore[arg-type, return-value]
    assert sorted(stage.done()["files"]) == ["half.txt", "whole.txt"]
    assert [path.name for path in stage.path.parent.iterdir()] == [stage.id]


def test_what_killed_processes_left_is_swept_and_what_lives_is_kept(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "runs")
    stage = store.stage("samples", {"a": 1})
    left = (".writing-x.json", "samples/.writing-dead/pictures/0.png", "reports/b/.writing-y", ".locks/old")
    for place in (*left, "samples/c/d"):
        path = store.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with _other_at_work(store.root) as process:
        store.sweep()
        assert not any((store.root / place).exists() for place in left)
        assert (store.root / "samples" / f".writing-{stage.id}").is_dir()
        assert (store.root / "samples/c/d").is_file()
        (store.root / "go").touch()
        assert process.wait() == 0
    assert stage.is_complete()
    assert list((store.root / ".locks").iterdir()) == []


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_an_identity_from_serialised_parts_is_the_same(config: dict[str, object]) -> None:
    parts = {key: canonical_json(value) for key, value in config.items()}
    assert identity_of("x", parts) == identity("x", config)
    whole = canonical_json({"id_version": ID_VERSION, "config": config})
    assert identity("x", config) == f"x-{sha256_bytes(whole.encode())[:12]}"

"""What a window of the log holds, whatever lies in the store: real files, and a store behind a URL."""

import datetime
import itertools
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from repository import ROOT, clean_environment
from scipy import stats
from traffic import DAY, NOON, SINCE, UNTIL, Log, label, prediction, prediction_id

from perennial.errors import UserError
from perennial.monitoring.window import Window, read

SECOND = datetime.timedelta(seconds=1)
MANY = 2_000_000
PER_SEGMENT = 20_000
MEGABYTES = 250


@pytest.fixture(params=["folder", "url"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    """An empty store: a folder, or an object store in memory."""
    if request.param == "folder":
        yield Log(tmp_path / "store")
    else:
        yield Log("memory://bucket/deep")
        fsspec.filesystem("memory").rm("/bucket", recursive=True)


@pytest.fixture
def files(tmp_path: Path) -> Log:
    return Log(tmp_path / "store")


def window(log: Log, **how: Any) -> Window:
    return read(log.url, SINCE, UNTIL, **how)


def names(found: Window) -> list[str]:
    return [row["prediction_id"] for row in found.rows]


def labels(found: Window) -> list[Any]:
    return [row["label"] for row in found.rows]


def ids(*numbers: int) -> list[str]:
    return [prediction_id(number) for number in numbers]


def test_a_row_is_its_line_with_its_label(log: Log) -> None:
    log.predictions(prediction(1), prediction(2))
    log.feedback(label(2, "bad", NOON + DAY))
    first, second = window(log).rows
    assert first == prediction(1) | {"label": None, "labelled_at": 0.0}
    assert second == prediction(2) | {"label": "bad", "labelled_at": (NOON + DAY).timestamp()}


def test_the_begin_belongs_to_a_window_and_the_end_to_the_next(log: Log) -> None:
    times = [SINCE - SECOND / 1000, SINCE, UNTIL - SECOND / 1000, UNTIL]
    for number, at in enumerate(times):
        log.predictions(prediction(number, at))
    assert names(window(log)) == ids(1, 2)
    assert names(read(log.url, UNTIL, UNTIL + DAY)) == ids(3)


def test_windows_side_by_side_share_no_row_and_lose_none(log: Log) -> None:
    draw = random.Random(1)
    whole = [prediction(number, SINCE + draw.random() * 7 * DAY) for number in range(200)]
    log.predictions(*whole, day=SINCE)
    for day in range(7):
        log.predictions(*[line for line in whole if int((line["time"] - SINCE.timestamp()) // 86_400) == day])
    parts = [read(log.url, SINCE + n * DAY, SINCE + (n + 1) * DAY) for n in range(7)]
    assert sorted(name for part in parts for name in names(part)) == ids(*range(200))


@pytest.mark.parametrize("days", [-1, 1])
def test_a_segment_may_be_filed_a_day_off(log: Log, days: int) -> None:
    """It is filed under the day on which it was begun, by its machine's clock."""
    at = SINCE + SECOND if days < 0 else UNTIL - SECOND
    log.predictions(prediction(1, at), prediction(2, at + days * DAY), day=at + days * DAY)
    log.feedback(label(1, "bad", SINCE), day=SINCE - DAY)
    found = window(log)
    assert names(found) == ids(1)
    assert labels(found) == ["bad"]


def test_a_window_may_be_given_in_any_time_zone(log: Log) -> None:
    log.predictions(prediction(1, SINCE), prediction(2, UNTIL))
    tokyo = datetime.timezone(datetime.timedelta(hours=9))
    assert names(read(log.url, SINCE.astimezone(tokyo), UNTIL.astimezone(tokyo))) == ids(1)


def test_what_was_shipped_twice_is_read_once(log: Log) -> None:
    lines = [prediction(number) for number in range(5)]
    path = log.predictions(*lines)
    log.predictions(*lines, name=path.rpartition("/")[2])  # the same segment again
    once = window(log)
    assert (once.coverage()["rows"], once.coverage()["aside"]) == (5, {})
    log.predictions(*lines, name="another.jsonl")
    log.predictions(*lines[3:], prediction(5), prediction(5), day=NOON + DAY)
    found = window(log)
    assert names(found) == ids(*range(6))
    assert found.rows[:5] == once.rows
    assert (found.coverage()["rows"], found.coverage()["aside"]) == (6, {"repeated": 8})


def test_a_label_of_a_row_that_was_shipped_twice_counts_once(log: Log) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        log.predictions(prediction(1), prediction(2), name=name)
        log.feedback(label(1), name=name)
    assert window(log).coverage()["labelled"] == 0.5


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_latest_label_wins_in_whatever_order_the_files_come(log: Log, order: tuple[int, ...]) -> None:
    log.predictions(prediction(1))
    entries = [label(1, value, NOON + n * DAY) for n, value in enumerate(["good", "bad", "good"])]
    entries[2]["label"] = "last"
    for place, which in enumerate(order):
        log.feedback(entries[which], name=f"{place}.jsonl", day=NOON)
    (row,) = window(log).rows
    assert (row["label"], row["labelled_at"]) == ("last", entries[2]["time"])


def test_of_two_labels_in_one_request_the_later_line_wins(log: Log) -> None:
    log.predictions(prediction(1))
    log.feedback(label(1, "good"), label(1, "bad"))
    assert labels(window(log)) == ["bad"]


def test_labels_come_weeks_later_and_those_of_the_far_future_are_not_waited_for(log: Log) -> None:
    log.predictions(prediction(1), prediction(2))
    log.feedback(label(1, "bad", NOON + 110 * DAY))
    log.feedback(label(2, "bad", NOON + 200 * DAY))
    assert labels(window(log)) == ["bad", None]


def test_a_label_may_carry_an_earlier_time_than_its_prediction(log: Log) -> None:
    log.predictions(prediction(1))
    log.feedback(label(1, "bad", NOON - DAY / 4))
    assert labels(window(log)) == ["bad"]


def test_labels_of_unknown_rows_are_nobodys(log: Log) -> None:
    log.predictions(prediction(1), prediction(2, SINCE - DAY / 2))
    log.feedback(label(2), label(3), label(4, known=False))
    found = window(log)
    assert names(found) == ids(1)
    assert labels(found) == [None]
    assert found.coverage()["aside"] == {}


NEEDED = ["prediction_id", "time", "model_version", "features", "output"]
FOREIGN: dict[str, Any] = {
    "list": b"[1, 2]\n",
    "number": b"17\n",
    "word": b'"prediction"\n',
    "null": b"null\n",
    "empty": b"{}\n",
    "other": b'{"level": "info", "message": "hello"}\n',
    **{f"without {key}": {k: v for k, v in prediction(9).items() if k != key} for key in NEEDED},
    "id": prediction(9, prediction_id=9),
    "time": prediction(9, time="2026-03-02T12:00:00"),
    "flag": prediction(9, time=True),
    "features": prediction(9, features=[1, 2]),
    "answer": prediction(9, output=0.25),
    "no figures": prediction(9, output={}),
    "only a label": prediction(9, output={"label": "good"}),
    "no probabilities": prediction(9, output={"label": "good", "probabilities": {}}),
    "words": prediction(9, output={"probabilities": {"good": "high", "bad": None}}),
    "a list": prediction(9, output={"probabilities": [0.25, 0.75]}),
    "no value": prediction(9, output={"value": None}),
}
TORN = {
    "cut": b'{"prediction_id": "9", "time": 17724',
    "garbage": bytes(range(128, 256)) + b"\n",
    "zeros": b"\0" * 300 + b"\n",
    "not a number": b'{"prediction_id": "9", "time": NaN}\n',
    "half a letter": '{"prediction_id": "ü'.encode()[:-1] + b'"}\n',
    "deep": b"[" * 5000 + b"]" * 5000 + b"\n",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_lines_of_others_and_of_older_formats_are_counted_and_set_aside(files: Log, what: str) -> None:
    files.predictions(prediction(1), FOREIGN[what], prediction(2), day=NOON)
    found = window(files)
    assert names(found) == ids(1, 2)
    assert found.frame()["_answer"].tolist() == [[0.75, 0.25]] * 2
    assert found.coverage()["aside"] == {"foreign": 1}
    assert found.coverage()["versions"] == {"one": 2}


@pytest.mark.parametrize("what", TORN)
def test_torn_lines_are_counted_and_set_aside(log: Log, what: str) -> None:
    log.predictions(prediction(1), TORN[what], day=NOON)
    log.feedback(label(1), TORN[what], day=NOON)
    found = window(log)
    assert labels(found) == ["bad"]
    assert found.coverage()["aside"] == {"torn": 2}


def test_a_segment_that_was_cut_in_the_middle_loses_two_lines_at_most(files: Log) -> None:
    path = Path(files.predictions(*[prediction(number) for number in range(100)]))
    content = path.read_bytes()
    path.write_bytes(content[:5000] + content[5100:])
    found = window(files)
    assert 98 <= len(found.rows) <= 99
    assert found.aside["torn"] == 1
    assert set(names(found)) < set(ids(*range(100)))


def test_every_prefix_of_a_segment_can_be_read(files: Log) -> None:
    path = Path(files.predictions(prediction(1), prediction(2)))
    content = path.read_bytes()
    ends = [place for place in range(len(content)) if content[place : place + 1] == b"\n"]
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        assert len(window(files).rows) == sum(end <= length for end in ends), length


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        (label(1, 3), 3),
        (label(1, 2.5), 2.5),
        (label(1, ""), ""),
        (label(1, None), "before"),
        (label(1, True), "before"),
        (label(1, ["bad"]), "before"),
        (label(1, {"bad": 1}), "before"),
        (label(1, time="yesterday"), "before"),
        (label(1, time=None), "before"),
        ({"prediction_id": prediction_id(1), "label": "bad"}, "before"),
        ({"prediction_id": prediction_id(1), "time": UNTIL.timestamp()}, "before"),
        (label(1, prediction_id=[1]), "before"),
        (b'{"prediction_id": "x", "label": NaN}\n', "before"),
    ],
)
def test_only_words_and_numbers_with_a_time_are_labels(files: Log, entry: Any, kept: Any) -> None:
    files.predictions(prediction(1))
    files.feedback(label(1, "before", NOON + SECOND))
    files.feedback(entry, day=NOON)
    found = window(files)
    assert labels(found) == [kept]
    assert sum(found.aside.values()) == (kept == "before")
    assert found.coverage()["label_delay_days"] > 0


def test_a_label_without_a_time_says_nothing_of_delays(files: Log) -> None:
    files.predictions(prediction(1))
    files.feedback({"prediction_id": prediction_id(1), "label": "bad"}, day=NOON)
    assert window(files).coverage()["label_delay_days"] is None


def test_a_regression_gives_its_value(log: Log) -> None:
    log.predictions(prediction(1, output={"value": 2.5}), prediction(2, output={"value": 3}))
    log.feedback(label(1, 2))
    frame = window(log).frame()
    assert frame["_answer"].tolist() == [[2.5], [3]]
    assert frame["_label"].tolist()[0] == 2


def test_a_frame_has_the_features_that_were_sent(log: Log) -> None:
    log.predictions(prediction(1), prediction(2, features={"mass": 0.5, "new": "x"}), prediction(3, features={}))
    frame = window(log).frame()
    assert frame["mass"].tolist()[:2] == [0.25, 0.5]
    assert frame["new"].isna().tolist() == [True, False, True]
    assert frame["_time"].tolist() == [NOON.timestamp()] * 3


def test_empty_segments_are_no_trouble(log: Log) -> None:
    log.predictions(day=NOON)
    log.feedback(day=NOON)
    log.predictions(prediction(1))
    assert names(window(log)) == ids(1)


@pytest.mark.parametrize("made", ["nothing", "folder", "kind", "another day"])
def test_where_nothing_was_logged_there_are_no_rows(tmp_path: Path, made: str) -> None:
    store = tmp_path / "store"
    if made != "nothing":
        store.mkdir()
    if made == "kind":
        (store / "predictions").mkdir()
    if made == "another day":
        Log(store).predictions(prediction(1, SINCE - 30 * DAY))
    found = read(str(store), SINCE, UNTIL)
    assert found.rows == []
    assert found.coverage() | {"since": "", "until": ""} == {
        "since": "", "until": "", "rows": 0, "kept": 0, "labelled": 0.0, "label_delay_days": None, "versions": {},
        "aside": {},
    }  # fmt: skip
    assert found.frame().empty


def test_predictions_without_any_feedback_are_a_window(log: Log) -> None:
    log.predictions(prediction(1))
    assert labels(window(log)) == [None]


def test_what_else_lies_in_the_store_is_left_alone(files: Log) -> None:
    path = Path(files.predictions(prediction(1)))
    (path.parents[1] / "dt=2026-03-02-old").mkdir()
    (path.parents[1] / "README").write_text("hello")
    (path.parents[2] / "models").mkdir()
    (path.parent / "a folder").mkdir()
    (path.parent / "gone.jsonl").symlink_to("nowhere")
    found = window(files)
    assert names(found) == ids(1)
    assert found.aside.total() == found.aside["unreadable"] == 2


class Fragile(MemoryFileSystem):
    """A store whose library has errors of its own, for a listing or for a segment."""

    protocol = "fragile"
    store: dict[str, Any] = {}  # noqa: RUF012 fsspec keeps its files here
    pseudo_dirs = [""]  # noqa: RUF012
    broken = ""

    class LostError(Exception):
        pass

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        if self.broken == "listing":
            raise self.LostError("no route to the store")
        return super().ls(path, detail, **more)

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        if self.broken == "segment" and mode == "rb":
            raise self.LostError("no route to the store")
        return super()._open(path, mode, **more)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("fragile://", "memory://"))


@pytest.mark.parametrize("broken", ["listing", "segment"])
def test_a_store_in_trouble_is_an_error_a_user_can_read(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the log would be another population, so it is not taken for the whole."""
    fsspec.register_implementation("fragile", Fragile, clobber=True)
    log = Log("fragile://bucket")
    log.predictions(prediction(1))
    assert names(window(log)) == ids(1)
    monkeypatch.setattr(Fragile, "broken", broken)
    with pytest.raises(UserError, match=r"fragile://bucket cannot be read: .*no route(?s:.*)Fix: PREDICTION_STORE="):
        window(log)


def test_a_store_that_is_none_is_an_error_a_user_can_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    for store in (str(tmp_path / "file"), "nowhere://bucket"):
        with pytest.raises(UserError, match=f"{store} cannot be read: (?s:.*)Fix: PREDICTION_STORE="):
            read(store, SINCE, UNTIL)


def test_an_s3_store_out_of_reach_is_an_error_a_user_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"AWS_MAX_ATTEMPTS": "1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**settings, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="s3://bucket/logs cannot be read"):
        read("s3://bucket/logs", SINCE, UNTIL)


def test_coverage_says_what_a_window_is_made_of(log: Log) -> None:
    log.predictions(*[prediction(n, model_version="two" if n < 3 else "one") for n in range(10)], b"[]\n", b"{")
    log.predictions(prediction(3), prediction(11, UNTIL))
    for number, days in enumerate([10, 1, 2]):
        log.feedback(label(number, "bad", NOON + days * DAY))
    log.feedback(label(11), label(12))
    assert window(log).coverage() == {
        "since": "2026-03-02T00:00:00+00:00",
        "until": "2026-03-09T00:00:00+00:00",
        "rows": 10,
        "kept": 10,
        "labelled": 0.3,
        "label_delay_days": 2.0,
        "versions": {"one": 7, "two": 3},
        "aside": {"foreign": 1, "torn": 1, "repeated": 1},
    }


def test_of_too_many_rows_a_sample_is_kept_that_does_not_depend_on_the_files(tmp_path: Path) -> None:
    lines = [prediction(number) for number in range(3000)]
    entries = [label(number, "bad" if number % 2 else "good") for number in range(3000)]
    found = []
    for seed in range(3):
        log, draw = Log(tmp_path / str(seed)), random.Random(seed)
        draw.shuffle(lines)
        draw.shuffle(entries)
        cuts = sorted(draw.sample(range(3000), 4))
        for begin, end in itertools.pairwise([0, *cuts, 3000]):
            log.predictions(*lines[begin:end])
            log.feedback(*entries[begin:end])
        found.append(window(log, most=200))
    assert len(found[0].rows) == 200
    assert found[0].rows == found[1].rows == found[2].rows
    assert found[0].coverage() == found[1].coverage() == found[2].coverage()
    assert (found[0].coverage()["rows"], found[0].coverage()["labelled"]) == (3000, 1.0)


def test_a_sample_is_not_changed_by_what_is_shipped_twice(files: Log) -> None:
    lines = [prediction(number) for number in range(3000)]
    files.predictions(*lines)
    once = window(files, most=200)
    files.predictions(*lines[::-1])
    files.predictions(*lines)
    found = window(files, most=200)
    assert found.rows == once.rows
    assert (found.coverage()["rows"], found.coverage()["kept"]) == (3000, 200)
    assert found.coverage()["aside"] == {"repeated": 6000}


def test_rows_are_told_from_repeated_ones_also_among_those_not_kept(files: Log) -> None:
    """Half of the rows twice: how many there are is inferred from those that were kept."""
    lines = [prediction(number) for number in range(4000)]
    files.predictions(*lines)
    files.predictions(*lines[::2])
    found = window(files, most=1000).coverage()
    assert found["rows"] == pytest.approx(4000, rel=0.05)
    assert found["rows"] + found["aside"]["repeated"] == 6000


def test_a_sample_is_like_the_whole(files: Log) -> None:
    """Whatever a value goes along with: the order of the ids, the time, the file."""
    draw = random.Random(5)
    colours = ["red", "green", "blue", "black"]
    lines = []
    for number in range(20_000):
        by_order = colours[number * 4 // 20_000]
        features = {"order": by_order, "turn": colours[number % 4], "chance": draw.choice(colours)}
        at = SINCE + number * 7 * DAY / 20_000
        lines.append(prediction(number, at, features=features | {"hour": colours[at.hour // 6]}))
    for begin in range(0, 20_000, 5000):
        files.predictions(*lines[begin : begin + 5000])
    whole, sample = window(files).frame(), window(files, most=2000).frame()
    assert (len(whole), len(sample)) == (20_000, 2000)
    for name in ("order", "turn", "chance", "hour"):
        shares = whole[name].value_counts(normalize=True)
        counted = sample[name].value_counts()[shares.index]
        assert stats.chisquare(counted, shares * 2000).pvalue > 0.01, name
    assert stats.kstest(sample["_time"], whole["_time"]).pvalue > 0.01


@pytest.mark.parametrize("most", [1, 10, 29, 30, 31])
def test_the_newest_are_kept_when_asked_for(log: Log, most: int) -> None:
    lines = [prediction(number, SINCE + number * DAY / 5) for number in range(30)]
    random.Random(2).shuffle(lines)
    log.predictions(*lines[:20], day=NOON)
    log.predictions(*lines[10:], day=NOON)
    assert names(window(log, most=most, newest=True)) == ids(*range(max(30 - most, 0), 30))


def test_which_of_the_rows_of_one_request_are_kept_does_not_depend_on_the_files(files: Log, tmp_path: Path) -> None:
    """They have one time: a window by count often ends among them."""
    lines = [prediction(number) for number in range(20)]
    files.predictions(*lines)
    other = Log(tmp_path / "other")
    other.predictions(*lines[12:], *lines[5:8])
    other.predictions(*lines[11::-1])
    assert names(window(files, most=7, newest=True)) == names(window(other, most=7, newest=True))


MEASURE = """
import datetime, json, pathlib, sys
from perennial.monitoring.window import read
since = datetime.datetime.fromisoformat(sys.argv[2])
window = read(sys.argv[1], since, since + datetime.timedelta(days=7), most=10_000)
status = pathlib.Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
print(json.dumps(window.coverage() | {"megabytes": peak / 1024, "mean": sum(r["features"]["a"] for r in window.rows)}))
"""


@pytest.fixture
def large() -> Iterator[str]:
    """Millions of lines; the same ones in each segment but for their ids."""
    at = int(NOON.timestamp())
    line = '{"prediction_id":"%s-%08x-0","time":%d.0,"model_version":"one","features":{"a":%d},"output":{"value":1}}\n'
    entry = '{"time":%d.0,"prediction_id":"%s-%08x-0","label":1.0,"known":true}\n'
    rows = "".join(line % ("#" * 8, n, at + n, n % 2) for n in range(PER_SEGMENT)).encode()
    entries = "".join(entry % (at + 86_400, "#" * 8, n) for n in range(0, PER_SEGMENT, 10)).encode()
    with tempfile.TemporaryDirectory() as folder:
        for kind, content in (("predictions", rows), ("feedback", entries)):
            here = Path(folder, kind, f"dt={NOON:%Y-%m-%d}")
            here.mkdir(parents=True)
            for number in range(MANY // PER_SEGMENT):
                (here / f"{kind}-{number}.jsonl").write_bytes(content.replace(b"#" * 8, b"%08x" % number))
        yield folder


def test_millions_of_lines_take_little_memory(large: str) -> None:
    command = [sys.executable, "-c", MEASURE, large, SINCE.isoformat()]
    own = clean_environment() | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["rows"], found["kept"], found["aside"]) == (MANY, 10_000, {})
    assert found["labelled"] == pytest.approx(0.1, abs=0.01)
    assert found["mean"] / 10_000 == pytest.approx(0.5, abs=0.02)
    assert found["megabytes"] < MEGABYTES

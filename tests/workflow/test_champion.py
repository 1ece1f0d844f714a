"""Which model the gate compares with, where it gets that model from, and on which rows the two meet."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from gates import ONCE, failed, gate, judged, leaves_nothing_behind, outcome, report, start, text
from repository import Repository

# Where the champion comes from


def kept(here: Repository, commit: str) -> list[Path]:
    """The commit's model and profile in DVC's cache."""
    lock = here.git("show", f"{commit}:dvc.lock").splitlines()
    hashes = [lock[at + 2].split()[-1] for at, line in enumerate(lock) if line.strip().startswith("- path: models/")]
    files = {here.path / f".dvc/cache/files/md5/{hash[:2]}/{hash[2:]}" for hash in hashes}
    assert len(files) == 2
    return [*files]


def gone(here: Repository, commit: str = "good") -> None:
    for file in kept(here, commit):
        file.unlink()


def only_in_a_remote(here: Repository) -> None:
    """In one that this branch knows, while the base commit knew of none: remotes move."""
    add = ("remote", "add", "-q", "-d", "store", str(here.path.parent / "store"))
    here.dvc(*add, "--local")
    here.dvc("push", "-q", "--all-commits")
    (here.path / ".dvc/config.local").unlink()
    here.dvc(*add)
    here.commit("A remote")
    gone(here)


def corrupt(here: Repository) -> None:
    for file in kept(here, "good"):
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        file.chmod(0o444)


@pytest.mark.parametrize(
    ("lose", "source"),
    [(only_in_a_remote, "remote"), (gone, "rebuilt"), (corrupt, "rebuilt")],
    ids=["only in a remote", "in no cache", "corrupt in the cache"],
)
def test_wherever_the_champion_comes_from_the_figures_are_the_same(
    worse: Repository, tmp_path: Path, lose: Callable[[Repository], None], source: str
) -> None:
    here, before = worse.copy(tmp_path / "here"), judged(worse)
    assert before["champion"]["source"] == "cache"
    lose(here)
    found = gate(here, expect=1)
    assert found["champion"] == before["champion"] | {"source": source}
    for what in ("metrics", "slices", "fairness", "calibration", "features", "compared"):
        assert found[what] == before[what], what
    assert outcome(found) == outcome(before)
    assert leaves_nothing_behind(here)
    commit = here.git("rev-parse", "--short=8", "good")
    assert any(f"{source} from commit `{commit}`" in line for line in report(here))


def test_champion_rev_names_another_champion(here: Repository) -> None:
    here.environment["CHAMPION_REV"] = "poor"
    found = gate(here)
    assert found["champion"]["commit"] == here.git("rev-parse", "poor")
    assert found["metrics"]["roc_auc"]["low"] > 0


def test_a_champion_rev_that_is_no_commit_fails_and_is_told(here: Repository) -> None:
    here.environment["CHAMPION_REV"] = "v9.9.9"
    found = gate(here, expect=1)
    assert outcome(found) == {"set-up": False}
    assert "CHAMPION_REV=v9.9.9: no such commit" in text(found, "set-up")
    assert any("git fetch" in line for line in report(here))


def test_branches_that_never_meet_fail_and_the_way_out_is_told(here: Repository) -> None:
    here.git("checkout", "-q", "--orphan", "island")
    here.git("commit", "-q", "-m", "Start anew")
    found = gate(here, expect=1)
    assert "no commit in common" in text(found, "set-up")
    assert "CHAMPION_REV=<commit>" in text(found, "set-up")


def test_the_first_commit_of_all_is_judged_by_itself(here: Repository) -> None:
    shutil.rmtree(here.path / ".git")
    here.git("init", "-q", "-b", "main")
    here.commit("Start")
    found = gate(here)
    assert outcome(found)["champion"] is None
    assert outcome(found)["floor of roc_auc"] is True
    assert text(found, "champion") == "there is no earlier commit to compare with"
    lines = report(here)
    assert lines[0] == "## ✅ Pass: there is no champion to compare with"
    assert any(line.startswith("| `roc_auc` |") for line in lines)


def test_the_first_model_of_a_project_is_judged_by_itself(here: Repository) -> None:
    here.git("switch", "-q", "main")
    here.git("rm", "-q", "--cached", "dvc.lock")
    here.git("commit", "-q", "-m", "No model yet")
    here.git("switch", "-q", "-C", "change")
    here.commit("The first model")
    found = gate(here)
    assert outcome(found)["champion"] is None
    assert text(found, "champion").endswith("has no model in its dvc.lock: this is the first one")


def test_a_base_commit_whose_pipeline_fails_is_told_and_the_model_judged_by_itself(here: Repository) -> None:
    here.git("switch", "-q", "main")
    here.git("checkout", "-q", "poor", "--", ".")
    (here.path / "src/perennial/pipeline/prepare.py").write_text("raise SystemExit('the base is broken')\n")
    here.commit("Broken")
    here.git("switch", "-q", "-C", "change")
    here.git("checkout", "-q", "good", "--", ".")
    here.commit("Mended")
    gone(here, "poor")
    found = gate(here)
    assert outcome(found)["champion"] is None
    assert outcome(found)["floor of roc_auc"] is True
    assert "could not be built again" in text(found, "champion")
    assert "the base is broken" in text(found, "champion")
    assert leaves_nothing_behind(here)
    assert report(here)[0] == "## ✅ Pass: there is no champion to compare with"


def test_a_base_commit_whose_files_cannot_be_read_counts_as_none(here: Repository) -> None:
    """A merge left its marks on `main`; this branch is the one that mends it."""
    files = ("dvc.lock", "params.yaml", "reports/data.json")
    here.git("switch", "-q", "main")
    for name in files:
        with (here.path / name).open("a") as file:
            file.write("<<<<<<< HEAD\n=======\n>>>>>>> other\n")
    here.commit("Broken")
    here.git("switch", "-q", "-C", "change")
    here.git("checkout", "-q", "good", "--", *files)
    here.commit("Mended")
    found = gate(here)
    assert outcome(found)["champion"] is None
    assert outcome(found)["floor of roc_auc"] is True
    assert report(here)[0] == "## ✅ Pass: there is no champion to compare with"


# What is compared


def test_a_champion_with_a_feature_that_was_dropped_reads_it_from_the_raw_data(here: Repository) -> None:
    here.replace("params.yaml", "    distance: {type: number}\n", "")
    found = gate(here, expect=1)
    assert outcome(found)["champion"] is False  # what it knew from that feature is gone
    assert found["compared"] == {"rows": 200, "of": 200}
    promised = json.loads(here.git("show", "main:reports/metrics.json"))["metrics"]
    assert {name: row["champion"] for name, row in found["metrics"].items()} == pytest.approx(
        {name: figure["value"] for name, figure in promised.items()}, abs=2e-6
    )
    assert "| `data.features.distance.type` | `number` | – |" in report(here)


def test_a_champion_of_another_target_is_not_compared(here: Repository) -> None:
    here.replace("params.yaml", 'positive: "yes"', 'positive: "no"')
    found = gate(here, expect=1)
    assert failed(found) == {"dvc.lock"}
    assert "it predicts answer (no or yes), this one answer (yes or no)" in text(found, "champion")
    assert any(line.startswith("- ⚪ **champion** was not judged") for line in report(here))


@pytest.mark.parametrize("time", ["with a time", "without a time"])
def test_rows_the_champion_has_learnt_from_are_left_out(here: Repository, tmp_path: Path, time: str) -> None:
    if time == "without a time":
        line = '  time: {name: week, format: "%Y-%m-%d"}\n'
        here = start(tmp_path / "timeless", ONCE.replace(line, ""))
        here.git("switch", "-q", "-c", "change")
    own = json.loads(here.git("show", "main:reports/metrics.json"))
    here.replace("params.yaml", "holdout: 0.25", "holdout: 0.5")
    found = gate(here, expect=1)  # the lock is stale
    assert found["compared"]["of"] == json.loads(here.read("reports/metrics.json"))["rows"] > own["rows"]
    assert found["compared"]["rows"] == own["rows"]
    figure = found["metrics"]["roc_auc"]["champion"]
    assert figure == pytest.approx(own["metrics"]["roc_auc"]["value"], abs=2e-6)
    told = f"Compared on the {own['rows']} of {found['compared']['of']} hold-out rows new to the champion."
    assert told in report(here)

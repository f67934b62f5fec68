"""Each experiment runs, writes its tables, and says what doesn't depend on the machine's speed."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.deep  # they take a minute

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments"

#: Each experiment's tables and their columns.
TABLES = {
    "scaling": {
        "known-answer": "stride contestant lower_ms median_ms upper_ms",
        "scaling": "axis x contestant lower_ms median_ms upper_ms skipped",
    },
    "memory": {"memory": "contestant height width taps peak_mib skipped"},
    "accuracy": {
        "accuracy-exact": "variant metric backend truth largest_error largest_bound largest_share "
        "above_bound",
        "accuracy-sweeps": "sweep x metric backend largest_error largest_bound largest_share "
        "above_bound",
        "accuracy-match": "brightness method largest_off kernels found",
    },
    "channels": {
        "channels-error": "method correlations bound largest_pixel_error rms_pixel_error "
        "largest_map_error mean_map_error",
        "channels-time": "image taps method correlations lower_ms median_ms upper_ms",
    },
    "detection": {
        "detection": "degradation level metric trials detected rate rate_low rate_high "
        "median_error_px mean_error_px mean_error_low mean_error_high"
    },
    "search": {
        "search": "image taps channels metric contestant bounds left lower_ms median_ms upper_ms "
        "same_place"
    },
    "example": {
        "example": "kernel method metric least largest best_y best_x pixels_from_its_place "
        "colour_difference_there"
    },
    "gradients": {
        "gradients": "metric start_px trial after_8 after_4 after_2 after_0",
        "gradients-learned": "epoch likeness best_similarity "
        + " ".join(f"k{i}" for i in range(18**2)),
    },
}


def script(name, *arguments):
    command = [sys.executable, str(FOLDER / f"{name}.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run all in quick mode, once."""
    folder = tmp_path_factory.mktemp("results")
    script("run_all", "--quick", "--results", folder)
    return folder


@pytest.fixture(scope="module")
def rows(results):
    def read(name):
        with (results / f"{name}.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_their_columns(name, rows):
    for table, columns in TABLES[name].items():
        found = rows(table)
        assert found
        assert list(found[0]) == columns.split()


def test_these_are_all_scripts():
    known = {*TABLES, "harness", "figures", "contestants", "run_all", "speed"}
    assert {path.stem for path in FOLDER.glob("*.py")} == known


def test_the_report_has_a_section_for_each_and_its_figures(results):
    report = (results / "REPORT.md").read_text(encoding="utf-8")
    assert report.count("\n## ") == len(TABLES)
    assert report.count("**What it doesn't.**") == len(TABLES)
    for line in report.splitlines():
        if line.startswith("!["):
            name = line[line.index("](") + 2 : -1]
            assert (results / name).stat().st_size > 5000, name
    for word in ("Machine", "Versions", "Date", "seed 0", "quick"):
        assert word in report


def test_a_report_can_be_drawn_again(results):
    before = (results / "REPORT.md").read_text(encoding="utf-8")
    script("run_all", "--quick", "--results", results, "--draw")
    assert (results / "REPORT.md").read_text(encoding="utf-8") == before


def test_a_quick_run_leaves_the_committed_results_alone():
    source = (FOLDER / "harness.py").read_text(encoding="utf-8")
    assert 'RESULTS / "quick" if options.quick' in source
    assert "experiments/results/quick/" in (ROOT / ".gitignore").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", ["accuracy-exact", "accuracy-sweeps"])
def test_errors_are_within_their_bounds(table, rows):
    for row in rows(table):
        assert row["above_bound"] == "0", row
        assert float(row["largest_error"]) <= float(row["largest_bound"]), row


def test_every_variant_was_compared_with_exact_arithmetic(rows):
    import patchsim

    assert [r["variant"] for r in rows("accuracy-exact")] == [str(v) for v in patchsim.variants()]


def test_centred_expansions_keep_perfect_matches_where_the_naive_one_loses_them(rows):
    for row in rows("accuracy-match"):
        own = row["method"].startswith(("l2_", "zncc_"))
        if own:
            assert row["found"] == row["kernels"], row
        if row["method"] == "naive expansion" and float(row["brightness"]) >= 1000:
            # Its squares are 10⁶ and more, whose float32 are 2⁻⁴ apart; the answer is 0.
            assert float(row["largest_off"]) > 2**-6, row
            assert row["found"] == "0", row


def test_low_rank_and_quantised_errors_are_within_their_bounds(rows):
    for row in rows("channels-error"):
        if row["bound"]:
            assert float(row["largest_pixel_error"]) <= float(row["bound"]) * (1 + 1e-3), row
        assert float(row["largest_map_error"]) <= float(row["largest_pixel_error"]), row


def test_the_svd_is_the_best_in_the_mean_square(rows):
    """Eckart and Young; sines are a function of x, one of y and a matrix of that rank."""
    table = {
        (r["method"], r["correlations"]): float(r["rms_pixel_error"])
        for r in rows("channels-error")
    }
    for (method, number), error in table.items():
        if method in ("SVD", "sines"):
            assert table["SVD beside box sums", number] <= error


def test_conv2d_sees_nothing_of_a_black_kernel_and_patchsim_finds_it(rows):
    table = {(r["kernel"], r["method"]): r for r in rows("example")}
    conv2d, own = table["black, RGB", "conv2d"], table["black, RGB", "patchsim"]
    assert float(conv2d["least"]) == float(conv2d["largest"]) == 0
    assert float(own["least"]) < 0.2
    assert float(own["largest"]) == 1
    assert float(own["colour_difference_there"]) == 0
    for kernel in ("orange suit, RGB", "orange suit, HSV"):
        assert float(table[kernel, "patchsim"]["pixels_from_its_place"]) == 0
    assert float(table["orange suit, RGB", "conv2d"]["pixels_from_its_place"]) > 100


def test_rates_lie_in_their_intervals(rows):
    for row in rows("detection"):
        low, rate, high = (float(row[key]) for key in ("rate_low", "rate", "rate_high"))
        assert 0 <= low <= rate <= high <= 1, row
        assert int(row["detected"]) <= int(row["trials"])


def test_registration_lands_within_a_tenth_of_a_pixel(rows):
    for row in rows("gradients"):
        if row["start_px"] == "4":
            assert float(row["after_0"]) < 0.1, row


def test_a_learned_template_becomes_like_the_pattern(rows):
    *_, last = rows("gradients-learned")
    assert float(last["likeness"]) > 0.9


def test_no_variant_takes_more_memory_than_promised(rows):
    for row in rows("memory"):
        if row["contestant"].startswith(("l1_", "l2_")):
            assert float(row["peak_mib"]) < 512, row
    [known] = [
        r for r in rows("memory") if (r["contestant"], r["taps"]) == ("l1 known answer", "24")
    ]
    # Windows of 297² places times 24² taps of 3 channels, in float32, and their differences.
    assert float(known["peak_mib"]) > 297**2 * 24**2 * 3 * 4 / 2**20


def test_a_search_finds_what_the_map_finds(rows):
    for row in rows("search"):
        assert row["same_place"] == "1", row
        if row["contestant"] == "find":
            assert 0 < float(row["left"]) <= 1, row

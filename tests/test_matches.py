"""What a search returns, in all its forms."""

import json
import pickle

import numpy as np
import pytest
import torch

import patchsim
from patchsim import Match, Matches, Skipped, plots
from patchsim.search.bank import Entry

TWO = Matches([Match(1.0, 20, 7, 10, 12), Match(0.75, 3, 40, 10, 12, angle=30, batch=1)])


def test_it_is_a_sequence():
    assert len(TWO) == 2
    assert TWO[0].box == (7, 20, 19, 30)
    assert TWO[-1] is TWO[1]
    assert isinstance(TWO[1:], Matches)
    assert list(TWO[1:]) == [TWO[1]]
    assert Matches(list(TWO)) == TWO
    assert hash(TWO) == hash(Matches(list(TWO)))
    assert list(TWO) != TWO
    assert not Matches()
    assert repr(TWO[:1]) == f"Matches([{TWO[0]!r}])"


def test_what_was_skipped_stays():
    skipped = Skipped(0, 2.0, 0.0, (20, 30), "no window fits")
    matches = Matches(TWO, [skipped])
    again = pickle.loads(pickle.dumps(matches))
    assert matches == TWO
    assert again == matches
    assert again.skipped == matches[1:].skipped == matches[::-1].skipped == (skipped,)
    assert TWO.skipped == ()


@pytest.mark.parametrize("metric", ["l1", "l2", "rmse", "ncc", "zncc", "ssim", "hsv"])
def test_a_match_holds_plain_numbers(metric):
    image = torch.rand(3, 12, 14, generator=torch.Generator().manual_seed(0))
    options = {"scales": np.array([1, 2], np.float32), "angles": torch.tensor([0, 90])}
    for subpixel in (False, True):
        matches = patchsim.find(
            image, image[:, 3:8, 4:9], metric, k=np.int64(3), subpixel=subpixel, **options
        )
        assert json.loads(json.dumps(matches.to_dicts())) == matches.to_dicts()
        for name, value in [item for match in matches.to_dicts() for item in match.items()]:
            place = float if subpixel else int
            expected = {"y": place, "x": place, "score": float, "scale": float, "angle": float}
            assert type(value) is expected.get(name, int)


def test_a_table_leaves_out_what_all_have_by_default():
    header, row = str(TWO[:1]).splitlines()
    assert " ".join(header.split()) == "score x y width height"
    assert " ".join(row.split()) == "1.0000 7 20 12 10"
    header, *rows = str(TWO).splitlines()
    assert " ".join(header.split()) == "score x y width height angle batch"
    assert " ".join(rows[1].split()) == "0.7500 40 3 12 10 30 1"
    assert str(Matches()) == "no match"
    refined = Matches([Match(0.5, 1.25, 2.5, 3, 4)])
    assert str(refined).splitlines()[1].split()[1:3] == ["2.5", "1.25"]


def test_dicts_and_arrays():
    assert TWO.to_dicts()[1] == {
        "score": 0.75,
        "y": 3,
        "x": 40,
        "height": 10,
        "width": 12,
        "template": 0,
        "scale": 1.0,
        "angle": 30,
        "batch": 1,
    }
    array = TWO.to_numpy()
    assert array.dtype.names == tuple(TWO.to_dicts()[0])
    assert array["score"].tolist() == [1.0, 0.75]
    assert array["batch"].dtype == np.int64
    assert Matches().to_numpy().shape == (0,)
    assert TWO.boxes().tolist() == [[7, 20, 19, 30], [40, 3, 52, 13]]
    assert Matches().boxes().shape == (0, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_return_their_axes(channels):
    image = torch.rand(channels, 40, 60)
    axes = plots.draw_matches(image, TWO)
    assert len(axes.patches) == 2
    assert {text.get_text() for text in axes.texts} == {"1.000", "0.750  +30°"}
    assert plots.draw_matches(image, Matches(), axes) is axes
    axes = plots.heatmap(torch.rand(4, 5))
    assert len(axes.figure.axes) == 2  # a colour bar
    weight = torch.zeros(channels, 9, 9)
    weight[:, 2:5, 2:5] = 1
    entries = [Entry(image[:, :9, :9], weight), Entry(image[:, :5, :7], None)]
    sheet = plots.template_bank(entries).images[0].get_array()
    assert sheet.shape == (7, 18, 3)  # of the first template 3² pixels count
    assert (sheet[1, 1] == 1).all()
    assert (sheet[3, 4] != 1).any()

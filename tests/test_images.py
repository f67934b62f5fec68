"""Image files: read as they are, or refused in words."""

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from patchsim.images import read_alpha, read_images, read_mask

RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 65536, (12, 15, 4)).astype(np.uint16)
DEEP[0, 0] = 65535
BYTES = RANDOM.integers(0, 256, (12, 15, 4)).astype(np.uint8)


def channels_first(values):
    return np.ascontiguousarray(values.reshape(*values.shape[:2], -1).transpose(2, 0, 1))


def write(path, values, how, **options):
    values = np.ascontiguousarray(values)
    if how == "tiff":
        tifffile.imwrite(path, values, **options)
    elif how == "pillow":
        Image.fromarray(values).save(path, **options)
    else:
        path.write_bytes(getattr(imagecodecs, f"{how}_encode")(values))
    return path


RGB = {"photometric": "rgb"}
GREY = {"photometric": "minisblack"}
CONTIG = {**GREY, "planarconfig": "contig"}


@pytest.mark.parametrize(
    ("values", "white", "name", "how", "options"),
    [
        (DEEP[..., 0], 65535, "a.png", "pillow", {}),
        (DEEP[..., 0], 65535, "a.png", "png", {}),
        (DEEP[..., :3], 65535, "a.png", "png", {}),
        (DEEP[..., :3], 65535, "a.jp2", "jpeg2k", {}),
        (DEEP[..., 0], 65535, "a.tif", "pillow", {}),
        (DEEP[..., 0], 65535, "a.tif", "tiff", {"byteorder": ">"}),
        (DEEP[..., 0], 65535, "a.tif", "tiff", {"compression": "lzw", "predictor": True}),
        (DEEP[..., 0], 65535, "a.tif", "tiff", {"bigtiff": True, "tile": (16, 16)}),
        (DEEP[..., :3], 65535, "a.tif", "tiff", RGB),
        (DEEP[..., :3], 65535, "a.tif", "tiff", {**RGB, "compression": "zlib"}),
        (DEEP[..., 0] >> 4, 4095, "a.tif", "tiff", {}),
        (DEEP[..., 0] % 4096 >> 1, 4095, "a.tif", "tiff", {}),
        (DEEP[..., 0] // 257 * 257 // 16 // 257 * 257, 65535, "a.tif", "tiff", {}),
        ((DEEP[..., 0] % 4096).astype(np.int16) - 1000, 4095, "a.tif", "tiff", {}),
        ((DEEP[..., 0] % 3000).astype(np.int32), 4095, "a.tif", "tiff", {}),
        (DEEP[..., 0].astype(np.int64) * 65537 % 2**31, 2**32 - 1, "a.tif", "tiff", {}),
        (BYTES[..., 0].astype(np.int8), 255, "a.tif", "tiff", {}),
        ((DEEP[..., 0] / 65535).astype(np.float16), 1, "a.tif", "tiff", {}),
        ((DEEP[..., :3] / 65535).astype(np.float32), 1, "a.tif", "tiff", RGB),
        (DEEP[..., 0] / 65535, 1, "a.tif", "tiff", {}),
    ],
)
def test_deep_files_keep_their_values(values, white, name, how, options, tmp_path):
    [found] = read_images(write(tmp_path / name, values, how, **options))
    assert found.dtype is (torch.float64 if values.dtype.itemsize > 4 else found.dtype)
    dtype = found.numpy().dtype
    if values.dtype == np.int32:
        assert dtype == np.float64
    expected = channels_first(values).astype(dtype) / np.array(white, dtype)
    np.testing.assert_array_equal(found.numpy(), expected)
    # As many values as there are in the file.
    assert len(np.unique(found.numpy())) == len(np.unique(values))


def test_a_range_that_is_named(tmp_path):
    grey = DEEP[..., 0] % 1000
    paths = write(tmp_path / "a.tif", grey, "tiff"), write(tmp_path / "b.png", BYTES[..., 0], "png")
    deep, plain = read_images(*paths, data_range=2000)
    np.testing.assert_array_equal(deep[0].numpy(), grey.astype(np.float32) / np.float32(2000))
    np.testing.assert_array_equal(plain[0].numpy(), BYTES[..., 0] / np.float32(255))
    [alone] = read_images(paths[1], data_range=127)
    np.testing.assert_array_equal(alone[0].numpy(), BYTES[..., 0] / np.float32(127))


@pytest.mark.parametrize(
    "values",
    [
        DEEP[..., 0] >> 4,
        DEEP[..., 0] >> 2,
        BYTES[..., 0].astype(np.uint16) // 2,
        BYTES[..., 0].astype(np.float32),
        BYTES[..., 0].astype(np.int16) - 100,
        DEEP[..., 0].astype(np.int32),
    ],
    ids=lambda values: f"{values.dtype} to {values.max()}",
)
def test_values_of_unknown_white_beside_other_files_are_refused(values, tmp_path):
    paths = [write(tmp_path / "a.tif", values, "tiff"), tmp_path / "b.png"]
    write(paths[1], BYTES[..., 0], "png")
    with pytest.raises(
        ValueError, match=r"a.tif holds values from .* say what white is with --data"
    ):
        read_images(*paths)
    assert len(read_images(*paths, data_range=255)) == 2
    again = write(tmp_path / "c.tif", values[:5, :5], "tiff")
    assert torch.equal(*(image[..., :5, :5] for image in read_images(paths[0], again)))


def test_files_of_known_white_are_compared(tmp_path):
    """The same grey in 8 bits, in 16 and as a float; a dark one in 16 bits as well."""
    grey = BYTES[..., 0]
    for dark in (1, 64):
        plain = write(tmp_path / "a.png", grey // dark, "png")
        deep = write(tmp_path / "b.tif", (grey // dark).astype(np.uint16) * 257, "tiff")
        real = write(tmp_path / "c.tif", ((grey // dark) / 255).astype(np.float32), "tiff")
        one, two, three = read_images(plain, deep, real)
        torch.testing.assert_close(one, two, rtol=1e-6, atol=0)
        assert torch.equal(one, three)


@pytest.mark.parametrize("values", [DEEP, DEEP[..., [0, 3]]], ids=["RGBA", "LA"])
@pytest.mark.parametrize("how", ["png", "tiff"])
def test_deep_transparency(values, how, tmp_path):
    options = {}
    if how == "tiff":
        options = {"extrasamples": ["unassalpha"], **(RGB if values.shape[2] == 4 else GREY)}
    path = write(tmp_path / f"a.{how}", values, how, **options)
    [found] = read_images(path)
    colours = channels_first(values[..., :-1]).astype(np.float32) / np.float32(65535)
    np.testing.assert_array_equal(found.numpy(), colours)
    alpha = values[..., -1].astype(np.float32) / np.float32(65535)
    np.testing.assert_array_equal(read_alpha(path).numpy(), alpha)


def test_transparency_of_one_colour(tmp_path):
    grey = np.where(DEEP[..., 0] < 9000, np.uint16(7), DEEP[..., 0])
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=7)
    assert torch.equal(read_alpha(tmp_path / "a.png") == 0, torch.from_numpy(grey == 7))
    Image.fromarray(BYTES[..., 0]).save(tmp_path / "b.png", transparency=7)
    expected = torch.from_numpy(BYTES[..., 0] == 7)
    assert torch.equal(read_alpha(tmp_path / "b.png") == 0, expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg", "gif", "webp", "bmp", "ppm"])
def test_files_of_8_bits_are_read_as_pillow_does(mode, suffix, tmp_path):
    image = Image.fromarray(BYTES[..., :3])
    if mode == "LAB":
        image = Image.frombytes("LAB", image.size, BYTES[..., :3].tobytes())
    elif mode == "PA":
        image = image.convert("P").convert("PA")
    elif mode == "LA":
        image = Image.fromarray(np.ascontiguousarray(BYTES[..., :2]), "LA")
    elif mode == "RGBA":
        image = Image.fromarray(BYTES)
    else:
        image = image.convert(mode)
    path = tmp_path / f"a.{suffix}"
    try:
        image.save(path)
    except (OSError, ValueError, KeyError):
        return  # no such file can be written
    with Image.open(path) as saved:
        grey = saved.mode in ("1", "L", "LA")
        expected = np.array(saved.convert("L" if grey else "RGB"))
    [found] = read_images(path)
    np.testing.assert_array_equal(found.numpy(), channels_first(expected))


def stack(path, **options):
    frames = [Image.fromarray(BYTES[..., n]) for n in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


@pytest.mark.parametrize(
    "name", ["a.tif", "a.gif", "a.png", "a.webp", "a.mpo", "deep.tif", "imagej.tif", "other.tif"]
)
def test_stacks_ask_for_a_page(name, tmp_path):
    path = tmp_path / name
    if path.stem == "a":
        stack(path, **({"lossless": True} if name == "a.webp" else {}))
    else:
        pages = DEEP.transpose(2, 0, 1)[:3]
        options = {
            "deep": GREY,
            "imagej": {"imagej": True},
            "other": {**GREY, "metadata": {"axes": "ZYX"}},
        }
        tifffile.imwrite(path, pages, **options[path.stem])
    for read in (read_images, read_alpha, read_mask):
        with pytest.raises(
            ValueError, match=rf"{name}: holds 3 pages; choose one with --page.*to 2"
        ):
            read(path)
    with pytest.raises(ValueError, match=r"holds pages 0 to 2, got page 3"):
        read_images(path, page=3)
    for page in range(3):
        [found] = read_images(path, page=page)
        expected = BYTES[..., page] if path.stem == "a" else DEEP[..., page] / np.float32(65535)
        lossy = 20 if name == "a.mpo" else 0
        difference = found[0].double().numpy() - expected
        assert np.abs(difference).mean() <= lossy


def test_a_file_of_one_page_has_it_for_any(tmp_path):
    path = write(tmp_path / "a.png", BYTES[..., 0], "png")
    assert torch.equal(read_images(path, page=5)[0], read_images(path)[0])


def test_small_copies_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(DEEP[..., 0], **GREY)
        file.write(DEEP[::2, ::2, 0], subfiletype=1, **GREY)
    assert read_images(tmp_path / "a.tif")[0].shape == (1, 12, 15)


@pytest.mark.parametrize(
    ("name", "values", "options", "message"),
    [
        ("a.tif", np.dstack([DEEP, DEEP[..., 0]]), CONTIG, "has 5 bands"),
        ("a.tif", np.dstack([BYTES, BYTES[..., 0]]), CONTIG, "has 5 bands"),
        ("a.tif", BYTES, {**RGB, "extrasamples": ["unspecified"]}, "has 4 bands"),
        ("a.tif", BYTES[..., :2], CONTIG, "has 2 bands"),
        ("a.tif", DEEP, {**RGB, "extrasamples": ["assocalpha"]}, "holds colours multiplied by"),
        (
            "a.tif",
            DEEP,
            {"photometric": "separated"},
            "holds 16 bits a channel of kind .*, which aren't read",
        ),
        ("a.tif", DEEP[..., 0].astype(np.complex64), GREY, "holds numbers of type complex64"),
        (
            "a.tif",
            np.zeros((4, 16, 16), np.uint16),
            {"volumetric": True, "tile": (4, 16, 16), **GREY},
            "holds a volume 4 deep",
        ),
        ("a.ppm", b"P6 2 1 65535\n" + bytes(12), None, "has values up to 65535, which aren't read"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(name, values, options, message, tmp_path):
    if isinstance(values, bytes):
        (tmp_path / name).write_bytes(values)
    else:
        tifffile.imwrite(tmp_path / name, values, **options)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        read_images(tmp_path / name)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_files_are_turned_upright(orientation, tmp_path):
    """Deep ones as those of 8 bits, which Pillow turns."""
    tag = [(274, "H", 1, orientation, True)]
    small, large = DEEP[..., 0] >> 8, (DEEP[..., 0] >> 8) * 257
    tifffile.imwrite(tmp_path / "a.tif", small.astype(np.uint8), extratags=tag)
    tifffile.imwrite(tmp_path / "b.tif", large, extratags=tag)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(large).save(tmp_path / "c.png", exif=exif)
    plain, deep, png = read_images(*(tmp_path / name for name in ("a.tif", "b.tif", "c.png")))
    torch.testing.assert_close(plain, deep)
    assert torch.equal(png, deep)
    expected = torch.from_numpy(small.astype(np.uint8))[None]
    assert plain.sum() * 255 == pytest.approx(expected.sum())
    if orientation == 6:
        torch.testing.assert_close(plain * 255, expected.rot90(-1, (1, 2)).float())


def test_deep_masks_keep_their_greys(tmp_path):
    mask = np.linspace(0, 65535, 12 * 15).astype(np.uint16).reshape(12, 15)
    path = write(tmp_path / "a.png", mask, "png")
    np.testing.assert_array_equal(read_mask(path).numpy(), mask / np.float32(65535))
    colours = np.zeros((12, 15, 3), np.uint8)
    colours[::2] = 255
    found = read_mask(write(tmp_path / "b.png", colours, "png"))
    assert set(found.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("name", ["a.png", "a.tif", "deep.tif", "deep.png"])
def test_files_of_many_pixels(name, tmp_path):
    values = DEEP[..., 0] if "deep" in name else BYTES[..., 0]
    path = write(tmp_path / name, values, name[-3:].replace("tif", "tiff"))
    with pytest.raises(ValueError, match=rf"{name}: has 15x12 pixels, more than 179; --max-pixels"):
        read_images(path, max_pixels=179)
    before = Image.MAX_IMAGE_PIXELS
    assert len(read_images(path, max_pixels=180)) == 1
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("tag", [273, 279, 278])  # where the data are, and how many
def test_tiff_files_without_data_are_no_black_pictures(tag, tmp_path):
    data = bytearray(write(tmp_path / "a.tif", DEEP[..., 0], "tiff", metadata=None).read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[0].tags[tag].offset
    data[at : at + 2] = (65000).to_bytes(2, "little")
    (tmp_path / "b.tif").write_bytes(data)
    try:
        [found] = read_images(tmp_path / "b.tif")
    except OSError as error:
        assert "can't read" in str(error)  # noqa: PT017
        return
    np.testing.assert_array_equal(found[0].numpy(), DEEP[..., 0] / np.float32(65535))


def test_broken_files_are_named(tmp_path):
    """Cut anywhere, or with a byte changed: read, or an error that names the file."""
    kinds = {"png": BYTES, "jpg": BYTES[..., :3], "gif": BYTES[..., 0], "webp": BYTES}
    files = {f"a.{name}": Image.fromarray(values) for name, values in kinds.items()}
    for name, image in files.items():
        image.save(tmp_path / name)
    write(tmp_path / "b.png", DEEP, "png")
    write(tmp_path / "b.jp2", DEEP[..., :3], "jpeg2k")
    write(tmp_path / "b.tif", DEEP[..., 0], "tiff")
    write(tmp_path / "c.tif", BYTES[..., 0], "tiff", compression="zlib")
    random, broken = np.random.default_rng(0), 0
    for path in list(tmp_path.iterdir()):
        whole = path.read_bytes()
        for n in range(24):
            data = bytearray(whole[: random.integers(len(whole))] if n % 2 else whole)
            if n % 3 and data:
                for at in random.integers(len(data), size=n):
                    data[at] = random.integers(256)
            path.write_bytes(data)
            try:
                [image] = read_images(path, page=0)
                assert image.dim() == 3
            except (OSError, ValueError) as error:
                broken += 1
                assert path.name in str(error)  # noqa: PT017
    assert broken > 50

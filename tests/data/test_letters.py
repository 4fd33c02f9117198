import numpy as np
import pytest
from PIL import Image

from viq.data.letters import ALPHABET, BLANK, FRAMES, LETTERS, OTHER, UNKNOWN, frames
from viq.data.readers import PatchReader, joined_letters
from viq.data.synthetic.source import TASKS, SyntheticSource
from viq.image import ImageConfig


def of(letter):
    return ALPHABET.index(letter) + 2


def test_a_letter_lies_in_the_frame_of_its_middle():
    letters = [("a", 1.0, 3.0), ("B", 15.9, 15.9), ("☃", 16.0, 31.9), ("z", 40.0, 0.0)]
    found = frames(letters, 1.0, (2, 2), 16)  # the last one lies outside
    expected = np.full((4, FRAMES), BLANK)
    expected[0, 0], expected[0, 3], expected[3, 0] = of("a"), of("B"), OTHER
    np.testing.assert_array_equal(found, expected)


def test_letters_move_with_a_picture_that_is_scaled_down():
    found = frames([("a", 36.0, 36.0)], 0.5, (2, 2), 16)
    assert found[3, 0] == of("a")
    assert (found != BLANK).sum() == 1


def test_of_other_pictures_nothing_is_known():
    assert (frames(None, 1.0, (2, 3), 16) == UNKNOWN).all()


def test_a_reader_gives_letters_beside_patches():
    picture = Image.new("RGB", (128, 32))
    picture.info[LETTERS] = [("k", 90.0, 20.0)]
    config = ImageConfig(patch_size=16, pad_multiple=32, max_pixels=1024)
    read = PatchReader(image=config).read(picture, "p")
    plain = PatchReader(image=config).read(Image.new("RGB", (32, 32)), "q")
    h, w = read.grid_sizes[0]
    row, frame = int(20 / 2 / 16), int(90 / 2 * FRAMES / 16)  # at half the size
    assert read.letters.reshape(h, w * FRAMES)[row, frame] == of("k")
    assert (plain.letters == UNKNOWN).all()
    joined = joined_letters([read, plain])
    assert joined.shape == (len(read.rows) + len(plain.rows), FRAMES)
    assert joined_letters([read, plain._replace(letters=None)]) is None


@pytest.mark.parametrize("task", TASKS)
def test_drawn_pictures_know_where_their_letters_are(task):
    """Where a letter's middle is said to be, there is ink near."""
    source = SyntheticSource(tasks=(task,))
    near = []
    for sample in (source[number] for number in range(8)):
        for image in sample.images:
            pixels = np.asarray(image.convert("L"), np.int16)
            for letter, x, y in image.info[LETTERS]:
                if not letter.isalnum():
                    continue
                box = pixels[max(0, int(y) - 6) : int(y) + 7, max(0, int(x) - 6) : int(x) + 7]
                near.append(box.max() - box.min() > 20 if box.size else False)
    assert len(near) > 5
    assert np.mean(near) > 0.95

"""What comes back of pictures: each picture through each subject, measured and kept.

Two protocols. "native": pictures as they are; larger ones than ``max_pixels`` are scaled down
first, and what is then there is the original. "256": the shorter side scaled to 256 pixels, then
the central square, as the field evaluates on ImageNet.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from viq.errors import ImageError, InputError
from viq.evaluation.coding import scaled, to_record
from viq.evaluation.pictures import Pictures
from viq.evaluation.reconstruction.measures import Measures
from viq.evaluation.samples import Samples
from viq.evaluation.subjects import Codec, Model, Rebuilt, Request, Subject

Protocol = Literal["native", "256"]
PROTOCOLS: tuple[Protocol, ...] = ("native", "256")
TITLES = {"native": "native size", "256": "256 × 256"}
SQUARE = 256  # pixels
ORIGINAL = "original"  # no subject may be called so


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What is asked: which pictures, of whom, how.

    Attributes:
        pictures: the data.
        names: which of the data.
        subjects: models first, and codecs last: these look at what the first model took.
        measures: what is measured of each.
        protocols: in order.
        max_pixels: of a picture at native size.
    """

    pictures: Pictures
    names: Sequence[str]
    subjects: Sequence[Subject]
    measures: Measures
    protocols: Sequence[Protocol]
    max_pixels: int

    def asked(self) -> dict[str, Any]:
        """All that decides the samples, for ``Samples.open``."""
        return {
            "evaluation": "reconstruction",
            "data": dict(self.pictures.identity()),
            "pictures": len(self.names),
            "protocols": list(self.protocols),
            "max_pixels": self.max_pixels,
            "subjects": [dict(subject.identity()) for subject in self.subjects],
            "measures": self.measures.names(),
        }

    @property
    def first_model(self) -> Model | None:
        """Whose bytes the codecs get."""
        return next((one for one in self.subjects if isinstance(one, Model)), None)

    def read(self, samples: Samples, protocol: Protocol) -> list[str]:
        """The pictures that could be read."""
        originals = samples.of(part_of(protocol, ORIGINAL))
        return [name for name in self.names if name in originals]

    def title(self, samples: Samples) -> str:
        """The data, and how much of them was measured."""
        return self.pictures.titled(self.read(samples, self.protocols[0]))

    def run(self, samples: Samples) -> Iterator[tuple[str, list[InputError]]]:
        """Does what is not done yet, picture by picture: each one's name, and what went wrong."""
        for name in self.names:
            missing = {
                protocol: [
                    part
                    for part in (ORIGINAL, *(subject.name for subject in self.subjects))
                    if name not in samples.of(part_of(protocol, part))
                ]
                for protocol in self.protocols
            }
            errors: list[InputError] = []
            if any(missing.values()):
                try:
                    image, text = self.pictures.read(name)
                except InputError as error:
                    yield name, [error]
                    continue
                views = {protocol: self.view(image, protocol) for protocol in self.protocols}
                for protocol, view in views.items():
                    if missing[protocol]:
                        others = [v.size for p, v in views.items() if p != protocol]
                        errors += self._one(
                            samples, protocol, Request(name, view, None, others), text
                        )
            yield name, errors

    def view(self, image: Image.Image, protocol: Protocol) -> Image.Image:
        """The picture that a protocol calls the original."""
        if protocol == "256":
            return square(image)
        return scaled(image, self.max_pixels)

    def budget(self, samples: Samples, protocol: Protocol, name: str) -> int | None:
        """The bytes that the first model took for a picture; None where it has none."""
        if (model := self.first_model) is None:
            return None
        record = samples.of(part_of(protocol, model.name)).get(name)
        return None if record is None else record["bytes"]

    def _one(
        self, samples: Samples, protocol: Protocol, request: Request, text: str | None
    ) -> list[InputError]:
        """All subjects of one picture."""
        errors: list[InputError] = []
        originals = samples.of(part_of(protocol, ORIGINAL))
        if request.name not in originals:
            found = self.measures.of_original(request.image, text)
            samples.add(part_of(protocol, ORIGINAL), {request.name: found})
        original = originals[request.name]
        for subject in self.subjects:
            part = part_of(protocol, subject.name)
            if request.name in samples.of(part):
                continue
            budget = self.budget(samples, protocol, request.name)
            if isinstance(subject, Codec) and subject.bpp is None and budget is None:
                continue  # the model failed, which is said already
            try:
                rebuilt = subject.rebuild(request._replace(num_bytes=budget))
            except ImageError as error:
                errors.append(error)
                continue
            if rebuilt is None:
                record: dict[str, Any] = {"none": True}
            else:
                record = record_of(request.image, rebuilt)
                native = protocol == "native"
                record |= self.measures.of(request.image, rebuilt.image, original, native=native)
            samples.add(part, {request.name: record})
        return errors


def part_of(protocol: str, name: str) -> str:
    """What the samples of a subject are kept under."""
    return f"{protocol}={name}"


def square(image: Image.Image) -> Image.Image:
    """The central square of the picture with its shorter side scaled to 256 pixels."""
    scale = SQUARE / min(image.size)
    width, height = (max(SQUARE, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - SQUARE) // 2, (height - SQUARE) // 2
    return image.crop((left, top, left + SQUARE, top + SQUARE))


def record_of(original: Image.Image, rebuilt: Rebuilt) -> dict[str, Any]:
    """Size and cost of a picture, and its codes, of which the whole set's entropy is made."""
    record: dict[str, Any] = {
        "size": [original.height, original.width],
        "bytes": rebuilt.num_bytes,
    }
    if rebuilt.codes is not None:
        record |= to_record(rebuilt.codes)
    return record


def pixels_of(record: Mapping[str, Any]) -> int:
    """How many pixels a record's picture has."""
    return math.prod(record["size"])

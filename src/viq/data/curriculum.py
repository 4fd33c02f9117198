"""From a data config to what the training loop iterates over."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from viq.data.config import (
    ImageDataConfig,
    PairDataConfig,
    PhaseConfig,
    TextDataConfig,
    phase_steps,
)
from viq.data.crops import Crops
from viq.data.loader import Assembler, Loader, State, Step
from viq.data.mixture import Mixture
from viq.data.packing import TextPacking
from viq.data.pairs import Pairs
from viq.data.readers import ImageReader
from viq.data.sample import Sample, Source
from viq.data.sources import SourceConfig, open_source
from viq.errors import InputError, ViQError

log = logging.getLogger(__name__)


class Curriculum:
    """The phases of a text config, one after the other, as one ``TrainingData``.

    Each phase shuffles anew. Samples that lie in open packs when a phase ends are not trained on
    in it.
    """

    def __init__(
        self,
        config: TextDataConfig,
        sources: Mapping[str, Source],
        tokenizer: Any,
        reader: Callable[[PhaseConfig], ImageReader],
        *,
        lanes_total: int,
        lanes: range,
    ) -> None:
        self.steps: int | None = sum(phase_steps(phase, lanes_total) for phase in config.phases)
        self.errors: list[tuple[str, str]] = []
        self._phase = 0
        self._loaders = []
        for number, phase in enumerate(config.phases):
            packing = partial(
                TextPacking, phase, tokenizer, reader(phase), open_packs=config.open_packs
            )
            chosen = _chosen(sources, phase.weights)
            loader = Loader(
                chosen,
                _mixture(chosen, phase.weights, _phase_seed(config.seed, number)),
                packing,
                lanes_total=lanes_total,
                lanes=lanes,
                workers=config.workers,
                steps=phase_steps(phase, lanes_total),
            )
            loader.errors = self.errors
            self._loaders.append(loader)

    def __iter__(self) -> Iterator[Step]:
        while True:
            loader = self._loaders[self._phase]
            for step in loader:
                yield replace(step, phase=self._phase)
            state = loader.state_dict()
            left = sum(len(pack) for lane in state.values() for pack in lane["open"])
            log.info(
                "phase %d ends; %d samples in open packs are left",
                self._phase,
                left,
            )
            if self._phase + 1 == len(self._loaders):
                return
            self._phase += 1
            following = self._loaders[self._phase]
            following.load_state_dict(
                {
                    name: {**lane, "errors": state[name]["errors"]}
                    for name, lane in following.state_dict().items()
                }
            )

    def state_dict(self) -> State:
        """The position after the step that was given last."""
        state = self._loaders[self._phase].state_dict()
        return {name: {**lane, "phase": self._phase} for name, lane in state.items()}

    def load_state_dict(self, state: State) -> None:
        """Goes to a position; iterate anew afterwards.

        Raises:
            InputError: it is of other data, another number of lanes or of phases.
        """
        phase = min((lane.get("phase", 0) for lane in state.values()), default=0)
        if phase >= len(self._loaders):
            raise InputError(
                f"the position in the data is in phase {phase} (from 0), but this run has"
                f" {len(self._loaders)} phases"
            )
        self._loaders[phase].load_state_dict(state)
        self._phase = phase

    def close(self) -> None:
        """Ends the processes that read."""
        for loader in self._loaders:
            loader.close()


def text_loader(
    config: TextDataConfig,
    tokenizer: Any,
    reader: Callable[[PhaseConfig], ImageReader],
    *,
    lanes_total: int,
    lanes: range,
) -> Curriculum:
    """Packed samples, as the config's phases say; its number of steps is their budget's.

    ``reader`` says how a phase reads images.
    """
    return Curriculum(
        config,
        open_sources(config.sources),
        tokenizer,
        reader,
        lanes_total=lanes_total,
        lanes=lanes,
    )


def image_loader(
    config: ImageDataConfig | PairDataConfig, *, steps: int | None, lanes_total: int, lanes: range
) -> Loader:
    """Crops or pairs for this many steps, in as many epochs as that takes."""
    sources = open_sources(config.sources)
    weights = config.weights or {name: float(len(source)) for name, source in sources.items()}
    chosen = _chosen(sources, weights)
    assembler: Callable[[], Assembler]
    if isinstance(config, ImageDataConfig):
        assembler = partial(Crops, config.crops, seed=config.seed)
    else:
        assembler = partial(Pairs, config.pairs, seed=config.seed)
    return Loader(
        chosen,
        _mixture(chosen, weights, config.seed),
        assembler,
        lanes_total=lanes_total,
        lanes=lanes,
        workers=config.workers,
        steps=steps,
    )


def open_sources(configs: Sequence[SourceConfig]) -> dict[str, Source]:
    """Opens sources, by name.

    Raises:
        InputError: one cannot be opened, or two have one name.
    """
    sources: dict[str, Source] = {}
    for config in configs:
        source = open_source(config)
        if source.name in sources:
            raise InputError("two sources have this name; give one another name", source.name)
        sources[source.name] = source
    return sources


def held_out(sources: Mapping[str, Source], count: int) -> list[Sample]:
    """The first samples of every source, as many of each; unreadable ones are left out."""
    samples: list[Sample] = []
    for number, source in enumerate(sources.values()):
        share = (count - len(samples)) // (len(sources) - number)
        for index in range(min(share, len(source))):
            try:
                samples.append(source[index])
            except ViQError as error:
                log.warning("left out of the evaluation: %s", error)
    return samples


def _chosen(sources: Mapping[str, Source], weights: Mapping[str, float]) -> dict[str, Source]:
    """The sources that take part."""
    if missing := ", ".join(repr(name) for name in weights if name not in sources):
        there = ", ".join(repr(name) for name in sources)
        raise InputError(f"weights name {missing}, but the sources are {there}")
    return {name: sources[name] for name, weight in weights.items() if weight > 0}


def _mixture(sources: Mapping[str, Source], weights: Mapping[str, float], seed: int) -> Mixture:
    lengths = {name: len(source) for name, source in sources.items()}
    return Mixture(lengths, {name: weights[name] for name in sources}, seed)


def _phase_seed(seed: int, phase: int) -> int:
    return int(np.random.SeedSequence([seed, phase]).generate_state(1)[0])

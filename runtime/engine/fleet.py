"""What is loaded, and who answers which name because of it: composed aside, adopted at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.engine.answerers import Answerer, Builder, Served, named
from scanflow_serve.runtime.engine.lanes import Holding, plan_lanes, variants_of
from scanflow_serve.runtime.engine.residents import Open, Residents, memory_mb, open_session
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.scheduler.jobs import Option
from scanflow_serve.runtime.scheduler.options import options
from scanflow_serve.runtime.selection import memory_budget_mb
from scanflow_serve.runtime.variants import Candidate, Variant


@dataclass(frozen=True, slots=True)
class Composition:
    """Lanes and names, as *held* candidates make them.

    Attributes:
        answerers: By lane, then by candidate.
        options: By lane; what the scheduler is told of its answerers.
        by_option: Who is meant by an option.
        names: What answers to each public name.
    """

    held: tuple[Holding, ...] = ()
    answerers: Mapping[str, Mapping[Candidate, Answerer]] = field(default_factory=dict)
    options: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    by_option: Mapping[Option, Answerer] = field(default_factory=dict)
    names: Mapping[str, Served] = field(default_factory=dict)

    def every(self) -> set[Answerer]:
        """Return all answerers, of all lanes."""
        return {answerer for lane in self.answerers.values() for answerer in lane.values()}


class Fleet:
    """The loaded candidates of one prepared policy.

    `compose` may take long and belongs in a thread; one at a time. All else is quick, and belongs
    to the thread that runs the scheduler.

    Attributes:
        now: What answers at present.
        budget_mb: Memory that loaded variants may take together.
    """

    def __init__(self, prepared: Prepared, open_one: Open = open_session) -> None:
        self.now = Composition()
        self.budget_mb = memory_budget_mb(prepared.policy_file.policy, prepared.host)
        self._prepared = prepared
        self._residents = Residents(prepared, open_one)
        self._builder = Builder(prepared, self._residents)
        self._retired: set[Answerer] = set()
        self._composing: tuple[Variant, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Return why alternatives stand by for nothing."""
        return tuple(self._builder.notes)

    def compose(self, held: Sequence[Holding]) -> Composition:
        """Return what *held* candidates make, what is missing loaded; what answers stays.

        Raises:
            BackendError: A session can't be opened.
            ArtifactError: A converted file was removed meanwhile.
            WorkflowError: A Python step can't be imported or failed on the sample row.
        """
        policy, plan = self._prepared.policy_file.policy, self._prepared.plan
        self._composing = variants_of(held)
        answerers: dict[str, Mapping[Candidate, Answerer]] = {}
        lane_options: dict[str, tuple[Option, ...]] = {}
        by_option: dict[Option, Answerer] = {}
        names: dict[str, Served] = {}
        for lane in plan_lanes(policy, plan, held):
            known = self.now.answerers.get(lane.name, {})
            found = self._builder.lane(lane, known)
            if not found:  # none of them corresponds to what the lane has shown so far
                continue
            answerers[lane.name] = found
            own = self._options(lane.name, found)
            lane_options[lane.name] = own
            by_candidate = {candidate.id: answerer for candidate, answerer in found.items()}
            by_option |= {option: by_candidate[option.id] for option in own}
            for name, served in named(lane, next(iter(found.values()))).items():
                names.setdefault(name, served)
        return Composition(tuple(held), answerers, lane_options, by_option, names)

    def _options(self, lane: str, found: Mapping[Candidate, Answerer]) -> tuple[Option, ...]:
        """Return the options of a lane; those that there are, where nothing has changed."""
        present = self.now.options.get(lane, ())
        if {option.id for option in present} == {candidate.id for candidate in found}:
            return present
        plan = self._prepared.plan
        max_batch = self._prepared.policy_file.policy.scheduling.max_batch
        pairs = [(candidate, each.measurement) for candidate, each in found.items()]
        return options(pairs, plan.goal, max_batch)

    def adopt(self, composition: Composition) -> None:
        """Let *composition* answer from now on."""
        gone = self.now.every() - composition.every()
        self.now = composition
        self._composing = ()
        for answerer in gone:
            answerer.retired = True
        self._retired |= gone

    def abandon(self) -> None:
        """Forget what was being composed: it failed."""
        self._composing = ()

    def take_idle(self) -> list[Callable[[], None]]:
        """Return what closes the sessions that nobody needs, to be called in any thread."""
        ended = {answerer for answerer in self._retired if not answerer.running}
        self._retired -= ended
        for answerer in ended:
            answerer.pipeline.close()
        needed = {*variants_of(self.now.held), *self._composing}
        needed.update(v for answerer in self._retired for v in answerer.candidate.variants)
        return self._residents.take_all_but(needed)

    def with_room_for(self, candidate: Candidate) -> tuple[Holding, ...]:
        """Return what stays loaded if *candidate* is loaded too.

        The least recently used standbys go first, as far as memory must be freed.

        Raises:
            RequestError: 503, it does not fit beside what must stay.
        """
        held = list(self.now.held)
        spare = sorted(
            (h for h in held if h.why in ("standby", "rule")), key=lambda h: self.used(h.candidate)
        )
        wanted = candidate.variants
        while (need := self.memory_mb((*variants_of(held), *wanted))) > self.budget_mb:
            if not spare:
                raise RequestError(
                    503,
                    f"{candidate.id}: loaded variants must take at most {self.budget_mb:.0f} MiB "
                    f"together, got {need:.0f} MiB with it. Unload a model, or raise "
                    "objective.subject_to.max_memory_mb.",
                    retry_after_s=60,
                )
            held.remove(spare.pop(0))
        return tuple(held)

    def used(self, candidate: Candidate) -> float:
        """Return when the variants of *candidate* answered last; 0 if they never did."""
        own = set(candidate.variants)
        return max(
            (a.used for a in self.now.every() if own.issuperset(a.candidate.variants)), default=0.0
        )

    def memory_mb(self, variants: Collection[Variant]) -> float:
        """Return what *variants* take together, in MiB."""
        return memory_mb(variants, self._prepared)

    def loaded_mb(self) -> float:
        """Return what is loaded at present, in MiB."""
        return self.memory_mb(self._residents.variants())

    def close(self) -> None:
        """Close every session; nothing may run."""
        for answerer in self.now.every() | self._retired:
            answerer.pipeline.close()
        self._residents.close()

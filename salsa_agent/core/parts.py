"""What the engine is made of."""

from __future__ import annotations

from salsa_agent.core.cache import Cache
from salsa_agent.core.network import Network
from salsa_agent.core.publication import Published
from salsa_agent.core.questions import Questions
from salsa_agent.core.rounds import Rounds
from salsa_agent.core.settings import Settings
from salsa_agent.core.upkeep import Upkeep
from salsa_agent.core.verification import Checks


class Parts:
    """The parts that hold what is known, each with its rules. What works on them is beside `engine`."""

    def __init__(self, settings: Settings, identity: bytes, seed: int) -> None:
        """`identity`: of the machine (C1). `seed`: spreads checks and expiries over time."""
        self.network = Network(settings, identity)
        self.rounds = Rounds()
        self.cache = Cache(seed, identity)
        self.questions = Questions(self.cache)
        self.checks = Checks(seed)
        self.published = Published()
        self.upkeep = Upkeep(seed)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.network.settings

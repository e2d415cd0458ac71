"""What `python -m benchmarks.agents` measures for docs/scale.md, with few hosts and short stays."""

from __future__ import annotations

from benchmarks import agents

HOSTS, NETWORKS = 3, 2


def test_the_address_of_a_bus_is_found_wherever_it_stands_among_log_lines() -> None:
    first = b"2026-11-30T04:58:56.367 info: no relay to use now (offline)\n"
    line = b"unix:path=/tmp/salsa-agent-a/bus\n"
    assert agents.bus_address(first) == ""
    assert agents.bus_address(first + line[:-5]) == ""
    for said in (line, first + line, line + first):
        assert agents.bus_address(said) == "unix:path=/tmp/salsa-agent-a/bus"


def test_the_model_of_a_roaming_fleet_can_be_held_against_real_agents() -> None:
    """Each network is new to a host: three names of the reverse tree, the relay's two addresses, one conversation."""
    counted = agents.measure(HOSTS, NETWORKS, fleet := agents.fleet_of(HOSTS, NETWORKS, stay=4.0, ttl=60.0))
    arrivals = HOSTS * NETWORKS
    # a route that comes after its address is another change of the network, for which all is asked again
    assert 5 * arrivals <= counted.questions <= 10 * arrivals
    assert 0 < counted.at_resolver <= counted.questions
    assert 0 < sum(counted.at_name_servers.values()) < counted.at_resolver
    assert arrivals <= counted.at_relay <= counted.checks <= 2 * arrivals
    model = {what: expected for what, expected, _ in agents.rows(fleet, counted)}
    assert 4.5 * arrivals < model["questions of the agents, by `Statistics`"] < 5.5 * arrivals

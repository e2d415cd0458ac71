"""The post's story, told by the whole program: real process, real addresses and routes, ports 53 and 25, busctl."""

from __future__ import annotations

from tests.lab.whole import FULL, HOME, NET16, NET24, NOC, VERTEX, World, said, until


def test_the_story() -> None:
    with World() as world:
        for relay in (NOC, VERTEX, HOME):
            world.relay(relay)
        agent = world.agent()
        world.wait_for_best(HOME, "offline")
        signals = world.signals()

        world.join("165.154.15.1")  # Toronto
        world.wait_for_best(NOC, "ready")
        assert set(world.queries()) == {FULL, NET24, NET16}
        relays = world.get("Relays")
        assert [(one["host"], one["source"]) for one in relays] == [(NOC, "dns"), (VERTEX, "dns"), (HOME, "static")]
        assert relays[0] | {"expires": 0} == {
            "host": NOC, "port": 25, "source": "dns", "verdict": "ok", "preference": 10, "name": NET16, "level": 16,
            "address": "165.154.15.1", "interface": "up0", "authenticated": False, "starttls": False, "tls": "none",
            "expires": 0,
        }  # fmt: skip
        assert world.get("Addresses") == [
            {"address": "165.154.15.1", "interface": "up0", "origin": "link", "outcome": "found", "level": 16,
             "name": NET16}
        ]  # fmt: skip

        world.kill(NOC)
        world.call("Refresh")
        assert world.best == f"{VERTEX}:25"
        assert world.get("Relays")[0]["verdict"] == "failed"

        world.kill(VERTEX)
        world.call("Refresh")
        assert world.best == f"{HOME}:25"
        assert world.get("BestRelaySource") == "static"

        world.leave()  # another country
        world.join("198.51.100.7")
        world.wait_for_best(HOME, "ready")
        assert [one["outcome"] for one in world.get("Addresses")] == ["none"]

        world.leave()  # and back
        world.relay(NOC)
        world.join("165.154.15.1")
        world.wait_for_best(NOC, "ready")

        assert agent.end() == 0
        changes = until(lambda: said(signals, "BestRelayChanged"), lambda seen: len(seen) >= 4)
        assert changes == [[NOC, 25, "dns"], [VERTEX, 25, "dns"], [HOME, 25, "static"], [NOC, 25, "dns"]]
        assert "Traceback" not in agent.log
        assert agent.log.count("relay is now") == 5  # the last resort at the start, then each change


def test_a_roam_does_not_pass_through_the_static_relay() -> None:
    with World() as world:
        for relay in (NOC, VERTEX, HOME):
            world.relay(relay)
        world.publish(world.zone | {"100.51.198.in-addr.arpa": {"MX": [f"5 {VERTEX}."]}})
        world.join("165.154.15.1")
        world.agent()
        world.wait_for_best(NOC, "ready")
        signals = world.signals()
        world.leave()
        world.join("198.51.100.7")
        world.wait_for_best(VERTEX, "ready")
        assert said(signals, "BestRelayChanged") == [[VERTEX, 25, "dns"]]

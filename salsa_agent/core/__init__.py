"""The rules, pure: no IO, no clock, no asyncio. Everything here can be replayed from its inputs."""

"""A receiver that checks DMARC: a real Postfix with OpenDMARC as its milter, which checks SPF itself.

OpenDMARC asks the DNS of its namespace; so the domains' SPF and DMARC records are TXT records of the lab's server.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.lab.netns import Netns
from tests.lab.postfix import PATIENCE, Postfix

PORT = 8893
CONFIG = """\
AuthservID receiver.example
Socket inet:{port}@{address}
PidFile {directory}/pid
RejectFailures true
SPFSelfValidate true
SPFIgnoreResults true
Syslog false
UMask 022
UserID root
"""


class Receiver:
    """`with` it runs at `address`, on port 25; it takes mail for `dest.example` into the mailbox of `postfix`."""

    def __init__(self, space: Netns, address: str) -> None:
        self._space, self._address = space, address
        self._directory = Path(tempfile.mkdtemp(prefix="salsa-dmarc-"))
        self.postfix = Postfix(
            space,
            "receiver.example",
            receives=["dest.example"],
            relays_for=["127.0.0.0/8"],
            main={
                "inet_interfaces": address,
                "smtpd_milters": f"inet:{address}:{PORT}",
                "milter_default_action": "tempfail",
            },
        )

    def __enter__(self) -> Self:
        config = self._directory / "opendmarc.conf"
        config.write_text(CONFIG.format(port=PORT, address=self._address, directory=self._directory))
        self._milter = self._space.exec(["opendmarc", "-f", "-c", str(config)])
        deadline = time.monotonic() + PATIENCE
        while f":{PORT}" not in self._space.run(["ss", "-Hltn"]):
            assert self._milter.poll() is None, "OpenDMARC did not start"
            assert time.monotonic() < deadline, "OpenDMARC does not listen"
            time.sleep(0.02)
        self.postfix.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.postfix.close()
        self._milter.terminate()
        self._milter.wait(PATIENCE)
        shutil.rmtree(self._directory, ignore_errors=True)

"""A served model whose tiers run in this process."""

import asyncio
import json
from functools import cache

from skearlyexit import MLPBackbone
from skearlyexit.serve._batcher import Batcher
from skearlyexit.serve._division import divided
from skearlyexit.serve._drift import Drift
from skearlyexit.serve._front import Front, Limits
from skearlyexit.serve._http import Http, Request
from tests._data import blobs, quick

X, y, X_TEST, Y_TEST = blobs()
THRESHOLD = 0.33


@cache
def network():
    backbone = MLPBackbone(4, width=16, hidden=16)
    return quick(backbone=backbone, exits=["stem", "block1", "block2"]).fit(X, y)


class Local:
    """The application of a model, without Ray."""

    def __init__(self, model=None, tiers=(2, 2), *, calls=None, links=(), drift=None, **options):
        limits = {
            "deadline": 30.0,
            "max_queued": 2000,
            "max_queued_bytes": 2**22,
            "max_rows": 1000,
            "max_request_bytes": 2**20,
        }
        asked = {"threshold": THRESHOLD, "budget": None, "operating_points": {}}
        asked |= {name: options.pop(name) for name in list(options) if name in asked}
        model = network() if model is None else model
        served, works, self.division = divided(model, tiers, **asked)
        self.works = works
        self._calls = calls or {}
        self._served, self._limits = served, Limits(**{**limits, **options})
        self._drift, self._links = drift or Drift(1000, 1e-6), links

    async def open(self):
        """Start the tiers in the running loop."""
        batchers = [Batcher(work, 64, 0.001) for work in self.works]
        calls = [self._calls.get(i, batcher.answer) for i, batcher in enumerate(batchers)]
        self.front = Front(self._served, calls, self._limits, self._drift, self._links)

        async def well():
            return [i not in self._calls for i in range(len(calls))]

        self.http = Http(self.front, well)
        return self

    async def send(self, body=b"", path="/predict", method="POST", query=None, **headers):
        """Reply to a request."""

        async def chunks():
            for start in range(0, len(body), 1000):
                yield body[start : start + 1000]

        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.reply(Request(method, path, query or {}, headers, chunks()))

    def reply(self, *args, **kwargs):
        """Reply to a single request."""
        return self.run(lambda app: app.send(*args, **kwargs))

    def run(self, function):
        """Result of an async function of the open application."""

        async def opened():
            return await function(await self.open())

        return asyncio.run(opened())


def instances(rows):
    return json.dumps({"instances": rows.tolist()}).encode()

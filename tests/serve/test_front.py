"""Answers, deadlines, back-pressure and operating points, with tiers in this process."""

import asyncio
import gc
import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skearlyexit import CascadeClassifier, EarlyExitRegressor, Link, MLPBackbone
from skearlyexit.calibration import Budget
from skearlyexit.runtime import OnnxCascade
from skearlyexit.runtime._part import OnTheWay, PartAnswers
from skearlyexit.serve._batcher import Batcher
from skearlyexit.serve._drift import Drift
from skearlyexit.serve._errors import TierGoneError
from skearlyexit.serve._front import SlowLink
from skearlyexit.serve._http import Request
from skearlyexit.serve._work import Ask, TierWork
from skearlyexit.tiers import Tier, TierPlan
from tests._data import quick
from tests.serve._served import THRESHOLD, X_TEST, Local, X, instances, network, y


def content(reply):
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def expected(**params):
    labels, exits = network().predict(X_TEST, return_exits=True, **params)
    return labels.tolist(), exits.tolist()


TEXTS = ["good film", "bad film", "very good good", "very bad bad", "so good", "so bad"] * 10


@cache
def of_texts():
    """Estimators in a row that are given texts."""
    stages = [
        ("bayes", make_pipeline(CountVectorizer(), MultinomialNB())),
        ("linear", make_pipeline(CountVectorizer(), LogisticRegression())),
    ]
    clf = CascadeClassifier(stages, calibration=None, threshold=0.99, random_state=0)
    return clf.fit(TEXTS, [1, 0] * 30)


async def never(ask):
    await asyncio.Event().wait()


async def gone(ask):
    raise TierGoneError("no replica")


@pytest.mark.parametrize("tiers", [None, [2, 2], [1, 1, 1, 1]])
def test_answers_are_those_of_predict(tiers):
    app = Local(tiers=tiers)
    found = content(app.reply(instances(X_TEST), query={"probabilities": "true"}))
    labels, exits = expected(threshold=THRESHOLD)
    assert (found["labels"], found["exits"]) == (labels, exits)
    assert len(set(exits)) == 4
    probabilities = network().predict_proba(X_TEST, threshold=THRESHOLD)
    assert found["probabilities"] == probabilities.tolist()
    assert found["classes"] == network().classes_.tolist()
    division = [1, 1, 1, 1] if tiers is None else tiers
    of_exit = np.repeat(np.arange(len(division)), division)
    names = [f"tier{0 if tiers is None else i}" for i in of_exit[exits]]
    assert found["tiers"] == names
    assert not any(found["degraded"])


def test_requests_that_come_together_are_computed_together():
    sizes = []
    app = Local()
    first = app.works[0]

    def watched(asks):
        sizes.append(sum(ask.samples.n_samples for ask in asks))
        return first(asks)

    app.works[0] = watched

    async def all_at_once(app):
        bodies = [instances(X_TEST[i : i + 1]) for i in range(150)]
        return await asyncio.gather(*map(app.send, bodies))

    found = [content(reply) for reply in app.run(all_at_once)]
    labels, exits = expected(threshold=THRESHOLD)
    assert [each["labels"][0] for each in found] == labels[:150]
    assert [each["exits"][0] for each in found] == exits[:150]
    assert sum(sizes) == 150
    assert max(sizes) == 64


def test_a_request_that_breaks_an_exit_does_not_break_those_beside_it():
    app = Local(of_texts(), [1, 1], threshold=None)

    async def all_at_once(app):
        bodies = [json.dumps({"instances": each}).encode() for each in (TEXTS[:5], [3], TEXTS[5:9])]
        return await asyncio.gather(*map(app.send, bodies))

    replies = app.run(all_at_once)
    assert [reply.status for reply in replies] == [200, 422, 200]
    assert "The samples are not valid" in json.loads(replies[1].body)["error"]
    assert content(replies[2])["labels"] == of_texts().predict(TEXTS[5:9]).tolist()


def test_outputs_that_are_not_finite_are_told_by_the_position_in_the_request():
    app = Local(tiers=[2, 2])
    second = app.works[1]
    onward = np.flatnonzero(np.array(expected(threshold=THRESHOLD)[1]) >= 2)

    def broken(asks):
        carry = asks[0].samples.carry.clone()
        carry[3:5] = float("nan")
        return second([replace(asks[0], samples=replace(asks[0].samples, carry=carry))])

    app.works[1] = broken
    reply = app.reply(instances(X_TEST))
    assert reply.status == 422
    assert f"for 2 samples, the first of them X[{onward[3]}]" in json.loads(reply.body)["error"]


class TestDeadline:
    @pytest.mark.parametrize(("missing", "deadline"), [(never, 3.0), (gone, 1e6)])
    def test_the_last_exit_answers_if_the_next_tier_does_not(self, missing, deadline):
        app = Local(calls={1: missing}, deadline=deadline)
        found = content(app.reply(instances(X_TEST)))
        _, exits = expected(threshold=THRESHOLD)
        is_cut = np.array(exits) >= 2
        assert np.array_equal(found["degraded"], is_cut)
        assert np.array_equal(found["exits"], np.where(is_cut, 1, exits))
        staged = np.array(list(network().staged_predict(X_TEST)))
        assert np.array_equal(found["labels"], staged[found["exits"], np.arange(len(X_TEST))])
        assert set(found["tiers"]) == {"tier0"}
        assert app.front.n_queued == 0

    def test_samples_that_exit_before_are_answered_at_once(self):
        app = Local(calls={1: never}, deadline=1e6)
        early = X_TEST[np.array(expected(threshold=THRESHOLD)[1]) < 2]
        assert not any(content(app.reply(instances(early)))["degraded"])

    def test_an_exit_answers_even_if_no_sample_may_exit_there(self):
        app = Local(threshold=[THRESHOLD, np.inf, np.inf], calls={1: gone})
        assert set(content(app.reply(instances(X_TEST)))["exits"]) == {0, 1}

    def test_a_request_may_ask_for_an_earlier_one(self):
        app = Local(calls={1: never}, deadline=1e6)
        found = content(app.reply(instances(X_TEST), query={"deadline": "3"}))
        assert any(found["degraded"])

    @pytest.mark.parametrize(("missing", "status"), [(never, 504), (gone, 503)])
    def test_without_the_first_tier_there_is_no_answer(self, missing, status):
        app = Local(calls={0: missing}, deadline=1.0)
        reply = app.reply(instances(X_TEST))
        assert reply.status == status
        assert "'tier0' has not answered in time" in json.loads(reply.body)["error"]
        assert ("Retry-After" in reply.headers) == (status == 503)

    def test_a_first_tier_that_comes_back_is_asked_again(self):
        app = Local()
        calls = []

        async def restarting(ask):
            calls.append(ask)
            if len(calls) < 3:
                raise TierGoneError("killed")
            return app.works[0]([ask])[0]

        app._calls = {0: restarting}
        found = content(app.reply(instances(X_TEST)))
        assert (found["labels"], found["exits"]) == expected(threshold=THRESHOLD)
        assert not any(found["degraded"])

    def test_what_comes_before_the_tiers_takes_of_it_and_does_not_block(self):
        is_free = threading.Event()

        class Slow(FunctionTransformer):
            def transform(self, X):
                is_free.wait(30)
                return X

        pipe = make_pipeline(FunctionTransformer(), network())
        app = Local(pipe, deadline=0.3)
        app._served.samples.transformers[0] = Slow()

        async def beside(app):
            first = asyncio.create_task(app.send(instances(X_TEST[:1])))
            await asyncio.sleep(0.05)
            health = await app.send(path="/health", method="GET")
            is_early = not first.done()
            reply = await first
            is_free.set()
            return health, is_early, reply

        health, is_early, reply = app.run(beside)
        assert (health.status, is_early, reply.status) == (200, True, 504)

    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/predict"), ("PUT", "/operating-point")]
    )
    def test_a_body_that_does_not_end_is_refused(self, method, path):
        async def chunks():
            yield b"{"
            await never(None)

        async def unfinished(app):
            reply = await app.http.reply(Request(method, path, {}, {}, chunks()))
            return reply.status, app.front.n_queued

        assert Local(deadline=0.1).run(unfinished) == (408, 0)

    def test_bodies_that_are_read_are_waiting(self):
        async def chunks():
            await never(None)
            yield b""

        async def many(app):
            requests = [Request("POST", "/predict", {}, {}, chunks()) for _ in range(12)]
            return await asyncio.gather(*map(app.http.reply, requests))

        replies = Local(deadline=0.2, max_queued=10).run(many)
        assert sorted(reply.status for reply in replies) == [408] * 10 + [503] * 2

    def test_a_fault_of_a_later_tier_is_not_one_of_the_samples(self, caplog):
        app = Local()

        def broken(*args, **kwargs):
            raise AttributeError("no such kernel")

        app.works[1] = TierWork(broken)

        async def counted(app):
            reply = await app.send(instances(X_TEST))
            return reply, (await app.send(path="/metrics", method="GET")).body.decode()

        reply, text = app.run(counted)
        assert any(content(reply)["degraded"])
        assert 'tier_failures_total{reason="error",tier="tier1"} 1.0' in text
        assert "no such kernel" in caplog.text

    def test_a_first_tier_that_fails_is_counted(self):
        async def failing(ask):
            raise RuntimeError("out of memory")

        async def counted(app):
            reply = await app.send(instances(X_TEST))
            return reply.status, (await app.send(path="/metrics", method="GET")).body.decode()

        status, text = Local(calls={0: failing}).run(counted)
        assert status == 500
        assert 'tier_failures_total{reason="error",tier="tier0"} 1.0' in text

    def test_a_later_tier_that_fails_is_logged(self, caplog):
        async def failing(ask):
            raise RuntimeError("out of memory")

        app = Local(calls={1: failing})
        assert any(content(app.reply(instances(X_TEST)))["degraded"])
        assert "out of memory" in caplog.text


def test_a_request_waits_for_others_from_when_it_came():
    """Not from the end of the batch before, during which it has waited."""

    async def timed():
        loop, sizes = asyncio.get_running_loop(), []
        now = [0.0]
        loop.time, is_free = (lambda: now[0]), threading.Event()

        def work(asks):
            sizes.append(len(asks))
            is_free.wait(30)
            return [None] * len(asks)

        batcher = Batcher(work, 2, 10.0)
        one = Ask(OnTheWay(1, None), None, False)
        tasks = [asyncio.create_task(batcher.answer(one)) for _ in range(3)]
        while not sizes:
            await asyncio.sleep(0)
        now[0] = 11.0  # the third has waited for its time while the others are computed
        is_free.set()
        for _ in range(10**5):
            if tasks[2].done():
                break
            await asyncio.sleep(0)
        is_done = tasks[2].done()
        now[0] = 1e6
        await asyncio.gather(*tasks)
        return is_done

    assert asyncio.run(timed())


def test_samples_of_different_types_are_not_computed_together():
    """In one data frame, integers beside floats would become floats."""
    pd = pytest.importorskip("pandas")
    together = []

    def run(given, thresholds, *, with_probabilities):
        together.append([each.carry["a"].tolist() for each in given])
        return [PartAnswers(None, None, None) for _ in given]

    asks = [
        Ask(OnTheWay(1, pd.DataFrame({"a": [value]})), np.zeros(1), False) for value in (1, 1.5, 2)
    ]
    assert len(TierWork(run)(asks)) == 3
    assert together == [[[1], [2]], [[1.5]]]


def test_back_pressure():
    app = Local(max_queued=100)

    async def too_many(app):
        is_free = asyncio.Event()

        async def busy(ask):
            await is_free.wait()
            return app.works[0]([ask])[0]

        app.front._tiers[0] = busy
        first = asyncio.create_task(app.send(instances(X_TEST[:90])))
        while app.front.n_queued < 90:
            await asyncio.sleep(0.001)
        second = await app.send(instances(X_TEST[:20]))
        is_free.set()
        return await first, second, await app.send(instances(X_TEST[:20]))

    replies = app.run(too_many)
    assert [reply.status for reply in replies] == [200, 503, 200]
    assert replies[1].headers["Retry-After"] == "1"
    assert "90 samples are waiting, and at most 100" in json.loads(replies[1].body)["error"]


class TestBytes:
    """Limit of the bytes of all requests without an answer, here of 1000."""

    async def start(self, app, size, declared=None, path="/predict"):
        """A request that has sent some bytes and goes on."""
        has_sent = asyncio.Event()

        async def chunks():
            yield b" " * size
            has_sent.set()
            await never(None)

        headers = {} if declared is None else {"content-length": str(declared)}
        method = "POST" if path == "/predict" else "PUT"
        reply = asyncio.create_task(app.http.reply(Request(method, path, {}, headers, chunks())))
        sent = asyncio.create_task(has_sent.wait())
        await asyncio.wait([reply, sent], return_when="FIRST_COMPLETED")
        sent.cancel()
        return reply

    @pytest.mark.parametrize("path", ["/predict", "/operating-point"])
    @pytest.mark.parametrize("declared", [(0, 600), (600, None), (600, 10)])
    def test_a_length_counts_at_once_and_without_one_what_has_come(self, declared, path):
        async def two(app):
            first = await self.start(app, *declared, path)
            second = await (await self.start(app, *declared, path))
            other = await self.start(app, 100)
            are_read = not first.done() and not other.done()
            text = (await app.send(path="/metrics", method="GET")).body.decode()
            assert "skearlyexit_queued_bytes 700.0" in text
            first.cancel()
            other.cancel()
            await asyncio.wait([first, other])
            return second, are_read, app.front.n_queued_bytes

        app = Local(deadline=1e6, max_queued_bytes=1000)
        refused, are_read, n_left = app.run(two)
        assert (refused.status, are_read, n_left) == (503, True, 0)
        assert refused.headers["Retry-After"] == "1"
        message = json.loads(refused.body)["error"]
        assert "bytes are waiting, and at most 1000 may. Got" in message

    def test_bytes_count_until_the_answer(self):
        body = instances(X_TEST[:2])
        app = Local(max_queued_bytes=len(body))

        async def too_many(app):
            is_asked, is_free = asyncio.Event(), asyncio.Event()

            async def busy(ask):
                is_asked.set()
                await is_free.wait()
                return app.works[0]([ask])[0]

            app.front._tiers[0] = busy
            first = asyncio.create_task(app.send(body))
            await is_asked.wait()
            second = await app.send(body)
            is_free.set()
            return await first, second, await app.send(body)

        assert [reply.status for reply in app.run(too_many)] == [200, 503, 200]

    def test_a_body_that_is_read_too_late_is_not_kept(self):
        is_free = threading.Event()
        body = instances(X_TEST[:2])

        async def late(app):
            thread = ThreadPoolExecutor(1)
            asyncio.get_running_loop().set_default_executor(thread)
            thread.submit(is_free.wait, 30)
            n_before = sys.getrefcount(body)

            async def chunks():
                yield body

            reply = await app.http.reply(Request("POST", "/predict", {}, {}, chunks()))
            gc.collect()
            n_after = sys.getrefcount(body)
            is_free.set()
            return reply.status, n_after - n_before, app.front.n_queued_bytes

        assert Local(deadline=0.5).run(late) == (504, 0, 0)

    def test_bytes_of_requests_that_fail_are_given_back(self):
        async def fails(ask):
            raise OSError

        async def failed(app):
            bodies = b"{", b" " * 2001, instances(X_TEST[:2])
            statuses = [(await app.send(body)).status for body in bodies]
            statuses.append((await app.send(b"{", "/operating-point", "PUT")).status)
            return statuses, app.front.n_queued_bytes

        app = Local(calls={0: fails}, max_request_bytes=2000, deadline=0.5)
        assert app.run(failed) == ([400, 413, 500, 400], 0)


class TestOperatingPoint:
    def put(self, request, **options):
        async def changed(app):
            reply = await app.send(json.dumps(request).encode(), "/operating-point", "PUT")
            return reply, await app.send(instances(X_TEST))

        return Local(**options).run(changed)

    @pytest.mark.parametrize(
        "asked", [{"threshold": 0.35}, {"threshold": [0.4, 2, 0.3]}, {"budget": 0.5}]
    )
    def test_it_can_be_changed(self, asked):
        reply, after = self.put(asked)
        found = content(after)
        assert (found["labels"], found["exits"]) == expected(**asked)
        told = content(reply)
        assert told["version"] == 1
        point = network()._point(asked.get("threshold"), asked.get("budget"))
        assert told["thresholds"] == np.minimum(point.thresholds, 2).tolist()

    def test_it_can_be_given_a_name(self):
        named = {"busy": {"budget": Budget(0.4)}}
        reply, after = self.put({"operating_point": "busy"}, operating_points=named)
        assert content(reply)["operating_point"] == "busy"
        assert content(after)["exits"] == expected(budget=0.4)[1]
        reply, after = self.put({"operating_point": "default"})
        assert content(after)["exits"] == expected(threshold=THRESHOLD)[1]

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({}, "is one of"),
            ({"threshold": 0.3, "budget": 0.5}, "is one of"),
            ({"threshold": "high"}, "threshold"),
            ({"threshold": [0.5]}, "3"),
            ({"threshold": -1}, "-1"),
            ({"budget": 1e-9}, "budget"),
            ({"budget": "low"}, "A budget is a number. Got 'low'"),
            ({"budget": True}, "A budget is a number"),
            ({"budget": -1}, "positive"),
            ({"budget": 10**400}, "too large"),
            ({"threshold": 10**400}, "too large"),
            ({"threshold": [10**400, 1, 1]}, "too large"),
            ({"operating_point": "night"}, "'default'"),
            ({"operating_point": [1]}, "'default'"),
        ],
    )
    def test_what_is_none_is_refused_and_changes_nothing(self, asked, message):
        reply, after = self.put(asked)
        assert reply.status == 422
        assert message in json.loads(reply.body)["error"]
        assert content(after)["exits"] == expected(threshold=THRESHOLD)[1]

    def test_a_request_is_answered_under_one(self):
        """Changed after the first tier has answered, and before the second is asked."""
        app = Local()

        async def changing(ask):
            app.front.set_point({"threshold": 0.0})
            return app.works[1]([ask])[0]

        app._calls = {1: changing}
        found = content(app.reply(instances(X_TEST)))
        assert (found["labels"], found["exits"]) == expected(threshold=THRESHOLD)
        assert app.front.point.version == 1

    def test_requests_under_different_ones_may_share_a_batch(self):
        app = Local()

        async def changing(app):
            first = asyncio.create_task(app.send(instances(X_TEST[:20])))
            await asyncio.sleep(0)
            app.front.set_point({"threshold": 0.3})
            return await asyncio.gather(first, app.send(instances(X_TEST[:20])))

        found = [content(reply)["exits"] for reply in app.run(changing)]
        assert found[0] == expected(threshold=THRESHOLD)[1][:20]
        assert found[1] == expected(threshold=0.3)[1][:20]
        assert found[0] != found[1]

    def test_a_strict_budget_is_refused(self):
        with pytest.raises(ValueError, match="Give a budget that is not strict"):
            Local(threshold=None, budget=Budget(0.5, strict=True))


class TestMetrics:
    def test_they_count_what_was_answered(self):
        app = Local(calls={1: gone})

        async def some(app):
            replies = [await app.send(instances(X_TEST[:100])), await app.send(b"{}")]
            return replies, (await app.send(path="/metrics", method="GET")).body.decode()

        replies, text = app.run(some)
        found = content(replies[0])
        counted = {
            tuple(each.labels.values()): each.value
            for family in text_string_to_metric_families(text)
            for each in family.samples
            if each.name == "skearlyexit_samples_total"
        }
        names = [network().exit_names_[i] for i in found["exits"]]
        kinds = list(
            zip(
                [str(each).lower() for each in found["degraded"]],
                names,
                found["tiers"],
                strict=True,
            )
        )
        assert counted == {kind: kinds.count(kind) for kind in kinds}
        cost = network().costs_[found["exits"]].sum()
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        assert float(lines["skearlyexit_cost_total"]) == pytest.approx(cost)
        assert float(lines["skearlyexit_mean_cost"]) == pytest.approx(cost / 100)
        assert lines['skearlyexit_requests_total{status="200"}'] == "1.0"
        assert lines['skearlyexit_requests_total{status="400"}'] == "1.0"
        assert lines['skearlyexit_tier_failures_total{reason="gone",tier="tier1"}'] == "1.0"
        assert lines["skearlyexit_request_seconds_count"] == "1.0"

    def test_other_exit_rates_are_an_alarm(self, caplog):
        app = Local(threshold=None, budget=0.5, drift=Drift(200, 1e-3))

        async def drifting(app):
            texts = []
            for rows in (X_TEST, X_TEST[:1].repeat(400, axis=0)):
                await app.send(instances(rows))
                texts.append((await app.send(path="/metrics", method="GET")).body.decode())
            return texts

        with caplog.at_level(logging.WARNING):
            before, after = app.run(drifting)
        assert "skearlyexit_drift_alarm 0.0" in before
        assert "skearlyexit_drift_alarm 1.0" in after
        assert "skearlyexit_drift_alarms_total 1.0" in after
        assert "differ from those of the calibration samples" in caplog.text
        point = network()._point(None, 0.5)
        stem = f'skearlyexit_expected_exit_rate{{exit="stem"}} {point.shares[0]}'
        assert stem in before
        assert "skearlyexit_budget 0.5" in before

    def test_a_budget_is_what_was_asked_for_as_a_share(self):
        plain = network().cost_table_.plain
        app = Local(threshold=None, budget=Budget(0.5 * plain, unit="MACs"))
        text = app.reply(path="/metrics", method="GET").body.decode()
        assert "skearlyexit_budget 0.5" in text


def test_health():
    assert content(Local().reply(path="/health", method="GET")) == {
        "status": "ok",
        "tiers": {"tier0": "ok", "tier1": "ok"},
    }
    reply = Local(calls={1: gone}).reply(path="/health", method="GET")
    assert content(reply) == {"status": "degraded", "tiers": {"tier0": "ok", "tier1": "gone"}}
    assert Local(calls={0: gone}).reply(path="/health", method="GET").status == 503


class TestModels:
    def test_regressors(self):
        reg = EarlyExitRegressor(
            MLPBackbone(2, width=16, hidden=16), exits=2, max_epochs=2, random_state=0
        ).fit(X, y + X[:, 0])
        threshold = float(np.median(reg.exit_table(X_TEST).scores[:, 0]))
        app = Local(reg, [1, reg.n_exits_ - 1], threshold=threshold)
        found = content(app.reply(instances(X_TEST)))
        values, exits = reg.predict(X_TEST, threshold=threshold, return_exits=True)
        assert (found["predictions"], found["exits"]) == (values.tolist(), exits.tolist())
        refused = app.reply(instances(X_TEST), query={"probabilities": "true"})
        assert "no probabilities" in json.loads(refused.body)["error"]

    def test_pipelines_of_data_frames(self):
        pd = pytest.importorskip("pandas")
        names = [f"f{i}" for i in range(13)]
        frame = pd.DataFrame(X_TEST, columns=names)
        pipe = make_pipeline(StandardScaler(), quick())
        pipe.fit(pd.DataFrame(X, columns=names), y)
        app = Local(pipe, None)
        labels = pipe.predict(frame, threshold=THRESHOLD).tolist()
        records = json.dumps({"instances": frame.to_dict("records")}).encode()
        assert content(app.reply(instances(X_TEST)))["labels"] == labels
        assert content(app.reply(records))["labels"] == labels
        refused = app.reply(json.dumps({"instances": [{"f0": 1.0}]}).encode())
        assert refused.status == 422
        assert "must have the features ['f0'" in json.loads(refused.body)["error"]

        huge = json.dumps({"instances": [dict.fromkeys(names, 10**400)]}).encode()
        assert app.reply(huge).status == 422

    def test_pipelines_in_pipelines(self):
        nested = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), quick()))
        nested.fit(X * 3 + 1, y)
        found = content(Local(nested, None).reply(instances(X_TEST)))
        assert found["labels"] == nested.predict(X_TEST, threshold=THRESHOLD).tolist()

    def test_estimators_in_a_row_that_read_texts(self):
        app = Local(of_texts(), [1, 1], threshold=None)
        found = content(app.reply(json.dumps({"instances": TEXTS}).encode()))
        labels, exits = of_texts().predict(TEXTS, return_exits=True)
        assert (found["labels"], found["exits"]) == (labels.tolist(), exits.tolist())
        assert len(set(found["exits"])) == 2

    def test_pipelines_that_read_texts(self):
        stages = [("bayes", MultinomialNB()), ("linear", LogisticRegression())]
        clf = CascadeClassifier(stages, calibration=None, threshold=0.99, random_state=0)
        pipe = make_pipeline(CountVectorizer(), clf).fit(TEXTS, [1, 0] * 30)
        app = Local(pipe, [1, 1], threshold=None)
        found = content(app.reply(json.dumps({"instances": TEXTS}).encode()))
        assert found["labels"] == pipe.predict(TEXTS).tolist()
        assert len(set(found["exits"])) == 2
        assert app.reply(json.dumps({"instances": [3]}).encode()).status == 422

    def test_exported_files_are_one_tier(self, tmp_path):
        path = tmp_path / "model.onnx"
        stages = [("tree", DecisionTreeClassifier(max_depth=3)), ("linear", LogisticRegression())]
        clf = CascadeClassifier(stages, calibration=0.3, threshold=0.7, random_state=0).fit(X, y)
        clf.to_onnx(path)
        app = Local(path, None, threshold=None)
        rows = X_TEST.astype(np.float32)
        found = content(app.reply(instances(rows), query={"probabilities": "true"}))
        labels, exits = OnnxCascade(path).predict(rows, return_exits=True)
        assert (found["labels"], found["exits"]) == (labels.tolist(), exits.tolist())
        assert len(set(found["exits"])) == 2
        assert np.shape(found["probabilities"]) == (400, 4)
        with pytest.raises(ValueError, match=r"in one tier\. Got 2 tiers"):
            Local(path, [1, 1])
        clf.to_onnx(path, single_sample=True)
        with pytest.raises(ValueError, match=r"written with single_sample=True"):
            Local(path, None)

    def test_estimators_that_run_in_onnx_runtime_are_one_tier(self):
        stages = [("tree", DecisionTreeClassifier(max_depth=3)), ("linear", LogisticRegression())]
        clf = CascadeClassifier(
            stages, calibration=0.3, threshold=0.7, runtime="onnx", random_state=0
        ).fit(X, y)
        rows = X_TEST.astype(np.float32)
        found = content(Local(clf, None, threshold=None).reply(instances(rows)))
        assert found["labels"] == clf.predict(rows).tolist()

    def test_what_cannot_be_divided_is_refused(self):
        tree = DecisionTreeClassifier(max_depth=2, random_state=0)
        chain = CascadeClassifier(
            [("a", tree), ("b", tree)], calibration=None, threshold=0.5, random_state=0
        )
        chain.fit(X, y)
        plan = TierPlan([Tier("a", 1), Tier("b", 1)], [Link()], ["a", "b"], "int8")
        with pytest.raises(ValueError, match="Give compression=None"):
            Local(chain, plan)
        with pytest.raises(ValueError, match=r"together all 4 exits .* Got \[2, 3\]"):
            Local(tiers=[2, 3])
        with pytest.raises(ValueError, match="The plan is for 2 exits, and the model has 4"):
            Local(tiers=plan)
        with pytest.raises(TypeError, match="must be an estimator with exits"):
            Local(tree.fit(X, y))


class TestPlans:
    def plan(self, compression=None):
        machines = [Tier("device", 1e6), Tier("nothing", 1e6), Tier("cloud", 1e9)]
        links = [Link(latency=0.001), Link(bandwidth=1e6)]
        return TierPlan(machines, links, ["device", "device", "cloud", "cloud"], compression)

    def test_tiers_without_exits_only_pass_on(self):
        app = Local(tiers=self.plan())
        assert app.division.names == ["device", "cloud"]
        assert app.division.links == [[], list(self.plan().links)]
        found = content(app.reply(instances(X_TEST)))
        assert (found["labels"], found["exits"]) == expected(threshold=THRESHOLD)

    @pytest.mark.parametrize("compression", ["float16", "int8"])
    def test_compressed_embeddings_are_answered_as_in_the_report(self, compression):
        app = Local(tiers=self.plan(compression))
        found = content(app.reply(instances(X_TEST)))
        report = self.plan(compression).report(
            network(), X_TEST, np.array(found["labels"]), threshold=THRESHOLD
        )
        # The report runs the later stages on what is received, by another way.
        assert report.accuracy == 1.0

    def test_links_delay_as_many_bytes_as_the_plan_counts(self):
        sent = []

        class Watched(SlowLink):
            async def sent(self, n_bytes):
                sent.append(n_bytes)
                await super().sent(n_bytes)

        plan = self.plan("int8")
        app = Local(tiers=plan, links=[[], [Watched(link) for link in plan.links]])
        found = content(app.reply(instances(X_TEST)))
        report = plan.report(network(), X_TEST, found["labels"], threshold=THRESHOLD)
        assert sent == [round(report.link_bytes[0] * 400)] * 2

"""Hostile addresses, bodies and tables: one calm line each, nothing outside the run's folder, text stays text."""

import pytest
from explorer.asking import Asker, asker, fill, pages, settled

from arithcirc.explorer.server import CALLBACKS

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
NAMES = ("overview", "neurons", "neuron", "prompt", "heuristics", "heads", "documents", "sweep", "compare")
KEYS = (
    "../../etc/passwd", "/etc/passwd", "%2e%2e%2f%2e%2e", "..\\..\\x", "a\0b", "x" * 5000, "planted/step4000/../..",
    HOSTILE, "～", "{}", "file:///etc/passwd", "́" * 300,
)  # fmt: skip
VALUES = (
    None, [], {}, "", HOSTILE, -1, 10**30, 1e308, "NaN", [[["x"]]], {"a": {"b": None}}, "../../etc/passwd", True, "\0",
    ["L0N0", None, 7], {"points": []}, {"points": [{"x": "a", "y": None, "customdata": {}}]}, "L99N99", "h:" + HOSTILE,
)  # fmt: skip


@pytest.fixture(scope="module")
def planted(explorer_run, planted_live) -> Asker:
    made = asker([explorer_run.path], planted_live)
    source = made.context.source({})
    made.context.live.state(source)
    return made


def test_all_pages_are_looked_at():
    assert set(NAMES) == set(pages())


every = pytest.mark.parametrize("page", NAMES)


def _drawn(planted: Asker, page: str, op: str) -> None:
    answer = planted.go(f"/{page}?run=planted%2Fstep4000&op={'%2B' if op == '+' else op}").calm()
    assert answer.status == 200
    assert answer.view["op"] == op
    assert len(answer.page) > 200


@every
def test_every_page_draws_the_planted_run(page, planted):
    _drawn(planted, page, "-")


@pytest.mark.slow
@every
@pytest.mark.parametrize("op", "+*/")
def test_every_page_draws_every_operator(page, op, planted):
    _drawn(planted, page, op)


PARAMETERS = (
    "run", "model", "revision", "op", "layer", "neuron", "label", "prompt", "off", "with", "q", "sort", "map", "zoom",
    "family", "position", "head", "target", "order", "page", "view", "ablation", "with_op", "with_model", "seed",
    "query", "method", "end", "n", "what",
)  # fmt: skip


@pytest.mark.parametrize("at", range(len(KEYS)))
def test_a_hostile_address_gets_a_page(at, planted):
    page, key = NAMES[at % len(NAMES)], KEYS[at]
    for parameters in (PARAMETERS, PARAMETERS[4:]):
        query = "&".join(f"{parameter}={key[:60]}" for parameter in parameters)
        answer = planted.route(f"/{page}", f"?{query}").calm()
        assert answer.status == 200
        assert "root:" not in answer.text
    assert planted.route("/" + key, "?run=" + key).calm().status == 200


@pytest.mark.slow
@every
@pytest.mark.parametrize("key", KEYS)
def test_any_parameter_may_be_hostile(key, page, planted):
    for parameter in PARAMETERS:
        answer = planted.route(f"/{page}", f"?{parameter}={key}").calm()
        assert answer.status == 200
        assert "root:" not in answer.text


PATHS = (
    "/assets/../app.py", "/assets/%2e%2e/app.py", "/assets/..%2f..%2fstore.py", "/assets//etc/passwd",
    "/_dash-component-suites/dash/../../etc/passwd", "/_dash-component-suites/os/path.py", "/_templates/../x.json",
    "/_templates/" + "x" * 9000 + ".json",
)  # fmt: skip


@pytest.mark.parametrize("address", PATHS)
def test_no_path_reaches_the_file_system(address, planted):
    answer = planted.client.get(address)
    body = answer.get_data(as_text=True)
    assert "import " not in body[:3000] or answer.mimetype == "text/html"
    assert "root:" not in body
    assert answer.status_code != 500 or "Traceback" not in body


BODIES = (
    None, [], {}, 7, "x", {"output": 3}, {"output": "nothing.here"}, {"output": "..page.children.."},
    {"output": "frame-live.children"}, {"output": "x" * 100_000},
)  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda b: str(b)[:20])
def test_malformed_questions_get_one_line(body, planted):
    answer = planted.post(body).calm()
    assert answer.status == 400
    assert answer.text.count("\n") == 1


def test_questions_with_wrong_parts_get_one_line(planted):
    known = planted.callback("..page.children")
    right = fill(known, {"url.pathname": "/", "url.search": ""})
    assert planted.post(right).status == 200
    for name, values in {
        "inputs": ([], None, {}, "x", [None, None], right["inputs"][::-1], right["inputs"] * 2, [[], []]),
        "state": ([{}], {"a": 1}, "x"),
        "changedPropIds": (3, "x", [None], {"a": 1}),
    }.items():
        for value in values:
            answer = planted.post(right | {name: value}).calm()
            assert answer.status == 400, (name, value)


def test_a_huge_or_foreign_question_is_refused(planted):
    assert planted.client.post(CALLBACKS, data=b"[" * 2_000_000, content_type="application/json").status_code in (
        400,
        413,
    )
    assert planted.client.post(CALLBACKS, data=b"{" * 900_000, content_type="application/json").status_code == 400
    assert planted.client.post(CALLBACKS, data=b"[" * 900_000, content_type="application/json").status_code == 400
    assert planted.client.post(CALLBACKS, data=b"{}", content_type="text/plain").status_code == 400
    right = fill(planted.callback("..page.children"), {"url.pathname": "/", "url.search": ""})
    assert planted.post(right, headers={"Origin": "http://evil.example"}).status == 403
    assert planted.post(right, headers={"Origin": "null"}).status == 403
    assert planted.post(right, headers={"Host": "evil.example"}).status == 403
    assert planted.post(right, headers={"Host": "evil.example:8050"}).status == 403
    assert planted.post(right, headers={"Host": "localhost:8050", "Origin": "http://localhost:8050"}).status == 200


def _ask(planted: Asker, known: dict, value: object, page: str) -> None:
    """One value for everything but the view, then for the view, then for each part of the view."""
    here = settled("planted/step4000", page)
    routed = known["output"].startswith("..page.children")
    planted.post(fill(known, {} if routed else {"view.data": here}, value)).calm(forged=True)
    planted.post(fill(known, {"view.data": value})).calm(forged=True)
    names = ("run", "op", "layer", "neuron", "label", "prompt", "off", "model") if isinstance(value, str) else ()
    for name in names:
        planted.post(fill(known, {"view.data": here | {name: value}})).calm(forged=True)


def test_callbacks_stand_forged_values(planted):
    for i, known in enumerate(planted.callbacks()):
        _ask(planted, known, VALUES[i % len(VALUES)], NAMES[i % len(NAMES)])


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES, ids=lambda v: str(v)[:20])
def test_every_callback_stands_every_value(value, planted):
    for known in planted.callbacks():
        for page in ("neuron", "prompt"):
            _ask(planted, known, value, page)
